"""The command line. Each sub-command parses, then makes one library call; what is heavy is imported only by then."""

from __future__ import annotations

import argparse
import errno
import inspect
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import (
    DisallowNone,
    FlagCreatePairsOff,
    OmitArgPrefixes,
    Positional,
    Suppress,
    UseAppendAction,
    arg,
)
from tyro.constructors import PrimitiveConstructorSpec
from tyro.extras import SubcommandApp

from s2igan import __version__, devices
from s2igan.corpora.prepare.options import PrepareOptions
from s2igan.corpora.registry import BUILT_IN, CAPTIONS, IMPORTERS, INDIVIDUALS, PUBLISHED, drawn_set
from s2igan.errors import UserError
from s2igan.evaluation.options import EvaluationOptions, OtherConditions, Protocol
from s2igan.evaluation.word_search import WordSearch
from s2igan.sound_containers import MAX_SECONDS

if TYPE_CHECKING:
    from s2igan.training.recipe import Recipe

FAILED = 1
"""Exit status after a failure that the user can mend."""
INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells give it: 128 + SIGINT."""
MAX_STEM = 60
"""Characters of a sentence that name its files."""
MAX_SEED = 2**63 - 1
"""What torch's generators take."""
MAX_JOBS = 1024
PUBLISHED_SIZE, OWN_SIZE = 256, 128
"""Pixels that a corpus is prepared for unless told otherwise: those of the recipes of published sets, and of laptop."""


def _whole(least: int, most: int) -> PrimitiveConstructorSpec[Any]:
    """An option that is a whole number in a range: what is outside is a wrong command line, not a traceback later."""

    def parse(words: list[str]) -> int:
        number = int(words[0])
        if not least <= number <= most:
            raise ValueError(f"{number} is not from {least} to {most}")
        return number

    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="INT",
        instance_from_str=parse,
        is_instance=lambda value: value is None or isinstance(value, int),
        str_from_instance=lambda value: [str(value)],
    )


Seed = Annotated[int, _whole(0, MAX_SEED)]
Count = Annotated[int, _whole(1, MAX_SEED)]
Jobs = Annotated[int | None, _whole(1, MAX_JOBS)]
Device = Annotated[str | None, arg(help=devices.HELP)]
ImageEncoderWeights = Annotated[
    Path | None,
    arg(help="file with Inception-v3's weights, in place of a download; S2IGAN_IMAGE_ENCODER_WEIGHTS may name it too"),
]

FidWeights = Annotated[
    str | None,
    arg(
        metavar="FILE",
        help="weights of the FID Inception, for FID, KID and IS as published: a file of torch-fidelity or pytorch-fid, "
        "or the word download",
    ),
]

PRETRAINED = "autoencoder"
"""Flag of the option `pretrained`: the name is also that of a group of a recipe's flags."""
Pretrained = Annotated[
    str | None,
    arg(
        name=PRETRAINED,
        metavar="PATH_OR_HUB_ID",
        help="for photographs: a pretrained AutoencoderTiny of diffusers in place of training one; a folder, or a name "
        "on the Hugging Face hub such as madebyollin/taesd",
    ),
]
Recordings = Annotated[Positional[tuple[str, ...]], arg(metavar="AUDIO [AUDIO ...]", help_behavior_hint="(required)")]
InitParts = tuple[Literal["all", "speech", "autoencoder"], ...]

Options = Annotated[PrepareOptions, OmitArgPrefixes, UseAppendAction]
"""Each of them a flag of the command itself."""
Settings = Suppress[Any]
"""The recipe that a command line names, with what its flags change (`flags.with_flags`)."""


@dataclass(frozen=True)
class Drawing:
    """Options of the commands that draw."""

    model: Path
    """run directory, the exported model in it, or the name of a shipped model; s2igan models lists those"""
    samples: Count = 4
    """images of each recording"""
    seed: Seed = 1
    """same seed, same images"""
    out: Path = Path("generated")
    """directory for the images"""
    truncation: float | None = None
    """keep the noise within so many standard deviations: less variety, fewer odd images"""
    guidance: float | None = None
    """latent flow only: how strictly it follows the words; the model's own unless given"""
    device: Device = None


app = SubcommandApp()
prepare = SubcommandApp()
app.command(prepare, name="prepare", help="Make a corpus ready for training.")


