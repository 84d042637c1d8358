"""Spoken descriptions to images, with no text in between: the S2IGAN method (Interspeech 2020).

Names are imported when they are first used, so that `import s2igan` and `s2igan --help` do not wait for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from s2igan.errors import UserError
    from s2igan.hub import Sharing
    from s2igan.pipeline import Drawn, SpeechToImage

__all__ = ["Drawn", "Sharing", "SpeechToImage", "UserError", "__version__"]
__version__ = "0.2.0"
HOMES = {
    "Drawn": "s2igan.pipeline",
    "Sharing": "s2igan.hub",
    "SpeechToImage": "s2igan.pipeline",
    "UserError": "s2igan.errors",
}
"""Where each public name is defined."""


def __getattr__(name: str) -> Any:
    if name not in HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(HOMES[name]), name)
