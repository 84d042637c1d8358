"""Matchmaps: the sum over frames of the best region, frames that are local, padding that counts nothing."""

import numpy as np
import pytest
import torch

from s2igan.models.matchmap import Matchmap, MatchmapConfig
from s2igan.models.speech_encoder import SpeechEncoder, SpeechEncoderConfig
from s2igan.training.matchmap import info_nce

CONFIG = MatchmapConfig(words=4, hidden=8, region_width=8)


@pytest.fixture
def matchmap():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Matchmap(frames=6, latent_channels=3, config=CONFIG).eval()


def test_similarity_is_the_sum_over_frames_of_the_smooth_best_region(matchmap):
    stream = torch.Generator().manual_seed(1)
    words, regions = torch.randn(3, 5, 4, generator=stream), torch.randn(2, 7, 4, generator=stream)
    regions = torch.nn.functional.normalize(regions, dim=2)
    lengths = [5, 1, 3]
    inside = torch.arange(5) < torch.tensor(lengths)[:, None]
    expected = np.zeros((3, 2))
    for i, j in np.ndindex(3, 2):
        for frame in words[i, : lengths[i]].numpy():
            length = np.linalg.norm(frame)
            cosines = regions[j].numpy() @ frame / length
            expected[i, j] += length * np.log(np.exp(CONFIG.sharpness * cosines).sum()) / CONFIG.sharpness
    found = matchmap.similarity(words, inside, regions).detach().numpy()
    np.testing.assert_allclose(found, expected * matchmap.log_scale.exp().item(), rtol=1e-5)


def test_regions_are_directions_of_places(matchmap):
    latents = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    regions = matchmap.regions(latents)
    assert regions.shape == (2, 4 * 4 + 2, 4)
    torch.testing.assert_close(regions.norm(dim=2), torch.ones(2, 18))
    moved = latents.clone()
    moved[:, :, 7, 7] += 3
    change = (matchmap.regions(moved) - regions).abs().amax((0, 2))
    assert change[15] > 3 * change[[0, 1, 4, 5]].max()  # group norms see the whole picture


def test_a_word_has_a_direction_and_a_length(matchmap):
    frames = torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(0))
    words = matchmap.words(frames)
    assert words.shape == (2, 5, 4)
    assert (words.norm(dim=2) > 0).all()
    torch.testing.assert_close(matchmap.words(3 * frames + 1), words, atol=1e-3, rtol=1e-3)  # frames are normalised


def test_the_last_output_of_the_word_encoder_is_the_length(matchmap):
    encoder = matchmap.words
    frames = torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(0))
    normed = (frames - frames.mean(2, keepdim=True)) / (frames.var(2, correction=0, keepdim=True) + 1e-5).sqrt()
    out = encoder.layers[1:](normed)
    lengths = torch.nn.functional.softplus(out[..., 4])
    torch.testing.assert_close(encoder(frames).norm(dim=2), lengths)
    directions = torch.nn.functional.normalize(out[..., :4], dim=2)
    torch.testing.assert_close(encoder(frames), directions * lengths[..., None])


def test_every_parameter_has_an_effect_and_no_other_is_there(matchmap):
    """The layer norm has no weights: a frame's scale says nothing that the next layer could not learn."""
    stream = torch.Generator().manual_seed(0)
    frames, latents = torch.randn(3, 5, 6, generator=stream), torch.randn(3, 3, 8, 8, generator=stream)
    inside = torch.arange(5) < torch.tensor([5, 2, 4])[:, None]
    info_nce(matchmap.similarity(matchmap.words(frames), inside, matchmap.regions(latents)), None).backward()
    assert [name for name, p in matchmap.named_parameters() if p.grad is None or not p.grad.any()] == []
    assert {name for name, _ in matchmap.words.named_parameters()} == {
        f"layers.{layer}.{part}" for layer in (1, 3) for part in ("weight", "bias")
    }