def _drawing(name: str) -> Callable[..., None]:
    """The sub-command `prepare NAME` of a built-in set."""

    def command(
        out: Path,
        classes: int = BUILT_IN[name].classes,
        individuals: int = INDIVIDUALS,
        captions: int = CAPTIONS,
        size: int = 256,
        seed: Seed = 0,
        jobs: Jobs = None,
        extra_voices: tuple[str, ...] | None = None,
        language: str = "english",
    ) -> None:
        from s2igan.corpora.builtin import drawn
        from s2igan.corpora.builtin.invented import spoken_in

        drawn.prepare(
            spoken_in(drawn_set(name), language),
            out,
            classes,
            individuals=individuals,
            captions=captions,
            size=size,
            seed=seed,
            jobs=jobs,
            extra_voices=extra_voices,
            say=_say,
        )

    command.__doc__ = f"""Draw the built-in {name}, have their descriptions spoken, and pack both for training.

    Args:
        out: directory to make
        classes: species; half of them are kept for validation, development and test
        individuals: pictures of each species
        captions: spoken descriptions of each picture
        size: side in pixels of the largest images to be trained on
        seed: everything follows from it
        jobs: processes; one per core unless given
        extra_voices: voices besides those of espeak-ng for a few of the captions to train on; unless given, a neural
            voice of Piper at four speeds; --extra-voices alone is none
        language: of the descriptions: english, or a language without writing that is made up, invented:SEED or, of
            another family, invented-b:SEED (of the birds alone)
    """
    return command


def _importing(name: str) -> Callable[..., None]:
    """The sub-command `prepare NAME` of an importer."""

    def command(
        source: Path,
        out: Path,
        preparation: Options,
        size: int = PUBLISHED_SIZE if name in PUBLISHED else OWN_SIZE,
        seed: Seed = 0,
        jobs: Jobs = None,
    ) -> None:
        from s2igan.corpora.prepare.corpus import prepare_corpus

        prepare_corpus(
            name,
            source,
            out,
            preparation,
            size=size,
            seed=seed,
            jobs=jobs,
            say=_say,
        )

    command.__doc__ = f"""Import the corpus {name!r} and pack it for training; s2igan corpora shows what is expected.

    Args:
        source: folder or archive of the corpus, or a folder with its archives; it is only read
        out: directory to make, or to go on with
        size: side in pixels of the largest images to be trained on
        seed: of splits, and of which voice speaks what
        jobs: processes; one per core unless given
    """
    return command


for _name in BUILT_IN:
    prepare.command(name=_name)(_drawing(_name))
for _name in IMPORTERS:
    prepare.command(name=_name)(_importing(_name))


@app.command
def corpora() -> None:
    """List the corpora: the built-in ones, and those that can be imported, with the layout that is expected."""
    from s2igan.corpora.registry import overview

    print(overview())


@app.command
def mix(
    data: Annotated[Positional[tuple[Path, ...]], arg(metavar="DATA [DATA ...]", help_behavior_hint="(required)")],
    /,
    *,
    out: Path,
    recordings: Count | None = None,
    seed: Seed = 0,
    jobs: Jobs = None,
) -> None:
    """Make one corpus of prepared ones, to train on several languages; or take a part of one.

    Validation, development and test are those of the corpus that is named first; of the others only recordings to train
    on are added. Pictures with the same content are one picture.

    Args:
        data: directories that s2igan prepare made
        out: directory to make; it links to the others, which must stay where they are
        recordings: of the first corpus to train on, chosen at random; all unless given
        seed: of that choice
        jobs: processes; one per core unless given
    """
    from s2igan.corpora.prepare.mix import mix as make

    print(make(data, out, recordings=recordings, seed=seed, jobs=jobs).summary())


