"""The program `s2igan`: which command a command line means, and how it ends."""

from __future__ import annotations

import argparse
import errno
import inspect
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from tyro.conf import DisallowNone, FlagCreatePairsOff
from tyro.extras import SubcommandApp

from s2igan import __version__
from s2igan.cli import corpora, scoring, training, using
from s2igan.cli.options import PRETRAINED
from s2igan.cli.output import FAILED, complain
from s2igan.errors import UserError

if TYPE_CHECKING:
    from s2igan.training.recipe import Recipe

COMMANDS: tuple[Callable[..., None], ...] = (
    corpora.corpora,
    corpora.mix,
    corpora.validate,
    training.run,
    training.train,
    training.recipes,
    using.models,
    using.show,
    using.generate,
    using.record,
    using.embed,
    using.retrieve,
    using.speak,
    using.serve,
    using.export,
    using.push,
    corpora.forget,
    scoring.evaluate,
    scoring.reproduce,
    scoring.card,
    scoring.blind_sheet,
    scoring.blind_count,
    scoring.words,
    scoring.report,
)
"""In the order of the help, after `prepare`, which has a command for each corpus."""
WITH_RECIPE = ("run", "train")
"""Those of which every hyper-parameter of a recipe is a flag."""
INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells give it: 128 + SIGINT."""
SHOWN = 60
"""Characters of a name that is too long that a message shows."""


def main(args: Sequence[str] | None = None) -> None:
    """Runs one command; exits 1 after a failure that the user can mend, 2 on a wrong command line, 130 on Ctrl-C."""
    words = sys.argv[1:] if args is None else list(args)
    status = _guarded(lambda: _run(words))
    if status:
        sys.exit(status)


def _run(words: list[str]) -> None:
    if words in ([], ["prepare"]):
        words = [*words, "--help"]
    commands, recipe = {command.__name__.replace("_", "-"): command for command in COMMANDS}, None
    if words[0] in WITH_RECIPE:
        recipe = _named_recipe(words, commands[words[0]])
        if recipe is not None:
            from s2igan.flags import with_flags

            commands[words[0]] = with_flags(commands[words[0]], recipe)
    app = SubcommandApp()
    app.command(corpora.prepare, name="prepare", help="Make a corpus ready for training.")
    for name, command in commands.items():
        app.command(name=name)(command)
    app.cli(
        prog="s2igan",
        description=f"s2igan {__version__}: spoken descriptions to images, with no text in between.",
        args=words,
        # Fields of a recipe may be None, and `with_flags` forbids it to the other options.
        config=(FlagCreatePairsOff, DisallowNone) if recipe is None else (FlagCreatePairsOff,),
    )


def _named_recipe(words: list[str], command: Callable[..., None]) -> Recipe | None:
    """The recipe that the words of `train` or `run` name; None where they name none or only ask for general help.

    Raises:
        UserError: there is no such recipe.
    """
    from s2igan.recipes import RECIPES, resolve

    parser = argparse.ArgumentParser(prog="s2igan", add_help=False, allow_abbrev=False)
    for parameter in inspect.signature(command).parameters.values():
        flag = f"--{PRETRAINED if parameter.name == 'pretrained' else parameter.name}".replace("_", "-")
        parser.add_argument(flag, action="store_true" if parameter.default is False else "store")
    found, others = parser.parse_known_args(words[1:])  # the others are positional, or of another class's options
    if words[0] == "run":
        name = found.recipe or (None if {"--help", "-h"} & set(others) else "laptop")
    else:
        unknown = next((word for word in others if not word.startswith("-")), None)
        name = next((word for word in others if word in RECIPES), unknown)
    return None if name is None else resolve(name, found.base)


def _guarded(command: Callable[[], Any]) -> int:
    try:
        command()
    except UserError as error:
        complain(error)
        return FAILED
    except KeyboardInterrupt as interruption:
        print(f"s2igan: interrupted{': ' if str(interruption) else ''}{interruption}", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output (head, say) has seen enough; nothing may be written to it while Python exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            complain(UserError(f"{str(error.filename)[:SHOWN]}...: the name is too long; check the path."))
        elif error.errno == errno.EACCES:
            complain(UserError(f"{error.filename}: no permission; check the path and whose it is."))
        else:
            raise
        return FAILED
    return 0