def test_info_nce_is_what_numpy_says():
    scores = torch.randn(4, 4, generator=torch.Generator().manual_seed(0))
    classes = torch.tensor([0, 1, 0, 2])
    s = scores.double().numpy().copy()
    s[0, 2] = s[2, 0] = -np.inf
    rows = -(np.diag(s) - np.log(np.exp(s).sum(axis=1))).mean()
    columns = -(np.diag(s) - np.log(np.exp(s).sum(axis=0))).mean()
    assert float(info_nce(scores, classes)) == pytest.approx(rows + columns, rel=1e-5)
    assert float(info_nce(scores, None)) > float(info_nce(scores, classes))


@pytest.fixture
def encoder():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        sizes = {"conv_channels": (6, 8), "hidden": 4, "layers": 2, "attention_hidden": 4, "conv_stride": 3}
        return SpeechEncoder(SpeechEncoderConfig(**sizes)).eval()


@torch.no_grad()
def test_local_frames_are_the_middles_of_windows(encoder):
    mel = torch.randn(1, 400, 40, generator=torch.Generator().manual_seed(0))
    frames, lengths = encoder.local_frames(mel, torch.tensor([400]), 12, 4)
    x = encoder.convolve(mel).transpose(1, 2)
    assert lengths.tolist() == [-(-x.shape[1] // 2)]
    for start in (8, 20):  # windows that lie inside
        middle = encoder.rnn(x[:, start - 4 : start + 8])[0][:, 4:8]
        torch.testing.assert_close(frames[:, start // 2 : start // 2 + 2], middle.unflatten(1, (2, 2)).mean(2))


@torch.no_grad()
def test_local_frames_know_their_surroundings_alone(encoder):
    mel = torch.randn(1, 600, 40, generator=torch.Generator().manual_seed(0))
    other = mel.clone()
    other[:, 400:] = 0
    (a, _), (b, _) = (encoder.local_frames(x, torch.tensor([600]), 12, 4) for x in (mel, other))
    near = 400 // 9 // 2
    torch.testing.assert_close(a[:, : near - 6], b[:, : near - 6])
    assert (a[:, near:] - b[:, near:]).abs().max() > 1e-3


@torch.no_grad()
def test_local_frames_of_a_batch_are_those_of_each_alone(encoder):
    stream = torch.Generator().manual_seed(0)
    lengths = torch.tensor([400, 131, 21])
    mel = torch.randn(3, 400, 40, generator=stream)
    frames, counts = encoder.local_frames(mel, lengths, 12, 4)
    for row, n in enumerate(lengths.tolist()):
        alone, (count,) = encoder.local_frames(mel[[row], :n], lengths[[row]], 12, 4)
        assert int(counts[row]) == int(count) == alone.shape[1]
        torch.testing.assert_close(frames[row, :count], alone[0], atol=1e-5, rtol=1e-5)
        assert not frames[row, count:].any()


@torch.no_grad()
def test_the_last_step_of_an_odd_number_stands_alone(encoder):
    """131 mel frames are 13 steps of the recurrent network: the seventh frame is the thirteenth step."""
    mel = torch.randn(1, 131, 40, generator=torch.Generator().manual_seed(0))
    frames, lengths = encoder.local_frames(mel, torch.tensor([131]), 12, 4)
    x = encoder.convolve(mel).transpose(1, 2)
    assert (x.shape[1], lengths.tolist(), frames.shape[1]) == (13, [7], 7)
    window = torch.cat([x[:, 8:], torch.zeros(1, 7, x.shape[2])], dim=1)  # its middle begins with the thirteenth
    torch.testing.assert_close(frames[:, 6], encoder.rnn(window)[0][:, 4])


def test_similarity_is_float32_within_bf16(matchmap):
    stream = torch.Generator().manual_seed(1)
    frames, inside = torch.randn(3, 5, 6, generator=stream), torch.ones(3, 5, dtype=torch.bool)
    regions = matchmap.regions(torch.randn(2, 3, 8, 8, generator=stream))
    expected = matchmap.similarity(matchmap.words(frames), inside, regions)
    with torch.autocast("cpu", torch.bfloat16):
        actual = matchmap.similarity(matchmap.words(frames), inside, regions)
    assert torch.equal(actual, expected)