@app.command
def validate(
    source: Annotated[Positional[Path], arg(metavar="SOURCE")],
    /,
    *,
    corpus: str | None = None,
    seed: Seed = 0,
    speaker_disjoint: bool = False,
    max_seconds: float = MAX_SECONDS,
    quick: bool = False,
    json: Annotated[bool, arg(name="json")] = False,
    fix_list: Path | None = None,
    jobs: Jobs = None,
) -> None:
    """Read and decode a whole source without changing anything, and say what s2igan prepare would reject.

    Faults are grouped by kind, the worst first, each with what to do; recordings that are clipped, noisy, faint or
    mostly silent are pointed out.

    Exits with status 1 where that is more than 20 %, or nothing is left.

    Args:
        source: folder or archive, a folder with archives, or a manifest
        corpus: what it is, one of those that s2igan corpora lists; recognised by its layout unless given
        seed: of the splits that are shown
        speaker_disjoint: no speaker is in two splits
        max_seconds: longer descriptions are left out
        quick: look at names and first bytes only, and decode nothing
        json: print everything as JSON
        fix_list: CSV to write for whoever recorded: each file, what is wrong, and what to do
        jobs: processes; one per core unless given
    """
    from s2igan.corpora.prepare.validate import as_json, summary, validate_source, write_fix_list

    findings = validate_source(
        source, corpus, seed=seed, speaker_disjoint=speaker_disjoint, jobs=jobs, quick=quick, max_seconds=max_seconds
    )
    print(dumps(as_json(findings), indent=2, ensure_ascii=False) if json else summary(source, findings))
    if fix_list is not None:
        write_fix_list(fix_list, source, findings)
    if not findings.passes:
        raise UserError(
            f"{source}: {findings.n_rejected:,} of {findings.total:,} cannot be used, more than 20 %; mend them, or "
            "prepare it with --allow-rejected."
        )


def run(
    *,
    corpus: Annotated[Positional[str], arg(metavar="CORPUS")],
    out: Path,
    preparation: Options,
    source: Path | None = None,
    recipe: str = "laptop",
    base: str | None = None,
    init_from: Path | None = None,
    init_parts: InitParts = ("all",),
    pretrained: Pretrained = None,
    captions: Annotated[int | None, _whole(1, MAX_SEED)] = None,
    seed: Seed = 0,
    max_captions: Count = 1000,
    jobs: Jobs = None,
    image_encoder_weights: ImageEncoderWeights = None,
    device: Device = None,
    settings: Settings = None,
) -> None:
    """From a corpus to a report in one command: prepare, train both stages, evaluate, report.

    Interrupted, the same command goes on where it stopped. Every hyper-parameter of the recipe is a flag, such as
    --sen.batch-size 48; s2igan train RECIPE --help lists them.

    Args:
        corpus: what the source is, such as folder for your own recordings; s2igan corpora lists all
        out: run directory to make, or to go on with; the prepared corpus is in its folder data
        source: folder or archive of the corpus; birds and flowers need none
        recipe: what to train; s2igan recipes lists them
        base: for a method such as no-dense, the recipe that it changes; birds-rdg unless given
        init_from: a run or an exported model of the same sizes to begin from, in place of random weights
        init_parts: what to take of it: speech (stage 1), autoencoder, or all that the recipe has
        captions: spoken descriptions of each picture of birds or flowers; 6 unless given
        seed: of splits, training and evaluation
        max_captions: descriptions that images are drawn for in the evaluation, chosen at random
        jobs: processes of the preparation; one per core unless given
    """
    from s2igan.run import run_corpus

    _use_image_encoder_weights(image_encoder_weights, settings.sen.image.backbone)
    report = run_corpus(
        corpus,
        source,
        out,
        preparation,
        recipe=settings,
        init_from=init_from,
        init_parts=init_parts,
        autoencoder=pretrained,
        captions=captions,
        seed=seed,
        device=device,
        jobs=jobs,
        max_captions=max_captions,
        say=_say,
    )
    print(f"Report: {report}")


