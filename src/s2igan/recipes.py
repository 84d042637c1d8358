"""Named experiments. A *size* (`demo`, `birds`, `cub`, `oxford102`) is a complete configuration; a *method* (`s2igan`, `no-dense`,
...) turns one into the row of the paper that it names. `s2igan train birds` trains the size as it stands, `s2igan train no-rs
--config birds` the method at that size; either runs on any prepared store.

Importing this module is cheap: what needs torch is imported when a recipe is called.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from s2igan.errors import UserError

if TYPE_CHECKING:
    from s2igan.training.rdg import RDGConfig
    from s2igan.training.sen import SENConfig


@dataclass(frozen=True)
class Recipe:
    """Both stages, complete."""

    name: str
    sen: SENConfig
    rdg: RDGConfig


def demo() -> Recipe:
    """A first look in about ten minutes of training on two cores: the built-in birds at 16, 32 and 64 px.

    What it changes of the paper's method is what `birds` changes.
    """
    recipe = birds()
    return replace(
        recipe,
        name="demo",
        sen=replace(recipe.sen, loop=replace(recipe.sen.loop, steps=300)),
        rdg=replace(recipe.rdg, loop=replace(recipe.rdg.loop, steps=600)),
    )


def birds() -> Recipe:
    """The built-in birds at 16, 32 and 64 px, 60 to 90 minutes on two cores."""
    from s2igan.models.generator import GeneratorConfig
    from s2igan.models.image_encoder import ImageEncoderConfig
    from s2igan.models.speech_encoder import SpeechEncoderConfig
    from s2igan.training.augment import SpeechAugment
    from s2igan.training.loop import LoopConfig
    from s2igan.training.rdg import RDGConfig
    from s2igan.training.sen import SENConfig

    speech = SpeechEncoderConfig(conv_channels=(64, 128), hidden=128, attention_hidden=64)
    sen = SENConfig(
        loop=LoopConfig(steps=1500, evaluate_every=100),
        speech=speech,
        image=ImageEncoderConfig(backbone="efficientnet_lite0", input_size=96, embedding=speech.embedding),
        image_size=64,
        batch_size=64,
        learning_rate=2e-3,
        betas=(0.9, 0.999),
        weight_decay=0.0,
        schedule="cosine",
        warmup_steps=20,
        image_views=4,
        augment=SpeechAugment(),
    )
    rdg = RDGConfig(
        loop=LoopConfig(steps=8000, evaluate_every=500),
        generator=GeneratorConfig(embedding=speech.embedding, condition=64, z=64, width=32, resolutions=(16, 32, 64)),
        discriminator_width=16,
        ema_decay=0.99,
        kl=0.02,
        contrast=1.0,
        contrast_dim=64,
        encoder_pixels=64,
        image_views=4,
        calibrate_batch_norm=True,
    )
    return Recipe("birds", sen, rdg)


SIZES: dict[str, Callable[[], Recipe]] = {"demo": demo, "birds": birds}
METHODS: dict[str, Callable[[Recipe], Recipe]] = {}
RECIPES: dict[str, Callable[..., Recipe]] = {**SIZES, **METHODS}


def resolve(name: str, size: str | None = None) -> Recipe:
    """The complete configuration of a recipe.

    Args:
        name: a size, or a method.
        size: the size that a method is applied to; `birds` unless given.

    Raises:
        UserError: a name is unknown, or a size was given for a size.
    """
    if name in SIZES:
        if size not in (None, name):
            raise UserError(f"The recipe {name} is a configuration itself; leave --config out, or name a method instead of it.")
        return SIZES[name]()
    if name not in METHODS:
        raise UserError(f"There is no recipe {name!r}; choose one of {', '.join(RECIPES)}.")
    if size is not None and size not in SIZES:
        raise UserError(f"There is no configuration {size!r}; choose one of {', '.join(SIZES)}.")
    recipe = METHODS[name](SIZES[size or "birds"]())
    return replace(recipe, name=f"{name} ({size or 'birds'})")
