"""The paper's Figure 3: one sentence with one word changed, spoken, drawn and scored."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from s2igan.corpora.builtin.drawn import DrawnSet
from s2igan.errors import UserError
from s2igan.evaluation.attributes import AttributeClassifier
from s2igan.evaluation.evaluation_split import EvaluationSplit
from s2igan.evaluation.features import as_images
from s2igan.evaluation.generated import Evaluation
from s2igan.evaluation.scores import FIGURE3, Group, Score
from s2igan.files import atomic_write_json
from s2igan.pipeline import SpeechToImage, write_picture, write_recording
from s2igan.speech import Synthesizer, parse_voice

SCORED, KEPT = 16, 4
"""Images of every sentence that its score counts, and of them those that are written."""
DEFAULT_VOICE = "espeak:en-us"
"""Speaks where the split's speakers are no voices that can be synthesized."""


@dataclass(frozen=True)
class Changed:
    """One sentence with one word changed through all values of an attribute, spoken and drawn."""

    attribute: str
    template: str
    values: tuple[str, ...]
    texts: tuple[str, ...]
    waves: tuple[np.ndarray, ...]
    """The recordings, at the synthesizer's sample rate."""
    sample_rate: int
    pictures: UInt8[np.ndarray, "values samples side side 3"]
    """The noise is the same for every value: sample k differs between values by the word alone."""


def figure3_group(
    evaluation: Evaluation, classifier: AttributeClassifier, drawn: DrawnSet, folder: Path
) -> Group | None:
    """How often images follow the changed word; the first sentence's images and recordings are kept in ``folder``.

    None where no voice can be synthesized, and of the baseline that reads text and not speech.
    """
    model, seed = evaluation.model, evaluation.seed
    if model.speech_encoder.reads != "speech":
        return None
    try:
        voice = parse_voice(_voice_of(evaluation.split))
    except UserError as error:
        evaluation.console.print(f"Figure 3 is left out: {error}", highlight=False)
        return None
    scores: list[Score] = []
    for name, template in drawn.changed_sentences.items():
        values = drawn.attributes[name]
        changed = change_word(model, voice, name, template, values, samples=SCORED, seed=seed)
        if not scores:
            write_changed(folder, changed, voice.name, seed)
        protocol = {
            "sentence": template,
            "voice": voice.name,
            "images_per_value": SCORED,
            "image_size": model.resolutions[-1],
            "seed": seed,
            "chance": "one over the number of values",
        }
        scores.append(
            Score(
                f"figure3/{name}",
                f"{name.replace('_', ' ')} followed",
                followed(changed, classifier),
                protocol,
                chance=1 / len(values),
                ceiling=classifier.record["held_out_accuracy"][name],
                ceiling_name="held-out drawings",
            )
        )
    words = (
        f"One sentence spoken by {voice.name} with every value in turn, {SCORED} images each with the same "
        "noise: how often the classifier sees the value spoken. The ceiling is its accuracy on held-out drawings."
    )
    return Group("figure3", "One word changed (Figure 3)", words, scores)


def _voice_of(split: EvaluationSplit) -> str:
    """A voice of this split, if its utterances were synthesized by voices that are known here."""
    speaker = split.store.speaker(int(split.utterances[0]))
    return speaker if speaker is not None and speaker.startswith("espeak:") else DEFAULT_VOICE


def change_word(
    model: SpeechToImage,
    voice: Synthesizer,
    attribute: str,
    template: str,
    values: Sequence[str],
    *,
    samples: int,
    seed: int,
) -> Changed:
    """``template`` spoken with every value in turn for its `{}`, and drawn with the same noise.

    The article is part of what is filled in: "{} belly" becomes "a red belly", "an orange belly"; a template with
    "{} wings" gets none.
    """
    texts = tuple(fill(template, value) for value in values)
    waves = tuple(voice.synthesize(text) for text in texts)
    z, eps = model.noise(samples, seed)
    pictures = [
        model.draw(model.embed((wave, voice.sample_rate))[None].expand(samples, -1), z, eps)[-1] for wave in waves
    ]
    return Changed(attribute, template, tuple(values), texts, waves, voice.sample_rate, np.stack(pictures))


def fill(template: str, value: str) -> str:
    """ "has a {} belly" with "orange" gives "has an orange belly"."""
    article = "an" if value[0] in "aeiou" else "a"
    return re.sub(r"\ba \{\}", f"{article} {value}", template).replace("{}", value)


def followed(changed: Changed, classifier: AttributeClassifier) -> float:
    """Share of the pictures in which the classifier sees the value that was spoken."""
    samples = changed.pictures.shape[1]
    found = classifier.predict(as_images(np.concatenate(changed.pictures)))[changed.attribute]
    known = classifier.attributes[changed.attribute]
    spoken = np.repeat([known.index(value) for value in changed.values], samples)
    return float((found == spoken).mean())


def write_changed(folder: Path, changed: Changed, voice: str, seed: int) -> dict[str, Any]:
    """Writes `figure3.json` and the files that it names into ``folder``; returns its content (docs/metrics.md).

    Raises:
        UserError: the folder cannot be written.
    """
    rows = []
    for value, text, wave, drawn in zip(changed.values, changed.texts, changed.waves, changed.pictures, strict=True):
        pictures = {f"{value}-{number}.png": picture for number, picture in enumerate(drawn[:KEPT], start=1)}
        for name, picture in pictures.items():
            write_picture(folder / name, Image.fromarray(picture))
        write_recording(folder / f"{value}.wav", wave, changed.sample_rate)
        rows.append({"word": value, "text": text, "audio": f"{value}.wav", "samples": list(pictures)})
    facts = {"template": changed.template, "attribute": changed.attribute, "voice": voice, "seed": seed}
    content = {**facts, "rows": rows}
    atomic_write_json(folder / f"{FIGURE3}.json", content)
    return content
