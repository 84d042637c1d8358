"""The command line. Each sub-command parses, then makes one library call; what is heavy is imported only by then."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import DisallowNone, FlagCreatePairsOff, Positional, arg
from tyro.extras import SubcommandApp

from s2igan import __version__
from s2igan.errors import UserError

FAILED = 1
"""Exit status after a failure that the user can mend."""
INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells give it: 128 + SIGINT."""
MAX_STEM = 60
"""Characters of a sentence that name its files."""

app = SubcommandApp()
prepare = SubcommandApp()
app.command(prepare, name="prepare", help="Make a corpus ready for training.")


@prepare.command
def birds(
    out: Path,
    classes: int = 60,
    individuals: int = 40,
    captions: int = 10,
    size: int = 64,
    seed: int = 0,
    jobs: int | None = None,
    extra_voices: tuple[str, ...] = (),
) -> None:
    """Draw the built-in birds, have their descriptions spoken, and pack both for training.

    Args:
        out: directory to make
        classes: species; about a fifth of them are kept for testing
        individuals: pictures of each species
        captions: spoken descriptions of each picture
        size: side in pixels of the largest images to be trained on
        seed: everything follows from it
        jobs: processes; one per core unless given
        extra_voices: more voices for training, of any engine that is installed
    """
    from s2igan.corpora.birds import prepare_birds

    prepare_birds(
        out,
        classes=classes,
        individuals=individuals,
        captions=captions,
        size=size,
        seed=seed,
        jobs=jobs,
        extra_voices=extra_voices,
    )


@app.command
def train(
    recipe: Annotated[Positional[str], arg(metavar="RECIPE")],
    /,
    *,
    data: Path | None = None,
    out: Path | None = None,
    config: str | None = None,
    stage: Literal["sen", "rdg", "both"] = "both",
    sen_from: Path | None = None,
    resume: bool = False,
    seed: int = 0,
    device: str | None = None,
    dry_run: bool = False,
) -> None:
    """Train a recipe: first the speech embedding network (sen), then the generator (rdg).

    Args:
        recipe: name of the experiment; s2igan recipes lists them
        data: directory that s2igan prepare made; a dry run can do without
        out: run directory to make, or to go on with; a dry run writes nothing
        config: for a method such as no-dense, the configuration that it is applied to
        stage: which stage to train
        sen_from: another run whose first stage to use in place of training it
        resume: go on from the newest checkpoint in the run directory, if there is one
        seed: of weights, batches and noise
        device: cpu, cuda or cuda:1; unless given, a GPU if there is one
        dry_run: print the configuration, and the parameters, memory and time that the training would take, measured on
            this machine
    """
    if dry_run:
        from s2igan.training.plan import plan

        print(plan(recipe, size=config, data=data, device=device))
        return
    if data is None or out is None:
        raise UserError("training needs --data and --out: the directory that s2igan prepare made, and one for the run.")
    from s2igan.training.train import train_run

    train_run(
        recipe,
        data=data,
        out=out,
        stage=stage,
        resume=resume,
        seed=seed,
        size=config,
        sen_from=sen_from,
        device=device,
    )


@app.command
def benchmark(
    recipes: tuple[str, ...] = ("cub", "birds"), device: str | None = None, compile: bool = False, quick: bool = False
) -> None:
    """Measure this machine and the speed of training on it; one JSON object on stdout.

    Args:
        recipes: whose stages to measure, full-size networks on made-up data
        device: cpu, cuda or cuda:1; unless given, a GPU if there is one
        compile: measure with torch.compile as well, which takes minutes more
        quick: small operations and batches, one repetition: to see that it works, not to compare
    """
    from s2igan.benchmark import benchmark as measure

    print(json.dumps(measure(recipes, device=device, compile=compile, quick=quick), indent=2))


@app.command
def recipes() -> None:
    """List the recipes that can be trained."""
    from s2igan.recipes import RECIPES

    width = max(map(len, RECIPES))
    for name, recipe in RECIPES.items():
        print(f"{name:{width}}  {(recipe.__doc__ or name).strip().splitlines()[0]}")


