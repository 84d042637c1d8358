"""Batch norms that leave no trace; those of several processes are in `test_processes.py`."""

import torch
from torch import nn

from s2igan.training import batch_norm


def test_statistics_held():
    network = nn.Sequential(nn.BatchNorm1d(2))
    x = torch.tensor([[1.0, 2.0], [3.0, 6.0]])
    with batch_norm.statistics_held(network):
        held = network(x)
    assert network[0].running_mean.tolist() == [0, 0]
    assert network[0].num_batches_tracked == 0
    torch.testing.assert_close(held, network(x))
    torch.testing.assert_close(network[0].running_mean, torch.tensor([0.2, 0.4]))
