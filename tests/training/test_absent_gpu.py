"""A step of each stage where the CPU is not the device: nothing mixes devices, nothing waits for the GPU."""

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from absent_gpu import ABSENT, AbsentGpu
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.rnn import pack_padded_sequence

from s2igan.audio import SAMPLE_RATE
from s2igan.models.blocks import seeded
from s2igan.models.encoders import build_encoder
from s2igan.models.generator import Generator
from s2igan.pipeline import FrontEnd, SpeechToImage
from s2igan.recipes import resolve
from s2igan.training import stages
from tiny_corpus import shrunk
from toy_stages import RECIPES, take_steps, toy_stage

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _no_autocast(monkeypatch):
    """It knows no absent device."""
    monkeypatch.setattr(torch, "autocast", lambda *args, **options: nullcontext())
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda device: False)


@pytest.mark.parametrize("stage", ["sen", "rdg"])
@pytest.mark.parametrize("name", RECIPES)
def test_a_step_on_a_gpu_that_is_not_there(name, stage, store, tmp_path):
    """It mixes no devices and never waits, and the losses are those of the CPU; scores and samples may wait."""
    expected = take_steps(toy_stage(name, stage, store, tmp_path, CPU), range(3))
    with AbsentGpu(may_wait=True):
        there = toy_stage(name, stage, store, tmp_path, ABSENT)
    with AbsentGpu(may_wait=False):
        actual = take_steps(there, range(3))
    with AbsentGpu(may_wait=True):
        assert there.evaluate(3)
    for ours, theirs in zip(actual, expected, strict=True):
        assert ours.keys() == theirs.keys()
        for key, value in ours.items():
            rtol = 1e-3 if key.endswith("gradient_norm") else 1e-4  # a norm adds up the rounding of every gradient
            torch.testing.assert_close(
                value.inner, theirs[key], rtol=rtol, atol=1e-5, msg=lambda text, key=key: f"{key}: {text}"
            )


@pytest.mark.parametrize("stage", ["sen", "rdg"])
def test_every_batch_norm_that_trains_is_synchronised(stage, store, tmp_path, monkeypatch):
    given = []
    monkeypatch.setattr(stages, "synchronise_batch_norms", lambda network, device: given.extend(network.modules()))
    state = toy_stage("end-to-end", stage, store, tmp_path, CPU).state
    if stage == "sen":
        trained = [state.speech, state.image.head]
    else:
        trained = [state.generator, *state.discriminators.values(), state.relation, state.speech]
    norms = [part for network in trained for part in network.modules() if isinstance(part, _BatchNorm)]
    assert len(norms) > 1
    assert set(norms) <= set(given)


@torch.no_grad()
def test_images_of_a_recording_on_a_gpu_that_is_not_there(monkeypatch):
    for name in ("listen", "draw_scales"):  # the absent GPU knows no inference mode
        monkeypatch.setattr(SpeechToImage, name, getattr(SpeechToImage, name).__wrapped__)
    recipe = shrunk(resolve("birds-rdg"))
    wave = 0.1 * np.random.default_rng(0).standard_normal(SAMPLE_RATE).astype(np.float32)

    def pixels(device):
        with seeded(0):
            networks = build_encoder(recipe.sen.speech), Generator(recipe.rdg.generator)
        networks[1].to_rgb[-1].conv.weight *= 30  # so that the pictures are no plain grey
        model = SpeechToImage(*networks, FrontEnd(), device)
        return np.stack([np.asarray(picture) for picture in model((wave, SAMPLE_RATE), samples=2)])

    expected = pixels(CPU)
    with AbsentGpu(may_wait=True):
        actual = pixels(ABSENT)
    assert expected.std() > 1
    assert np.abs(actual.astype(int) - expected).max() <= 1


@pytest.mark.parametrize(
    ("mistake", "sentence"),
    [
        (lambda there, here: there + here, "tensors of both devices"),
        (lambda there, here: there[here.long()], "tensors of both devices"),
        (lambda there, here: there[there > 0], "counts the rows of a mask"),
        (lambda there, here: float(there.sum()), "reads values back"),
        (lambda there, here: bool((there > 0).all()), "reads values back"),
        (lambda there, here: there.nonzero(), "reads values back"),
        (lambda there, here: there.cpu(), "waits for the copy"),
        (lambda there, here: here.to(ABSENT), "waits for the copy"),
        (lambda there, here: there.copy_(here), "waits for the copy"),
        (lambda there, here: pack_padded_sequence(there[:, None, None], (there + 1).long()), "lengths from the CPU"),
    ],
)
def test_mistakes_are_found(mistake, sentence):
    here = torch.zeros(3)
    with AbsentGpu(may_wait=False):
        there = here.to(ABSENT, non_blocking=True)
        assert float((there + 1).inner.sum()) == 3
        with pytest.raises(AssertionError, match=sentence):
            mistake(there, here)
