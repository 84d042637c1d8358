"""What a reader looks at and listens to: unseen descriptions with their samples, and the paper's Figure 3."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from jaxtyping import Int, UInt8
from PIL import Image

from s2igan.audio import SAMPLE_RATE, load_audio
from s2igan.data.store import Store
from s2igan.evaluation.attributes import AttributeClassifier
from s2igan.evaluation.features import as_images
from s2igan.files import atomic_write_json, disk_errors
from s2igan.pipeline import SpeechToImage, to_pixels
from s2igan.speech import Synthesizer
from s2igan.training.frozen import speech_embeddings

DESCRIPTIONS, SAMPLES = 8, 4
"""Descriptions shown, and samples of each."""


def write_samples(
    folder: Path, model: SpeechToImage, store: Store, utterances: Int[np.ndarray, " utterances"], *, seed: int
) -> list[dict[str, Any]]:
    """Recording, real image and samples of some descriptions, each of another class as long as there are enough.

    Writes `samples.json` and the files that it names into ``folder``, and returns its content (docs/metrics.md).
    """
    rng = np.random.default_rng([seed, 0x5A3])
    shuffled = rng.permutation(utterances)
    _, first = np.unique(store.class_index[shuffled], return_index=True)
    chosen = [*shuffled[np.sort(first)], *shuffled[np.setdiff1d(np.arange(len(shuffled)), first)]][:DESCRIPTIONS]
    met = np.unique(store.class_index[store.split_indices("train")])
    size = model.resolutions[-1]
    embeddings = speech_embeddings(store, model.speech_encoder, np.array(chosen), device=model.device)
    z, eps = model.noise(SAMPLES, seed)
    rows = []
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for number, (utterance, embedding) in enumerate(zip(map(int, chosen), embeddings, strict=True), start=1):
            image = int(store.image_index[utterance])
            wave = load_audio(store.audio_path(utterance), *store.segment(utterance))
            soundfile.write(folder / f"{number:02d}.wav", wave, SAMPLE_RATE, subtype="PCM_16")
            real = to_pixels(as_images(store.images[image : image + 1], size))[0]
            Image.fromarray(real).save(folder / f"{number:02d}-real.png")
            names = []
            for sample, picture in enumerate(model.draw(embedding.expand(SAMPLES, -1), z, eps)[-1], start=1):
                names.append(f"{number:02d}-{sample}.png")
                Image.fromarray(picture).save(folder / names[-1])
            rows.append(
                {
                    "utterance": utterance,
                    "text": store.text(utterance),
                    "class_met": store.has_classes and bool(store.image_class[image] in met),
                    "class": store.classes[store.image_class[image]] if store.has_classes else None,
                    "speaker": store.speaker(utterance),
                    "audio": f"{number:02d}.wav",
                    "real": f"{number:02d}-real.png",
                    "samples": names,
                    "audio_source": os.path.relpath(store.audio_path(utterance), store.corpus_root),
                    "image_source": os.path.relpath(store.image_path(image), store.corpus_root),
                }
            )
    atomic_write_json(folder / "samples.json", rows)
    return rows


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
    """The paper's Figure 3: ``template`` spoken with every value in turn for its `{}`, and drawn with the same noise.

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
    """Writes `figure3.json` and the files that it names into ``folder``; returns its content (docs/metrics.md)."""
    rows: list[Mapping[str, Any]] = []
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for value, text, wave, pictures in zip(
            changed.values, changed.texts, changed.waves, changed.pictures, strict=True
        ):
            soundfile.write(folder / f"{value}.wav", wave, changed.sample_rate, subtype="PCM_16")
            names = [f"{value}-{number}.png" for number in range(1, min(SAMPLES, len(pictures)) + 1)]
            for name, picture in zip(names, pictures, strict=False):
                Image.fromarray(picture).save(folder / name)
            rows.append({"word": value, "text": text, "audio": f"{value}.wav", "samples": names})
    content = {
        "template": changed.template,
        "attribute": changed.attribute,
        "voice": voice,
        "seed": seed,
        "rows": rows,
    }
    atomic_write_json(folder / "figure3.json", content)
    return content