@app.command
def generate(
    audio: Annotated[Positional[tuple[Path, ...]], arg(metavar="AUDIO [AUDIO ...]", help_behavior_hint="(required)")],
    /,
    *,
    model: Path,
    samples: int = 4,
    seed: int = 1,
    out: Path = Path("generated"),
) -> None:
    """Draw what recordings describe: a PNG per sample and a contact sheet; one JSON line per PNG on stdout.

    Args:
        audio: sound files (wav, flac, ogg, mp3)
        model: run directory, or the exported model in it
        samples: images of each recording
        seed: same seed, same images
        out: directory for the images
    """
    if not audio:
        raise UserError(
            "no recording was named; give at least one sound file, as in s2igan generate --model RUN a.wav."
        )
    _generate(model, audio, out, samples, seed)


@app.command
def speak(
    sentence: Annotated[Positional[str], arg(metavar="SENTENCE")],
    /,
    *,
    model: Path,
    voice: str = "espeak:en-us",
    samples: int = 4,
    seed: int = 1,
    out: Path = Path("generated"),
) -> None:
    """Have a sentence spoken, then draw what was said; writes the wav beside the images.

    Args:
        sentence: what to say; put it in quotation marks
        model: run directory, or the exported model in it
        voice: who says it, such as espeak:en-gb or espeak:en-us+f3?rate=150
        samples: images to draw
        seed: same seed, same images
        out: directory for the images
    """
    from s2igan.pipeline import speak_to_file

    stem = re.sub(r"[^\w]+", "-", sentence.lower()).strip("-")[:MAX_STEM].rstrip("-") or "sentence"
    _generate(model, (speak_to_file(sentence, voice, out / f"{stem}.wav"),), out, samples, seed)


@app.command
def evaluate(
    model: Path, data: Path, split: str = "test", max_captions: int = 1000, seed: int = 0, device: str | None = None
) -> None:
    """Score a trained run on the test split: classes and voices that it never met.

    Args:
        model: run directory
        data: directory that s2igan prepare made
        split: what to score on
        max_captions: descriptions that images are drawn for, chosen at random
        seed: of every random choice and of the noise
        device: cpu, cuda or cuda:1; unless given, a GPU if there is one
    """
    from s2igan.evaluation.evaluate import evaluate as evaluate_run

    evaluate_run(model, data, split=split, max_captions=max_captions, seed=seed, device=device)


@app.command
def report(model: Path) -> None:
    """Write one HTML page about a run, and print where it is and the scores.

    Args:
        model: run directory that s2igan evaluate has scored
    """
    from s2igan.report import headlines, write_report

    path = write_report(model)
    for line in headlines(model):
        print(line)
    print(f"Report: {path}")


def _generate(model: Path, audio: Sequence[Path], out: Path, samples: int, seed: int) -> None:
    from s2igan.pipeline import SpeechToImage, generate_files

    failed = False
    for result in generate_files(SpeechToImage.load(model), audio, out, samples, seed):
        if isinstance(result, UserError):
            _complain(result)
            failed = True
        else:
            print(json.dumps(result, ensure_ascii=False), flush=True)
    if failed:
        sys.exit(FAILED)


def main(args: Sequence[str] | None = None) -> None:
    """Runs one command; exits 1 after a failure that the user can mend, 2 on a wrong command line, 130 on Ctrl-C."""
    status = _guarded(
        lambda: app.cli(
            prog="s2igan",
            description=f"s2igan {__version__}: spoken descriptions to images, with no text in between.",
            args=args,
            config=(FlagCreatePairsOff, DisallowNone),
        )
    )
    if status:
        sys.exit(status)


def _guarded(command: Callable[[], Any]) -> int:
    try:
        command()
    except UserError as error:
        _complain(error)
        return FAILED
    except KeyboardInterrupt as interruption:
        print(f"s2igan: interrupted{': ' if str(interruption) else ''}{interruption}", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output (head, say) has seen enough; nothing may be written to it while Python exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _complain(error: UserError) -> None:
    print(f"s2igan: {error}", file=sys.stderr)