def train(
    *,
    recipe: Annotated[Positional[str], arg(metavar="RECIPE")],
    data: Path | None = None,
    out: Path | None = None,
    base: str | None = None,
    stage: Literal["1", "2", "both"] = "both",
    sen_from: Path | None = None,
    allow_other_data: bool = False,
    init_from: Path | None = None,
    init_parts: InitParts = ("all",),
    pretrained: Pretrained = None,
    resume: bool = False,
    seed: Seed = 0,
    image_encoder_weights: ImageEncoderWeights = None,
    device: Device = None,
    dry_run: bool = False,
    settings: Settings = None,
) -> None:
    """Train a recipe: first the speech embedding network (stage 1), then what draws (stage 2).

    Stage 2 is the paper's RDG or, where the recipe says so, latent flow. Every hyper-parameter of the recipe is a flag,
    such as --sen.batch-size 48; s2igan train RECIPE --help lists them.

    Args:
        recipe: name of the experiment; s2igan recipes lists them
        data: directory that s2igan prepare made; a dry run can do without
        out: run directory to make, or to go on with; a dry run writes nothing
        base: for a method such as no-dense, the recipe that it changes; birds-rdg unless given
        stage: which stage to train
        sen_from: another run whose first stage to use in place of training it; it must have the recipe's first stage
        allow_other_data: use the first stage of sen_from also where it was trained on another set
        init_from: a run or an exported model of the same sizes to begin from, in place of random weights
        init_parts: what to take of it: speech (stage 1), autoencoder, or all that the recipe has
        resume: go on from the newest checkpoint in the run directory, if there is one
        seed: of weights, batches and noise
        dry_run: only print, as JSON, the complete configuration, the networks' parameters, how fast this machine is,
            and the time and memory of a step on it
    """
    _use_image_encoder_weights(image_encoder_weights, settings.sen.image.backbone)
    if dry_run:
        from s2igan.dry_run import dry_run as plan

        print(json.dumps(plan(settings, data=data, autoencoder=pretrained, device=device), indent=2))
        return
    if data is None or out is None:
        raise UserError("training needs --data and --out: the directory that s2igan prepare made, and one for the run.")
    from s2igan.training.train import train_run

    train_run(
        settings,
        data=data,
        out=out,
        stage=stage,
        resume=resume,
        seed=seed,
        sen_from=sen_from,
        allow_other_data=allow_other_data,
        init_from=init_from,
        init_parts=init_parts,
        autoencoder=pretrained,
        device=device,
    )


app.command(run)
app.command(train)


@app.command
def recipes() -> None:
    """List the recipes that can be trained."""
    from s2igan.recipes import RECIPES

    width = max(map(len, RECIPES))
    for name, recipe in RECIPES.items():
        print(f"{name:{width}}  {(recipe.__doc__ or name).strip().splitlines()[0]}")


@app.command
def models() -> None:
    """List the trained models that come with s2igan: by which method each draws, and how large."""
    from s2igan.models.exported import ExportedModel, shipped_models

    found = shipped_models()
    for name, directory in found.items():
        config = ExportedModel.read(directory).generator_config()
        print(f"{name:{max(map(len, found))}}  {config.method}; {config.resolutions[-1]} px")
    if not found:
        print("None: this installation is without them.")


@app.command
def show(
    out: Annotated[Positional[Path], arg(metavar="PAGE.html")],
    /,
    *,
    models: tuple[str, ...] = (),
    samples: Count = 3,
    seed: Seed = 1,
    device: Device = None,
) -> None:
    """Write a page with eight spoken sentences, each drawn by every shipped model, methods side by side.

    Args:
        out: HTML file to write; it needs no other file
        models: names of shipped models, or run directories; all shipped models unless given
        samples: images of each sentence by each model
        seed: same seed, same images
    """
    from s2igan.report.show import write_page

    print(f"Page: {write_page(out, models, samples=samples, seed=seed, device=device)}")


@app.command
def generate(
    audio: Recordings,
    /,
    *,
    drawing: Annotated[Drawing, OmitArgPrefixes],
) -> None:
    """Draw what recordings describe: a PNG per sample and a contact sheet; one JSON line per PNG on stdout.

    Args:
        audio: sound files, folders of them, patterns such as 'said/*.wav', or - for standard input
    """
    _generate(audio, drawing)


@app.command
def record(
    out: Annotated[Positional[Path], arg(metavar="OUT.wav")],
    /,
    *,
    seconds: float = 20.0,
    microphone: str | None = None,
) -> None:
    """Record a description with the microphone, until Enter is pressed (needs the extra mic).

    Args:
        out: wav file to write
        seconds: when to stop if Enter is not pressed
        microphone: name or number of an input device, as python -m sounddevice lists them
    """
    from s2igan.record import record as record_to

    print("Speak; press Enter when you are done.", file=sys.stderr)
    length = record_to(out, seconds=seconds, microphone=microphone)
    print(f"Recording: {out} ({length:.1f} s)")


