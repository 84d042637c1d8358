"""torch-fidelity's arithmetic, as it is called here, against closed forms and against `independent_metrics`."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from torch_fidelity.metric_isc import isc_features_to_metric

import independent_metrics as independent
from s2igan.metrics import distances
from s2igan.metrics.distances import frechet_distance, inception_score, kernel_distance, precision_and_recall

GOLDEN = Path(__file__).parents[1] / "golden" / "metrics.safetensors"


def sets(n: int = 60, m: int = 50, d: int = 6) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    mixed = rng.normal(size=(d, d))
    return (1.3 * rng.normal(size=(n, d)) @ mixed + 0.4).astype(np.float32), rng.normal(size=(m, d)).astype(np.float32)


def test_each_agrees_with_an_independent_implementation():
    a, b = sets()
    x, y = a.astype(np.float64), b.astype(np.float64)
    assert frechet_distance(a, b) == pytest.approx(independent.frechet(x, y), rel=1e-4)
    assert kernel_distance(a[:50], b, subsets=1, subset_size=50)[0] == pytest.approx(
        independent.squared_mmd(x[:50], y), rel=1e-4
    )
    assert precision_and_recall(a, b) == pytest.approx(independent.precision_and_recall(x, y), abs=1e-6)


@pytest.mark.parametrize("size", [50, 20, 2])
def test_the_kernel_distance_of_subsets_is_that_of_torch_fidelity(size, monkeypatch):
    a, b = sets()
    options = {"subsets": 7, "subset_size": size, "seed": 3}
    found = kernel_distance(a, b, **options)
    monkeypatch.setattr(distances, "AT_MOST", 0)
    assert found == pytest.approx(kernel_distance(a, b, **options), rel=1e-9, abs=1e-9)


def test_the_inception_score_agrees_with_an_independent_implementation():
    logits = np.random.default_rng(1).normal(0, 3, size=(100, 7)).astype(np.float32)
    order = np.random.RandomState(5).permutation(100)
    expected = independent.inception_score(logits[order], 10)
    assert inception_score(logits, splits=10, seed=5) == pytest.approx(expected, rel=1e-4)


def test_the_inception_score_is_that_of_the_authors_trainer():
    golden = load_file(GOLDEN)
    import torch

    logits = torch.from_numpy(np.log(golden["is/probs"].astype(np.float64)))
    for splits in (1, 10):
        found = isc_features_to_metric(logits, splits, shuffle=False)
        np.testing.assert_allclose(list(found.values()), golden[f"is/alt_splits{splits}"], atol=1e-5)


def test_bounds_of_the_inception_score():
    certain = 1e3 * np.eye(5, dtype=np.float32)[np.tile(np.arange(5), 4)]
    assert inception_score(certain, splits=1)[0] == pytest.approx(5.0)  # every class, each certain
    assert inception_score(np.zeros((20, 5), np.float32), splits=4) == pytest.approx((1.0, 0.0))


def test_swapping_the_sets_exchanges_precision_and_recall_and_no_distance():
    a, b = sets()
    precision, recall = precision_and_recall(a, b)
    assert precision != recall
    assert precision_and_recall(b, a) == (recall, precision)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-8)


@pytest.mark.parametrize("measure", [frechet_distance, precision_and_recall])
def test_the_order_of_images_makes_no_difference(measure):
    a, b = sets()
    rng = np.random.default_rng(2)
    assert measure(rng.permutation(a), rng.permutation(b)) == pytest.approx(measure(a, b), rel=1e-8)


def test_frechet_distance_of_samples_approaches_the_closed_form():
    rng = np.random.default_rng(4)
    value = frechet_distance(rng.normal(size=(20_000, 3)), 1.0 + 2.0 * rng.normal(size=(20_000, 3)))
    assert value == pytest.approx(3 * (1 + 1), rel=0.05)  # per dimension (0 - 1)^2 + (1 - 2)^2


def test_a_shift_costs_its_squared_length_also_where_a_covariance_is_singular():
    """Fewer images than features, as with Oxford-102's test set."""
    x = np.random.default_rng(3).normal(size=(10, 50))
    shift = np.full(50, 0.3)
    y = 1.0 + np.random.default_rng(4).normal(size=(12, 50))
    assert frechet_distance(x, y) == pytest.approx(independent.frechet_of_few(x, y), rel=1e-4)
    assert frechet_distance(x, x) == pytest.approx(0.0, abs=1e-4)
    assert frechet_distance(x, x + shift) == pytest.approx(float(shift @ shift), abs=1e-4)


def test_the_kernel_distance_is_unbiased_and_sees_a_shift():
    rng = np.random.default_rng(7)
    x, y = rng.normal(size=(400, 8)), rng.normal(size=(400, 8))
    same, spread = kernel_distance(x, y, subsets=50, subset_size=100)
    assert abs(same) < 0.01
    assert spread > 0
    assert kernel_distance(x, y + 1.0, subsets=50, subset_size=100)[0] > 1.0


def test_seeds_and_small_sets():
    rng = np.random.default_rng(8)
    x, y = rng.normal(size=(30, 4)), rng.normal(size=(12, 4))
    assert kernel_distance(x, y, subsets=5, seed=1) == kernel_distance(x, y, subsets=5, seed=1)
    assert kernel_distance(x, y, subsets=5, seed=1) != kernel_distance(x, y, subsets=5, seed=2)
    kernel_distance(x, y, subsets=1, seed=2**63 - 1)
    inception_score(x, splits=2, seed=2**63 - 1)


@pytest.mark.parametrize(
    ("name", "least"), [("frechet_distance", 2), ("kernel_distance", 2), ("precision_and_recall", 5)]
)
def test_too_few_rows_are_refused(name, least):
    with pytest.raises(ValueError, match=f"at least {least} rows"):
        getattr(distances, name)(np.zeros((least - 1, 3)), np.zeros((9, 3)))


def test_fewer_rows_than_splits_are_refused():
    with pytest.raises(ValueError, match="at least 10 rows"):
        inception_score(np.zeros((4, 2)))
