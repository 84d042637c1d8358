"""The three discriminators against `discriminators.safetensors`."""

import pytest
import torch
import torch.nn.functional as F
from golden_support import check, check_all, loaded, read, running_statistics, section, small_discriminator
from reference_weights import from_reference

TOLERANCE = 2e-5
DATA = read("discriminators")


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("resolution", [64, 128, 256])
def test_discriminator(resolution, mode):
    recorded, times = section(DATA, f"d{resolution}/{mode}/"), resolution // 64
    state = section(DATA, f"d{resolution}/sd/")
    model = loaded(small_discriminator(resolution, 4), "discriminator", state, train=mode == "train")
    image = DATA["image64"].repeat_interleave(times, 2).repeat_interleave(times, 3).requires_grad_()
    mu = DATA["mu"].clone().requires_grad_()
    features = model.features(image)
    cond, uncond = model.logits(features, mu)
    check(features, recorded["features"], TOLERANCE)
    check(cond, recorded["cond_logit"], TOLERANCE)
    check(uncond, recorded["uncond_logit"], TOLERANCE)
    check(cond.sigmoid(), recorded["cond_prob"], TOLERANCE)
    check(uncond.sigmoid(), recorded["uncond_prob"], TOLERANCE)
    (F.logsigmoid(cond).sum() + 2 * F.logsigmoid(uncond).sum()).backward()
    stride = resolution // 16
    check(image.grad[:, :, ::stride, ::stride], recorded["grad_image"], TOLERANCE)
    check(mu.grad, recorded["grad_mu"], TOLERANCE)
    if mode == "train":
        after = from_reference("discriminator", section(DATA, f"d{resolution}/train/sd_after/"))
        check_all(running_statistics(model), after, TOLERANCE)


def test_forward_is_both_heads():
    model = loaded(small_discriminator(64, 4), "discriminator", section(DATA, "d64/sd/"), train=False)
    with torch.no_grad():
        cond, uncond = model(DATA["image64"], DATA["mu"])
    check(cond, DATA["d64/eval/cond_logit"], TOLERANCE)
    check(uncond, DATA["d64/eval/uncond_logit"], TOLERANCE)
