import numpy as np
import pytest

from independent_metrics import average_precision
from s2igan.corpora.builtin.bird_drawing import ATTRIBUTES
from s2igan.evaluation.evaluation_split import EvaluationSplit
from s2igan.evaluation.extractors import centre_crops
from s2igan.evaluation.generated import Queries, attribute_group, fake_recall_group, paper_map_group
from s2igan.evaluation.generation import Evaluation, draw_pictures
from small_birds import SIDE, KnownPictures, fakes_of


@pytest.fixture(scope="module")
def split(bird_store) -> EvaluationSplit:
    return EvaluationSplit.of(bird_store, "test")


@pytest.fixture
def evaluation(model, split, extraction) -> Evaluation:
    return Evaluation(model, split, 0, extraction)


def real_pictures(store, captions: np.ndarray) -> np.ndarray:
    """The pictures that a perfect generator would draw: those that the captions describe."""
    return centre_crops(store, store.image_index[captions], SIDE)


def test_a_perfect_generator_reaches_the_ceiling(bird_store, split, evaluation):
    classifier = KnownPictures(bird_store)
    captions, real = split.utterances, evaluation.real(["attributes"])
    pictures = real_pictures(bird_store, captions)
    perfect = attribute_group(classifier, split, fakes_of(evaluation, captions, pictures), real)
    assert {score.value for score in perfect.scores} == {1.0}
    assert {score.ceiling for score in perfect.scores} == {1.0}
    blank = attribute_group(classifier, split, fakes_of(evaluation, captions, np.zeros_like(pictures)), real)
    by_key = {score.key: score for score in blank.scores}
    assert by_key["attributes/mean"].value < 0.7
    each = [score for score in blank.scores if score.key not in ("attributes/mean", "attributes/per_caption")]
    for score in each:
        # Pictures that are all alike score the same however they are dealt out.
        assert score.value == pytest.approx(score.protocol["shuffled"])
        assert score.chance == 1 / len(ATTRIBUTES[score.key.partition("/")[2]])
    mentioned = sum("belly_colour" in bird_store.mentions(int(u)) for u in captions)
    assert by_key["attributes/belly_colour"].protocol["n"] == mentioned
    assert by_key["attributes/mean"].value == pytest.approx(np.mean([score.value for score in each]))


def test_of_what_a_caption_names_counts_each_caption_alike(bird_store, split, evaluation):
    captions = split.utterances
    blank = fakes_of(evaluation, captions, np.zeros((len(captions), SIDE, SIDE, 3), np.uint8))
    group = attribute_group(KnownPictures(bird_store), split, blank, evaluation.real(["attributes"]))
    (score,) = [score for score in group.scores if score.key == "attributes/per_caption"]
    first = {name: values[0] for name, values in ATTRIBUTES.items()}  # what the classifier sees in a blank picture
    shares = []
    for caption in captions:
        named = split.mentioned(int(caption))
        shares.append(np.mean([first[name] == value for name, value in named.items()]))
    assert score.value == pytest.approx(np.mean(shares))
    np.testing.assert_allclose(score.items.values, shares)
    np.testing.assert_array_equal(score.items.numbers, captions)
    assert score.protocol["shuffled"] == pytest.approx(score.value), "pictures that are all alike"
    for score in group.scores[2:]:
        naming = [caption for caption in captions if score.key.rpartition("/")[2] in split.mentioned(int(caption))]
        np.testing.assert_array_equal(score.items.numbers, naming)
        assert score.items.values.mean() == pytest.approx(score.value)


def test_what_shuffled_pictures_show_is_their_mean_over_all_orders(bird_store, split, evaluation):
    """Of each caption every picture in turn, as if it were its own."""
    captions, real = split.utterances, evaluation.real(["attributes"])
    pictures = real_pictures(bird_store, captions)
    classifier = KnownPictures(bird_store)
    group = attribute_group(classifier, split, fakes_of(evaluation, captions, pictures), real)
    (score,) = [score for score in group.scores if score.key == "attributes/per_caption"]
    facts = [bird_store.image_attributes(int(bird_store.image_index[caption])) for caption in captions]
    named = [split.mentioned(int(caption)) for caption in captions]
    shown = [np.mean([shows[name] == value for name, value in said.items()]) for said in named for shows in facts]
    assert score.protocol["shuffled"] == pytest.approx(np.mean(shown))
    assert score.chance < score.protocol["shuffled"] < score.value


