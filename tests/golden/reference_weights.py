"""Checkpoints of the authors' implementation, and everything keyed like them, under the names used here.

The key tables are those of the golden record's description, where each network's reference layers are listed.
"""

import re
from collections.abc import Callable, Mapping
from typing import Literal

from torch import Tensor

from s2igan.errors import UserError

Network = Literal["speech_encoder", "image_head", "classifier", "generator", "discriminator", "relation"]

Rule = tuple[str, str | Callable[[re.Match[str]], str]]
"""A pattern that a reference key begins with, and what replaces it."""

_TRUNK = {  # convolution and batch norm of each block of the 64 px ladder, by their place in `img_code_s16`
    "0": "trunk.0.conv",
    "2": "trunk.1.conv",
    "3": "trunk.1.norm",
    "5": "trunk.2.conv",
    "6": "trunk.2.norm",
    "8": "trunk.3.conv",
    "9": "trunk.3.norm",
}
_LATE_TRUNK = {"s32": 4, "s32_1": 5, "s64": 5, "s64_1": 6, "s64_2": 7}
"""Place in the trunk of the blocks after the ladder; a network has either s32_1 or the three of s64."""

_CONV_NORM = {"0": "conv", "1": "norm"}
_RESIDUAL = {"0": "conv1", "1": "norm1", "3": "conv2", "4": "norm2"}
_JOINT = {"0": "joint", "1": "joint_norm"}

RULES: dict[Network, tuple[Rule, ...]] = {
    "speech_encoder": (
        (r"Conv(\d)\.", lambda m: f"convs.{int(m[1]) - 1}.conv."),
        (r"bnorm(\d)\.", lambda m: f"convs.{int(m[1]) - 1}.norm."),
        (r"rnn\.", "rnn."),
        (r"att\.att_heads\.0\.", "attention."),
    ),
    "image_head": ((r"L1\.", ""),),
    "classifier": ((r"L1\.", ""),),
    "generator": (
        (r"ca_net\.fc\.", "conditioning.fc."),
        (r"h_net1\.fc\.0\.", "initial.fc."),
        (r"h_net1\.fc\.1\.", "initial.norm."),
        (
            r"h_net1\.upsample(\d)\.([12])\.",
            lambda m: f"initial.ups.{int(m[1]) - 1}.{('conv', 'norm')[int(m[2]) - 1]}.",
        ),
        (r"h_net(\d)\.jointConv\.([01])\.", lambda m: f"refinements.{int(m[1]) - 2}.{_JOINT[m[2]]}."),
        (
            r"h_net(\d)\.residual\.(\d)\.block\.([0134])\.",
            lambda m: f"refinements.{int(m[1]) - 2}.residual.{m[2]}.{_RESIDUAL[m[3]]}.",
        ),
        (
            r"h_net(\d)\.upsample\.([12])\.",
            lambda m: f"refinements.{int(m[1]) - 2}.up.{('conv', 'norm')[int(m[2]) - 1]}.",
        ),
        (r"img_net(\d)\.img\.0\.", lambda m: f"to_rgb.{int(m[1]) - 1}.conv."),
    ),
    "discriminator": (
        (r"img_code_s16\.([0235689])\.", lambda m: f"{_TRUNK[m[1]]}."),
        (r"img_code_(s32|s32_1|s64|s64_1|s64_2)\.([01])\.", lambda m: f"trunk.{_LATE_TRUNK[m[1]]}.{_CONV_NORM[m[2]]}."),
        (r"jointConv\.([01])\.", lambda m: f"{_JOINT[m[1]]}."),
        (r"logits\.0\.", "conditional_out."),
        (r"uncond_logits\.0\.", "unconditional_out."),
    ),
    "relation": ((r"L1\.", "hidden."), (r"b1\.", "norm."), (r"L2\.", "out.")),
}


def our_key(network: Network, key: str) -> str:
    """The name here of a reference key, with or without its ``module.``.

    Raises:
        UserError: the network has no such key.
    """
    plain = key.removeprefix("module.")
    for pattern, replacement in RULES[network]:
        ours, found = re.subn(f"^{pattern}", replacement, plain)
        if found:
            return ours
    raise UserError(f"{key} is no key of the authors' {network.replace('_', ' ')}: check which network the file holds")


def from_reference(network: Network, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the keys of a reference checkpoint's state dict; the tensors are the same ones.

    ``image_head`` and ``classifier`` are for ``ImageEncoder.head`` and the shared linear classifier, whose keys are
    ``weight`` and ``bias``. A relation supervisor of the reference has four logits.

    Raises:
        UserError: a key does not belong to the network.
    """
    return {our_key(network, key): tensor for key, tensor in state.items()}
