"""What commands print: sentences, records as JSON lines, and errors."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import Any

from s2igan.errors import UserError

FAILED = 1
"""Exit status after a failure that the user can mend."""


def say(line: str) -> None:
    print(line, flush=True)


def complain(error: UserError) -> None:
    print(f"s2igan: {error}", file=sys.stderr)


def report_each(results: Iterable[dict[str, Any] | UserError]) -> None:
    """Prints records as JSON lines and errors as sentences; exits with status 1 after the last where there were any."""
    failed = False
    for result in results:
        if isinstance(result, UserError):
            complain(result)
            failed = True
        else:
            print(json.dumps(result, ensure_ascii=False), flush=True)
    if failed:
        sys.exit(FAILED)
