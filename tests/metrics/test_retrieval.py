import itertools
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from s2igan.metrics.retrieval import (
    REFERENCE_OFFSET,
    attribute_disagreement,
    average_precision,
    by_chance,
    chance_map,
    cosine_similarity,
    hits_at,
    mean_average_precision,
    recall_at_k,
    same_label,
)

GOLDEN = Path(__file__).parents[1] / "golden" / "metrics.safetensors"


def fake_recall(real, fake, fake_image, k):
    """As `s2igan evaluate` asks on sets without classes."""
    similarity = cosine_similarity(real, fake, offset=REFERENCE_OFFSET)
    return recall_at_k(similarity, same_label(np.arange(len(real)), fake_image), k)


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    return load_file(GOLDEN)


# --- the reference's numbers ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def golden_map(golden: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    similarity = cosine_similarity(golden["map/query"], golden["map/gallery"], offset=REFERENCE_OFFSET)
    return similarity, same_label(golden["map/query_class"], golden["map/gallery_class"])


def test_golden_similarity_and_ranking(golden, golden_map):
    similarity, _ = golden_map
    np.testing.assert_allclose(similarity, golden["map/similarity"], atol=1e-6)
    np.testing.assert_array_equal(np.argsort(-similarity, axis=1), golden["map/ranking"])


def test_golden_map(golden, golden_map):
    np.testing.assert_allclose(average_precision(*golden_map), golden["map/AP"], atol=1e-6)
    assert mean_average_precision(*golden_map) == pytest.approx(float(golden["map/mAP"]), abs=1e-6)


@pytest.mark.parametrize("k", [1, 5, 10, 50])
def test_golden_fake_recall(golden, k):
    fake_image = np.repeat(np.arange(30), 5)
    value = fake_recall(golden["fake_recall/real"], golden["fake_recall/fake"], fake_image, k)
    assert value == pytest.approx(float(golden[f"fake_recall/R@{k}"]), abs=1e-6)


def test_golden_sen_map(golden):
    query = golden["sen_map/speech"][golden["sen_map/query_index"]]
    similarity = cosine_similarity(query, golden["sen_map/image"], offset=REFERENCE_OFFSET)
    relevant = same_label(golden["sen_map/query_class"], golden["sen_map/class"])
    np.testing.assert_allclose(average_precision(similarity, relevant), golden["sen_map/AP"], atol=1e-6)
    assert mean_average_precision(similarity, relevant) == pytest.approx(float(golden["sen_map/mAP"]), abs=1e-6)


@pytest.mark.parametrize("k", [1, 5, 10])
def test_golden_paired_recall(golden, k):
    similarity = cosine_similarity(golden["paired_recall/image"], golden["paired_recall/speech"])
    paired = np.eye(50, dtype=bool)
    expected = {d: float(golden[f"paired_recall/{d}_query_R@{k}"]) for d in ("image", "speech")}
    assert recall_at_k(similarity, paired, k) == pytest.approx(expected["image"], abs=1e-6)
    assert recall_at_k(similarity.T, paired, k) == pytest.approx(expected["speech"], abs=1e-6)


@pytest.mark.parametrize("k", [1, 5, 10])
def test_golden_many_to_one_recall(golden, k):
    similarity = cosine_similarity(golden["multi_recall/image"], golden["multi_recall/speech"])
    match = same_label(golden["multi_recall/image_id"], golden["multi_recall/speech_id"])
    expected = {d: float(golden[f"multi_recall/{d}_query_R@{k}"]) for d in ("image", "speech")}
    assert recall_at_k(similarity, match, k) == pytest.approx(expected["image"], abs=1e-6)
    assert recall_at_k(similarity.T, match.T, k) == pytest.approx(expected["speech"], abs=1e-6)


# --- closed forms ---------------------------------------------------------------------------------


def test_average_precision_by_hand():
    similarity = np.array([[0.9, 0.1, 0.8, 0.3]])  # ranking: 0, 2, 3, 1
    relevant = np.array([[False, True, True, False]])  # right at ranks 2 and 4
    assert average_precision(similarity, relevant)[0] == pytest.approx((1 / 2 + 2 / 4) / 2)
    assert average_precision(-similarity, relevant)[0] == pytest.approx((1 / 1 + 2 / 3) / 2)


def _over_all_orders(similarity: np.ndarray, relevant: np.ndarray, score) -> float:
    """Mean of a score over every order of the gallery, ties left as they stand: the closed forms' meaning."""
    values = []
    for order in itertools.permutations(range(len(similarity))):
        index = sorted(order, key=lambda i: -similarity[i])  # stable
        values.append(score(relevant[index]))
    return float(np.mean(values))


def _ap(hits: np.ndarray) -> float:
    ranks = np.flatnonzero(hits) + 1
    return float(np.mean(np.arange(1, len(ranks) + 1) / ranks))


TIED = [
    ([2, 1, 1, 1, 0, 0], [0, 1, 0, 1, 1, 0]),
    ([1, 1, 1, 1, 1, 1], [0, 1, 0, 1, 0, 0]),
    ([1, 1, 0, 0, 0, 2], [1, 0, 1, 1, 1, 0]),
    ([5, 4, 3, 2, 1, 0], [0, 0, 1, 0, 1, 1]),
]


