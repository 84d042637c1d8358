"""What an autoencoder can give back, scored as what is drawn."""

import numpy as np
import pytest
import torch
from torch import nn

from s2igan.data.dataset import crop_and_flip
from s2igan.evaluation import distance_scores as distances
from s2igan.evaluation.attributes import AttributesSeen
from s2igan.evaluation.distance_scores import Compared
from s2igan.evaluation.evaluation_split import EvaluationSplit
from s2igan.evaluation.extractors import Extraction
from s2igan.evaluation.generation import Evaluation, Fakes, reconstruct
from s2igan.evaluation.reconstructions import reconstruction_group
from s2igan.evaluation.sample_sheet import write_sample_sheet
from s2igan.evaluation.spaces import LITE2, lite
from s2igan.pipeline import SpeechToImage, to_pixels
from small_birds import KnownPictures, fakes_of


@pytest.fixture
def flow(flow_run) -> SpeechToImage:
    return SpeechToImage.load(flow_run, "cpu")


@pytest.fixture
def evaluation(flow, larger_birds) -> Evaluation:
    known = AttributesSeen(KnownPictures(larger_birds, 64))
    extraction = Extraction([lite("lite2", torch.device("cpu")), known])
    return Evaluation(flow, EvaluationSplit.of(larger_birds, "test"), 0, extraction)


class Perfect(nn.Module):
    """An autoencoder that loses nothing."""

    def encode(self, images):
        return images

    decode = encode


class Blind(Perfect):
    def decode(self, latents):
        return torch.zeros_like(latents)


def blank(evaluation) -> Fakes:
    captions = evaluation.split.utterances
    return fakes_of(evaluation, captions, np.zeros((len(captions), 64, 64, 3), np.uint8))


def test_reconstructions_are_what_the_autoencoder_makes(flow, larger_birds):
    images = np.array([3, 0])
    crops = crop_and_flip(larger_birds.images[images], 64, None)
    with torch.no_grad():
        expected = flow.generator.autoencoder.decode(flow.generator.autoencoder.encode(crops))
    np.testing.assert_array_equal(reconstruct(flow, larger_birds, images), to_pixels(expected))


def test_a_model_without_an_autoencoder_has_none(model, bird_store):
    assert reconstruct(model, bird_store, np.arange(2)) is None
    evaluation = Evaluation(model, EvaluationSplit.of(bird_store, "test"), 0)
    assert reconstruction_group(evaluation, blank(evaluation), {}, KnownPictures(bird_store), None) is None


def test_a_perfect_autoencoder_reaches_the_real_pictures_and_a_blind_one_does_not(evaluation, larger_birds):
    classifier, mean = KnownPictures(larger_birds, 64), {}
    for network in (Perfect(), Blind()):
        evaluation.model.generator.autoencoder = network
        group = reconstruction_group(evaluation, blank(evaluation), evaluation.real(["attributes"]), classifier, None)
        assert group.title == "Reconstructions (the ceiling)"
        mean[type(network)] = {score.key: score.value for score in group.scores}["reconstructions/mean"]
        assert all(score.ceiling == 1.0 for score in group.scores)
        assert group.scores[0].protocol["reconstructed_images"] == 9
    assert mean[Perfect] == 1.0
    assert mean[Blind] < 0.7


def test_their_kernel_distance_is_to_other_pictures_than_their_own(evaluation, monkeypatch):
    monkeypatch.setattr(distances, "LEAST", 2)
    values = {}
    for network in (Perfect(), Blind()):
        evaluation.model.generator.autoencoder = network
        fakes = blank(evaluation)
        real = evaluation.real(["lite2"])
        compared = Compared.of(evaluation, LITE2, "lite2", fakes, real)
        group = reconstruction_group(evaluation, fakes, real, None, compared)
        scores = {score.key: score for score in group.scores}
        values[type(network)] = scores["reconstructions/kd_lite2"].value
        assert scores["reconstructions/kd_lite2"].protocol["pictures_of_each"] == 4
    assert values[Blind] > values[Perfect]


def test_they_stand_on_the_sample_sheet(evaluation, tmp_path, model, bird_store):
    rows = write_sample_sheet(evaluation, tmp_path / "flow")
    assert [row["reconstruction"] for row in rows] == [f"{n:02d}-reconstruction.png" for n in range(1, 9)]
    assert all((tmp_path / "flow" / row["reconstruction"]).is_file() for row in rows)
    other = Evaluation(model, EvaluationSplit.of(bird_store, "test"), 0)
    assert {row["reconstruction"] for row in write_sample_sheet(other, tmp_path / "rdg")} == {None}
