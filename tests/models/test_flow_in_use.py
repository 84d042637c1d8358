"""Latent flow in use is its parts in their order, with the settings of its configuration."""

from dataclasses import replace

import pytest
import torch

from s2igan.models.autoencoder import AutoencoderConfig
from s2igan.models.flow import FlowNetworkConfig, sample
from s2igan.models.latent_flow import LatentFlow, LatentFlowConfig
from s2igan.models.matchmap import MatchmapConfig
from s2igan.models.speech_encoder import SpeechEncoder, SpeechEncoderConfig

CONFIG = LatentFlowConfig(
    AutoencoderConfig(64, channels=4, widths=(8, 8, 8, 8)),
    MatchmapConfig(window=9, hop=3, words=5, hidden=8),
    FlowNetworkConfig(width=16, depth=1, heads=2, outer_width=8, outer_depth=1, outer_heads=2),
    frames=8,
    steps=3,
    guidance=1.5,
    shift=4.0,
)


@pytest.fixture
def encoder():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        sizes = {"conv_channels": (6, 8), "hidden": 4, "layers": 1, "attention_hidden": 4}
        return SpeechEncoder(SpeechEncoderConfig(**sizes)).eval()


@pytest.fixture
def model():
    """Also the layers that begin at zero have weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        flow = LatentFlow(CONFIG).eval()
        for parameter in flow.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    flow.autoencoder.mean += torch.arange(4.0)[:, None, None]
    return flow


@torch.no_grad()
def test_words_are_those_of_local_frames_inside_their_utterance(model, encoder):
    mel, lengths = torch.randn(2, 300, 40, generator=torch.Generator().manual_seed(0)), torch.tensor([120, 300])
    words, inside = model.listen(encoder, mel, lengths)
    frames, counts = encoder.local_frames(mel, lengths, window=9, hop=3)
    torch.testing.assert_close(words, model.words(frames))
    assert inside.sum(dim=1).tolist() == counts.tolist()
    assert inside[0, : counts[0]].all()


@torch.no_grad()
def test_pictures_are_decoded_from_what_the_sampler_ends_at(model):
    stream = torch.Generator().manual_seed(0)
    words, inside = torch.randn(2, 6, 5, generator=stream), torch.arange(6) < torch.tensor([[6], [3]])
    noise = torch.randn(2, CONFIG.noise, generator=stream)
    start = noise.view(2, 4, 8, 8)
    latents = sample(model.network, start, words, inside, steps=3, guidance=1.5, shift=4.0)
    torch.testing.assert_close(model(words, inside, noise), model.autoencoder.decode(latents))
    for other in ({"steps": 2}, {"guidance": 4.0}, {"shift": 1.5}):
        model.config = replace(CONFIG, **other)
        assert (model(words, inside, noise) - model.autoencoder.decode(latents)).abs().max() > 1e-4, other


@torch.no_grad()
def test_a_description_that_tells_nothing_is_that_without_a_condition(model):
    """With no frame inside, guidance has nothing to go beyond."""
    noise = torch.randn(1, CONFIG.noise, generator=torch.Generator().manual_seed(0))
    words, outside = torch.randn(1, 6, 5), torch.zeros(1, 6, dtype=torch.bool)
    guided = model(words, outside, noise)
    model.config = replace(CONFIG, guidance=1.0)
    torch.testing.assert_close(guided, model(words, outside, noise), atol=1e-4, rtol=1e-4)
    assert (guided - model(words, ~outside, noise)).abs().max() > 1e-3


def test_sizes():
    assert CONFIG.noise == 4 * 8 * 8
    assert CONFIG.resolutions == (64,)
    assert replace(CONFIG, autoencoder=AutoencoderConfig(256)).resolutions == (256,)
