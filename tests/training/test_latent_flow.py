"""Latent flow through the trainer: what it reads, exact resume, the exported model, one step of each stage."""

import json
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from safetensors.torch import load_file
from test_resume import differences

from s2igan.checkpoint import load_latest, load_model
from s2igan.data.dataset import SpeechImageData
from s2igan.data.store import Store, StoredImages
from s2igan.errors import UserError
from s2igan.models.autoencoder import Autoencoder
from s2igan.models.blocks import seeded
from s2igan.models.speech_encoder import SpeechEncoder
from s2igan.pipeline import SpeechToImage
from s2igan.recipes import resolve
from s2igan.training import autoencoder, decoder, flow, matchmap
from s2igan.training.latent_flow_stages import AutoencoderStage, DecoderStage, FlowStage, MatchmapStage
from s2igan.training.latents import cached, latents_of, local_frames
from s2igan.training.recipe import Recipe
from s2igan.training.train import train_run
from tiny_corpus import make_store, take_step, tiny_latent_flow, tiny_recipe

CPU, QUIET = torch.device("cpu"), Console(quiet=True)
STEPS, STOP_AFTER = 6, 3
STAGES = {"autoencoder": AutoencoderStage, "decoder": DecoderStage, "matchmap": MatchmapStage, "flow": FlowStage}


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    return make_store(tmp_path_factory.mktemp("tiny-64"), size=128)


def recipe(size=128):
    return Recipe(
        "tiny latent flow", replace(tiny_recipe(2).sen, image_size=128), latent_flow=tiny_latent_flow(STEPS, size)
    )


def train(store, out, **options):
    return train_run(recipe(), data=store.directory, out=out, device="cpu", seed=3, **options)


@pytest.fixture
def run(store, tmp_path):
    return train(store, tmp_path / "whole")


def stages(store, cache):
    """The four, on networks with random weights."""
    settings = tiny_latent_flow(STEPS, 128)
    data = SpeechImageData(store, "train", 128)
    with seeded(0):
        speech = SpeechEncoder(tiny_recipe().sen.speech).eval()
    given = {"seed": 0, "device": CPU}
    first = AutoencoderStage(settings.autoencoder, data, None, samples=cache, **given)
    onward = DecoderStage(settings.decoder, data, None, autoencoder=first.normalised(), samples=cache, **given)
    given |= {"speech": speech, "autoencoder": onward.averaged(), "cache": cache, "console": QUIET}
    second = MatchmapStage(settings.matchmap, data, None, views=2, reach=0.5, **given)
    last = FlowStage(settings.flow, data, None, matched=second.trained(), samples=cache, **given)
    return first, onward, second, last


def test_resumed_equals_uninterrupted(run, store, tmp_path, monkeypatch):
    interrupted = tmp_path / "interrupted"
    for resume, name in ((False, "autoencoder"), (True, "decoder"), (True, "matchmap"), (True, "flow")):
        original = STAGES[name].update

        def update(self, step, original=original):
            if step == STOP_AFTER - 1:
                signal.raise_signal(signal.SIGINT)
            return original(self, step)

        with monkeypatch.context() as patch:
            patch.setattr(STAGES[name], "update", update)
            with pytest.raises(KeyboardInterrupt, match=f"saved at step {STOP_AFTER}"):
                train(store, interrupted, resume=resume)
    train(store, interrupted, resume=True)
    for name in STAGES:
        expected, actual = (load_latest(path / "checkpoints" / name)[1] for path in (run, interrupted))
        assert expected["step"] == actual["step"] == STEPS
        assert differences(expected["stage"], actual["stage"], name) == []
    expected, actual = (load_file(path / "model" / "weights.safetensors") for path in (run, interrupted))
    assert differences(expected, actual) == []


def test_the_exported_model_draws_the_same_in_any_batch(run, store):
    model = SpeechToImage.load(run)
    assert model.resolutions == (128,)
    recordings = [store.audio_path(int(utterance)) for utterance in store.split_indices("test")[:2]]
    three, one = (np.stack([np.asarray(image) for image in model(recordings[0], samples=n, seed=5)]) for n in (3, 1))
    assert three.shape == (3, 128, 128, 3)
    assert np.abs(three[0].astype(int) - one[0]).max() <= 1
    assert np.abs(three[1].astype(int) - three[0]).mean() > 0.3
    mels = [torch.from_numpy(np.asarray(store.mel(int(u)), np.float32)) for u in store.split_indices("test")[:2]]
    lengths = torch.tensor([len(mel) for mel in mels])
    together = model.listen(torch.nn.utils.rnn.pad_sequence(mels, batch_first=True), lengths)
    noise = model.noise(2, 5)
    pictures = model.draw(together, noise)
    for row, mel in enumerate(mels):
        alone = model.draw(model.listen(mel[None], lengths[[row]]), noise[[row]])
        assert np.abs(alone[0].astype(int) - pictures[row]).max() <= 1


