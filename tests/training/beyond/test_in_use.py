"""The averaged generator in use."""

import torch
from torch import nn

from s2igan.models.generator import Generator, GeneratorConfig
from s2igan.training.beyond.in_use import CALIBRATION_BATCHES, calibrate_batch_norm


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
