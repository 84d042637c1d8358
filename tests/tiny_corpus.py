"""A corpus small enough to train on within a test: coloured squares, described by chirps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image

from s2igan.audio import SAMPLE_RATE
from s2igan.data.manifest import Utterance, write_manifest
from s2igan.data.store import Store, build_store
from s2igan.models.generator import GeneratorConfig
from s2igan.models.image_encoder import ImageEncoderConfig
from s2igan.models.speech_encoder import SpeechEncoderConfig
from s2igan.recipes import Recipe
from s2igan.training.augment import SpeechAugment
from s2igan.training.loop import LoopConfig
from s2igan.training.rdg import RDGConfig
from s2igan.training.sen import SENConfig

IMAGES_PER_CLASS = 4
CAPTIONS_PER_IMAGE = 2
SPLITS = ("train", "train", "train", "train", "validation", "test")
"""One for each class."""


def make_store(root: Path, *, with_classes: bool = True) -> Store:
    """A store of 6 classes with 4 images each and 2 utterances an image."""
    rng = np.random.default_rng(0)
    rows = []
    for label, split in enumerate(SPLITS):
        for number in range(IMAGES_PER_CLASS):
            image = f"images/{label}_{number}.png"
            (root / image).parent.mkdir(parents=True, exist_ok=True)
            pixels = np.full((40, 40, 3), 40 * label, np.uint8) + rng.integers(0, 20, (40, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / image)
            for caption in range(CAPTIONS_PER_IMAGE):
                audio = f"audio/{label}_{number}_{caption}.wav"
                (root / audio).parent.mkdir(parents=True, exist_ok=True)
                seconds = np.arange(int(SAMPLE_RATE * (0.5 + 0.05 * caption))) / SAMPLE_RATE
                wave = np.sin(2 * np.pi * (200 + 300 * label) * seconds) + 0.1 * rng.standard_normal(len(seconds))
                soundfile.write(root / audio, 0.3 * wave, SAMPLE_RATE)
                rows.append(
                    Utterance(audio, image, class_name=f"class {label}" if with_classes else None, split=split)
                )
    write_manifest(root / "manifest.jsonl", rows)
    build_store(root / "manifest.jsonl", image_size=32, jobs=1, progress=False)
    return Store.open(root)


def tiny_recipe(steps: int = 4) -> Recipe:
    """Both stages at toy width: images of 8, 16 and 32 px."""
    loop = LoopConfig(steps=steps, log_every=2, evaluate_every=100, checkpoint_seconds=1e9)
    speech = SpeechEncoderConfig(conv_channels=(6, 8), hidden=8, layers=1, attention_hidden=4)
    sen = SENConfig(
        loop=loop,
        speech=speech,
        image=ImageEncoderConfig(backbone="efficientnet_lite0", input_size=32, embedding=speech.embedding),
        image_size=32,
        batch_size=6,
        image_views=2,
        augment=SpeechAugment(),
    )
    rdg = RDGConfig(
        loop=loop,
        generator=GeneratorConfig(embedding=speech.embedding, condition=4, z=4, width=8, resolutions=(8, 16, 32)),
        discriminator_width=2,
        batch_size=6,
        image_views=2,
    )
    return Recipe("tiny", sen, rdg)


def with_rdg(recipe: Recipe, **changes: object) -> Recipe:
    """The recipe with changed fields of stage 2."""
    return replace(recipe, rdg=replace(recipe.rdg, **changes))  # type: ignore[arg-type]
