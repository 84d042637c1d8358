"""Stage 1 at small width: that of the built-in sets, and of the encoders that score what other models draw."""

from __future__ import annotations

from typing import Literal

from s2igan.models.image_encoder import ImageEncoderConfig
from s2igan.models.speech_encoder import SpeechEncoderConfig
from s2igan.training.augment import SpeechAugment
from s2igan.training.sen import SENConfig
from s2igan.training.trainer import TrainerConfig


def small_sen(
    image_size: int,
    backbone: Literal["efficientnet_lite0", "efficientnet_lite2"] = "efficientnet_lite0",
    *,
    input_size: int = 64,
) -> SENConfig:
    """Batches of utterances of similar length, distorted speech, image features that are encoded once and keep where a
    colour is.

    Args:
        image_size: side in pixels of the crops.
        backbone: the frozen network.
        input_size: side in pixels of what it reads, to which the crops are reduced.
    """
    speech = SpeechEncoderConfig(
        conv_channels=(64, 128),
        conv_stride=3,
        conv_activation="relu",
        hidden=128,
        attention_hidden=64,
        normalize_pooled=True,
    )
    image = ImageEncoderConfig(backbone, input_size, embedding=speech.embedding, pooling="pyramid", feature_dropout=0.3)
    return SENConfig(
        trainer=TrainerConfig(steps=1200, evaluate_every=100),
        speech=speech,
        image=image,
        image_size=image_size,
        batch_size=64,
        learning_rate=3e-3,
        betas=(0.9, 0.999),
        weight_decay=0.0,
        schedule="cosine",
        warmup_steps=20,
        length_window=9,
        image_views=4,
        augment=SpeechAugment(strength=1.0),
    )