def test_a_model_under_another_configuration_is_refused(run, tmp_path):
    import shutil

    from s2igan.checkpoint import save_model

    config, weights = load_model(run / "model")
    for changes, message in (
        ({"frames": 20}, "does not fit the sizes"),
        ({"network": {"no such": 1}}, "does not describe a latent flow"),
        ({"steps": None, "more": 1}, "does not describe a latent flow"),
    ):
        wrong = {**config, "latent_flow": {**config["latent_flow"], **changes}}
        shutil.rmtree(tmp_path / "model", ignore_errors=True)
        save_model(tmp_path / "model", wrong, weights)
        with pytest.raises(UserError, match=message):
            SpeechToImage.load(tmp_path / "model")


def test_records_and_samples(run):
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    terms = {key for record in records for key in record}
    assert {record["stage"] for record in records} == {"sen", *STAGES}
    expected = {"autoencoder/l1", "autoencoder/validation_l1", "autoencoder/discriminator"}
    expected |= {key.replace("autoencoder", "decoder") for key in expected}
    expected |= {"autoencoder/adversarial", "decoder/adversarial", "matchmap/validation_map"}
    assert expected | {"matchmap/matching", "flow/velocity", "flow/diversity"} <= terms
    sheets = {}
    for path in (run / "samples").iterdir():
        with Image.open(path) as sheet:
            sheets[path.name] = sheet.size
    assert sheets == {
        f"autoencoder-{STEPS:08d}.png": (8 * 128, 128),
        f"decoder-{STEPS:08d}.png": (8 * 128, 128),
        f"flow-{STEPS:08d}.png": (5 * 128, 128 * 8),
    }


def test_training_reads_the_training_split_alone(store, tmp_path, monkeypatch):
    seen = {"mels": set(), "images": set()}
    mel, whole = Store.mel, StoredImages.whole
    monkeypatch.setattr(Store, "mel", lambda self, index: seen["mels"].add(int(index)) or mel(self, index))
    monkeypatch.setattr(StoredImages, "whole", lambda self, image: seen["images"].add(int(image)) or whole(self, image))
    for stage in stages(store, tmp_path):
        for step in range(STEPS):
            take_step(stage, step)
    utterances = store.split_indices("train")
    assert seen["mels"] == set(utterances.tolist())
    assert seen["images"] == set(store.image_index[utterances].tolist())


def test_rows_belong_together(store, tmp_path):
    """Latents, words and classes of a batch are of the same pictures and descriptions."""
    _, _, second, third = stages(store, tmp_path)
    for stage in (second, third):
        reader, data = stage.reader, stage.train
        read = reader.read(4)
        positions, utterances, *_ = reader._pairs(4)
        assert np.array_equal(data.images[positions], store.image_index[utterances])
        for row, position in enumerate(positions):
            known = torch.from_numpy(np.asarray(reader.latents[position], np.float32))
            assert any(torch.equal(view, read["latents"][row]) for view in known)
        source = second.frames if stage is second else third.reader.speech
        rows, inside = source.of(utterances)
        assert torch.equal(rows, read["frames" if stage is second else "words"])
        assert torch.equal(inside, read["inside"]) or stage is third
    assert torch.equal(second.reader.read(4)["class_ids"], torch.from_numpy(second.train.classes[positions]))


def test_descriptions_are_left_out_in_their_share(store, tmp_path):
    *_, stage = stages(store, tmp_path)
    reader = replace(stage.reader, config=replace(stage.config, condition_dropout=0.25, batch_size=8), rows=slice(0, 8))
    told = torch.cat([reader.read(step)["inside"].any(dim=1) for step in range(100)]).float().mean()
    assert 0.7 < told < 0.8
    times = torch.cat([reader.read(step)["t"] for step in range(100)])
    expected = torch.sigmoid(torch.tensor(stage.config.time_mean))
    assert times.median() == pytest.approx(float(expected), abs=0.03)


