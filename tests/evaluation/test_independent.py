import numpy as np
import pytest

from s2igan.data.dataset import crop_and_flip
from s2igan.evaluation.evaluation_split import EvaluationSplit
from s2igan.evaluation.features import image_features
from s2igan.evaluation.generation import Evaluation, Fakes
from s2igan.evaluation.independent import independent_group, memorisation_scores
from s2igan.evaluation.lite2 import Lite2
from s2igan.metrics.fid import nearest_distances, paired_kernel_distances, squared_mmd
from s2igan.pipeline import to_pixels


def test_paired_distances_are_the_unbiased_ones_and_swapping_the_sets_shows():
    rng = np.random.default_rng(0)
    fake, training, real = (rng.normal(size=(60, 6)) + shift for shift in (1.0, 0.3, 0.0))
    found = paired_kernel_distances(fake, training, real, resamples=200)
    assert found.fake == pytest.approx(squared_mmd(fake, real))
    assert found.training == pytest.approx(squared_mmd(training, real))
    assert found.fake_interval[0] < found.fake < found.fake_interval[1]
    swapped = paired_kernel_distances(training, fake, real, resamples=200)
    assert swapped.fake == pytest.approx(found.training)
    order = rng.permutation(60)
    assert paired_kernel_distances(fake[order], training, real, resamples=2).fake == pytest.approx(found.fake)
    with pytest.raises(ValueError, match="at least two"):
        paired_kernel_distances(fake[:1], training[:1], real[:1])


def test_the_bootstrap_of_equal_distributions_is_centred_on_the_value():
    rng = np.random.default_rng(1)
    sets = rng.normal(size=(3, 100, 4))
    found = paired_kernel_distances(*sets, resamples=400)
    assert np.mean(found.fake_interval) == pytest.approx(found.fake, abs=0.1)


def test_nearest_distances_equal_their_definition():
    rng = np.random.default_rng(2)
    q, g = rng.normal(size=(7, 5)), rng.normal(size=(9, 5))
    np.testing.assert_allclose(nearest_distances(q, g), [min(np.linalg.norm(x - y) for y in g) for x in q])


def test_a_planted_memoriser_is_found_and_an_innocent_set_is_not():
    rng = np.random.default_rng(3)
    training, real, innocent = (rng.normal(size=(n, 20)) for n in (300, 200, 200))
    planted = training[:200] + 0.05 * rng.normal(size=(200, 20))
    for fakes, memorised in ((planted, True), (innocent, False)):
        near = memorisation_scores(fakes, real, training, {})[-1]
        assert near.protocol["memorised"] is memorised


@pytest.mark.skipif(not Lite2.installed(), reason="needs the extra judges")
def test_lite2_sees_real_pictures_as_nearer_than_noise_in_any_batch(bird_store, model, monkeypatch):
    monkeypatch.setattr("s2igan.evaluation.independent.LEAST", 2)
    split = EvaluationSplit.of(bird_store, "test")
    evaluation = Evaluation(model, split, 0)
    captions = split.utterances[::2]
    real = to_pixels(crop_and_flip(bird_store.images[bird_store.image_index[captions]], 32, None))
    noise = np.random.default_rng(0).integers(0, 256, real.shape, dtype=np.uint8)
    distance = {}
    for kind, pictures in (("real", real), ("noise", noise)):
        group = independent_group(evaluation, Fakes(captions, pictures, 0))
        distance[kind] = {score.key: score.value for score in group.scores}["independent/kd_lite2"]
    assert distance["noise"] > distance["real"]
    network = Lite2()
    whole = image_features(network, real)
    np.testing.assert_allclose(image_features(network, real[:2]), whole[:2], rtol=1e-3, atol=1e-4)
