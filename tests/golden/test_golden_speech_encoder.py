"""Speech encoder against `sed.safetensors`."""

import pytest
import torch
from golden_support import check, check_all, gradients, loaded, read, running_statistics, section, small_speech_encoder
from reference_weights import from_reference

TOLERANCE = 1e-5
DATA = read("sed")


def encoder(*, train: bool, mask_padding: bool):
    return loaded(small_speech_encoder(mask_padding=mask_padding), "speech_encoder", section(DATA, "sd/"), train=train)


def inputs(case):
    x = DATA[f"{case}/x"]
    return x, DATA.get(f"{case}/lengths", torch.full((len(x),), x.shape[1]))


@pytest.mark.parametrize(
    ("case", "mode"),
    [("equal", "eval"), ("equal", "train"), ("single", "eval"), ("ragged", "eval"), ("ragged", "train")],
)
def test_every_stage(case, mode):
    mel, lengths = inputs(case)
    recorded = section(DATA, f"{case}/{mode}/")
    model = encoder(train=mode == "train", mask_padding=False)
    with torch.no_grad():
        conv = model.convolve(mel)
        model = encoder(train=mode == "train", mask_padding=False)  # fresh running statistics
        h, _ = model.frames(mel, lengths)
        pooled, alpha = model.attention(h)
        model = encoder(train=mode == "train", mask_padding=False)
        out = model(mel, lengths)
    actual = {"conv": conv, "gru": h, "alpha": alpha, "pooled": pooled, "out": out}
    check_all(actual, {key: recorded[key] for key in actual}, TOLERANCE)
    if mode == "train":
        after = from_reference("speech_encoder", section(DATA, f"{case}/train/sd_after/"))
        check_all(running_statistics(model), after, TOLERANCE)


@pytest.mark.parametrize("mask_padding", [True, False])
def test_gradients(mask_padding):
    """Lengths are equal, so masking changes nothing."""
    mel, lengths = inputs("equal")
    model = encoder(train=True, mask_padding=mask_padding)
    (DATA["equal/grad_weight"] * model(mel, lengths)).sum().backward()
    check_all(gradients(model), from_reference("speech_encoder", section(DATA, "equal/train/grad/")), TOLERANCE)


def test_masked_batch_gives_what_each_utterance_gives_alone():
    mel, lengths = inputs("ragged")
    with torch.no_grad():
        masked = encoder(train=False, mask_padding=True)(mel, lengths)
        unmasked = encoder(train=False, mask_padding=False)(mel, lengths)
    check(masked, DATA["ragged/eval/alone"], TOLERANCE)
    assert (unmasked - DATA["ragged/eval/alone"]).abs().max() > 0.1  # so the option matters
