"""Stage 1 beyond its golden record: the baseline's distillation, schedules, what is trained and what is not."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from rich.console import Console
from torch import nn

from s2igan.data.dataset import SpeechImageData
from s2igan.models.image_encoder import ImageEncoder, ImageEncoderConfig
from s2igan.models.li2020 import CnnLstmConfig
from s2igan.training import data, sen, stages
from s2igan.training.augment import SpeechAugment
from s2igan.training.frozen import draw_views
from tiny_corpus import batch_of, take_step, tiny_recipe

CPU = torch.device("cpu")


@pytest.fixture
def stage(store, tmp_path):
    def build(**changes):
        config = replace(tiny_recipe(6).sen, augment=SpeechAugment(), **changes)
        train, validation = (SpeechImageData(store, split, 32) for split in ("train", "validation"))
        given = {"seed": 0, "device": CPU, "console": Console(quiet=True), "cache": tmp_path}
        return stages.SENStage(config, train, validation, **given)

    return build


def copy(module):
    return {key: value.clone() for key, value in module.state_dict().items()}


def same(module, before):
    return all(torch.equal(value, before[key]) for key, value in module.state_dict().items())


class TestPrincipalComponents:
    @pytest.fixture
    def features(self):
        rng = torch.Generator().manual_seed(0)
        scales = torch.tensor([5.0, 0.1, 3.0, 1.0, 0.5])
        rotation = torch.linalg.qr(torch.randn(5, 5, generator=rng)).Q
        return torch.randn(200, 5, generator=rng) * scales @ rotation + 7

    def encoder(self, head):
        encoder = ImageEncoder.__new__(ImageEncoder)
        nn.Module.__init__(encoder)
        encoder.config, encoder.backbone, encoder.head = ImageEncoderConfig(), nn.Identity(), head
        return encoder.eval()

    def test_are_those_of_the_singular_value_decomposition(self, features):
        head = nn.Linear(5, 3)
        sen.fit_principal_components(self.encoder(head), features)
        projected = head(features).detach()
        torch.testing.assert_close(projected.mean(dim=0), torch.zeros(3), atol=1e-4, rtol=0)
        u, s, _ = torch.linalg.svd(features - features.mean(dim=0), full_matrices=False)
        torch.testing.assert_close(projected.abs(), (u * s)[:, :3].abs(), atol=1e-3, rtol=1e-3)

    def test_more_dimensions_than_features_are_zero(self, features):
        head = nn.Linear(5, 8)
        sen.fit_principal_components(self.encoder(head), features)
        projected = head(features).detach()
        assert (projected[:, 5:] == 0).all()
        torch.testing.assert_close(
            torch.cdist(projected, projected), torch.cdist(features, features), atol=5e-2, rtol=0
        )

    def test_fewer_images_than_features(self, features):
        few, head = features[:3], nn.Linear(5, 4)
        sen.fit_principal_components(self.encoder(head), few)
        projected = head(few).detach()
        torch.testing.assert_close(torch.cdist(projected, projected), torch.cdist(few, few), atol=5e-2, rtol=0)
        assert (projected[:, 3] == 0).all()

    def test_after_a_norm_they_are_those_of_what_it_gives(self, features):
        norm, linear = nn.BatchNorm1d(5, affine=False), nn.Linear(5, 2)
        encoder = self.encoder(nn.Sequential(norm, linear))
        sen.fit_principal_components(encoder, features)
        scaled = (features - features.mean(dim=0)) / (features.var(dim=0) + norm.eps).sqrt()
        u, s, _ = torch.linalg.svd(scaled, full_matrices=False)
        torch.testing.assert_close(encoder.head(features).detach().abs(), (u * s)[:, :2].abs(), atol=1e-3, rtol=1e-3)


class TestDistillation:
    @pytest.fixture
    def distilled(self, stage):
        return stage(objective="distillation", speech=CnnLstmConfig(width=1, hidden=8), learning_rate=1e-2)

    def test_the_teacher_and_its_space_are_fixed(self, distilled):
        assert distilled.state.classifier is None
        features = draw_views(distilled.reader.features, distilled.train.images, None)
        v = distilled.state.image.project(features)
        head = copy(distilled.state.image.head)
        speech = copy(distilled.state.speech)
        take_step(distilled, 0)
        assert same(distilled.state.image.head, head)
        assert not same(distilled.state.speech, speech)
        assert not any(p.requires_grad for p in distilled.state.image.head.parameters())
        # principal components have mean 0, so that cosines tell images apart
        assert float((v @ v.T).fill_diagonal_(0).mean()) < 0.1

    def test_the_student_meets_the_teacher(self, distilled):
        first = float(take_step(distilled, 0)["distillation"])
        for _ in range(40):
            batch = batch_of(distilled, 0)
            losses = sen.step(distilled.state, batch, distilled.config)
        v = distilled.state.image.project(batch.image_features)
        with torch.no_grad():
            a = distilled.state.speech(batch.mel, batch.lengths)
        torch.testing.assert_close(2 - 2 * (a * v).sum(dim=1).mean(), losses["distillation"], atol=0.1, rtol=0)
        assert losses["distillation"] < 0.6 * first
        assert set(losses) == {"total", "distillation", "batch_recall", "gradient_norm"}

    def test_the_best_is_defined_before_the_first_step(self, distilled):
        assert distilled.best["step"] == 0
        assert same(distilled.state.speech, distilled.best["speech"])
        take_step(distilled, 0)
        assert not same(distilled.state.speech, distilled.best["speech"])


@pytest.mark.parametrize("distinctive", [0.0, 0.5])
def test_option_distinctive(stage, distinctive):
    losses = take_step(stage(distinctive=distinctive), 0)
    matching = losses["matching_rows"] + losses["matching_cols"]
    if distinctive:
        terms = losses["distinctive_image"] + losses["distinctive_speech"]
        torch.testing.assert_close(losses["total"], matching + distinctive * terms)
    else:
        assert not any("distinctive" in key for key in losses)
        torch.testing.assert_close(losses["total"], matching)


def test_option_matching_scale(stage):
    losses = {scale: take_step(stage(matching_scale=scale), 0)["matching_rows"] for scale in (1.0, 10.0)}
    assert losses[1.0] != losses[10.0]


def test_the_learning_rate_falls_by_epochs(stage):
    trained = stage(schedule="step", decay_epochs=1, learning_rate=1.0)
    rates = []
    for index in range(5):
        take_step(trained, index)
        rates.append(trained.state.optimiser.param_groups[0]["lr"])
    np.testing.assert_allclose(rates, [1.0, 1.0, 0.1, 0.1, 0.01])  # 16 images in batches of 6: two steps an epoch


def test_the_backbone_is_not_trained(stage):
    trained = stage(image_views=0)
    before = copy(trained.state.image.backbone)
    take_step(trained, 0)
    assert same(trained.state.image.backbone, before)
    parameters = {id(p) for group in trained.state.optimiser.param_groups for p in group["params"]}
    assert not parameters & {id(p) for p in trained.state.image.backbone.parameters()}
    assert parameters == {
        id(p)
        for network in (trained.state.speech, trained.state.image.head, trained.state.classifier)
        for p in network.parameters()
    }


def test_many_images_are_encoded_in_parts(stage, monkeypatch):
    trained = stage(image_views=0)
    whole = trained._image_features(trained.train)
    monkeypatch.setattr(data, "ENCODED_AT_ONCE", 5)
    torch.testing.assert_close(trained._image_features(trained.train), whole)


def test_a_step_is_in_train_mode_whatever_came_before(stage):
    trained = stage()
    trained.state.speech.eval()
    before = copy(trained.state.speech)
    take_step(trained, 0)
    assert trained.state.speech.training
    assert not torch.equal(trained.state.speech.convs[0].norm.running_mean, before["convs.0.norm.running_mean"])


def test_batch_recall():
    v = torch.eye(3)
    a = F.normalize(torch.tensor([[1.0, 0.1, 0], [0, 0.1, 1.0], [0.1, 0, 1.0]]), dim=1)
    assert sen.batch_recall(v, a, torch.tensor([0, 1, 2])) == pytest.approx(2 / 3)
    assert sen.batch_recall(v, a, torch.tensor([0, 1, 1])) == 1
    assert sen.batch_recall(a, v, torch.tensor([0, 1, 2])) == pytest.approx(1 / 3)


def test_validation_score_is_that_of_spoken_queries(stage, monkeypatch):
    """The queries are utterances, the gallery images; of one class only, so that any order is perfect."""
    trained = stage()
    shapes = []
    original = stages.mean_average_precision
    monkeypatch.setattr(
        stages, "mean_average_precision", lambda s, r: shapes.append((s.shape, r.shape)) or original(s, r)
    )
    scores = trained.evaluate(1)
    assert shapes == [((8, 4), (8, 4))]  # eight utterances of four images, all of one class
    assert scores == {"validation_map": 1.0}


@pytest.mark.parametrize("length_window", [1, 2])
def test_the_recordings_of_a_batch_are_named(store, stage, length_window):
    trained = stage(length_window=length_window)
    batch = batch_of(trained, 3)
    by_path = {str(store.audio_path(u)): u for u in range(len(store))}
    assert len(trained.reader.items(3)) == 6
    for row, path in enumerate(trained.reader.items(3)):
        mel = torch.from_numpy(np.array(store.mel(by_path[path]), dtype=np.float32))
        torch.testing.assert_close(batch.mel[row, : batch.lengths[row]], mel)


def test_scoring_leaves_the_networks_as_they_are(stage):
    """Whatever the head leaves out at random while it learns; and it learns no statistics of pictures to choose by."""
    one = stage(image=replace(tiny_recipe().sen.image, pooling="pyramid", feature_dropout=0.5))
    take_step(one, 0)
    before, random = copy(one.state.image.head), torch.get_rng_state()
    scores = {one.validation_map(one.validation) for _ in range(3)}
    assert len(scores) == 1
    assert same(one.state.image.head, before)
    assert torch.equal(torch.get_rng_state(), random)
    assert one.state.image.head.training
