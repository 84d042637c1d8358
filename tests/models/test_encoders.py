"""The encoders of the baselines: unit length, independence of the batch, sizes, and their way through JSON."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from s2igan.data.dataset import pad_mels
from s2igan.errors import UserError
from s2igan.models import text_encoder
from s2igan.models.encoders import KINDS, build_encoder, encoder_from_json, encoder_to_json
from s2igan.models.li2020 import STRIDES as LI_STRIDES
from s2igan.models.li2020 import CnnLstmConfig, CnnLstmEncoder
from s2igan.models.speech_encoder import SpeechEncoderConfig
from s2igan.models.text_encoder import MIN_CHARACTERS, SPAN, TextEncoder, TextEncoderConfig
from s2igan.text import ALPHABET, one_hot

CONFIGS = {
    "sed": SpeechEncoderConfig(conv_channels=(6, 8), hidden=8, attention_hidden=4),
    "li2020": CnnLstmConfig(width=2, hidden=8),
    "text": TextEncoderConfig(conv_channels=(8, 8, 8), hidden=8, embedding=16),
}
TEXTS = [
    "a small bird",
    "a small bird with a red crown and blue wings, sitting in a green tree, and a very long tail of yellow feathers",
    "this one is of middle length: long enough that two frames are left of it, not three",
]


@pytest.fixture(params=CONFIGS)
def encoder(request):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build_encoder(CONFIGS[request.param])
        norms = [part for part in network.modules() if isinstance(part, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d)]
        for norm in norms:  # statistics that fit, and biases that show when padding is not left out
            norm.momentum = None
            norm.bias.data.normal_()
        network(*pad_mels(inputs(network)))
    return network.eval()


def inputs(encoder):
    if encoder.reads == "text":
        return [one_hot(text) for text in TEXTS]
    rng = np.random.default_rng(0)
    return [rng.standard_normal((n, 40)).astype(np.float32) for n in (40, 111, 76)]


def test_embeddings_have_unit_length_and_the_promised_dimensions(encoder):
    a = encoder(*pad_mels(inputs(encoder)))
    assert a.shape == (3, encoder.config.embedding) == (3, 16)
    torch.testing.assert_close(a.norm(dim=1), torch.ones(3))
    assert not torch.allclose(a[0], a[1], atol=1e-3)


def test_an_embedding_does_not_depend_on_the_batch(encoder):
    rows = inputs(encoder)
    together = encoder(*pad_mels(rows))
    for row, embedding in zip(rows, together, strict=True):
        torch.testing.assert_close(encoder(*pad_mels([row]))[0], embedding, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("config", CONFIGS.values())
def test_option_normalize_pooled(config):
    """What all have in common is taken away in training, by the running mean in use."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = build_encoder(replace(config, normalize_pooled=True))
    for part in encoder.modules():
        if isinstance(part, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            part.momentum = None  # running statistics are those of the one pass
    rows = pad_mels(inputs(encoder))
    cosines = {}
    for mode in (True, False):
        a = encoder.train(mode)(*rows)
        cosines[mode] = (a @ a.T)[~torch.eye(3, dtype=torch.bool)]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        plain = build_encoder(config).train()(*rows)
    assert cosines[True].mean() < -0.3 < 0 < (plain @ plain.T)[~torch.eye(3, dtype=torch.bool)].mean()
    assert cosines[False].mean() < 0


def test_order_in_time_matters(encoder):
    row = inputs(encoder)[1]
    there, back = encoder(*pad_mels([row, row[::-1].copy()]))
    assert not torch.allclose(there, back, atol=1e-3)


def test_the_last_moment_matters(encoder):
    row = inputs(encoder)[2]
    other = row.copy()
    other[-14:] = np.roll(other[-14:], 5, axis=1)
    a, b = encoder(*pad_mels([row, other]))
    assert not torch.allclose(a, b, atol=1e-4)


def test_gradients_reach_every_parameter(encoder):
    encoder.train()
    rng = torch.Generator().manual_seed(0)
    (encoder(*pad_mels(inputs(encoder))) * torch.randn(3, 16, generator=rng)).sum().backward()
    silent = [name for name, p in encoder.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert silent == []


def test_a_config_comes_back_from_json():
    for kind, config in CONFIGS.items():
        written = json.loads(json.dumps(encoder_to_json(config)))
        assert written["kind"] == kind
        assert encoder_from_json(written, Path("config.json")) == config
        assert isinstance(build_encoder(config), KINDS[kind][1])
    without_kind = {"conv_channels": [6, 8], "hidden": 8, "attention_hidden": 4}
    assert encoder_from_json(without_kind, Path("config.json")) == CONFIGS["sed"]


@pytest.mark.parametrize("values", [None, {"kind": "ear"}, {"kind": "text", "n_mels": 40}])
def test_what_describes_no_encoder_is_refused(values):
    with pytest.raises(UserError, match=r"config\.json"):
        encoder_from_json(values, Path("config.json"))


@pytest.mark.parametrize("n", [1, 65, 66, 67, 84, 85, 201])
def test_the_last_character_of_a_text_counts(n, monkeypatch):
    """Strided pooling would leave it out of most texts."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        encoder = TextEncoder(CONFIGS["text"]).eval()
    frames = []
    mean = text_encoder.mean_over_utterances
    monkeypatch.setattr(text_encoder, "mean_over_utterances", lambda *args: frames.append(int(args[2])) or mean(*args))
    row = torch.zeros(1, n, len(ALPHABET))
    without = encoder(row, torch.tensor([n]))
    row[0, -1] = 50.0
    assert not torch.allclose(encoder(row, torch.tensor([n])), without, atol=1e-4)
    assert frames[0] == 1 + max(0, math.ceil((n - MIN_CHARACTERS) / SPAN))


def test_the_baseline_of_li_is_as_the_specification_says():
    network = CnnLstmEncoder(CnnLstmConfig())
    assert len(network.convs) == len(LI_STRIDES) == 8
    assert network.rnn.bidirectional
    assert network.config.embedding == 1024
    assert TextEncoder(TextEncoderConfig()).config.embedding == 1024