@app.command
def embed(
    audio: Recordings,
    /,
    *,
    model: Path,
    out: Path = Path("embeddings.parquet"),
    device: Device = None,
) -> None:
    """Write the speech embeddings of recordings to a Parquet table: audio, speech_seconds, embedding.

    Args:
        audio: sound files, folders of them, patterns such as 'said/*.wav', or - for standard input
        model: run directory, the exported model in it, or the name of a shipped model
        out: table to write
    """
    from s2igan.embed import embed_files
    from s2igan.generate import find_recordings
    from s2igan.pipeline import SpeechToImage

    loaded = SpeechToImage.load(model, device)
    _report_each(embed_files(loaded, find_recordings(audio), out))
    print(f"Embeddings: {out}")


@app.command
def retrieve(
    queries: Annotated[Positional[tuple[str, ...]], arg(metavar="QUERY [QUERY ...]", help_behavior_hint="(required)")],
    /,
    *,
    model: Path,
    data: Path,
    k: Count = 10,
    split: str = "all",
    out: Path = Path("found"),
    device: Device = None,
) -> None:
    """Find in a prepared corpus the pictures nearest to a recording, or the recordings nearest to a picture.

    Prints one JSON line for everything found, and writes a contact sheet. Only stage 1 of a run need be finished.

    Args:
        queries: sound files, pictures, folders of sound files, or patterns
        model: run directory, or the name of a shipped model
        data: directory that s2igan prepare made
        k: how many to find for each
        split: where to look: train, validation, development, test or all
        out: directory for the contact sheet
    """
    from s2igan.finding import Finder, find_files
    from s2igan.generate import find_recordings

    wanted = find_recordings(queries)
    _report_each(find_files(Finder.load(model, data, split, device), wanted, out, k))


@app.command
def speak(
    sentence: Annotated[Positional[str], arg(metavar="SENTENCE")],
    /,
    *,
    drawing: Annotated[Drawing, OmitArgPrefixes],
    voice: str = "espeak:en-us",
) -> None:
    """Have a sentence spoken, then draw what was said; writes the wav beside the images.

    Args:
        sentence: what to say; put it in quotation marks
        voice: who says it, such as espeak:en-gb or espeak:en-us+f3?rate=150
    """
    from s2igan.speech import speak_to_file

    devices.choose_device(drawing.device)  # before a sound file is left behind
    stem = re.sub(r"[^\w]+", "-", sentence.lower()).strip("-")[:MAX_STEM].rstrip("-") or "sentence"
    _generate((str(speak_to_file(sentence, voice, drawing.out / f"{stem}.wav")),), drawing)


@app.command
def serve(
    model: Annotated[Positional[Path], arg(metavar="MODEL")],
    /,
    *,
    data: Annotated[Path | None, arg(aliases=["--corpus"])] = None,
    host: str = "127.0.0.1",
    port: Annotated[int, _whole(0, 65_535)] = 7860,
    examples: Path | None = None,
    per_minute: Annotated[int | None, _whole(1, MAX_SEED)] = None,
    device: Device = None,
) -> None:
    """Serve a page to speak to and see what is drawn, and the same as an HTTP API (needs the extra web).

    Args:
        model: run directory, the exported model in it, or the name of a shipped model
        data: prepared corpus whose nearest pictures are shown beside those drawn
        host: address to listen on; this machine alone unless given, 0.0.0.0 is every network that it is in
        port: 0 chooses a free one
        examples: folder with recordings and an examples.json; models of the built-in birds have some
        per_minute: requests that one address may send in a minute; 120 unless given
    """
    from s2igan.web.serve import serve as serve_page

    serve_page(model, data=data, host=host, port=port, examples=examples, per_minute=per_minute, device=device)


@app.command
def export(
    model: Annotated[Positional[str], arg(metavar="MODEL")],
    /,
    *,
    onnx: Annotated[Path, arg(metavar="FOLDER")],
    int8: bool = False,
) -> None:
    """Write a model as ONNX graphs, which s2igan-edge runs without PyTorch (needs the extra onnx).

    Args:
        model: run directory, the exported model in it, the name of a shipped model, or owner/name on the hub
        onnx: folder to write
        int8: latent flow only: round the weights of its velocity network to 8 bits: smaller, a little less exact
    """
    from s2igan.onnx_export import export_onnx
    from s2igan.pipeline import SpeechToImage

    written = export_onnx(SpeechToImage.from_pretrained(model, device="cpu"), onnx, int8=int8)
    size = sum(path.stat().st_size for path in written.iterdir())
    print(f"ONNX: {written} ({size / 1e6:.1f} MB)")


