"""How fast and how exact the features of EfficientNet-Lite2 are in float32 and bf16; prints one JSON object.

    OMP_NUM_THREADS=1 python benchmarks/extraction.py DATA [--pictures 48] [--repeats 5]

DATA is a prepared set, whose development pictures are seen. Milliseconds a picture are of processor time in batches as
evaluations have them, the best of the repeats, which are taken in turns; `speed_up` is over float32 in contiguous
layout. `off` is the length of the difference from float32's features over the length of these: its median and its
largest value over pictures. In "bf16 in 1x1" the 1x1 convolutions alone are bf16, in "bf16 in the first half" the first
half of the blocks; "folded" has the batch norms within the convolutions.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from s2igan.data.store import Store
from s2igan.evaluation.extractors import BATCH, centre_crops
from s2igan.evaluation.spaces import SIDE, Lite


class InBf16(nn.Module):
    """A convolution that computes in bf16 and gives float32."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.convolution = convolution.to(torch.bfloat16)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.convolution(x.to(torch.bfloat16))
        return found.float()


def replaced(network: nn.Module, chosen: Callable[[str, nn.Conv2d], bool]) -> nn.Module:
    """A copy with those convolutions in bf16 that are chosen by name."""
    found = deepcopy(network)
    for name, module in list(found.named_modules()):
        slow = isinstance(module, nn.Conv2d) and module.groups > 1 and module.stride != (1, 1)  # stay in float32
        if isinstance(module, nn.Conv2d) and not slow and chosen(name, module):
            parent, _, own = name.rpartition(".")
            setattr(found.get_submodule(parent), own, InBf16(module))
    return found


def folded(network: nn.Module) -> nn.Module:
    """A copy whose batch norms are within the convolutions before them; activations stay."""
    found = deepcopy(network)
    convolution: tuple[nn.Module, str, nn.Conv2d] | None = None
    for parent in list(found.modules()):
        for name, module in list(parent.named_children()):
            if isinstance(module, nn.Conv2d):
                convolution = parent, name, module
            elif isinstance(module, nn.BatchNorm2d) and convolution is not None:
                owner, own, before = convolution
                setattr(owner, own, fuse_conv_bn_eval(before, module))
                rest: tuple[Any, Any] = (module.drop, module.act)  # which timm's batch norm has
                setattr(parent, name, nn.Sequential(*rest))
                convolution = None
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--pictures", type=int, default=48)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    store = Store.open(options.data)
    images = np.unique(store.image_index[store.split_indices("development")])[: options.pictures]
    pictures = torch.from_numpy(centre_crops(store, images, store.image_size)).permute(0, 3, 1, 2)
    seen = F.interpolate(pictures.float() / 127.5 - 1, size=(SIDE, SIDE), mode="bilinear", align_corners=False)
    backbone = Lite("s2igan-lite2", ["1280"]).backbone
    half = len(backbone.blocks) // 2
    forms: dict[str, tuple[nn.Module, torch.memory_format, bool]] = {
        "float32, contiguous": (
            deepcopy(backbone).to(memory_format=torch.contiguous_format),
            torch.contiguous_format,
            False,
        ),
        "float32, channels last": (backbone, torch.channels_last, False),
        "float32, channels last, folded": (folded(backbone), torch.channels_last, False),
        "bf16 in 1x1": (replaced(backbone, lambda _, one: one.kernel_size == (1, 1)), torch.channels_last, False),
        "bf16 in the first half": (
            replaced(backbone, lambda name, _: name.startswith("blocks") and int(name.split(".")[1]) < half),
            torch.channels_last,
            False,
        ),
        "bf16": (backbone, torch.channels_last, True),
        "bf16, folded": (folded(backbone), torch.channels_last, True),
    }

    @torch.inference_mode()
    def features(network: Any, layout: torch.memory_format, cast: bool) -> Tensor:
        rows = []
        for part in seen.split(BATCH):
            with torch.autocast("cpu", torch.bfloat16, enabled=cast):
                rows.append(
                    network.forward_head(
                        network.forward_features(part.contiguous(memory_format=layout)), pre_logits=True
                    )
                )
        return torch.cat(rows).float()

    spent: dict[str, list[float]] = {name: [] for name in forms}
    found: dict[str, Tensor] = {}
    for _ in range(options.repeats):
        for name, form in forms.items():
            started = time.process_time()
            found[name] = features(*form)
            spent[name].append((time.process_time() - started) / len(images))
    first = next(iter(forms))
    exact, slow = found[first], min(spent[first])
    table = {}
    for name in forms:
        off = (found[name] - exact).norm(dim=1) / exact.norm(dim=1)
        table[name] = {
            "ms_a_picture": round(1000 * min(spent[name]), 2),
            "speed_up": round(slow / min(spent[name]), 2),
            "off": [round(float(off.median()), 5), round(float(off.max()), 5)],
        }
    print(
        json.dumps(
            {"pictures": len(images), "forms": table, "load_of_the_machine": round(os.getloadavg()[0], 1)}, indent=2
        )
    )


if __name__ == "__main__":
    main()
