"""The penalty is the squared norm of a linear function's gradient, which R1 is."""

import pytest
import torch

from s2igan.errors import UserError
from s2igan.training.beyond.noise_penalty import NoisePenalty, noise_penalty, unit_noise


def test_it_is_r1_of_both_heads():
    rng = torch.Generator().manual_seed(0)
    images, noise = torch.randn(2, 20000, 3, 4, 4, generator=rng)
    slopes = torch.randn(2, 3, 4, 4, generator=rng)
    clean, noisy = (tuple((x * slope).sum((1, 2, 3)) for slope in slopes) for x in (images, images + 0.1 * noise))
    norms = slopes.square().sum()
    torch.testing.assert_close(noise_penalty(clean, noisy, 0.1), norms, rtol=0.05, atol=0.0)


def test_a_discriminator_that_noise_does_not_move_has_none():
    logits = torch.randn(2, 5).unbind()
    assert noise_penalty(logits, logits, 0.1) == 0
    assert noise_penalty(logits, (logits[0] + 1, logits[1]), 0.5) == pytest.approx(4)


def test_noise_is_standard_normal_at_every_scale():
    noise = unit_noise((8, 16), 64, torch.Generator().manual_seed(0))
    assert {side: tuple(x.shape) for side, x in noise.items()} == {8: (64, 3, 8, 8), 16: (64, 3, 16, 16)}
    assert all(abs(float(x.std()) - 1) < 0.02 for x in noise.values())


def test_it_is_due_in_one_of_so_many_steps():
    assert [NoisePenalty(0.1, every=3).due(step) for step in range(5)] == [True, False, False, True, False]
    assert not NoisePenalty(every=3).due(0)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [({"every": 0}, "every 0 must be 1 or more"), ({"deviation": 0.0}, "deviation 0 would divide by nothing")],
)
def test_settings_that_divide_by_zero_are_refused(settings, sentence):
    with pytest.raises(UserError, match=sentence):
        NoisePenalty(**settings)