@app.command
def push(
    model: Annotated[Positional[Path], arg(metavar="MODEL")],
    repository: Annotated[Positional[str], arg(metavar="OWNER/NAME")],
    /,
    *,
    public: bool = False,
    licence: str | None = None,
    consent: str | None = None,
    community: str | None = None,
    label: UseAppendAction[tuple[str, ...]] = (),
    language: UseAppendAction[tuple[str, ...]] = (),
    card: Path | None = None,
) -> None:
    """Put a model on the Hugging Face hub: its weights, its sizes and a card, and nothing else; private unless asked.

    Args:
        model: run directory, the exported model in it, or the name of a shipped model
        repository: where to; it is made if it is not there
        public: whoever looks may see a repository that is made here
        licence: identifier of a licence as the hub knows it, such as cc-by-nc-4.0
        consent: who agreed to what, and how, in a sentence
        community: whose language it is, and whom to ask
        label: labels that the community gave, such as Traditional Knowledge labels
        language: codes of the languages spoken (ISO 639)
        card: Markdown file with what the card says of the model, such as scores; it may begin with the hub's YAML
    """
    from s2igan.hub import Sharing, read_card
    from s2igan.pipeline import SpeechToImage

    sharing = Sharing(licence, consent, community, label, language)
    about = None if card is None else read_card(card)
    loaded = SpeechToImage.load(model, "cpu")
    address = loaded.push_to_hub(repository, sharing=sharing, card=about, private=not public)
    print(f"Model: {address} ({'public' if public else 'private, if it was made now'})")


@app.command
def forget(
    speaker: Annotated[Positional[str], arg(metavar="SPEAKER")],
    /,
    *,
    data: Path,
    runs: Path = Path("runs"),
) -> None:
    """Take a speaker out of a prepared corpus, and list the runs that were trained with them.

    Args:
        speaker: name or pseudonym, as the manifest has it
        data: directory that s2igan prepare made
        runs: folder to search for runs on this corpus
    """
    from s2igan.forget import forget_speaker

    forgotten = forget_speaker(speaker, data, runs)
    print(f"{data}: {forgotten.utterances:,} utterances of {speaker} are gone from the store and its manifest.")
    print("Their recordings are in the source, which is only read. Delete them, or the next prepare brings them back:")
    for path in forgotten.recordings:
        print(f"  {path}")
    if forgotten.runs:
        print("Trained with them, so that weights, pages and sheets may hold the voice; delete and train anew:")
    else:
        print(f"No run in {runs} was trained with them.")
    for path in forgotten.runs:
        print(f"  {path}")


@app.command
def evaluate(
    model: Path,
    data: Path,
    split: str = "test",
    max_captions: Count = 1000,
    protocol: Protocol = "sample",
    consistency: bool = False,
    keep_images: bool = False,
    fid_weights: FidWeights = None,
    out: Path | None = None,
    seed: Seed = 0,
    image_encoder_weights: ImageEncoderWeights = None,
    device: Device = None,
    allow_other_data: bool = False,
    conditions: bool = False,
    condition_voices: tuple[str, ...] = (),
    condition_rooms: tuple[Path, ...] = (),
) -> None:
    """Score a trained model on the test split: classes and voices that it never met.

    Args:
        model: run directory, an exported model, or the name of a shipped model
        data: directory that s2igan prepare made
        split: what to score on
        max_captions: descriptions that images are drawn for, chosen at random
        protocol: paper draws an image of every description of the split, and gives the Fréchet distance whatever the
            counts are
        consistency: score whether speech and generated images find each other, by encoders that the model never saw;
            the first time on a set they are trained, which takes minutes
        keep_images: leave the generated images, and the real ones that they are compared with, as PNG
        out: folder for the scores; RUN/evaluation unless given, and NAME-evaluation here for an exported model
        seed: of every random choice and of the noise
        allow_other_data: score on another set than the one that the model was trained on; record and report say so
        conditions: also by voices and engines never heard, by telephone, in noise and rooms, faster and slower
        condition_voices: more voices that speak the captions, such as espeak:en-gb+croak, or command: with a program
        condition_rooms: sound files of a room's answer to a click or a bursting balloon
    """
    from s2igan.evaluation.evaluate import evaluate as evaluate_model

    if image_encoder_weights is not None:
        from s2igan.evaluation.subject import Subject

        _use_image_encoder_weights(image_encoder_weights, Subject.of(model).backbone)
    options = EvaluationOptions(
        split, seed, max_captions, protocol, consistency, keep_images, fid_weights, allow_other_data, conditions
    )
    others = OtherConditions(condition_voices, condition_rooms)
    evaluate_model(model, data, options, out=out, conditions=others, device=device)


