"""One step of each stage of latent flow: its loss term by term, its moving average, its rows on several processes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_latent_flow import QUIET, stages

from s2igan.data.dataset import SpeechImageData
from s2igan.data.store import Store
from s2igan.errors import UserError
from s2igan.models.autoencoder import Autoencoder
from s2igan.models.blocks import seeded
from s2igan.models.speech_encoder import SpeechEncoder
from s2igan.training import autoencoder, flow
from s2igan.training.autoencoder import ReconstructionLoss
from s2igan.training.data import recordings
from s2igan.training.latent_flow_stages import AutoencoderStage
from s2igan.training.latents import latents_of, local_frames
from s2igan.training.matchmap import info_nce
from tiny_corpus import make_store, take_step, tiny_latent_flow, tiny_recipe


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    return make_store(tmp_path_factory.mktemp("tiny-128"), size=128)


def norm(loss, network):
    """Of the gradient of a loss in a network's weights."""
    gradients = torch.autograd.grad(loss, list(network.parameters()))
    return float(torch.stack([gradient.square().sum() for gradient in gradients]).sum().sqrt())


class TestReconstruction:
    """Of the autoencoder and of the decoder."""

    @pytest.fixture
    def first(self, store, tmp_path):
        stage, *_ = stages(store, tmp_path)
        stage.state.discriminator.eval()  # spectral norm's power iteration stands still
        return stage

    @pytest.fixture
    def second(self, store, tmp_path):
        _, stage, *_ = stages(store, tmp_path)
        stage.state.discriminator.eval()
        return stage

    @pytest.mark.parametrize("progress", [0.1, 0.37, 0.6])
    @pytest.mark.parametrize("name", ["first", "second"])
    def test_the_loss_term_by_term(self, name, progress, request, monkeypatch):
        """Against the networks before the step; what a term weighs, when it joins, and its sign."""
        stage = request.getfixturevalue(name)
        state, network = stage.state, stage.state.autoencoder
        weights = ReconstructionLoss(perceptual=0.3, discriminator=0.7, discriminator_from=0.4)
        config = replace(stage.config, noise=0.5, loss=weights)
        batch = replace(stage.batch(stage.reader.read(0)), progress=progress)
        latents = network.encode(batch.images)
        expected = torch.zeros(())
        if name == "first":
            config = replace(config, latent=0.02)
            expected = 0.02 * latents.square().mean()
        real, fake = batch.images, network.decode(latents + 0.5 * batch.noise)
        expected = expected + (fake - real).abs().mean()
        for a, b in zip(state.features(fake), state.features(real), strict=True):
            expected = expected + 0.3 * (a - b).square().mean() / (b.var() + 1e-3)
        critic = state.discriminator
        judged = (1 - critic(real)).relu().mean() + (1 + critic(fake.detach())).relu().mean()
        if progress >= 0.4:
            expected = expected - 0.7 * critic(fake).mean()
        before = norm(judged, critic)

        given, original = [], autoencoder.backward
        monkeypatch.setattr(autoencoder, "backward", lambda loss: given.append(loss.detach()) or original(loss))
        losses = stage.update(0)(state, batch, config)
        torch.testing.assert_close(given[0], expected.detach(), atol=1e-4, rtol=1e-4)
        assert len(given) == 1 + (progress > 0.35)  # the discriminator begins a little before it counts
        if len(given) > 1:  # nothing but the hinge loss reaches it
            torch.testing.assert_close(given[1], judged.detach(), atol=1e-5, rtol=1e-4)
            assert float(losses["discriminator/gradient_norm"]) == pytest.approx(before, rel=0.02)

    def test_perceptual_distance_is_in_units_of_the_real_map_s_variance(self):
        stream = torch.Generator().manual_seed(0)
        real = [torch.randn(2, 3, 8, 8, generator=stream), 5 * torch.randn(2, 4, 4, 4, generator=stream)]
        fake = [x + 0.5 for x in real]
        expected = sum(0.25 / (x.var() + 1e-3) for x in real)
        torch.testing.assert_close(autoencoder.perceptual_distance(fake, real), expected)
        wider = [3 * x for x in real]
        assert autoencoder.perceptual_distance(wider, real) > 5 * autoencoder.perceptual_distance(real, wider)

    def test_three_maps_are_compared_and_gradients_reach_the_images(self, first):
        images = torch.rand(1, 3, 64, 64, requires_grad=True)
        maps = first.state.features(images)
        assert [x.shape[-1] for x in maps] == [32, 16, 8]
        maps[-1].square().sum().backward()
        assert images.grad is not None
        assert images.grad.any()

    def test_hinge_loss(self):
        real, fake = torch.tensor([2.0, 0.5, -1.0]), torch.tensor([-2.0, 0.0, 1.0])
        assert float(autoencoder.hinge_loss(real, fake)) == pytest.approx((0 + 0.5 + 2) / 3 + (0 + 1 + 2) / 3)

    def test_the_decoder_s_stage_leaves_the_latents(self, second):
        images = second.train.crops(np.arange(4), None)
        before = second.averaged()
        for step in range(3):
            take_step(second, step)
        second.state.ema.decay = 0.5
        take_step(second, 3)
        after = second.averaged()
        assert torch.equal(before.encode(images), after.encode(images))
        assert all(
            torch.equal(a, b) == name.startswith("encoder")
            for (name, a), (_, b) in zip(before.named_parameters(), after.named_parameters(), strict=True)
            if a.dim() == 4
        )

    def test_a_window_is_whole_places(self, first):
        with pytest.raises(UserError, match="window 40 must be a multiple of 16"):
            AutoencoderStage(
                replace(first.config, window=40), first.train, None, samples=first.samples, seed=0, device=first.device
            )

    def test_windows_are_parts_of_pictures(self, first):
        """64 of 128 px, of 4 by 4 places; anywhere on the stored picture, and each somewhere else."""
        read = first.reader.read(0)
        assert read["images"].shape == (4, 3, 64, 64)
        assert read["noise"].shape == (4, 4, 4, 4)
        stored = first.train.store.images
        positions = first.train.positions(0, 4, 0)
        corners = set()
        for window, image in zip(read["images"], first.train.images[positions], strict=True):
            whole = torch.from_numpy(np.array(stored.whole(image))).permute(2, 0, 1).float() / 127.5 - 1
            places = whole.unfold(1, 64, 1).unfold(2, 64, 1)
            for flipped in (window, window.flip(2)):
                found = ((places - flipped[:, None, None]).abs().amax((0, 3, 4)) < 1e-4).nonzero()
                corners |= {tuple(place.tolist()) for place in found}
        assert len(corners) >= 4


