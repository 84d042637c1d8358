"""The condition begins as strong and as certain as asked."""

from __future__ import annotations

import torch

from s2igan.models.generator import Generator
from s2igan.training.beyond.condition_start import ConditionStart, start_condition
from tiny_corpus import tiny_recipe


def _generator() -> Generator:
    torch.manual_seed(0)
    return Generator(tiny_recipe().rdg.generator)


def test_the_condition_begins_as_strong_and_as_certain_as_asked() -> None:
    plain, started = _generator(), _generator()
    started.load_state_dict(plain.state_dict())
    with torch.no_grad():
        for generator in (plain, started):
            generator.conditioning.fc.bias.zero_()
    start_condition(started, ConditionStart(gain=6.0, logvar=-3.0))
    embedding = torch.nn.functional.normalize(torch.randn(512, plain.config.embedding), dim=1)
    before, after = plain.conditioning(embedding), started.conditioning(embedding)
    torch.testing.assert_close(after.mu, 6.0 * before.mu)
    assert (after.logvar.mean() - before.logvar.mean() + 3.0).abs() < 0.2


def test_the_defaults_leave_the_paper_s_initialisation() -> None:
    generator = _generator()
    before = {key: value.clone() for key, value in generator.state_dict().items()}
    start_condition(generator, ConditionStart())
    assert all(torch.equal(value, before[key]) for key, value in generator.state_dict().items())
