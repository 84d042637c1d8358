"""Every hyper-parameter is a flag, with its docstring and the recipe's value; what is trained is what the flags say."""

import dataclasses
import json
import re

import pytest

from s2igan import cli
from s2igan.recipes import BASES, METHODS, groups, resolve

EVERY = [(name, None) for name in BASES] + [(name, "cub") for name in METHODS]


@pytest.fixture
def trained(monkeypatch):
    """The recipes that `train` hands to the library."""
    recipes = []
    monkeypatch.setattr("s2igan.training.train.train_run", lambda recipe, **_: recipes.append(recipe))
    return recipes


def train(*words):
    cli.main(["train", *words, "--data", "d", "--out", "o"])


def fields_of(config, path):
    """Path and value of every field that is no group, and of every group that is off."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from fields_of(value, f"{path}.{field.name}")
        else:
            yield f"{path}.{field.name}", value


@pytest.mark.parametrize(("name", "base"), EVERY)
def test_every_field_of_every_recipe_is_a_flag_that_gives_what_it_says(trained, name, base):
    """All fields at once, each given as the recipe has it: nothing changes."""
    recipe = resolve(name, base)
    words = [name, *(["--base", base] if base else [])]
    for group, config in groups(recipe).items():
        for path, value in fields_of(config, group):
            values = value if isinstance(value, tuple) else (value,)
            words += [f"--{path}".replace("_", "-"), *map(str, values)]
    train(*words)
    assert trained == [recipe]


def test_flags_of_every_type_and_depth(trained):
    train(
        *("birds-rdg", "--rdg.batch-size", "48", "--sen.learning-rate=1e-3", "--sen.trainer.epochs", "3"),
        *("--rdg.generator.resolutions", "8", "16", "--rdg.mismatched", "True", "--rdg.generator.dense", "none"),
        *("--sen.image.input-size", "None", "--sen.speech.hidden", "64", "--rdg.betas", "0.4", "0.9"),
    )
    (recipe,) = trained
    sen, rdg = recipe.sen, recipe.rdg
    assert (rdg.batch_size, sen.learning_rate, sen.trainer.epochs, sen.trainer.steps) == (48, 1e-3, 3, 1200)
    assert (rdg.generator.resolutions, rdg.mismatched, rdg.generator.dense) == ((8, 16), True, "none")
    assert (sen.image.input_size, sen.speech.hidden, rdg.betas) == (None, 64, (0.4, 0.9))
    assert sen.image.embedding == rdg.generator.embedding == 128  # both follow the speech embedding
    assert "rdg.batch_size 48" in recipe.name


def test_flags_of_a_method_are_those_of_its_encoder(trained):
    train("li2020", "--base", "birds-rdg", "--sen.speech.width", "3")
    train("--base=cub", "stackgan-v2-text", "--sen.speech.hidden", "2")
    assert trained[0].sen.speech.width == 3
    assert trained[1].sen.speech.hidden == 2
    with pytest.raises(SystemExit, match="2"):
        train("li2020", "--sen.speech.rnn", "lstm")


def test_wherever_the_recipe_stands(trained):
    for words in (
        ["--resume", "birds-rdg", "--rdg.batch-size", "48"],
        ["--rdg.betas", "0.5", "0.999", "birds-rdg", "--rdg.batch-size", "48"],
        ["--seed", "3", "--rdg.batch-size=48", "birds-rdg"],
    ):
        train(*words)
    assert [recipe.rdg.batch_size for recipe in trained] == [48] * 3


def test_run_has_the_same_flags(monkeypatch):
    asked = []
    monkeypatch.setattr("s2igan.run.run_corpus", lambda *_, recipe, **__: asked.append(recipe) or "report.html")
    cli.main(["run", "birds", "--out", "o", "--recipe", "birds-rdg", "--rdg.batch-size", "48"])
    cli.main(
        ["run", "cub", "--source", "s", "--out", "o", "--recipe", "no-rs", "--base", "cub", "--sen.trainer.epochs", "2"]
    )
    assert [recipe.name for recipe in asked] == ["birds-rdg, rdg.batch_size 48", "no-rs (cub), sen.trainer.epochs 2"]


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["birds-rdg", "--rdg.no-such", "3"], 2, "--rdg.no-such"),
        (["birds-rdg", "--rdg.batch-size", "many"], 2, "--rdg.batch-size"),
        (["cub", "--rdg.generator.width", "31"], 1, "width 31 cannot be halved"),
        (["birds-rdg", "--sen.image.backbone", "inception_v3"], 1, "choose pooling mean"),
        (["cub", "--sen.augment.noise", "0.5"], 1, "augment.noise distorts nothing at augment.strength 0"),
        (["birds-rdg", "--sen.image.embedding", "7"], 1, "does not fit --sen.image.embedding 7"),
        (["no-rs", "--base", "no-such"], 1, "no base recipe 'no-such'"),
        (["cub", "--base", "birds-rdg"], 1, "leave --base out"),
    ],
)
def test_what_is_wrong_is_said_without_a_traceback(trained, capsys, words, status, message):
    with pytest.raises(SystemExit) as stopped:
        train(*words)
    assert stopped.value.code == status
    assert message in capsys.readouterr().err
    assert trained == []


def test_help_lists_every_hyper_parameter_with_its_docstring_and_default(capsys):
    with pytest.raises(SystemExit, match="0"):
        cli.main(["train", "cub", "--help"])
    text = re.sub(r"[\s│]+", " ", capsys.readouterr().out)
    for group, config in groups(resolve("cub")).items():
        for path, value in fields_of(config, group):
            assert value is None or f" --{path} ".replace("_", "-") in text, path
    assert "--rdg.batch-size INT Of all processes together. (default: 24)" in text


def test_a_dry_run_shows_what_the_flags_say(monkeypatch, capsys):
    monkeypatch.setattr("s2igan.dry_run.measure", lambda *_, **__: {})
    cli.main(["train", "birds-rdg", "--dry-run", "--rdg.batch-size", "48"])
    assert json.loads(capsys.readouterr().out)["recipe"]["rdg"]["batch_size"] == 48