@app.command
def reproduce(
    corpus: Annotated[Positional[str], arg(metavar="CORPUS")],
    /,
    *,
    out: Path,
    rows: str = "table1,ablations",
    seeds: Count = 1,
    base: str = "birds-rdg",
    steps: Annotated[int | None, _whole(1, MAX_SEED)] = None,
    sen_steps: Annotated[int | None, _whole(1, MAX_SEED)] = None,
    warm_start_steps: Annotated[int | None, _whole(1, MAX_SEED)] = None,
    budget: float | None = None,
    max_captions: Count = 1000,
    protocol: Protocol = "sample",
    fid_weights: FidWeights = None,
    devices: tuple[str, ...] = (),
) -> None:
    """Make the paper's tables and figures on a set: train every row, score it, write one page and one JSON.

    Interrupted, or at the end of its budget, the same command goes on. Rows and seeds may be added later.

    Args:
        corpus: directory that s2igan prepare made, or birds or flowers, which are made
        out: directory to make, or to go on with
        rows: table1, ablations, and names that s2igan recipes lists, separated by commas; NAME:3 has three seeds
        seeds: of each row that says no number
        base: the recipe that every method changes
        steps: of stage 2 of every method, in place of those of the base recipe
        sen_steps: of stage 1, likewise
        warm_start_steps: of what comes before the adversarial training, likewise
        budget: hours; nothing is begun that would end later
        max_captions: descriptions that images are drawn for, chosen at random
        protocol: paper draws an image of every description of the test split
        devices: where to compute, rows side by side; all GPUs unless given, or else the CPU ("cpu cpu" with
            OMP_NUM_THREADS=1 uses two cores better than one row on both)
    """
    from s2igan.reproduce import reproduce as make

    options = EvaluationOptions(
        max_captions=max_captions, protocol=protocol, consistency=True, keep_images=True, fid_weights=fid_weights
    )
    page = make(
        corpus,
        out,
        rows=rows,
        seeds=seeds,
        base=base,
        steps=steps,
        sen_steps=sen_steps,
        warm_start_steps=warm_start_steps,
        budget_hours=budget,
        options=options,
        devices=devices,
        say=_say,
    )
    print(f"Page: {page}")


@app.command
def card(
    model: Annotated[Positional[Path], arg(metavar="MODEL")],
    /,
    *,
    out: Path,
    data: Path | None = None,
    scores: Path | None = None,
    license: str | None = None,
) -> None:
    """Write a model card, Markdown with the front matter of the Hugging Face hub, from what is recorded of a model.

    Args:
        model: run directory, an exported model, or the name of a shipped model
        out: file to write, such as README.md beside the model
        data: the set that it was trained on; a run knows it
        scores: folder that s2igan evaluate wrote; RUN/evaluation unless given, and NAME-evaluation here for an exported
            model
        license: of the model, as the hub spells it, such as cc-by-4.0; apache-2.0 for the built-in sets unless given
    """
    from s2igan.report.card import write_card

    print(f"Card: {write_card(model, out, data=data, scores=scores, license=license)}")


@app.command
def blind_sheet(
    model: Annotated[Positional[Path], arg(metavar="MODEL")],
    /,
    *,
    data: Path,
    out: Path,
    split: str = "test",
    seed: Seed = 0,
    device: Device = None,
) -> None:
    """Mix 64 generated and 64 real images without labels, for a reader who counts the clean ones.

    Args:
        model: run directory, or an exported model
        data: directory that s2igan prepare made
        out: new folder for the pages, the reader's README.md, answers.csv and key.json
        split: whose descriptions are drawn, and whose pictures are shown
        seed: of every random choice and of the noise
    """
    from s2igan.evaluation.blind_sheet import write_blind_sheet

    folder = write_blind_sheet(model, data, out, split=split, seed=seed, device=device)
    print(f"Blind sheet: {folder}")


