"""The recipes: the paper's figures where the paper gives them, and what each method changes, and nothing besides."""

import dataclasses
from dataclasses import replace

import pytest

from s2igan.corpora.builtin.drawn import split_classes
from s2igan.corpora.registry import BUILT_IN, INDIVIDUALS, drawn_set
from s2igan.errors import UserError
from s2igan.recipes import BASES, METHODS, RECIPES, customised, groups, resolve
from s2igan.run_directory import differences
from s2igan.training.augment import SpeechAugment
from s2igan.training.beyond import Beyond, ConditionStart, InUse


def changed(old, new):
    """Names of the fields that differ between two recipes; encoders of two kinds are one field."""
    found = differences(dataclasses.asdict(old), dataclasses.asdict(new))
    return {"sen.speech" if name.startswith("sen.speech.") else name for name, _, _ in found}


STACKGAN = {"rdg.generator.dense", "rdg.relation"}
CHANGES = {
    "s2igan": set(),
    "stackgan-v2-speech": STACKGAN,
    "stackgan-v2-text": STACKGAN | {"sen.speech"},
    "stackgan-v2-text-reed": STACKGAN | {"sen.speech"},
    "li2020": STACKGAN | {"sen.speech", "sen.objective"},
    "no-dense": {"rdg.generator.dense"},
    "no-rs": {"rdg.relation"},
    "no-sen": {"sen.objective", "sen.trainer.epochs", "rdg.speech"},
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
    assert resolve("no-sen").sen.trainer.steps == 0
    assert resolve("end-to-end").rdg.speech == "finetuned"
    assert resolve("no-distinctive").sen.distinctive == 0
    assert resolve("li2020").sen.objective == "distillation"


@pytest.mark.parametrize("base", [name for name in BASES if BASES[name]().rdg is not None])
@pytest.mark.parametrize("method", METHODS)
def test_every_method_fits_every_base_recipe(method, base):
    recipe = resolve(method, base)
    assert recipe.name == f"{method} ({base})"
    assert recipe.sen.speech.embedding == recipe.sen.image.embedding == recipe.rdg.generator.embedding
    assert type(recipe.sen.speech).__name__ == {
        "stackgan-v2-text": "TextEncoderConfig",
        "stackgan-v2-text-reed": "PrecomputedConfig",
        "li2020": "CnnLstmConfig",
    }.get(method, "SpeechEncoderConfig")


@pytest.mark.parametrize("base", ["cub", "oxford102"])
def test_the_paper_s_hyper_parameters(base):
    """method.md sections 3 and 4."""
    sen, rdg = resolve(base).sen, resolve(base).rdg
    assert (sen.speech.n_mels, sen.speech.conv_channels, sen.speech.hidden, sen.speech.layers) == (
        40,
        (64, 128),
        512,
        2,
    )
    assert (sen.speech.rnn, sen.speech.attention_hidden, sen.speech.embedding) == ("gru", 128, 1024)
    assert (sen.image.backbone, sen.image.pooling, sen.image_size, sen.image_views) == ("inception_v3", "mean", 256, 0)
    assert (sen.matching_scale, sen.distinctive, sen.objective, sen.augment) == (10.0, 1.0, "matching", SpeechAugment())
    assert (sen.learning_rate, sen.betas, sen.weight_decay, sen.length_window) == (1e-3, (0.95, 0.999), 1e-3, 1)
    assert (sen.batch_size, sen.trainer.epochs, sen.schedule, sen.decay_epochs, sen.warmup_steps) == (
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
    assert (rdg.batch_size, rdg.trainer.epochs, rdg.schedule, rdg.ema_decay) == (24, 600, "constant", 0.999)
    assert (rdg.image_views, rdg.accumulate) == (0, 1)
    assert resolve(base).beyond == Beyond()
    assert Beyond().condition_start == ConditionStart(gain=1.0, logvar=0.0)
    assert Beyond().in_use == InUse(calibrate_batch_norm=False)
    assert (Beyond().warm_start.trains, Beyond().noise_penalty.weight, Beyond().translation.share) == (False, 0.0, 0.0)
    assert rdg.generator_warmup_steps == 0
    assert (rdg.mismatched, rdg.condition_on, rdg.relation_logits, rdg.speech) == (True, "mu", 3, "frozen")
    held = resolve(base).training_set
    assert (held.images, held.classes) == {"cub": (8855, 150), "oxford102": (7034, 82)}[base]


def test_sets_without_classes_train_stage_1_more_slowly():
    for base in ("flickr8k", "places"):
        sen = resolve(base).sen
        assert (sen.learning_rate, sen.batch_size, sen.trainer.epochs) == (1e-4, 32, 120)
        assert resolve("cub").rdg == resolve(base).rdg


def test_flowers_are_birds_with_fewer_steps():
    """For the split that the built-in set has."""
    found = changed(resolve("birds"), resolve("flowers"))
    assert {name for name in found if not name.endswith(".steps")} == {
        "name",
        "training_set.images",
        "training_set.classes",
    }
    splits = split_classes(drawn_set("flowers"), BUILT_IN["flowers"].classes)
    held = resolve("flowers").training_set
    assert (held.images, held.classes) == (INDIVIDUALS * splits.count("train"), splits.count("train"))


def test_every_recipe_says_what_it_is():
    for name, recipe in RECIPES.items():
        first = (recipe.__doc__ or "").strip().splitlines()[0]
        assert first.endswith("."), name
    for name, method in METHODS.items():
        assert f"s2igan train {name} --base " in method.__doc__


@pytest.mark.parametrize(
    ("name", "base", "message"),
    [
        ("no-such", None, "no-such"),
        ("no-rs", "no-such", "no-such"),
        ("no-rs", "no-dense", "no-dense"),
        ("cub", "birds", "leave --base out"),
        ("no-rs", "birds", "the stage 2 of birds is latent flow; choose --base birds-rdg"),
    ],
)
def test_names_that_do_not_fit(name, base, message):
    with pytest.raises(UserError, match=message):
        resolve(name, base)


def with_settings(recipe, **settings):
    return customised(recipe, groups(recipe) | settings)


def test_changed_hyper_parameters_are_in_the_name():
    birds = resolve("birds-rdg")
    sen = replace(birds.sen, learning_rate=1e-3, augment=SpeechAugment())
    recipe = with_settings(birds, sen=sen, rdg=replace(birds.rdg, trainer=replace(birds.rdg.trainer, steps=7)))
    assert recipe.name == "birds-rdg, sen.learning_rate 0.001, sen.augment.strength 0.0, rdg.trainer.steps 7"
    assert (recipe.sen, recipe.rdg.trainer.steps) == (sen, 7)
    assert with_settings(birds) == birds


def test_the_other_networks_follow_the_speech_embedding():
    birds = resolve("birds-rdg")
    small = replace(birds.sen, speech=replace(birds.sen.speech, hidden=64))
    recipe = with_settings(birds, sen=small)
    assert recipe.sen.image.embedding == recipe.rdg.generator.embedding == recipe.sen.speech.embedding == 128
    for sen in (small, birds.sen):
        wrong = replace(sen, image=replace(sen.image, embedding=100))
        with pytest.raises(UserError, match=r"--sen.image.embedding 100; set each to \d+, or leave it out"):
            with_settings(birds, sen=wrong)
