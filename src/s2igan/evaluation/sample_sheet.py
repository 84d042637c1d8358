"""The sample sheet: some descriptions of the split, each with its real image and images generated from it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from s2igan.audio import SAMPLE_RATE, load_audio, write_recording
from s2igan.data.dataset import crop_and_flip
from s2igan.evaluation.generation import Evaluation, draw_utterances, reconstruct
from s2igan.evaluation.scores import SAMPLE_SHEET
from s2igan.files import atomic_write_json
from s2igan.pictures import write_picture
from s2igan.pipeline import to_pixels

DESCRIPTIONS, SAMPLES = 8, 4
"""Descriptions shown, and samples of each."""


def write_sample_sheet(evaluation: Evaluation, folder: Path) -> list[dict[str, Any]]:
    """Recording, real image, its reconstruction by a latent flow, and samples of some descriptions, each of another
    class as long as there are enough.

    Writes `sample_sheet.json` and the files that it names into ``folder``, and returns its content (docs/metrics.md).

    Raises:
        UserError: the folder cannot be written, or a recording cannot be read.
    """
    model, store = evaluation.model, evaluation.split.store
    rng = np.random.default_rng([evaluation.seed, 0x5A3])
    shuffled = rng.permutation(evaluation.split.utterances)
    _, first = np.unique(store.utterance_class[shuffled], return_index=True)
    chosen = np.concatenate([shuffled[np.sort(first)], np.delete(shuffled, first)])[:DESCRIPTIONS]
    met = np.unique(store.utterance_class[store.split_indices("train")])
    noise = model.noise(SAMPLES, evaluation.seed).expand(len(chosen), -1, -1)  # sample k differs by what is said alone
    drawn = draw_utterances(model, store, chosen, noise)
    reconstructed = reconstruct(model, store, store.image_index[chosen])
    rows = []
    for number, utterance in enumerate(map(int, chosen), start=1):
        image = int(store.image_index[utterance])
        recording = store.audio_path(utterance)
        real_picture = crop_and_flip(store.images[[image]], model.resolutions[-1], None)
        pictures = {f"{number:02d}-real.png": to_pixels(real_picture)[0]}
        for sample, picture in enumerate(drawn[number - 1], start=1):
            pictures[f"{number:02d}-{sample}.png"] = picture
        real, *samples = pictures
        reconstruction = None
        if reconstructed is not None:
            reconstruction = f"{number:02d}-reconstruction.png"
            pictures[reconstruction] = reconstructed[number - 1]
        for name, picture in pictures.items():
            write_picture(folder / name, Image.fromarray(picture))
        write_recording(folder / f"{number:02d}.wav", load_audio(recording, *store.segment(utterance)), SAMPLE_RATE)
        rows.append(
            {
                "utterance": utterance,
                "text": store.text(utterance),
                "class": store.classes[store.image_class[image]] if store.has_classes else None,
                "class_met": store.has_classes and bool(store.image_class[image] in met),
                "speaker": store.speaker(utterance),
                "audio": f"{number:02d}.wav",
                "real": real,
                "reconstruction": reconstruction,
                "samples": samples,
                "audio_source": os.path.relpath(recording, store.corpus_root),
                "image_source": os.path.relpath(store.image_path(image), store.corpus_root),
            }
        )
    atomic_write_json(folder / f"{SAMPLE_SHEET}.json", rows)
    return rows
