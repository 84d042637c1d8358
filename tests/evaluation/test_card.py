"""The model card says what is recorded, and the hub can read it."""

import json

import pytest
from huggingface_hub import ModelCard

from s2igan.corpora.registry import BUILT_IN
from s2igan.errors import UserError
from s2igan.evaluation.attributes import ClassifierConfig
from s2igan.evaluation.evaluate import evaluate
from s2igan.evaluation.options import EvaluationOptions
from s2igan.report.card import write_card
from small_birds import make_run

QUICK = ClassifierConfig(image_size=16, width=4, drawings=64, held_out=20, epochs=1, batch_size=32)


@pytest.fixture(scope="module")
def scores(small_run, bird_store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("scores")
    evaluate(small_run, bird_store.directory, EvaluationOptions(max_captions=6), out=folder, classifier=QUICK)
    return folder


@pytest.fixture(scope="module")
def card(small_run, scores, tmp_path_factory) -> ModelCard:
    return ModelCard.load(write_card(small_run, tmp_path_factory.mktemp("card") / "README.md", scores=scores))


def test_the_front_matter_is_the_hubs(card):
    assert card.data.license == "apache-2.0"
    assert card.data.library_name == "s2igan"
    assert "speech-to-image" in card.data.tags
    results = {result.metric_type: result for result in card.data.eval_results}
    assert "sen/map" in results
    assert results["sen/map"].dataset_split == "test"
    assert 0 <= results["sen/map"].metric_value <= 1


def test_the_text_has_data_limits_scores_and_citation(card):
    for part in (
        "## Data, languages, speakers",
        BUILT_IN["birds"].title,
        "| images | 6 of 2 classes |",
        "0 people, 1 synthetic voices",
        "It heard synthetic voices alone",
        "apache-2.0. It holds for the weights",
        "## Intended use",
        "mAP, one spoken query a class",
        "| chance |",
        "10.21437/Interspeech.2020-1759",
        "lite2 ",
    ):
        assert part in card.text, part


def test_of_a_corpus_of_ones_own_no_licence_is_made_up(store, tmp_path):
    run = make_run(tmp_path / "run", store)
    text = write_card(run, tmp_path / "card.md").read_text()
    assert "license: other" in text
    assert "None is stated. Name one before you publish" in text
    assert "It has not been evaluated." in text
    named = write_card(run, tmp_path / "card.md", license="cc-by-4.0").read_text()
    assert "license: cc-by-4.0" in named


def test_nobody_is_named(store, tmp_path, monkeypatch):
    monkeypatch.setattr("s2igan.data.store.Store.speaker", lambda *_: "Anna Muster")
    text = write_card(make_run(tmp_path / "run", store), tmp_path / "card.md").read_text()
    assert "1 people, 0 synthetic voices" in text
    assert "Muster" not in text


def test_an_exported_model_needs_its_set_to_be_named(small_run, bird_store, store, tmp_path):
    text = write_card(small_run / "model", tmp_path / "a.md").read_text()
    assert "What it was trained on is not recorded here." in text
    assert "6 of 2 classes" in write_card(small_run / "model", tmp_path / "b.md", data=bird_store.directory).read_text()
    with pytest.raises(UserError, match="is another prepared set"):
        write_card(small_run, tmp_path / "c.md", data=store.directory)


def test_scores_that_are_named_have_to_be_there(small_run, tmp_path):
    with pytest.raises(UserError, match="not evaluated yet"):
        write_card(small_run, tmp_path / "card.md", scores=tmp_path / "nowhere")


def test_scores_of_another_model_are_refused(small_run, scores, tmp_path):
    record = json.loads((scores / "metrics.json").read_text())
    record["model"]["sha256"] = "0" * 64
    (tmp_path / "metrics.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match="has the scores of other weights"):
        write_card(small_run, tmp_path / "card.md", scores=tmp_path)
