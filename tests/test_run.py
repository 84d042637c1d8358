"""One command from recordings to a report, with what small corpora of their own lack: classes, validation, speakers."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from own_corpus import own_corpus
from s2igan.corpora.prepare.options import PrepareOptions
from s2igan.data.store import Store
from s2igan.errors import UserError
from s2igan.evaluation.evaluation_split import EvaluationSplit
from s2igan.pipeline import SpeechToImage
from s2igan.recipes import resolve
from s2igan.run import check_trainable, run_corpus, split_to_score
from tiny_corpus import tiny_recipe


def whole(source: Path, out: Path, **options):
    said: list[str] = []
    recipe = replace(tiny_recipe(2), name="tiny")
    options = {"recipe": recipe, "jobs": 1, "device": "cpu", "max_captions": 4} | options
    return run_corpus("folder", source, out, **options, say=said.append), said


def test_from_recordings_to_a_report_and_nothing_twice(tmp_path, monkeypatch):
    """Ten pictures without classes, speakers, languages and texts; interrupted after the training."""
    source, out = own_corpus(tmp_path / "source", n=10, recordings=2), tmp_path / "run"
    import s2igan.evaluation.evaluate as evaluation

    with monkeypatch.context() as patch:
        patch.setattr(evaluation, "evaluate", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            whole(source, out)
    with monkeypatch.context() as patch:
        patch.setattr("s2igan.corpora.prepare.corpus.prepare_corpus", lambda *_, **__: pytest.fail("prepared again"))
        patch.setattr("s2igan.training.train.train_run", lambda *_, **__: pytest.fail("trained again"))
        report, said = whole(source, out)
        assert report == out / "report.html"
        assert [line for line in said if "done before" in line] == [
            "Part 1 of 4: preparing folder: done before",
            "Part 2 of 4: training tiny, both stages: done before",
        ]
        patch.setattr(evaluation, "evaluate", lambda *_, **__: pytest.fail("evaluated again"))
        whole(source, out)
    page = report.read_text()
    assert "met neither them nor their pictures" in page
    assert page.index('id="scores"') < page.index('id="sample-sheet"')
    assert "(no transcription)" in page
    scores = json.loads((out / "evaluation/metrics.json").read_text())
    keys = {score["key"] for score in scores["scores"]}
    assert "sen/recall@1/speech_to_image/image" in keys
    assert "fakes/recall@1_lite0" in keys
    assert "sen/map" not in keys, "there are no classes"
    model = SpeechToImage.load(out)
    assert len(model(source / "audio/p00_1.wav", samples=2, seed=1)) == 2
    with pytest.raises(UserError, match=r"was begun with seed 0, not seed 1"):
        whole(source, out, seed=1)


def test_the_smallest_corpus_is_scored_on_what_there_is(tmp_path):
    """Two pictures: no test and no validation split."""
    _, said = whole(own_corpus(tmp_path / "source", n=2, recordings=1), tmp_path / "run")
    assert any("too small for a validation and a test split" in line for line in said)
    counted = next(n for n, line in enumerate(said) if line.startswith("2 pictures to train on, with 1.0 recordings"))
    assert said[counted - 1].startswith("Part 2 of 4")
    assert any("scored on its train split. It has met every picture there" in line for line in said)
    assert "Descriptions from the train split: the model met them" in (tmp_path / "run/report.html").read_text()


def test_one_picture_is_refused_before_it_is_trained_on(tmp_path):
    with pytest.raises(UserError, match=r"1 picture for training, .* at least 2 are needed"):
        whole(own_corpus(tmp_path / "source", n=1), tmp_path / "run")
    assert not (tmp_path / "run/config.json").exists()


def test_a_corpus_without_a_source_or_with_options_that_mean_nothing(tmp_path):
    with pytest.raises(UserError, match="folder: needs a --source"):
        run_corpus("folder", None, tmp_path / "run", recipe=tiny_recipe())
    with pytest.raises(UserError, match="birds: is built in and has no source"):
        run_corpus("birds", tmp_path, tmp_path / "run", recipe=tiny_recipe())
    with pytest.raises(UserError, match="birds: is made here and knows no --speaker-disjoint"):
        run_corpus("birds", None, tmp_path / "run", PrepareOptions(speaker_disjoint=True), recipe=tiny_recipe())


def test_interrupted_training_says_what_goes_on_here(tmp_path, monkeypatch):
    """`train` has --resume; this command has not."""

    def stop(*_, **__):
        raise KeyboardInterrupt("saved at step 7; go on with --resume")

    monkeypatch.setattr("s2igan.training.train.train_run", stop)
    with pytest.raises(KeyboardInterrupt, match=r"^saved at step 7; the same command goes on$"):
        whole(own_corpus(tmp_path / "source", n=2, recordings=1), tmp_path / "run")


def test_birds_are_prepared_at_the_size_of_the_recipe(tmp_path, monkeypatch):
    class EnoughError(Exception):
        pass

    asked = []

    def prepare(drawn, out, classes, *, captions, size, seed, jobs):
        assert (drawn.name, out, classes, size, seed, jobs) == ("birds", tmp_path / "run/data", 250, 32, 3, 2)
        asked.append(captions)
        raise EnoughError

    monkeypatch.setattr("s2igan.corpora.builtin.drawn.prepare", prepare)
    with pytest.raises(EnoughError):
        run_corpus("birds", None, tmp_path / "run", recipe=tiny_recipe(), seed=3, jobs=2)
    with pytest.raises(EnoughError):
        run_corpus("birds", None, tmp_path / "run", recipe=tiny_recipe(), seed=3, jobs=2, captions=2)
    assert asked == [6, 2]
    with pytest.raises(UserError, match=r"--captions 2: is for birds and flowers; leave it out"):
        run_corpus("folder", tmp_path, tmp_path / "own", recipe=tiny_recipe(), captions=2)


def test_helpers_look_at_the_store(store):
    assert split_to_score(store.directory, pytest.fail) == "test"
    check_trainable(store.directory)
    assert EvaluationSplit.of(Store.open(store.directory), "test").name == "test"


def test_the_recipe_that_reads_published_embeddings_has_them_prepared(tmp_path, monkeypatch):
    def stop(*arguments, **_):
        assert arguments[3] == PrepareOptions(text_embeddings=True)
        raise KeyboardInterrupt

    monkeypatch.setattr("s2igan.corpora.prepare.corpus.prepare_corpus", stop)
    method = "stackgan-v2-text-reed"
    with pytest.raises(KeyboardInterrupt):
        run_corpus("cub", tmp_path, tmp_path / "run", recipe=resolve(method, "cub"))
    with pytest.raises(UserError, match=r"birds: the recipe stackgan-v2-text-reed \(birds-rdg\) reads published text"):
        run_corpus("birds", None, tmp_path / "other", recipe=resolve(method, "birds-rdg"))


def test_a_run_that_begins_from_a_model(tmp_path, monkeypatch):
    """What does not fit is refused before the corpus is prepared; a finished run knows which model it was."""
    from s2igan.training.train import train_run
    from tiny_corpus import make_store

    model = train_run(
        tiny_recipe(1), data=make_store(tmp_path / "data").directory, out=tmp_path / "model", stage="both"
    )
    source, speech = own_corpus(tmp_path / "source", n=2, recordings=1), {"init_from": model, "init_parts": ["speech"]}
    with pytest.raises(UserError, match="has no autoencoder; choose --init-parts speech"):
        whole(source, tmp_path / "run", init_from=model)
    assert not (tmp_path / "run").exists()
    whole(source, tmp_path / "run", **speech)
    recorded = json.loads((tmp_path / "run/config.json").read_text())["init_from"]
    assert recorded["parts"] == ["speech"]
    whole(source, tmp_path / "run", **speech)
    with pytest.raises(UserError, match=r"was begun with init_from .*, not init_from None"):
        whole(source, tmp_path / "run")
