import numpy as np
import pytest
from scipy import stats

from s2igan.metrics.bootstrap import interval, paired_difference, resample_clusters


def test_clusters_are_drawn_with_their_items():
    labels = np.array([3, 3, 3, 7, 7, 9])
    (drawn,) = resample_clusters(labels, resamples=50, rng=np.random.default_rng(0))
    for label, size in ((3, 3), (7, 2), (9, 1)):
        own = labels == label
        np.testing.assert_array_equal(drawn.weights[:, own].sum(axis=1), size * drawn.copies[:, own][:, 0])
    assert (drawn.copies[:, [0, 3, 5]].sum(axis=1) == 3).all()
    assert (drawn.weights[drawn.copies == 0] == 0).all()


def test_sets_that_share_clusters_draw_them_alike():
    first, second = resample_clusters(np.arange(5).repeat(4), np.arange(5), resamples=30, rng=np.random.default_rng(0))
    np.testing.assert_array_equal(first.copies[:, ::4], second.copies)
    np.testing.assert_array_equal(second.weights, second.copies)


def test_items_that_stand_alone_are_drawn_as_by_the_plain_bootstrap():
    """The variance of a mean is that of the sample over n."""
    values = np.random.default_rng(0).normal(size=400)
    (drawn,) = resample_clusters(np.arange(400), resamples=4000, rng=np.random.default_rng(1))
    means = drawn.weights @ values / 400
    assert means.std() == pytest.approx(values.std() / 20, rel=0.05)


def test_an_interval_is_of_the_middle_and_may_be_infinite():
    assert interval(np.arange(1001.0)) == (25.0, 975.0)
    assert interval(np.array([0.0] * 90 + [np.inf] * 10)) == (0.0, np.inf)


def test_a_difference_between_pairs_is_surer_than_between_strangers():
    """Items differ much and methods little: the same items and seeds on both sides show it."""
    rng = np.random.default_rng(0)
    items = rng.normal(0, 3, 200)
    labels = np.arange(200) // 10
    first, second = (items + shift + 0.1 * rng.normal(size=(3, 200)) for shift in (0.3, 0.0))
    difference, (low, high) = paired_difference(first, second, labels)
    assert difference == pytest.approx(0.3, abs=0.05)
    assert 0.1 < low < difference < high < 0.5
    assert paired_difference(second, first, labels)[0] == pytest.approx(-difference)
    _, (low, high) = paired_difference(first, rng.permuted(second, axis=1), labels)
    assert low < 0 < high


def test_seeds_that_disagree_leave_a_difference_open():
    shifts = np.array([1.0, -1.0, 0.6])[:, None]
    _, (low, high) = paired_difference(np.zeros((3, 50)) + shifts, np.zeros((3, 50)), np.arange(50))
    assert low < 0 < high
    agreed = np.array([1.0, 1.1, 0.9])[:, None]
    _, (low, high) = paired_difference(np.zeros((3, 50)) + agreed, np.zeros((3, 50)), np.arange(50))
    assert low > 0


def test_the_interval_of_seeds_alone_is_that_of_students_t():
    """Items that are all alike: scipy's interval of the mean of three numbers."""
    shifts = np.array([0.3, 0.1, 0.5])
    _, found = paired_difference(np.zeros((3, 40)) + shifts[:, None], np.zeros((3, 40)), np.arange(40))
    expected = stats.t.interval(0.95, df=2, loc=shifts.mean(), scale=stats.sem(shifts))
    assert found == pytest.approx(expected, abs=0.01), "no random number decides it"


@pytest.mark.parametrize(("seeds", "between_seeds"), [(1, 0.0), (2, 0.3), (3, 0.3), (3, 0.0)])
def test_equal_methods_are_called_different_in_about_one_of_twenty_or_fewer(seeds, between_seeds):
    rng = np.random.default_rng(1)
    labels = np.arange(100) // 2
    found = 0
    for trial in range(100):
        first, second = rng.normal(size=(2, seeds, 100)) + between_seeds * rng.normal(size=(2, seeds, 1))
        _, (low, high) = paired_difference(first, second, labels, resamples=200, seed=trial)
        found += not low < 0 < high
    assert found <= 12
