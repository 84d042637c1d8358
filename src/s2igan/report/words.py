"""The page of words without letters: pieces of speech to play, beside the pictures that were described."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from s2igan import __version__
from s2igan.audio import SAMPLE_RATE, load_audio
from s2igan.data.store import Store
from s2igan.devices import choose_device
from s2igan.evaluation.attributes import AttributeClassifier, load_or_train_classifier
from s2igan.evaluation.drawings import drawn_set_of
from s2igan.evaluation.subject import Subject
from s2igan.evaluation.words.options import WordSearch
from s2igan.evaluation.words.search import Discovery, Example, find_words
from s2igan.evaluation.words.swap import swap_scores
from s2igan.files import atomic_write, atomic_write_json
from s2igan.report.embedded import picture_uri, sound_uri
from s2igan.report.page import templates

PAGE, RECORD = "words.html", "words.json"
AROUND_SECONDS = 0.05
"""Played before and after a piece of speech, which is hard to hear when it is cut to the sample."""


def write_words(
    run: str | Path, data: str | Path, search: WordSearch, *, split: str, seed: int, device: str | None = None
) -> Path:
    """Looks for words, writes words.json and words.html, and returns the path of the page.

    Of a run they lie in RUN/evaluation and in RUN; of an exported model both in the folder of its scores.

    Raises:
        UserError: as `find_words`, or a recording cannot be read.
    """
    subject = Subject.of(run)
    found = find_words(run, data, search=search, split=split, seed=seed, device=choose_device(device))
    if search.swaps:
        found.record["swaps"] = swap_scores(found, search.swaps, seed, _classifier(found))
    subject.evaluation.mkdir(parents=True, exist_ok=True)
    atomic_write_json(subject.evaluation / RECORD, found.record)
    rows = [
        {"word": word, "examples": [_played(found.split.store, example) for example in word.examples]}
        for word in found.words[: search.shown]
    ]
    page = (
        templates()
        .get_template("words.html")
        .render(name=subject.path.resolve().name, rows=rows, record=found.record, version=__version__)
    )
    path = (subject.path if subject.is_run else subject.evaluation) / PAGE
    with atomic_write(path) as file:
        file.write(page.encode())
    return path


def _classifier(found: Discovery) -> AttributeClassifier | None:
    """What says which colours a drawn picture has, where pictures are drawn."""
    drawn = drawn_set_of(found.split.store)
    return None if drawn is None or found.networks.model is None else load_or_train_classifier(drawn)


def _played(store: Store, example: Example) -> dict[str, str]:
    """The sound of an example, and the picture that its recording describes."""
    first, last = store.segment(example.utterance)
    wave = load_audio(store.audio_path(example.utterance), first, last)
    start, end = example.start_seconds - AROUND_SECONDS, example.end_seconds + AROUND_SECONDS
    piece = wave[max(0, round(start * SAMPLE_RATE)) : round(end * SAMPLE_RATE)]
    image = Image.fromarray(np.asarray(store.images[example.image]))
    speaker = store.speaker(example.utterance) or "unknown speaker"
    return {"sound": sound_uri(piece, SAMPLE_RATE), "picture": picture_uri(image), "speaker": speaker}
