"""What the small recipes add to stage 2 does what its name says."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from s2igan.errors import UserError
from s2igan.training.rdg_config import RDGConfig
from s2igan.training.rdg_state import make_state, start_condition
from tiny_corpus import tiny_recipe


def _state(config: RDGConfig) -> object:
    return make_state(config, image_embedding=8, encode=None, speech=None, seed=0, device=torch.device("cpu"))


def test_the_condition_begins_as_strong_and_as_certain_as_asked() -> None:
    config = replace(tiny_recipe().rdg, relation=0.0)
    embedding = torch.nn.functional.normalize(torch.randn(512, config.generator.embedding), dim=1)
    plain = _state(config).generator.conditioning(embedding)
    gain, logvar = 6.0, -3.0
    started = _state(replace(config, initial_condition_gain=gain, initial_logvar=logvar)).generator.conditioning(
        embedding
    )
    torch.testing.assert_close(started.mu, gain * plain.mu)
    assert (started.logvar.mean() - plain.logvar.mean() - logvar).abs() < 0.1


def test_the_defaults_leave_the_paper_s_initialisation() -> None:
    config = tiny_recipe().rdg
    generator = _state(replace(config, relation=0.0)).generator
    before = {key: value.clone() for key, value in generator.state_dict().items()}
    start_condition(generator, RDGConfig(loop=config.loop, generator=config.generator))
    for key, value in generator.state_dict().items():
        assert torch.equal(value, before[key])


def test_the_last_steps_cannot_use_what_discriminators_lack() -> None:
    config = replace(tiny_recipe().rdg, contrast=0.0)
    with pytest.raises(UserError, match=r"late_contrast 4\.0 needs a contrast before"):
        replace(config, late_steps=2, late_contrast=4.0)
    assert replace(config, late_contrast=4.0).late_contrast == 4.0  # with no last steps it is not used
