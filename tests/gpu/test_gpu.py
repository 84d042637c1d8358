"""What differs on a GPU. Where it means something there, a test also runs on the CPU, so that it cannot rot."""

import math

import numpy as np
import pytest
import torch
from golden_support import DEVICES
from torch import nn

from s2igan.checkpoint import load_checkpoint, save_checkpoint
from s2igan.models.blocks import init_weights, seeded
from s2igan.models.encoders import build_encoder
from s2igan.models.generator import Generator
from s2igan.models.recurrent import over_utterances
from s2igan.run_directory import RunDirectory
from s2igan.training.precision import autocast, choose_precision
from s2igan.training.prefetch import read_steps
from s2igan.training.trainer import Trainer
from toy_stages import RECIPES, STEPS, take_steps, toy_stage

CPU = torch.device("cpu")
STAGES = ["sen", "rdg"]
BF16_TOLERANCE = 0.08
"""How far a loss of a step in bf16 may be from that in float32, as a share of it or absolutely, whichever is more."""
DEVICE_TOLERANCE = 1e-2
"""The same for float32 losses on another device, after up to `STEPS` steps."""
gpu = pytest.mark.gpu


def close(actual, expected, tolerance):
    """Two steps' losses; norms of gradients, which rounding moves further, and counts of a few rows are left out."""
    for key, value in expected.items():
        if not key.endswith(("gradient_norm", "batch_recall", "told_apart")):
            found, wanted = float(actual[key]), float(value)
            assert math.isclose(found, wanted, rel_tol=tolerance, abs_tol=tolerance), f"{key}: {found}, not {wanted}"


def flat(state, name=""):
    """Every value of a nested state by its place, tensors on the CPU."""
    if isinstance(state, dict):
        return {key: value for part in state for key, value in flat(state[part], f"{name}/{part}").items()}
    if isinstance(state, list | tuple):
        return flat(dict(enumerate(state)), name)
    return {name: state.detach().cpu() if isinstance(state, torch.Tensor) else state}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("name", ["cub", "birds-rdg", "end-to-end"])
def test_a_step_in_bf16_beside_float32(name, stage, device, noise_store, tmp_path):
    device = torch.device(device)
    first = {
        precision: take_steps(toy_stage(name, stage, noise_store, tmp_path, device), [0], precision)[0]
        for precision in ("float32", "bf16")
    }
    assert first["bf16"].keys() == first["float32"].keys()
    assert all(value.dtype == torch.float32 for key, value in first["bf16"].items() if key.endswith("total"))
    close(first["bf16"], first["float32"], BF16_TOLERANCE)


