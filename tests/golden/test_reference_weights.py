"""The conversion itself is proven beside this file, where strict loading of every network goes through it."""

import pytest
import torch
from reference_weights import from_reference, our_key

from s2igan.errors import UserError


def test_keys_of_checkpoints_saved_in_parallel():
    tensor = torch.zeros(1)
    plain = from_reference("speech_encoder", {"att.att_heads.0.out.bias": tensor})
    parallel = from_reference("speech_encoder", {"module.att.att_heads.0.out.bias": tensor})
    assert list(plain) == list(parallel) == ["attention.out.bias"]
    assert parallel["attention.out.bias"] is tensor


@pytest.mark.parametrize(
    ("network", "theirs", "ours"),
    [
        ("generator", "h_net3.residual.1.block.3.weight", "refinements.1.residual.1.conv2.weight"),
        ("generator", "h_net1.upsample4.2.running_var", "initial.ups.3.norm.running_var"),
        ("discriminator", "img_code_s16.6.bias", "trunk.2.norm.bias"),
        ("discriminator", "img_code_s32_1.0.weight", "trunk.5.conv.weight"),
        ("discriminator", "img_code_s64_2.1.weight", "trunk.7.norm.weight"),
        ("discriminator", "uncond_logits.0.bias", "unconditional_out.bias"),
        ("image_head", "L1.weight", "weight"),
        ("relation", "b1.running_mean", "norm.running_mean"),
    ],
)
def test_keys(network, theirs, ours):
    assert our_key(network, theirs) == ours


@pytest.mark.parametrize(
    ("network", "key"),
    [("generator", "img_code_s16.0.weight"), ("relation", "xL1.weight"), ("discriminator", "img_code_s16.4.weight")],
)
def test_a_key_of_another_network(network, key):
    with pytest.raises(UserError, match=f"{key} is no key of the authors' {network}"):
        from_reference(network, {key: torch.zeros(1)})