@app.command
def blind_count(
    sheet: Annotated[Positional[Path], arg(metavar="SHEET")],
    answers: Annotated[Positional[tuple[Path, ...]], arg(metavar="ANSWERS [ANSWERS]", help_behavior_hint="(required)")],
    /,
) -> None:
    """Count what one or two readers of a blind sheet found clean; prints JSON.

    Args:
        sheet: folder that s2igan blind-sheet wrote
        answers: filled-in copies of its answers.csv
    """
    from s2igan.evaluation.blind_sheet import count_answers

    print(json.dumps(count_answers(sheet, answers), indent=2))


@app.command
def words(
    model: Path,
    data: Path,
    search: Annotated[WordSearch, OmitArgPrefixes],
    split: str = "test",
    seed: Seed = 0,
    device: Device = None,
) -> None:
    """Find recurring pieces of speech, and what they go with in the pictures, without text; writes a page to play them.

    Args:
        model: run directory whose stage 1 is trained
        data: directory that s2igan prepare made
        split: whose recordings to look in
        seed: of every random choice
    """
    from s2igan.report.words import write_words

    print(f"Words: {write_words(model, data, search, split=split, seed=seed, device=device)}")


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


def _generate(audio: Sequence[str], drawing: Drawing) -> None:
    from s2igan.generate import find_recordings, generate_files
    from s2igan.pipeline import SpeechToImage

    recordings = find_recordings(audio)
    model = SpeechToImage.load(drawing.model, drawing.device)
    options = {"truncation": drawing.truncation, "guidance": drawing.guidance}
    _report_each(generate_files(model, recordings, drawing.out, drawing.samples, drawing.seed, **options))


def _report_each(results: Iterable[dict[str, Any] | UserError]) -> None:
    """Prints records as JSON lines and errors as sentences; exits with status 1 after the last where there were any."""
    failed = False
    for result in results:
        if isinstance(result, UserError):
            _complain(result)
            failed = True
        else:
            print(json.dumps(result, ensure_ascii=False), flush=True)
    if failed:
        sys.exit(FAILED)


def _use_image_encoder_weights(file: Path | None, backbone: str) -> None:
    """Names a file of weights to this process, for all image encoders that it makes.

    Raises:
        UserError: the recipe's image encoder is another network.
    """
    if file is None:
        return
    from s2igan.models.image_encoder import WEIGHTS_VARIABLE

    if backbone != "inception_v3":
        raise UserError(
            f"--image-encoder-weights {file}: is for Inception-v3, and this recipe encodes images by {backbone}, whose "
            "weights are installed; leave it out."
        )
    os.environ[WEIGHTS_VARIABLE] = str(file)


def _say(line: str) -> None:
    print(line, flush=True)


def main(args: Sequence[str] | None = None) -> None:
    """Runs one command; exits 1 after a failure that the user can mend, 2 on a wrong command line, 130 on Ctrl-C."""
    words = sys.argv[1:] if args is None else list(args)
    status = _guarded(lambda: _run(words))
    if status:
        sys.exit(status)


def _run(words: list[str]) -> None:
    if words in ([], ["prepare"]):
        words = [*words, "--help"]
    commands: dict[str, Callable[..., None]] = {"train": train, "run": run}
    command = commands.get(words[0])
    recipe = None
    if command is not None:
        recipe = _named_recipe(words, command)
        if recipe is not None:
            from s2igan.flags import with_flags

            command = with_flags(command, recipe)
        app.command(name=words[0])(command)
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
        _complain(error)
        return FAILED
    except KeyboardInterrupt as interruption:
        print(f"s2igan: interrupted{': ' if str(interruption) else ''}{interruption}", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output (head, say) has seen enough; nothing may be written to it while Python exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            _complain(UserError(f"{str(error.filename)[:MAX_STEM]}...: the name is too long; check the path."))
        elif error.errno == errno.EACCES:
            _complain(UserError(f"{error.filename}: no permission; check the path and whose it is."))
        else:
            raise
        return FAILED
    return 0


def _complain(error: UserError) -> None:
    print(f"s2igan: {error}", file=sys.stderr)
