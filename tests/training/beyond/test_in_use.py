"""The averaged generator in use."""

import pytest
import torch
from torch import nn

from s2igan.errors import UserError
from s2igan.models.generator import Generator, GeneratorConfig
from s2igan.training.beyond.in_use import CALIBRATION_BATCHES, InUse, calibrate_batch_norm, draw_with_less_noise


def test_calibrated_statistics_are_plain_averages_over_batches_of_training_descriptions():
    torch.manual_seed(0)
    generator = Generator(GeneratorConfig(embedding=6, condition=4, z=5, width=8, resolutions=(8, 16)))
    norm = generator.initial.norm
    seen = []
    norm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].clone()))
    norm.running_mean.fill_(50.0)  # of the live weights: nothing of it may stay
    embeddings = nn.functional.normalize(torch.randn(20, 6), dim=1)

    calibrate_batch_norm(generator, embeddings, batch_size=7, seed=3)

    assert [len(rows) for rows in seen] == [7] * CALIBRATION_BATCHES
    means, variances = (torch.stack([getattr(rows, name)(dim=0) for rows in seen]) for name in ("mean", "var"))
    torch.testing.assert_close(norm.running_mean, means.mean(dim=0))
    torch.testing.assert_close(norm.running_var, variances.mean(dim=0))
    assert not generator.training
    assert norm.momentum == 0.1


def test_less_noise_is_what_less_noise_drew():
    torch.manual_seed(0)
    generator = Generator(GeneratorConfig(embedding=6, condition=4, z=5, width=8, resolutions=(8, 16))).eval()
    embedding, z, eps = torch.randn(3, 6), torch.randn(3, 5), torch.randn(3, 4)
    expected = generator(embedding, 0.3 * z, eps)
    draw_with_less_noise(generator, 0.3)
    drawn = generator(embedding, z, eps)
    torch.testing.assert_close(drawn.images, expected.images)
    assert torch.equal(drawn.c, expected.c)


@pytest.mark.parametrize("deviation", [0.0, 1.5])
def test_a_deviation_that_is_none_or_more_than_in_training_is_refused(deviation):
    with pytest.raises(UserError, match=f"z_deviation {deviation} must be above 0"):
        InUse(z_deviation=deviation)
