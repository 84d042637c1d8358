"""Configurations refuse values that would crash a training or do nothing in it, when they are made."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import pytest

from s2igan.errors import UserError
from s2igan.models.image_encoder import ImageEncoderConfig
from s2igan.recipes import customised, groups, resolve
from s2igan.settings import at_least, shares
from s2igan.training.augment import SpeechAugment
from s2igan.training.rdg import RDGConfig
from s2igan.training.sen import SENConfig
from s2igan.training.trainer import TrainerConfig

RECIPES = {
    name: resolve(name, base)
    for name, base in (
        ("birds", None),
        ("birds-rdg", None),
        ("cub", None),
        ("li2020", "cub"),
        ("stackgan-v2-text", "cub"),
    )
}
ANY = {"beyond.condition_start.gain", "beyond.condition_start.logvar", "flow.time_mean"}
"""What may be below 0."""
UNSET = {"epochs", "workers", "input_size"}
"""Numbers that are None where nothing is said."""


def numbers(config: Any, place: str) -> Iterator[tuple[str, Any, Any]]:
    """(name, the configuration it is in, value) of every number, or tuple of numbers, of a nested configuration."""
    for field in fields(config):
        value = getattr(config, field.name)
        if is_dataclass(value):
            yield from numbers(value, f"{place}.{field.name}")
            continue
        elements = value if isinstance(value, tuple) else (value,)
        counts = all(isinstance(x, int | float) and not isinstance(x, bool) for x in elements)
        if counts or field.name in UNSET:
            yield f"{place}.{field.name}", config, value


NUMBERS = {
    f"{recipe} {name}": (config, name.rpartition(".")[2], value)
    for recipe, complete in RECIPES.items()
    for group, settings in groups(complete).items()
    for name, config, value in numbers(settings, group)
    if name not in ANY
}


@pytest.mark.parametrize("name", NUMBERS)
def test_no_number_is_negative_or_none(name: str) -> None:
    config, field, value = NUMBERS[name]
    if isinstance(config, SpeechAugment) and field != "strength":
        config = replace(config, strength=1.0)
    last = value[-1] if isinstance(value, tuple) else value
    for wrong in (-1.0, math.nan) if isinstance(last, float) else (-1,):
        with pytest.raises(UserError, match=rf"^{field} .*{wrong}"):
            replace(config, **{field: (*value[:-1], wrong) if isinstance(value, tuple) else wrong})


def test_numbers_are_found() -> None:
    assert {"cub sen.betas", "cub rdg.generator.z", "cub sen.trainer.workers"} <= NUMBERS.keys()
    assert len(NUMBERS) > 150


def sen(**changes: Any) -> SENConfig:
    return replace(RECIPES["cub"].sen, **changes)


def rdg(**changes: Any) -> RDGConfig:
    return replace(RECIPES["cub"].rdg, **changes)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: sen(batch_size=0), "batch_size 0 must be 1 or more"),
        (lambda: sen(decay_epochs=0), "decay_epochs 0 must be 1 or more"),
        (lambda: sen(betas=(0.9, 1.0)), r"betas 0\.9 1\.0 must be 0 or more and below 1"),
        (lambda: rdg(relation_logits=2), "relation_logits 2 must be 3 or more"),
        (lambda: rdg(ema_decay=1.0), r"ema_decay 1\.0 must be 0 or more and below 1"),
        (lambda: TrainerConfig(log_every=0), "log_every 0 must be 1 or more"),
        (lambda: ImageEncoderConfig(feature_dropout=0.3), "feature_dropout 0.3 drops nothing with pooling mean"),
        (lambda: SpeechAugment(strength=1.0, speed=1.0), r"speed 1\.0 must be 0 or more and below 1"),
    ],
)
def test_what_would_crash_or_do_nothing(make: Any, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        make()


def test_other_bands_than_those_of_the_store() -> None:
    recipe = RECIPES["cub"]
    speech = replace(recipe.sen.speech, n_mels=20)
    with pytest.raises(UserError, match=r"--sen\.speech\.n-mels 20: every prepared recording has 40 bands"):
        customised(recipe, groups(recipe) | {"sen": replace(recipe.sen, speech=speech)})


def test_limits() -> None:
    @dataclass
    class Config:
        count: int | None = 3
        pair: tuple[float, float] = (0.0, 0.5)

    at_least(Config(), 3, "count")
    at_least(Config(count=None), 3, "count")
    shares(Config(), "pair")
    with pytest.raises(UserError, match="count 3 must be 4 or more"):
        at_least(Config(), 4, "count")
    with pytest.raises(UserError, match=r"pair 0\.0 1\.0 must be"):
        shares(Config(pair=(0.0, 1.0)), "pair")
