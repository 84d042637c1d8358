"""Features of frozen EfficientNet-Lite0 at two depths, for the autoencoder's loss. Not in the paper."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from s2igan.models.image_encoder import ImageEncoder, ImageEncoderConfig

BLOCKS = (1, 2)
"""Blocks whose maps are compared, beside the stem's."""


class PerceptualFeatures(nn.Module):
    """The maps of the stem and of `BLOCKS`; frozen, and without batch statistics. Gradients reach the images.

    Args:
        pretrained: False leaves the weights at random, for measuring time.

    Raises:
        UserError: the weights are not installed.
    """

    def __init__(self, *, pretrained: bool = True) -> None:
        super().__init__()
        encoder = ImageEncoder(ImageEncoderConfig(), pretrained=pretrained)
        self.backbone: Any = encoder.backbone.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> PerceptualFeatures:
        """Stays as it is."""
        return self

    def forward(self, images: Float[Tensor, "batch 3 side side"]) -> list[Float[Tensor, "batch _ _ _"]]:
        x = self.backbone.bn1(self.backbone.conv_stem(images))
        maps = [x]
        for number, block in enumerate(self.backbone.blocks[: max(BLOCKS) + 1]):
            x = block(x)
            if number in BLOCKS:
                maps.append(x)
        return maps
