"""The commands that use a trained model: draw, embed, find, record, serve, export, share."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from tyro.conf import OmitArgPrefixes, Positional, UseAppendAction, arg

from s2igan import devices
from s2igan.cli.options import Count, Device, Drawing, OptionalCount, Recordings, Seed, whole_number
from s2igan.cli.output import report_each

MAX_STEM = 60
"""Characters of a sentence that name its files."""


def models() -> None:
    """List the trained models that come with s2igan: by which method each draws, and how large."""
    from s2igan.models.exported import ExportedModel, shipped_models

    found = shipped_models()
    for name, directory in found.items():
        config = ExportedModel.read(directory).generator_config()
        print(f"{name:{max(map(len, found))}}  {config.method}; {config.resolutions[-1]} px")
    if not found:
        print("None: this installation is without them.")


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
    report_each(embed_files(loaded, find_recordings(audio), out))
    print(f"Embeddings: {out}")


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
    report_each(find_files(Finder.load(model, data, split, device), wanted, out, k))


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


def serve(
    model: Annotated[Positional[Path], arg(metavar="MODEL")],
    /,
    *,
    data: Annotated[Path | None, arg(aliases=["--corpus"])] = None,
    host: str = "127.0.0.1",
    port: Annotated[int, whole_number(0, 65_535)] = 7860,
    examples: Path | None = None,
    per_minute: OptionalCount = None,
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


def _generate(audio: Sequence[str], drawing: Drawing) -> None:
    from s2igan.generate import find_recordings, generate_files
    from s2igan.pipeline import SpeechToImage

    recordings = find_recordings(audio)
    model = SpeechToImage.load(drawing.model, drawing.device)
    options = {"truncation": drawing.truncation, "guidance": drawing.guidance}
    report_each(generate_files(model, recordings, drawing.out, drawing.samples, drawing.seed, **options))
