import numpy as np
import pytest

from independent_metrics import squared_mmd
from s2igan.metrics import distances
from s2igan.metrics.distances import nearest_distances, paired_kernel_distances

ALONE = (np.arange(60), np.arange(60), np.arange(60) + 100)


def test_paired_distances_are_the_unbiased_ones_and_swapping_the_sets_shows():
    rng = np.random.default_rng(0)
    fake, training, real = (rng.normal(size=(60, 6)) + shift for shift in (1.0, 0.3, 0.0))
    found = paired_kernel_distances(fake, training, real, classes=ALONE, resamples=200)
    assert found.fake == pytest.approx(squared_mmd(fake, real))
    assert found.training == pytest.approx(squared_mmd(training, real))
    assert found.fake_interval[0] < found.fake < found.fake_interval[1]
    assert found.ratio_interval[0] < found.fake / found.training < found.ratio_interval[1]
    swapped = paired_kernel_distances(training, fake, real, classes=ALONE, resamples=200)
    assert swapped.fake == pytest.approx(found.training)
    order = rng.permutation(60)
    same = paired_kernel_distances(fake[order], training, real, classes=ALONE, resamples=2)
    assert same.fake == pytest.approx(found.fake)
    with pytest.raises(ValueError, match="at least two"):
        paired_kernel_distances(fake[:1], training[:1], real[:1], classes=tuple(x[:1] for x in ALONE))


@pytest.mark.parametrize("per_class", [1, 10])
def test_the_bootstrap_of_equal_distributions_is_centred_on_the_value(per_class):
    """Also where classes are drawn: two draws of one are no pair, which would make a set look narrower than it is."""
    rng = np.random.default_rng(1)
    labels = np.arange(100) // per_class
    species = rng.normal(size=(3, 100, 4))
    species[2] = species[0]  # fakes and real images are of the same species
    sets = species[:, labels] + 0.5 * rng.normal(size=(3, 100, 4))
    found = paired_kernel_distances(*sets, classes=(labels, labels, labels), resamples=400)
    for value, ends in ((found.fake, found.fake_interval), (found.training, found.training_interval)):
        assert ends[0] < value < ends[1]
        assert np.mean(ends) == pytest.approx(value, abs=0.35 * (ends[1] - ends[0]))


def test_pictures_of_few_species_make_a_distance_less_sure():
    rng = np.random.default_rng(2)
    labels = np.arange(100) // 10
    sets = rng.normal(size=(3, 10, 4))[:, labels] + 0.3 * rng.normal(size=(3, 100, 4))

    def width(classes):
        low, high = paired_kernel_distances(*sets, classes=classes, resamples=400).training_interval
        return high - low

    assert width((labels, labels, labels)) > 1.5 * width((np.arange(100),) * 3)


def test_nearest_distances_equal_their_definition(monkeypatch):
    rng = np.random.default_rng(2)
    q, g = rng.normal(size=(7, 5)), rng.normal(size=(9, 5))
    monkeypatch.setattr(distances, "AT_ONCE", 3)
    np.testing.assert_allclose(nearest_distances(q, g), [min(np.linalg.norm(x - y) for y in g) for x in q])
