"""The main job as a user runs it, at toy size: prepare, train, evaluate, report, generate, speak."""

import functools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from s2igan import SpeechToImage, cli, recipes
from s2igan.checkpoint import load_model
from s2igan.data.manifest import SPLITS, read_manifest
from s2igan.errors import UserError

SEN_STEPS, WARM_STEPS, RDG_STEPS = 6, 2, 4


def tiny():
    """The recipe `birds-rdg`, all of its options on, at a size that takes seconds."""
    birds = recipes.birds_rdg()
    speech = replace(birds.sen.speech, conv_channels=(8, 8), hidden=8, layers=1, attention_hidden=8)
    image = replace(birds.sen.image, input_size=32, embedding=speech.embedding)
    networks = {"embedding": speech.embedding, "condition": 8, "z": 8, "width": 8, "resolutions": (16, 32)}
    return replace(
        birds,
        name="tiny",
        sen=replace(
            birds.sen,
            trainer=replace(birds.sen.trainer, steps=SEN_STEPS, evaluate_every=3, log_every=2),
            speech=speech,
            image=image,
            image_size=32,
            batch_size=8,
        ),
        rdg=replace(
            birds.rdg,
            trainer=replace(birds.rdg.trainer, steps=RDG_STEPS, evaluate_every=2, log_every=2),
            generator=replace(birds.rdg.generator, **networks),
            discriminator_width=4,
            batch_size=6,
        ),
        beyond=replace(
            birds.beyond,
            warm_start=replace(
                birds.beyond.warm_start,
                trainer=replace(birds.beyond.warm_start.trainer, steps=WARM_STEPS, evaluate_every=2, log_every=1),
                batch_size=6,
                encoder_width=4,
            ),
        ),
    )


@pytest.fixture(scope="module")
def patch():
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    out = tmp_path_factory.mktemp("corpus") / "birds"
    counts = ["--classes", "14", "--individuals", "2", "--captions", "2"]
    cli.main(["prepare", "birds", "--out", str(out), *counts, "--size", "32", "--jobs", "1"])
    return out


@pytest.fixture(scope="module")
def run(corpus, tmp_path_factory, patch):
    from s2igan.evaluation import evaluate
    from s2igan.evaluation.attributes import ClassifierConfig

    patch.setitem(recipes.BASES, "tiny", tiny)
    quick = functools.partial(
        ClassifierConfig, image_size=16, width=4, drawings=48, held_out=16, epochs=1, batch_size=16
    )
    plain = evaluate.load_or_train_classifier
    patch.setattr(
        evaluate,
        "load_or_train_classifier",
        lambda drawing, config, **options: plain(drawing, config or quick(), **options),
    )
    path = tmp_path_factory.mktemp("runs") / "run"
    cli.main(["train", "tiny", "--data", str(corpus), "--out", str(path), "--seed", "3"])
    cli.main(["evaluate", "--model", str(path), "--data", str(corpus), "--max-captions", "8"])
    return path


def test_no_test_class_or_test_voice_is_trained_on(corpus):
    rows = read_manifest(corpus / "manifest.jsonl")
    by_split = {split: [row for row in rows if row.split == split] for split in SPLITS}
    for held_out in SPLITS[1:]:
        classes = {row.class_name for row in by_split[held_out]}
        assert classes
        assert not classes & {row.class_name for row in by_split["train"]}
        assert not {row.image for row in by_split[held_out]} & {row.image for row in by_split["train"]}
    assert "piper:joe?length_scale=0.9" in (corpus / "birds.json").read_text()  # a neural voice, unless told otherwise
    unheard = [{row.speaker for row in by_split[name]} for name in ("development", "test")]
    assert list(map(len, unheard)) == [2, 2]
    assert not set.union(*unheard) & {row.speaker for name in ("train", "validation") for row in by_split[name]}
    assert not unheard[0] & unheard[1]