def test_pictures_follow_seed_and_utterance_in_the_order_asked_for(model, bird_store):
    captions = np.resize(np.random.default_rng(0).permutation(len(bird_store)), 70)
    pictures = draw_pictures(model, bird_store, captions, seed=1)
    assert pictures.shape == (70, SIDE, SIDE, 3)
    np.testing.assert_array_equal(pictures, draw_pictures(model, bird_store, captions, seed=1))
    assert not (pictures == draw_pictures(model, bird_store, captions, seed=2)).all(axis=(1, 2, 3)).any()
    same = draw_pictures(model, bird_store, np.repeat(captions[:1], 3), seed=1)
    assert not (same[0] == same[1]).all()
    assert np.abs(same[0].astype(int) - pictures[0]).max() <= 1
    alone = draw_pictures(model, bird_store, captions[:1], seed=1)
    assert np.abs(alone[0].astype(int) - pictures[0]).max() <= 1


def test_the_papers_map_of_perfect_fakes_and_of_noise(bird_store, split, evaluation):
    rng = np.random.default_rng(0)
    captions, real = split.utterances, evaluation.real()
    pictures = {
        "perfect": real_pictures(bird_store, captions),
        "noise": rng.integers(0, 256, (len(captions), SIDE, SIDE, 3), dtype=np.uint8),
    }
    queries = Queries.of(split, captions[:1], 0)
    scores = {}
    for kind, drawn in pictures.items():
        group = paper_map_group(evaluation, queries, fakes_of(evaluation, captions, drawn), real)
        scores[kind] = {score.key: score for score in group.scores}
    assert list(scores["noise"]) == ["fakes/map_lite2", "fakes/map_lite0"]
    for key, noise in scores["noise"].items():
        perfect = scores["perfect"][key]
        assert perfect.value > 0.8  # the query's own picture is in the gallery
        assert perfect.value > noise.value + 0.2
        assert noise.ceiling > noise.value
        assert (noise.protocol["queries"], noise.protocol["gallery"]) == (6, 12)
        assert noise.chance == pytest.approx(perfect.chance)
        assert noise.headline is (key == "fakes/map_lite2")


def test_the_papers_map_equals_its_definition(bird_store, split, evaluation):
    """Cosine of features, AP over the whole ranking, the mean over queries; by another implementation."""
    captions, real = split.utterances, evaluation.real(["lite0"])
    pictures = np.random.default_rng(1).integers(0, 256, (len(captions), SIDE, SIDE, 3), dtype=np.uint8)
    fakes = fakes_of(evaluation, captions, pictures)
    queries = Queries.of(split, captions[:1], 0)
    group = paper_map_group(evaluation, queries, fakes, {"lite0": real["lite0"], "lite2": evaluation.real()["lite2"]})
    found = {score.key: score for score in group.scores}["fakes/map_lite0"]
    rows = [captions.tolist().index(caption) for caption in queries.captions]
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (real["lite0"], fakes.seen["lite0"][rows])]
    described = bird_store.utterance_class[queries.captions]
    expected = [
        average_precision(unit[1] @ unit[0][position], described == bird_store.image_class[split.images[position]])
        for position in queries.positions
    ]
    np.testing.assert_allclose(found.items.values, expected, atol=1e-6)
    assert found.value == pytest.approx(np.mean(expected), abs=1e-6)


def test_fake_recall_of_perfect_fakes(bird_store, split, evaluation):
    captions, real = split.utterances, evaluation.real()
    described = np.searchsorted(split.images, np.unique(bird_store.image_index[captions]))
    queries = Queries(described, captions, None)
    pictures = real_pictures(bird_store, captions)
    group = fake_recall_group(evaluation, queries, fakes_of(evaluation, captions, pictures), real)
    assert [score.value for score in group.scores] == [1.0] * 8
    # Nine images with two fakes each: the first of eighteen is one's own with 2/18.
    assert group.scores[0].chance == pytest.approx(2 / 18)
    group = fake_recall_group(evaluation, queries, fakes_of(evaluation, captions, np.roll(pictures, 2, axis=0)), real)
    assert group.scores[0].value < 0.5
    assert group.scores[0].protocol["query_list"] is None


def test_without_classes_the_images_of_the_sampled_captions_are_asked(store_without_classes):
    split = EvaluationSplit.of(store_without_classes, "test")
    sampled = split.utterances[[3, 0]]
    queries = Queries.of(split, sampled, 0)
    np.testing.assert_array_equal(queries.captions, sampled)
    images = store_without_classes.image_index[sampled]
    assert set(split.images[queries.positions]) == set(images.tolist())