@pytest.mark.parametrize(("scores", "hits"), TIED)
def test_ties_are_averaged_over_every_order(scores, hits):
    s, r = np.array(scores, dtype=float), np.array(hits, dtype=bool)
    one = (s[None], r[None])
    assert average_precision(*one)[0] == pytest.approx(_over_all_orders(s, r, _ap), abs=1e-12)
    for k in (1, 2, 3, 5, 6):
        recall = _over_all_orders(s, r, lambda h, k=k: float(h[:k].any()))
        assert recall_at_k(*one, k) == pytest.approx(recall, abs=1e-12)


def test_a_sorted_gallery_earns_nothing():
    """A network that returns a constant must not profit from a gallery that stands in order of classes."""
    gallery = np.repeat(np.arange(5), 8)
    relevant = same_label(np.arange(5), gallery)
    constant = np.zeros(relevant.shape)
    shuffled = relevant[:, np.random.default_rng(0).permutation(len(gallery))]
    assert mean_average_precision(constant, relevant) == pytest.approx(mean_average_precision(constant, shuffled))
    assert recall_at_k(constant, relevant, 1) == pytest.approx(1 / 5)


def test_swapping_queries_and_gallery_matters():
    similarity = np.array([[0.9, 0.8], [0.7, 0.1]])
    paired = np.eye(2, dtype=bool)
    assert recall_at_k(similarity, paired, 1) == 0.5
    assert recall_at_k(similarity.T, paired, 1) == 0.5
    uneven = np.array([[0.9, 0.8], [0.95, 0.1]])
    assert recall_at_k(uneven, paired, 1) == 0.5
    assert recall_at_k(uneven.T, paired, 1) == 0.0


def test_recall_of_a_gallery_smaller_than_k_is_one():
    assert recall_at_k(np.array([[0.1, 0.2, 0.3]]), np.array([[True, False, False]]), 10) == 1.0


def test_undefined_scores_are_refused():
    with pytest.raises(ValueError, match="query 1 has no right item"):
        average_precision(np.zeros((2, 2)), np.array([[True, False], [False, False]]))
    with pytest.raises(ValueError, match="not finite"):
        average_precision(np.array([[np.nan, 0.0]]), np.array([[True, False]]))
    with pytest.raises(Exception, match="relevant"):  # the shape checker's error here, the function's for users
        average_precision(np.zeros((1, 2)), np.ones((1, 3), dtype=bool))
    with pytest.raises(ValueError, match="direction"):
        cosine_similarity(np.zeros((1, 2)), np.ones((1, 2)))
    with pytest.raises(ValueError, match="at least 1"):
        recall_at_k(np.zeros((1, 2)), np.ones((1, 2), dtype=bool), 0)


# --- chance ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("classes", "percent"), [(50, 2.64), (20, 6.33)], ids=["CUB", "Oxford-102"])
def test_chance_is_what_the_specification_says(classes, percent):
    """method.md 6: two queries and twenty fakes a class. Constant scores give the expectation in closed form."""
    relevant = same_label(np.repeat(np.arange(classes), 2), np.repeat(np.arange(classes), 20))
    assert 100 * mean_average_precision(np.zeros(relevant.shape), relevant) == pytest.approx(percent, abs=0.02)


def test_chance_is_what_random_rankings_reach():
    relevant = same_label(np.arange(12), np.concatenate([np.repeat(np.arange(12), 10), np.arange(5)]))
    rng = np.random.default_rng(3)
    values = [mean_average_precision(rng.random(relevant.shape), relevant) for _ in range(200)]
    assert chance_map(relevant) == pytest.approx(np.mean(values), abs=4 * np.std(values) / np.sqrt(200))
    for score in (average_precision, partial(hits_at, ks=(1, 5))):
        np.testing.assert_array_equal(by_chance(score, relevant), score(np.zeros(relevant.shape), relevant))


# --- the oracle -----------------------------------------------------------------------------------


def test_disagreement_counts_false_statements():
    images = [{"belly": "red", "wings": "black"}, {"belly": "red", "wings": "white"}, {"belly": "blue"}]
    mentions = [{"belly": "red"}, {"belly": "red", "wings": "white"}, {}]
    np.testing.assert_array_equal(attribute_disagreement(mentions, images), [[0, 0, 1], [1, 0, 2], [0, 0, 0]])


def test_average_precision_is_that_of_scikit_learn():
    from sklearn.metrics import average_precision_score

    rng = np.random.default_rng(4)
    similarity = rng.normal(size=(20, 50))
    relevant = rng.random((20, 50)) < 0.2
    relevant[:, 0] = True
    expected = [average_precision_score(right, close) for right, close in zip(relevant, similarity, strict=True)]
    np.testing.assert_allclose(average_precision(similarity, relevant), expected, atol=1e-10)


def test_recall_is_the_hit_rate():
    """torchmetrics' `RetrievalHitRate`: at least one right item among the first k; not the share of right items."""
    similarity, relevant = np.array([[3.0, 2.0, 1.0]]), np.array([[True, False, True]])
    assert recall_at_k(similarity, relevant, 1) == 1.0
    assert recall_at_k(-similarity, ~relevant, 1) == 0.0
