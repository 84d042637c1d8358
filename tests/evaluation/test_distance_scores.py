"""Distances in each space: what is compared with what, and what is left out where a set is too small."""

import numpy as np
import pytest

from s2igan.evaluation import distance_scores as distances
from s2igan.evaluation.distance_scores import Compared, distance_group
from s2igan.evaluation.evaluation_split import EvaluationSplit
from s2igan.evaluation.extractors import centre_crops
from s2igan.evaluation.generation import Evaluation
from s2igan.evaluation.spaces import INCEPTION, LITE0, LITE2
from small_birds import SIDE, fakes_of


@pytest.fixture
def evaluation(model, bird_store, extraction) -> Evaluation:
    return Evaluation(model, EvaluationSplit.of(bird_store, "test"), 0, extraction)


def groups_of(evaluation, space, **options):
    """For real pictures and for noise in the place of generated ones."""
    store, captions = evaluation.split.store, evaluation.split.utterances[::2]
    same = centre_crops(store, store.image_index[captions], SIDE)
    noise = np.random.default_rng(0).integers(0, 256, same.shape, dtype=np.uint8)
    found = {}
    for kind, pictures in (("same", same), ("noise", noise)):
        compared = Compared.of(
            evaluation, space, space.rows, fakes_of(evaluation, captions, pictures), evaluation.real([space.rows])
        )
        group = distance_group(evaluation, compared, **options)
        found[kind] = group, {score.key: score for score in group.scores}
    return found


@pytest.mark.parametrize("space", [LITE0, LITE2])
def test_real_pictures_are_nearer_than_training_pictures_and_those_than_noise(evaluation, space):
    found = groups_of(evaluation, space)
    key = f"{space.group}/kd_{space.rows}"
    near, far = found["same"][1][key], found["noise"][1][key]
    assert far.value > far.ceiling > near.value
    assert (far.unit, far.chance, far.ceiling_name) == ("distance", None, "real training images")
    protocol = far.protocol
    assert (protocol["training_images"], protocol["real_images"]) == (6, 9)
    assert protocol["halves"].endswith("(5 and 4)")
    assert abs(protocol["real_against_real"]) < far.value
    assert protocol["sha256"] == evaluation.extraction[space.rows].facts["sha256"]
    assert "Inception" in protocol["comparable"]


def test_a_set_with_fewer_images_than_features_has_the_kernel_distance_alone(evaluation):
    group, scores = groups_of(evaluation, LITE0)["noise"]
    assert list(scores) == ["distances/kd_lite0"]
    assert (
        "Left out: fd_lite0, since 9 images for 1,280 features leave a covariance singular; precision" in group.protocol
    )
    paper = groups_of(evaluation, LITE0, paper=True)["noise"][1]["distances/fd_lite0"]
    assert paper.protocol["covariance"].startswith("singular")


def test_with_enough_images_there_is_everything(evaluation, monkeypatch):
    """The floors are lowered, and features are made up: four numbers of each picture."""
    monkeypatch.setattr(distances, "LEAST", 5)
    monkeypatch.setattr(distances, "LEAST_FOR_IS", 8)
    monkeypatch.setattr(distances, "IS_SPLITS", 2)
    rng = np.random.default_rng(0)
    captions = evaluation.split.utterances
    store = evaluation.split.store
    pictures = centre_crops(store, store.image_index[captions], SIDE)
    real = evaluation.real(["lite2"])
    compared = Compared.of(evaluation, LITE2, "lite2", fakes_of(evaluation, captions, pictures), real)

    def shrunk(part):
        return distances.FeatureSet(part.features[:, :4], part.classes, part.numbers)

    compared = Compared(
        LITE2, shrunk(compared.fakes), shrunk(compared.real), shrunk(compared.training), compared.protocol
    )
    logits = rng.normal(size=(18, 6)).astype(np.float32), rng.normal(size=(9, 6)).astype(np.float32)
    scores = {score.key: score for score in distance_group(evaluation, compared, logits).scores}
    assert set(scores) >= {f"independent/{name}_lite2" for name in ("fd", "kd", "precision", "recall", "is")}
    assert scores["independent/precision_lite2"].value == scores["independent/recall_lite2"].value == 1.0
    assert scores["independent/is_lite2"].unit == "number"
    assert scores["independent/is_lite2"].chance == 1.0
    assert scores["independent/kd_lite2"].interval is not None


def test_below_two_images_there_is_no_group(evaluation):
    captions = evaluation.split.utterances[:1]
    fakes = fakes_of(evaluation, captions, np.zeros((1, SIDE, SIDE, 3), np.uint8))
    compared = Compared.of(evaluation, LITE0, "lite0", fakes, evaluation.real(["lite0"]))
    assert distance_group(evaluation, compared) is None


def test_names_on_inception_are_those_of_papers():
    assert (INCEPTION.frechet, INCEPTION.kernel, LITE0.frechet, LITE0.kernel) == ("fid", "kid", "fd", "kd")


def test_generated_and_real_images_that_change_places_would_show(evaluation, monkeypatch):
    """Generated images are all alike and near to one real image; real ones are of six classes."""
    monkeypatch.setattr(distances, "LEAST_FOR_IS", 20)
    rng = np.random.default_rng(0)
    real = rng.normal(size=(30, 4)).astype(np.float32)
    generated = (real[0] + 0.01 * rng.normal(size=(24, 4))).astype(np.float32)
    sets = (
        distances.FeatureSet(part, np.zeros(len(part), np.int64), np.arange(len(part))) for part in (generated, real)
    )
    compared = Compared(LITE0, *sets, None, {"extractor": "made up"})
    certain = 100 * np.eye(6, dtype=np.float32)
    logits = certain[np.zeros(24, dtype=int)], certain[np.arange(30) % 6]
    scores = {score.key: score for score in distance_group(evaluation, compared, logits).scores}
    assert scores["distances/precision_lite0"].value == 1.0
    assert scores["distances/recall_lite0"].value < 0.1
    found = scores["distances/is_lite0"]
    assert found.value == pytest.approx(1.0)
    assert found.ceiling > 2.0
