import numpy as np
import pytest

from s2igan.metrics.bootstrap import interval, resample_clusters


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