@pytest.mark.parametrize(
    ("before", "after"),
    [("cpu", "cpu"), pytest.param("cpu", "cuda", marks=gpu), pytest.param("cuda", "cpu", marks=gpu)],
)
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("name", ["cub", "end-to-end"])
def test_a_checkpoint_goes_on_on_another_device(name, stage, before, after, noise_store, tmp_path):
    """All of the state arrives, to the bit, and the losses go on as without the change."""
    before, after = torch.device(before), torch.device(after)
    expected = take_steps(toy_stage(name, stage, noise_store, tmp_path, CPU), range(STEPS))
    first = toy_stage(name, stage, noise_store, tmp_path, before)
    half = take_steps(first, range(STEPS // 2))
    save_checkpoint(tmp_path / "checkpoint", first.state_dict())

    second = toy_stage(name, stage, noise_store, tmp_path, after)
    second.load_state_dict(load_checkpoint(tmp_path / "checkpoint"))
    saved, loaded = flat(first.state_dict()), flat(second.state_dict())
    assert saved.keys() == loaded.keys()
    for key, value in saved.items():
        same = torch.equal(value, loaded[key]) if isinstance(value, torch.Tensor) else value == loaded[key]
        assert same, key
    networks = [part for part in vars(second.state).values() if isinstance(part, nn.Module)]
    assert {p.device.type for network in networks for p in network.parameters()} == {after.type}
    half += take_steps(second, range(STEPS // 2, STEPS))
    for actual, wanted in zip(half, expected, strict=True):
        close(actual, wanted, DEVICE_TOLERANCE)


@gpu
@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("name", RECIPES)
def test_no_step_waits_for_the_gpu(name, stage, precision, noise_store, tmp_path):
    """Neither the copy of a batch from pinned memory nor the step; the first step, which sets libraries up, may."""
    device = torch.device("cuda")
    made = toy_stage(name, stage, noise_store, tmp_path, device)
    for step, read in enumerate(read_steps(made.reader, range(3), device, workers=0)):
        torch.cuda.set_sync_debug_mode("error" if step else "default")
        try:
            with autocast(precision, device):
                losses = made.update(step)(made.state, made.batch(read), made.config)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        assert all(math.isfinite(value) for value in losses.values())


@pytest.mark.parametrize("device", DEVICES)
def test_seeded_leaves_the_generator_as_it_was(device):
    device = torch.device(device)
    drawn = []
    for outer in (1, 1, 2):
        with seeded(outer, device):
            before = torch.rand(4, device=device)
            with seeded(7, device):
                inside = torch.rand(4, device=device)
            after = torch.rand(4, device=device)
        with seeded(outer, device):
            undisturbed = torch.rand(4, device=device), torch.rand(4, device=device)
        assert torch.equal(undisturbed[1], after)
        drawn.append((before, inside))
    assert torch.equal(drawn[0][0], drawn[1][0])
    assert not torch.equal(drawn[0][0], drawn[2][0])
    assert torch.equal(drawn[0][1], drawn[2][1])


@gpu
@pytest.mark.parametrize("stage", STAGES)
def test_workers_read_the_same_into_pinned_memory(stage, noise_store, tmp_path):
    device = torch.device("cuda")
    reader = toy_stage("birds-rdg", stage, noise_store, tmp_path, device).reader
    for step, read in enumerate(read_steps(reader, range(3), device, workers=2)):
        found, expected = flat(read), flat(reader.read(step))
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[key], value) for key, value in expected.items())
        tensors = [value for value in read.values() if isinstance(value, torch.Tensor)]
        assert all(value.is_pinned() for value in tensors)


@pytest.mark.parametrize(
    ("stage", "device"),
    [("rdg", "cpu"), pytest.param("sen", "cuda", marks=gpu), pytest.param("rdg", "cuda", marks=gpu)],
)
def test_a_trainer_with_workers(stage, device, noise_store, tmp_path):
    """Records, scores, samples and checkpoints; and a second trainer that goes on."""
    device = torch.device(device)
    with RunDirectory.create(tmp_path / "run", {}) as run:
        for steps, resume, workers in ((2, False, 2), (3, True, 0)):
            options = {"steps": steps, "workers": workers, "precision": "bf16"}
            made = toy_stage("cub", stage, noise_store, tmp_path, device, **options)
            trainer = Trainer(made, run)
            trainer.run(resume=resume)
            assert trainer.step == steps
        records = run.read_metrics()
    assert {record["step"] for record in records} == {2, 3}
    assert all(math.isfinite(value) for record in records for value in record.values() if isinstance(value, float))


@gpu
def test_a_packed_network_computes_in_float32_within_bf16():
    """PyTorch's autocast would have cuDNN compute in float16."""
    with seeded(0):
        rnn = nn.GRU(8, 16, 2, batch_first=True, bidirectional=True)
        x, lengths = torch.randn(3, 9, 8), torch.tensor([4, 9, 1])
    expected = over_utterances(rnn, x, lengths)
    with autocast("bf16", torch.device("cuda")):
        actual = over_utterances(rnn.to("cuda"), x.to("cuda"), lengths)
    assert actual.dtype == torch.float32
    torch.testing.assert_close(actual.cpu(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("device", DEVICES)
def test_auto_precision_is_measured(device):
    assert choose_precision("auto", torch.device(device)) in ("float32", "bf16")


@pytest.mark.parametrize("device", DEVICES)
def test_images_of_a_recording(device):
    """Within two of 255 levels of those of the CPU."""
    pytest.importorskip("soundfile", reason="s2igan.pipeline needs soundfile")
    pytest.importorskip("soxr", reason="s2igan.pipeline needs soxr")
    from s2igan.pipeline import FrontEnd, SpeechToImage

    recipe = RECIPES["birds-rdg"]()
    wave = 0.1 * np.random.default_rng(0).standard_normal(22_050).astype(np.float32)
    made = []
    for where in ("cpu", device):
        with seeded(0):
            generator = Generator(recipe.rdg.generator)
            init_weights(generator)
            model = SpeechToImage(build_encoder(recipe.sen.speech), generator, FrontEnd(), device=where)
        made.append(np.stack([np.asarray(picture) for picture in model((wave, 22_050), samples=2)]).astype(int))
    assert made[0].std() > 1
    assert np.abs(made[0] - made[1]).max() <= 2