@pytest.mark.parametrize("name", ["autoencoder", "decoder", "flow"])
def test_the_moving_average_is_what_is_used(name, store, tmp_path):
    stage = {stage.name: stage for stage in stages(store, tmp_path)}[name]
    live = stage.state.network if name == "flow" else stage.state.autoencoder
    assert stage.state.ema.decay == stage.config.ema_decay
    stage.state.ema.decay = decay = 0.5  # else a few steps move the average too little to be seen
    average = {n: p.detach().clone() for n, p in live.named_parameters()}
    for step in range(3):
        take_step(stage, step)
        average = {n: decay * average[n] + (1 - decay) * p.detach() for n, p in live.named_parameters()}
    used = stage.averaged().network if name == "flow" else stage.averaged()
    for n, parameter in used.named_parameters():
        torch.testing.assert_close(parameter, average[n], msg=n)


def test_the_model_for_use_holds_the_stages_before(store, tmp_path):
    *_, stage = stages(store, tmp_path)
    model = stage.averaged()
    for part, given in ((model.words, stage.words), (model.autoencoder, stage.autoencoder)):
        for n, value in given.state_dict().items():
            assert torch.equal(part.state_dict()[n], value), n
    config = stage.config
    assert (model.config.steps, model.config.guidance, model.config.shift) == (2, config.guidance, config.shift)
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_the_autoencoder_for_use_gives_normalised_latents(store, tmp_path):
    first, *_ = stages(store, tmp_path)
    network = first.normalised()
    latents = network.encode(first.train.crops(np.arange(len(first.train)), None))
    torch.testing.assert_close(latents.mean((0, 2, 3)), torch.zeros(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(latents.std((0, 2, 3)), torch.ones(4), atol=1e-3, rtol=0)


def test_learning_rates_rise_and_fall(store, tmp_path):
    for stage in stages(store, tmp_path):
        stage.config = replace(stage.config, warmup_steps=2, trainer=replace(stage.config.trainer, steps=100))
        rates = []
        for step in (0, 1, 50, 99):
            stage.update(step)
            rates.append(stage.state.optimiser.param_groups[0]["lr"])
        top = stage.config.learning_rate
        assert rates[0] == pytest.approx(top / 2, rel=0.01)
        assert rates[0] < rates[1] <= top
        assert rates[2] == pytest.approx(top if stage.name == "flow" else top / 2, rel=0.02)
        assert rates[3] <= 0.05 * top


def test_matching_is_by_words_inside_and_classes(store, tmp_path):
    _, _, stage, _ = stages(store, tmp_path)
    batch, network = stage.batch(stage.reader.read(0)), stage.state.matchmap
    batch.class_ids = torch.tensor([0, 1, 0, 2])
    batch.inside[1, 1:] = False
    scores = network.similarity(network.words(batch.frames), batch.inside, network.regions(batch.latents))
    expected = info_nce(scores, batch.class_ids).detach()
    found = scores.argmax(dim=1) == torch.arange(4)
    losses = stage.update(0)(stage.state, batch, stage.config)
    torch.testing.assert_close(losses["matching"], expected)
    assert float(losses["accuracy"]) == pytest.approx(float(found.float().mean()))


def test_inner_tokens_learn_what_the_regions_will_be(store, tmp_path, monkeypatch):
    *_, stage = stages(store, tmp_path)
    state, batch = stage.state, stage.batch(stage.reader.read(0))
    inner = []
    state.network.blocks[stage.config.alignment_block].register_forward_hook(lambda *args: inner.append(args[-1]))
    given, original = [], flow.backward
    monkeypatch.setattr(flow, "backward", lambda loss: given.append(loss.detach()) or original(loss))
    before = [parameter.clone() for parameter in state.regions.parameters()]
    weights = [parameter.detach().clone() for parameter in state.alignment.parameters()]
    losses = flow.step(state, batch, replace(stage.config, alignment=0.3))
    with torch.no_grad():
        for parameter, value in zip(state.alignment.parameters(), weights, strict=True):
            parameter.copy_(value)
        regions = state.regions(batch.latents)[:, :16]  # without the two of the whole picture
        cosine = (torch.nn.functional.normalize(state.alignment(inner[0]), dim=-1) * regions).sum(-1).mean()
    torch.testing.assert_close(losses["alignment"], cosine, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(given[0], losses["velocity"] - 0.3 * cosine, atol=1e-5, rtol=1e-4)
    assert all(torch.equal(a, b) for a, b in zip(before, state.regions.parameters(), strict=True))
    assert "alignment" not in flow.step(state, batch, replace(stage.config, alignment=0.0))


def test_regions_are_numbered_as_tokens_are(store, tmp_path):
    *_, stage = stages(store, tmp_path)
    x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0), requires_grad=True)
    stage.state.regions(x)[0, 6].sum().backward()  # row 1, column 2 of 4
    weight = x.grad.abs().sum((0, 1))
    places = torch.arange(8.0)
    assert float((weight.sum(dim=1) * places).sum() / weight.sum()) == pytest.approx(2.5, abs=0.9)
    assert float((weight.sum(dim=0) * places).sum() / weight.sum()) == pytest.approx(4.5, abs=0.9)


def test_a_process_reads_its_rows_of_the_batch(store, tmp_path):
    """Half of the rows are as they are among all; and what is told of a failed step names its recordings."""
    for stage in stages(store, tmp_path):
        whole = stage.reader.read(2)
        stage.reader.rows = slice(2, 4)
        half = stage.reader.read(2)
        assert half.keys() == whole.keys()
        for key, value in half.items():
            rows = whole[key][2:4]
            padded = key in ("frames", "words", "inside")
            assert torch.equal(value, rows[:, : value.shape[1]] if padded else rows), (stage.name, key)
        named = stage.reader.items(2)
        assert len(named) == stage.config.batch_size
        if stage.name in ("autoencoder", "decoder"):
            positions = stage.train.positions(2, 4, 0)
            assert named == [str(store.image_path(int(image))) for image in stage.train.images[positions]]
        else:
            assert named == recordings(stage.train, stage.reader._pairs(2)[1])


def test_views_of_a_picture_are_all_drawn(store, tmp_path):
    _, _, second, third = stages(store, tmp_path)
    for reader in (second.reader, third.reader):
        reader.latents = np.broadcast_to(np.arange(2.0)[None, :, None, None, None], reader.latents.shape)
        views = torch.cat([reader.read(step)["latents"][:, 0, 0, 0] for step in range(20)])
        assert 0.3 < float(views.mean()) < 0.7


def test_latents_are_cached_for_an_autoencoder_alone(store, tmp_path):
    """And views of a picture are crops of their own."""
    data, found = SpeechImageData(store, "train", 128), []
    for seed in (0, 1):
        with seeded(seed):
            network = Autoencoder(tiny_latent_flow(1, 128).autoencoder.network).eval()
        found.append(np.array(latents_of(data, network, views=8, reach=0.0, seed=0, cache=tmp_path, console=QUIET)))
    assert np.abs(found[1] - found[0]).max() > 0.01
    views = found[0].reshape(len(data), 8, -1)
    flips = (np.abs(views - views[:, :1]).max(axis=2) > 1e-3).sum(axis=0)  # of pictures, against the first view
    assert not flips[0]
    assert 0 < flips[1:].mean() < len(data)


def test_frames_are_cached_for_an_encoder_alone(store, tmp_path):
    """Another encoder's frames, and another window's, are other arrays."""
    utterances, network = store.split_indices("train"), tiny_latent_flow().matchmap.network
    found = []
    for seed, window in ((0, 12), (1, 12), (0, 8)):
        with seeded(seed):
            speech = SpeechEncoder(tiny_recipe().sen.speech).eval()
        config = replace(network, window=window)
        found.append(np.array(local_frames(store, speech, config, utterances, cache=tmp_path, console=QUIET).rows))
    assert len(list(tmp_path.glob("frames-*.npy"))) == 3
    assert np.abs(found[1] - found[0]).max() > 0.01
    assert np.abs(found[2] - found[0]).max() > 0.001
