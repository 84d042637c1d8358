"""The recipes: the paper's figures where the paper gives them, and what each method changes, and nothing besides."""

import dataclasses

import pytest

from s2igan.errors import UserError
from s2igan.recipes import METHODS, RECIPES, SIZES, resolve


def changed(old, new, name=""):
    """Names of the fields that differ between two configurations."""
    if dataclasses.is_dataclass(old) and type(old) is type(new):
        pairs = ((field.name, getattr(old, field.name), getattr(new, field.name)) for field in dataclasses.fields(old))
        return {line for key, a, b in pairs for line in changed(a, b, f"{name}.{key}" if name else key)}
    return set() if old == new else {name}


STACKGAN = {"rdg.generator.dense", "rdg.relation"}
CHANGES = {
    "s2igan": set(),
    "stackgan-v2-speech": STACKGAN,
    "stackgan-v2-text": STACKGAN | {"sen.speech"},
    "stackgan-v2-text-reed": STACKGAN | {"sen.speech"},
    "li2020": STACKGAN | {"sen.speech", "sen.objective"},
    "no-dense": {"rdg.generator.dense"},
    "no-rs": {"rdg.relation"},
    "no-sen": {"sen.objective", "sen.loop.epochs", "rdg.speech"},
    "end-to-end": {"rdg.speech"},
    "no-distinctive": {"sen.distinctive"},
}


@pytest.mark.parametrize("method", METHODS)
def test_a_method_changes_what_its_row_says_and_nothing_else(method):
    assert changed(resolve("cub"), resolve(method, "cub")) == CHANGES[method] | {"name"}


def test_what_the_methods_change_it_to():
    assert resolve("no-dense").rdg.generator.dense == "none"
    assert resolve("no-rs").rdg.relation == 0
    assert resolve("no-sen").rdg.speech == "scratch"
    assert resolve("no-sen").sen.loop.steps == 0
    assert resolve("end-to-end").rdg.speech == "finetuned"
    assert resolve("no-distinctive").sen.distinctive == 0
    assert resolve("li2020").sen.objective == "distillation"


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("method", METHODS)
def test_every_method_fits_every_size(method, size):
    recipe = resolve(method, size)
    assert recipe.name == f"{method} ({size})"
    assert recipe.sen.speech.embedding == recipe.sen.image.embedding == recipe.rdg.generator.embedding
    assert type(recipe.sen.speech).__name__ == {
        "stackgan-v2-text": "TextEncoderConfig",
        "stackgan-v2-text-reed": "PrecomputedConfig",
        "li2020": "CnnLstmConfig",
    }.get(method, "SpeechEncoderConfig")


@pytest.mark.parametrize("size", ["cub", "oxford102"])
def test_the_paper_s_hyper_parameters(size):
    """method.md sections 3 and 4."""
    sen, rdg = resolve(size).sen, resolve(size).rdg
    assert (sen.speech.n_mels, sen.speech.conv_channels, sen.speech.hidden, sen.speech.layers) == (
        40,
        (64, 128),
        512,
        2,
    )
    assert (sen.speech.rnn, sen.speech.attention_hidden, sen.speech.embedding) == ("gru", 128, 1024)
    assert (sen.image.backbone, sen.image.pooling, sen.image_size, sen.image_views) == ("inception_v3", "mean", 256, 0)
    assert (sen.matching_scale, sen.distinctive, sen.objective, sen.augment) == (10.0, 1.0, "matching", None)
    assert (sen.learning_rate, sen.betas, sen.weight_decay, sen.length_window) == (1e-3, (0.95, 0.999), 1e-3, 1)
    assert (sen.batch_size, sen.loop.epochs, sen.schedule, sen.decay_epochs, sen.warmup_steps) == (
        128,
        150,
        "step",
        50,
        0,
    )

    generator = rdg.generator
    assert (generator.embedding, generator.condition, generator.z, generator.width) == (1024, 128, 100, 64)
    assert (generator.resolutions, generator.residual_blocks, generator.dense) == ((64, 128, 256), 2, "previous")
    assert (rdg.discriminator_width, rdg.relation_hidden, rdg.relation, rdg.kl) == (64, 128, 1.0, 2.0)
    assert (rdg.learning_rate, rdg.discriminator_learning_rate, rdg.betas) == (2e-4, 2e-4, (0.5, 0.999))
    assert (rdg.batch_size, rdg.loop.epochs, rdg.schedule, rdg.ema_decay) == (24, 600, "constant", 0.999)
    assert (rdg.contrast, rdg.semantic, rdg.calibrate_batch_norm, rdg.image_views) == (0.0, 0.0, False, 0)
    assert (rdg.reconstruction, rdg.practice_steps, rdg.accumulate) == (0.0, 0, 1)
    assert (rdg.negatives, rdg.arithmetic, rdg.condition_scale) == (0, 0.0, 1.0)
    assert (rdg.initial_condition_gain, rdg.initial_logvar) == (1.0, 0.0)
    assert (rdg.mismatched, rdg.condition_on, rdg.relation_logits, rdg.speech) == (True, "mu", 3, "frozen")
    held = resolve(size).training_set
    assert (held.images, held.classes) == {"cub": (8855, 150), "oxford102": (7034, 82)}[size]


def test_sets_without_classes_train_stage_1_more_slowly():
    for size in ("flickr8k", "places"):
        sen = resolve(size).sen
        assert (sen.learning_rate, sen.batch_size, sen.loop.epochs) == (1e-4, 32, 120)
        assert changed(resolve("cub").rdg, resolve(size).rdg) == set()


def test_every_recipe_says_what_it_is():
    for name, recipe in RECIPES.items():
        first = (recipe.__doc__ or "").strip().splitlines()[0]
        assert first.endswith("."), name
    for name, method in METHODS.items():
        assert f"s2igan train {name} --config " in method.__doc__


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("no-such", None, "no-such"),
        ("no-rs", "no-such", "no-such"),
        ("no-rs", "no-dense", "no-dense"),
        ("cub", "birds", "leave --config out"),
    ],
)
def test_names_that_do_not_fit(name, size, message):
    with pytest.raises(UserError, match=message):
        resolve(name, size)