def test_a_run_holds_its_records(run):
    config = json.loads((run / "config.json").read_text())
    assert config["recipe"]["name"] == "tiny"
    assert config["recipe"]["rdg"]["generator"]["resolutions"] == [16, 32]
    assert config["seed"] == 3
    assert json.loads((run / "environment.json").read_text())["torch"]
    assert "finished" in (run / "log.txt").read_text()
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    last = {stage: max(r["step"] for r in records if r["stage"] == stage) for stage in ("sen", "rdg")}
    assert last == {"sen": SEN_STEPS, "rdg": RDG_STEPS}
    terms = set().union(*records)
    assert {"sen/matching_rows", "sen/distinctive_speech", "sen/validation_map", "rdg/validation_cosine"} <= terms
    sheets = ["rdg-00000002.png", "rdg-00000004.png", "warm_start-00000002.png"]
    assert [path.name for path in sorted((run / "samples").glob("*.png"))] == sheets
    for stage, steps in (("sen", SEN_STEPS), ("rdg", RDG_STEPS)):
        assert (run / "checkpoints" / stage / f"step-{steps:08d}").is_dir()
    assert any((run / "tensorboard").rglob("events*"))


def test_training_a_finished_run_again_changes_nothing(run, corpus):
    _, before = load_model(run / "model")
    cli.main(["train", "tiny", "--data", str(corpus), "--out", str(run), "--seed", "3", "--resume"])
    _, after = load_model(run / "model")
    assert before.keys() == after.keys()
    for name in before:
        np.testing.assert_array_equal(before[name].numpy(), after[name].numpy(), err_msg=name)


def test_resuming_as_another_run_is_refused(run, corpus, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["train", "tiny", "--data", str(corpus), "--out", str(run), "--seed", "4", "--resume"])
    assert end.value.code == 1
    assert "seed" in capsys.readouterr().err


def test_training_into_a_used_directory_is_refused(run, corpus, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["train", "tiny", "--data", str(corpus), "--out", str(run)])
    assert end.value.code == 1
    assert "--resume" in capsys.readouterr().err


def test_the_report_and_its_scores(run, capsys):
    cli.main(["report", "--model", str(run)])
    *scores, path = capsys.readouterr().out.splitlines()
    assert scores[0] == "Finding images by speech (SEN)"
    assert path == f"Report: {run / 'report.html'}"
    assert any("mAP" in line and "chance" in line and "oracle" in line for line in scores)
    page = (run / "report.html").read_text()
    for heading in ("Sample sheet", "One word changed", "Scores", "How it learnt", "Configuration"):
        assert heading in page
    assert page.count("<audio") == 8 + 10
    assert page.count('class="real"') == 8


def test_generate(run, corpus, tmp_path, capsys):
    rows = [row for row in read_manifest(corpus / "manifest.jsonl") if row.split == "test"]
    recordings = [str(corpus / row.audio) for row in rows[:2]]
    out = tmp_path / "drawn"
    cli.main(["generate", "--model", str(run), *recordings, "--samples", "3", "--seed", "5", "--out", str(out)])
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [record["audio"] for record in records] == [name for name in recordings for _ in range(3)]
    model = SpeechToImage.load(run)
    for record in records:
        with Image.open(record["image"]) as image:
            assert image.size == (32, 32)
            alone = model(record["audio"], samples=3, seed=5)[record["sample"] - 1]
            # recordings are heard and drawn together, which rounds otherwise
            np.testing.assert_allclose(np.asarray(image, dtype=int), np.asarray(alone, dtype=int), atol=1, rtol=0)
    assert (out / "contact-sheet.png").is_file()


def test_speak(run, tmp_path, capsys):
    cli.main(["speak", "--model", str(run), "a bird with a red belly", "--samples", "1", "--out", str(tmp_path)])
    (record,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert Path(record["audio"]) == tmp_path / "a-bird-with-a-red-belly.wav"
    assert Path(record["image"]).is_file()


def test_only_stage_1(corpus, tmp_path, patch):
    patch.setitem(recipes.BASES, "tiny", tiny)
    path = tmp_path / "sen-only"
    cli.main(["train", "tiny", "--data", str(corpus), "--out", str(path), "--stage", "1"])
    assert (path / "sen" / "weights.safetensors").is_file()
    with pytest.raises(UserError, match="--resume"):
        SpeechToImage.load(path)