def test_latents_are_those_of_the_crops(store, tmp_path):
    data = SpeechImageData(store, "train", 128)
    with seeded(0):
        network = Autoencoder(tiny_latent_flow(1, 128).autoencoder.network).eval()
    found = latents_of(data, network, views=2, reach=0.0, seed=0, cache=tmp_path, console=QUIET)
    plain = network.encode(data.crops(np.arange(len(data)), None)).detach()
    flipped = network.encode(data.crops(np.arange(len(data)), None).flip(3)).detach()
    sides = set()
    for row, view in np.ndindex(found.shape[:2]):
        distances = [
            float((torch.from_numpy(found[row, view].astype(np.float32)) - x[row]).abs().max())
            for x in (plain, flipped)
        ]
        assert min(distances) < 0.01
        sides.add(int(np.argmin(distances)))
    assert sides == {0, 1}
    again = latents_of(data, network, views=2, reach=0.0, seed=0, cache=tmp_path, console=QUIET)
    assert len(list(tmp_path.glob("latents-*.npy"))) == 1
    np.testing.assert_array_equal(found, again)
    latents_of(data, network, views=2, reach=0.5, seed=0, cache=tmp_path, console=QUIET)
    assert len(list(tmp_path.glob("latents-*.npy"))) == 2


def test_a_crop_is_its_picture_s_own(store, tmp_path):
    """Whatever is beside it in a batch; another seed gives another."""
    with seeded(0):
        network = Autoencoder(tiny_latent_flow(1, 128).autoencoder.network).eval()
    given = {"views": 4, "reach": 1.0, "cache": tmp_path, "console": QUIET}
    both, one = (SpeechImageData(store, splits, 128) for splits in (("train", "validation"), "validation"))
    found = latents_of(both, network, seed=0, **given)[np.searchsorted(both.images, one.images)].astype(np.float32)
    alone, other = (latents_of(one, network, seed=seed, **given).astype(np.float32) for seed in (0, 1))
    np.testing.assert_allclose(alone, found, atol=2e-3)
    assert np.abs(alone - other).max() > 0.01


def test_frames_of_every_utterance_are_its_own(store, tmp_path):
    with seeded(0):
        speech = SpeechEncoder(tiny_recipe().sen.speech).eval()
    network = tiny_latent_flow().matchmap.network
    utterances = store.split_indices("train")
    frames = local_frames(store, speech, network, utterances[::-1].copy(), cache=tmp_path, console=QUIET)
    for utterance in utterances[:5]:
        rows, inside = frames.of(np.array([utterance]))
        mel = torch.from_numpy(np.asarray(store.mel(int(utterance)), np.float32))[None]
        expected, _ = speech.local_frames(mel, torch.tensor([mel.shape[1]]), network.window, network.hop)
        torch.testing.assert_close(rows, expected.detach(), atol=2e-3, rtol=2e-3)
        assert inside.all()


def test_a_cache_that_was_cut_short_is_not_taken_for_whole(tmp_path):
    def parts():
        yield torch.ones(2, 3)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cached(tmp_path, "rows", {"a": 1}, (4, 3), parts)
    whole = cached(tmp_path, "rows", {"a": 1}, (4, 3), lambda: iter([torch.ones(2, 3), torch.zeros(2, 3)]))
    assert whole.sum() == 6


def test_the_velocity_loss_is_the_one_of_rectified_flow(store, tmp_path):
    """A fresh network's velocity is x (2t - 1) / d^2, and the loss weighs its error by d^2."""
    *_, stage = stages(store, tmp_path)
    batch = stage.batch(stage.reader.read(0))
    t = batch.t[:, None, None, None]
    d2 = t**2 + (1 - t) ** 2
    x = (1 - t) * batch.noise + t * batch.latents
    expected = (d2 * (x * (2 * t - 1) / d2 - (batch.latents - batch.noise)) ** 2).mean()
    losses = flow.step(stage.state, batch, stage.config)
    torch.testing.assert_close(losses["velocity"], expected)


def test_each_stage_learns_its_batch(store, tmp_path):
    for stage, module, loss in zip(
        stages(store, tmp_path),
        (autoencoder, decoder, matchmap, flow),
        ("l1", "l1", "matching", "velocity"),
        strict=True,
    ):
        assert stage.update(2) is module.step
        batch = stage.batch(stage.reader.read(0))
        values = [float(module.step(stage.state, batch, stage.config)[loss]) for _ in range(40)]
        assert values[-1] < 0.9 * values[0], stage.name


def test_latent_flow_needs_frames(store, tmp_path):
    method = resolve("li2020")
    wrong = Recipe("wrong", method.sen, latent_flow=tiny_latent_flow())
    with pytest.raises(UserError, match="latent flow attends to frames of the paper's speech encoder"):
        train_run(wrong, data=store.directory, out=tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()
