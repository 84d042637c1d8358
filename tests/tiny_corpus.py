"""A corpus small enough to train on within a test: coloured patches, described by tones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from s2igan.data.manifest import Utterance, write_manifest
from s2igan.data.pack import build_store
from s2igan.data.store import Store
from s2igan.data.text_embeddings import write_text_embeddings
from s2igan.models.autoencoder import AutoencoderConfig
from s2igan.models.flow import FlowNetworkConfig
from s2igan.models.generator import GeneratorConfig
from s2igan.models.image_encoder import ImageEncoderConfig
from s2igan.models.li2020 import CnnLstmConfig
from s2igan.models.matchmap import MatchmapConfig
from s2igan.models.precomputed import PrecomputedConfig
from s2igan.models.speech_encoder import SpeechEncoderConfig
from s2igan.models.text_encoder import TextEncoderConfig
from s2igan.training.augment import SpeechAugment
from s2igan.training.autoencoder import AutoencoderTraining
from s2igan.training.decoder import DecoderTraining
from s2igan.training.flow import FlowTraining
from s2igan.training.matchmap import MatchmapTraining
from s2igan.training.rdg import RDGConfig
from s2igan.training.recipe import LatentFlow, Recipe
from s2igan.training.sen import SENConfig
from s2igan.training.trainer import TrainerConfig

IMAGES_PER_CLASS = 4
CAPTIONS_PER_IMAGE = 2
SPLITS = ("train", "train", "train", "train", "validation", "test")
"""One for each class."""


def make_store(
    root: Path,
    *,
    with_classes: bool = True,
    window: Literal["hann", "hamming"] = "hann",
    size: int = 32,
    second_seconds: float = 0.55,
) -> Store:
    """A store of 6 classes with 4 images each and 2 utterances an image, the second of which lasts so long."""
    import soundfile

    from s2igan.audio import SAMPLE_RATE

    rng = np.random.default_rng(0)
    rows = []
    for label, split in enumerate(SPLITS):
        for number in range(IMAGES_PER_CLASS):
            image = f"images/{label}_{number}.png"
            (root / image).parent.mkdir(parents=True, exist_ok=True)
            patches = 30 * label + rng.integers(0, 100, (5, 5, 3), dtype=np.uint8)  # what is flat has no features
            pixels = patches.repeat(size // 4, axis=0).repeat(size // 4, axis=1)
            Image.fromarray(pixels).save(root / image)
            for caption in range(CAPTIONS_PER_IMAGE):
                audio = f"audio/{label}_{number}_{caption}.wav"
                (root / audio).parent.mkdir(parents=True, exist_ok=True)
                seconds = np.arange(int(SAMPLE_RATE * (second_seconds if caption else 0.5))) / SAMPLE_RATE
                wave = np.sin(2 * np.pi * (200 + 300 * label) * seconds) + 0.1 * rng.standard_normal(len(seconds))
                soundfile.write(root / audio, 0.3 * wave, SAMPLE_RATE)
                name = f"class {label}" if with_classes else None
                text = f"shade {'abcdef'[label]}, take {number}" + ", and said once more at length" * 2 * caption
                rows.append(Utterance(audio, image, class_name=name, split=split, text=text))
    write_manifest(root / "manifest.jsonl", rows)
    build_store(root / "manifest.jsonl", image_size=size, window=window, jobs=1)
    texts = sorted({row.text for row in rows if row.text})
    write_text_embeddings(root, texts, rng.standard_normal((len(texts), 16)).astype(np.float16))
    return Store.open(root)


def tiny_recipe(steps: int = 4) -> Recipe:
    """Both stages at toy width: images of 8, 16 and 32 px."""
    loop = TrainerConfig(steps=steps, log_every=2, evaluate_every=100, checkpoint_seconds=1e9)
    speech = SpeechEncoderConfig(conv_channels=(6, 8), hidden=8, layers=1, attention_hidden=4)
    sen = SENConfig(
        trainer=loop,
        speech=speech,
        image=ImageEncoderConfig(backbone="efficientnet_lite0", input_size=32, embedding=speech.embedding),
        image_size=32,
        batch_size=6,
        image_views=2,
        augment=SpeechAugment(strength=1.0),
    )
    rdg = RDGConfig(
        trainer=loop,
        generator=GeneratorConfig(embedding=speech.embedding, condition=4, z=4, width=8, resolutions=(8, 16, 32)),
        discriminator_width=2,
        batch_size=6,
        image_views=2,
    )
    return Recipe("tiny", sen, rdg)


def shrunk(recipe: Recipe, steps: int = 1) -> Recipe:
    """Any recipe at toy width: its choices stay, its sizes do not. A stage that takes no step still takes none."""
    tiny = tiny_recipe(steps)
    encoders = (
        (SpeechEncoderConfig, {"conv_channels": (6, 8), "hidden": 8, "layers": 1, "attention_hidden": 4}),
        (CnnLstmConfig, {"width": 1, "hidden": 8}),
        (TextEncoderConfig, {"conv_channels": (6, 6, 6), "hidden": 4, "embedding": 16}),
        (PrecomputedConfig, {"embedding": 16}),
    )
    sizes = next(sizes for kind, sizes in encoders if isinstance(recipe.sen.speech, kind))
    sen = replace(
        recipe.sen,
        trainer=tiny.sen.trainer
        if recipe.sen.trainer.steps or recipe.sen.trainer.epochs
        else replace(tiny.sen.trainer, steps=0),
        speech=replace(recipe.sen.speech, **sizes),  # type: ignore[arg-type]
        image=replace(recipe.sen.image, backbone="efficientnet_lite0", input_size=32, embedding=16),
        image_size=32 if recipe.latent_flow is None else 64,
        batch_size=6,
        image_views=min(2, recipe.sen.image_views),
    )
    if recipe.latent_flow is not None:
        return Recipe(f"tiny {recipe.name}", sen, latent_flow=tiny_latent_flow(steps))
    assert tiny.rdg is not None
    assert recipe.rdg is not None
    rdg = replace(
        recipe.rdg,
        trainer=tiny.rdg.trainer,
        generator=replace(recipe.rdg.generator, embedding=16, condition=4, z=4, width=8, resolutions=(8, 16, 32)),
        discriminator_width=2,
        relation_hidden=8,
        batch_size=6,
        image_views=min(2, recipe.rdg.image_views),
    )
    start = recipe.beyond.warm_start
    if start.trains:
        start = replace(start, trainer=tiny.rdg.trainer, batch_size=6, encoder_width=2)
    return Recipe(f"tiny {recipe.name}", sen, rdg, beyond=replace(recipe.beyond, warm_start=start))


def tiny_latent_flow(steps: int = 4, size: int = 64) -> LatentFlow:
    """Latent flow at toy width."""
    loop = TrainerConfig(steps=steps, log_every=2, evaluate_every=100, checkpoint_seconds=1e9)
    network = AutoencoderConfig(size, channels=4 if size == 64 else 1, widths=(8, 8, 8, 8))
    return LatentFlow(
        AutoencoderTraining(loop, network=network, window=64, batch_size=4, warmup_steps=1),
        MatchmapTraining(loop, MatchmapConfig(words=8, hidden=8, region_width=8), batch_size=4, warmup_steps=1),
        FlowTraining(
            loop,
            FlowNetworkConfig(width=16, depth=1, heads=2, outer_width=8, outer_depth=1, outer_heads=2),
            batch_size=4,
            warmup_steps=1,
            views=2,
            steps=2,
            alignment_block=0,
        ),
        DecoderTraining(loop, window=64, batch_size=4, warmup_steps=1) if size > 64 else None,
    )


def batch_of(stage: Any, step: int) -> Any:
    """The batch of a step of a stage."""
    return stage.batch(stage.reader.read(step))


def take_step(stage: Any, step: int) -> dict[str, Any]:
    """One step of a stage, as a trainer takes it."""
    update = stage.update(step)
    losses: dict[str, Any] = update(stage.state, batch_of(stage, step), stage.config)
    return losses


def with_rdg(recipe: Recipe, **changes: object) -> Recipe:
    """The recipe with changed fields of stage 2."""
    return replace(recipe, rdg=replace(recipe.rdg, **changes))  # type: ignore[arg-type]
