"""Embeddings of others pass through with their length alone changed."""

import json
from pathlib import Path

import pytest
import torch

from s2igan.errors import UserError
from s2igan.models.encoders import build_encoder, encoder_from_json, encoder_to_json
from s2igan.models.precomputed import Precomputed, PrecomputedConfig

ROWS = (
    torch.randn(5, 1, 8, generator=torch.Generator().manual_seed(0))
    * torch.tensor([1e-3, 1, 3, 10, 100])[:, None, None]
)
ONE = torch.ones(5, dtype=torch.int64)


def test_unit_length_and_the_same_direction() -> None:
    encoder = build_encoder(PrecomputedConfig(8))
    assert isinstance(encoder, Precomputed)
    assert not list(encoder.parameters())
    assert not encoder.state_dict()
    for mode in (True, False):
        a = encoder.train(mode)(ROWS, ONE)
        torch.testing.assert_close(a, ROWS[:, 0] / ROWS[:, 0].norm(dim=1, keepdim=True))


def test_option_normalize_pooled() -> None:
    """What all have in common is taken away: of the batch in training, of what training saw in use."""
    encoder = Precomputed(PrecomputedConfig(8, normalize_pooled=True))
    assert not list(encoder.parameters())
    rows = torch.randn(64, 1, 8, generator=torch.Generator().manual_seed(1)) + 5
    ones = torch.ones(64, dtype=torch.int64)
    for _ in range(100):
        trained = encoder(rows, ones)
    assert trained.mean(dim=0).norm() < 0.1 < 0.9 < torch.nn.functional.normalize(rows[:, 0], dim=1).mean(dim=0).norm()
    torch.testing.assert_close(encoder.eval()(rows, ones), trained, atol=2e-2, rtol=0)


def test_other_dimensions_are_refused() -> None:
    with pytest.raises(UserError, match="have 8 dimensions where the recipe reads 1024"):
        Precomputed(PrecomputedConfig())(ROWS, ONE)


def test_a_config_comes_back_from_json() -> None:
    written = json.loads(json.dumps(encoder_to_json(PrecomputedConfig(8, True))))
    assert written == {"kind": "precomputed", "embedding": 8, "normalize_pooled": True}
    assert encoder_from_json(written, Path("config.json")) == PrecomputedConfig(8, True)
