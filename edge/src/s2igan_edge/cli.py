"""The command line, as `s2igan generate` has it."""

from __future__ import annotations

import argparse
import errno
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from s2igan_edge import __version__
from s2igan_edge.errors import UserError
from s2igan_edge.generate import find_recordings, generate_files
from s2igan_edge.pipeline import SpeechToImage

FAILED = 1
"""Exit status after a failure that the user can mend."""
INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells give it: 128 + SIGINT."""


def main(args: Sequence[str] | None = None) -> None:
    """Runs the command; exits 1 after a failure that the user can mend, 2 on a wrong command line, 130 on Ctrl-C."""
    options = _parser().parse_args(args)
    try:
        failed = generate(options)
    except UserError as error:
        _complain(error)
        failed = True
    except KeyboardInterrupt:
        print("s2igan-edge: interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:  # whoever read our output has seen enough; nothing may be written to it while Python exits
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        failed = True
    except OSError as error:
        if error.errno not in (errno.ENAMETOOLONG, errno.EACCES):
            raise
        _complain(UserError(f"{error.filename}: {error.strerror}; check the path."))
        failed = True
    if failed:
        sys.exit(FAILED)


def generate(options: argparse.Namespace) -> bool:
    """Draws what recordings describe; prints a JSON line for each picture, and whether any recording failed."""
    recordings = find_recordings(options.audio)
    model = SpeechToImage.from_directory(options.model, threads=options.threads)
    settings = {name: getattr(options, name) for name in ("truncation", "guidance")}
    failed = False
    for result in generate_files(model, recordings, options.out, options.samples, options.seed, **settings):
        if isinstance(result, UserError):
            _complain(result)
            failed = True
        else:
            print(json.dumps(result, ensure_ascii=False), flush=True)
    return failed


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="s2igan-edge", description=f"s2igan-edge {__version__}: spoken descriptions to images, without PyTorch."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    drawing = commands.add_parser(
        "generate",
        help="draw what recordings describe: a PNG per sample and a contact sheet; one JSON line per PNG on stdout",
    )
    drawing.add_argument(
        "audio",
        nargs="+",
        metavar="AUDIO",
        help="sound files, folders of them, patterns such as 'said/*.wav', or - for standard input",
    )
    drawing.add_argument("--model", type=Path, required=True, help="folder that s2igan export MODEL --onnx wrote")
    drawing.add_argument("--samples", type=int, default=4, help="images of each recording (default: 4)")
    drawing.add_argument("--seed", type=int, default=1, help="same seed, same images (default: 1)")
    drawing.add_argument("--out", type=Path, default=Path("generated"), help="directory for the images")
    drawing.add_argument("--truncation", type=float, help="keep the noise within so many standard deviations")
    drawing.add_argument("--guidance", type=float, help="latent flow only: how strictly it follows the words")
    drawing.add_argument("--threads", type=int, help="that compute; one for each core unless given")
    return parser


def _complain(error: UserError) -> None:
    print(f"s2igan-edge: {error}", file=sys.stderr)
