"""RS, the relation supervisor of stage 2: how does another image relate to the ground truth? (method.md section 4)"""

from enum import IntEnum

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Relation(IntEnum):
    """Classes of the relation supervisor; the values are the targets of its cross-entropy."""

    IDENTICAL = 0
    """The ground truth twice."""
    POSITIVE = 1
    """The ground truth and another real image of its class."""
    NEGATIVE = 2
    """The ground truth and a real image of another class."""


class RelationSupervisor(nn.Module):
    """Linear, batch norm, ReLU, linear on a pair of image features, the ground truth's first.

    Args:
        features: dimensions of one image's features.
        hidden: units of the hidden layer.
        n_logits: 3, one for each `Relation`; the authors' implementation has a fourth that is never a target.
    """

    def __init__(self, features: int = 1024, hidden: int = 128, n_logits: int = 3) -> None:
        super().__init__()
        self.hidden = nn.Linear(2 * features, hidden)
        self.norm = nn.BatchNorm1d(hidden)
        self.out = nn.Linear(hidden, n_logits)

    def forward(
        self, ground_truth: Float[Tensor, "batch features"], other: Float[Tensor, "batch features"]
    ) -> Float[Tensor, "batch relations"]:
        """Logits of how ``other`` relates to ``ground_truth``."""
        return self.out(torch.relu(self.norm(self.hidden(torch.cat((ground_truth, other), dim=1)))))
