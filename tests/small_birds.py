"""A handful of birds in a store, and a run of random networks: enough for every path of the evaluation."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile
import torch
from PIL import Image
from rich.console import Console

from s2igan.audio import SAMPLE_RATE
from s2igan.checkpoint import save_model
from s2igan.corpora.builtin.bird_captions import caption
from s2igan.corpora.builtin.bird_drawing import ATTRIBUTES, draw_bird
from s2igan.corpora.builtin.birds import DRAWN_SET as BIRDS
from s2igan.corpora.builtin.drawn import species
from s2igan.data.dataset import crop_and_flip
from s2igan.data.manifest import Utterance, write_manifest
from s2igan.data.pack import build_store
from s2igan.data.store import Store
from s2igan.evaluation.attributes import AttributeClassifier, ClassifierConfig
from s2igan.evaluation.generation import Evaluation, Fakes
from s2igan.models.blocks import seeded
from s2igan.models.encoders import build_encoder, encoder_to_json
from s2igan.models.generator import Generator, GeneratorConfig
from s2igan.models.image_encoder import ImageEncoder, ImageEncoderConfig
from s2igan.models.latent_flow import LatentFlow, LatentFlowConfig
from s2igan.models.speech_encoder import SpeechEncoderConfig
from s2igan.pipeline import to_pixels
from s2igan.run_directory import SEN_FOLDER, RunDirectory
from s2igan.training.session import Session
from s2igan.training.stage_results import export
from tiny_corpus import tiny_latent_flow, tiny_recipe

SIDE = 32
SPEECH = SpeechEncoderConfig(conv_channels=(6, 8), hidden=8, layers=1, attention_hidden=6)
IMAGE = ImageEncoderConfig(backbone="efficientnet_lite0", input_size=SIDE, embedding=SPEECH.embedding)
GENERATOR = GeneratorConfig(embedding=SPEECH.embedding, condition=5, z=7, width=8, resolutions=(8, 16, SIDE))
TRAIN_CLASSES, TEST_CLASSES, INDIVIDUALS, CAPTIONS = 2, 3, 3, 2
TEST_VOICE = "espeak:en-gb-scotland+m3"


def make_bird_store(root: Path, side: int = SIDE) -> Store:
    """Two classes to train, three to test; six captions a class, as noise with a pitch of its own."""
    import random

    rng = np.random.default_rng(0)
    rows = []
    for label, attributes in enumerate(species(BIRDS, 14)[-(TRAIN_CLASSES + TEST_CLASSES) :]):
        split = "train" if label < TRAIN_CLASSES else "test"
        for individual in range(INDIVIDUALS):
            image = f"images/{label}_{individual}.png"
            (root / image).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(draw_bird(attributes, 100 * label + individual, 76)).save(root / image)
            for k in range(CAPTIONS):
                audio = f"audio/{label}_{individual}_{k}.wav"
                (root / audio).parent.mkdir(parents=True, exist_ok=True)
                time = np.arange(SAMPLE_RATE // 2) / SAMPLE_RATE
                wave = 0.2 * np.sin(2 * np.pi * (200 + 150 * label) * time) + 0.05 * rng.standard_normal(len(time))
                soundfile.write(root / audio, wave, SAMPLE_RATE)
                text, mentions = caption(attributes, random.Random(f"{label}/{individual}/{k}"))
                rows.append(
                    Utterance(
                        audio=audio,
                        image=image,
                        class_name=f"species {label}",
                        split=split,
                        speaker="espeak:en-us" if split == "train" else TEST_VOICE,
                        language="en",
                        text=text,
                        attributes=attributes,
                        mentions=mentions,
                    )
                )
    write_manifest(root / "manifest.jsonl", rows)
    build_store(root / "manifest.jsonl", image_size=side, jobs=1)
    return Store.open(root)


def make_run(path: Path, store: Store, *, trained: str = "both") -> Path:
    """A run directory with random networks, as training on a store leaves it; ``trained`` is "sen" or "both"."""
    with seeded(0):
        speech, image, generator = build_encoder(SPEECH), ImageEncoder(IMAGE), Generator(GENERATOR)
    config = {
        "speech_encoder": encoder_to_json(SPEECH),
        "image_encoder": dataclasses.asdict(IMAGE),
        "image_encoder_weights": image.weights_digest,
        "image_size": SIDE,
    }
    weights = {f"speech_encoder.{key}": value for key, value in speech.state_dict().items()}
    weights |= {f"image_head.{key}": value for key, value in image.head.state_dict().items()}
    facts = {"recipe": {"name": "tiny"}, "data": str(store.directory), "store": store.fingerprint}
    with RunDirectory.create(path, facts) as run:
        save_model(run.path / SEN_FOLDER, json.loads(json.dumps(config)), weights)
        if trained == "both":
            config |= {"generator": dataclasses.asdict(GENERATOR), "front_end": {}, "recipe": "tiny"}
            weights |= {f"generator.{key}": value for key, value in generator.state_dict().items()}
            save_model(run.model, json.loads(json.dumps(config)), weights)
    return path


def make_flow_run(path: Path, store: Store) -> Path:
    """The same with a latent flow at 64 px."""
    settings = tiny_latent_flow(1)
    sizes = LatentFlowConfig(
        settings.autoencoder.network,
        settings.matchmap.network,
        settings.flow.network,
        frames=SPEECH.embedding,
        steps=2,
        guidance=1.5,
        shift=3.0,
    )
    with seeded(0):
        speech, image, flow = build_encoder(SPEECH), ImageEncoder(IMAGE), LatentFlow(sizes)
    recipe = replace(tiny_recipe(), name="tiny flow", rdg=None, latent_flow=settings)
    with RunDirectory.create(path, {"recipe": {"name": "tiny flow"}, "store": store.fingerprint}) as run:
        session = Session(recipe, store, run, 0, torch.device("cpu"), Console(), path, resume=False, initial=None)
        export(session, speech, image, flow)
    return path


class KnownPictures(AttributeClassifier):
    """Recognises the pictures of the store, and says so; of others it sees the first value of everything."""

    def __init__(self, store, side: int = SIDE) -> None:
        config = ClassifierConfig(image_size=16, width=2)
        super().__init__(ATTRIBUTES, config)
        self.record = {"held_out_accuracy": dict.fromkeys(ATTRIBUTES, 1.0)}
        crops = to_pixels(crop_and_flip(store.images[:], side, None))
        self.known = {crop.tobytes(): store.image_attributes(i) for i, crop in enumerate(crops)}

    def read(self, images):
        first = {name: values[0] for name, values in ATTRIBUTES.items()}
        facts = [self.known.get(picture.tobytes(), first) for picture in to_pixels(images)]
        return np.stack(list(self.codes(facts).values()), axis=1), np.zeros((len(facts), 2), np.float32)


def fakes_of(evaluation: Evaluation, captions: np.ndarray, pictures: np.ndarray) -> Fakes:
    """As if the model had drawn these pictures for the captions."""
    return Fakes(captions, evaluation.extraction.of([pictures]), pictures.shape[1], evaluation.seed)
