"""Latent flow on a pretrained autoencoder: frozen, recorded by content, resumed, and used without diffusers."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from test_initial import SIZE, part, recipe, same, store, train, weights  # noqa: F401

from s2igan import dry_run
from s2igan.data.dataset import SpeechImageData
from s2igan.errors import UserError
from s2igan.models.latent_flow import LatentFlow
from s2igan.models.pretrained_autoencoder import PretrainedAutoencoder, read_pretrained
from s2igan.pipeline import SpeechToImage
from s2igan.training.initial import InitialWeights
from tiny_autoencoder import SMALL, write_tiny
from tiny_corpus import tiny_recipe


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pretrained") / "tiny"
    write_tiny(folder, **SMALL)
    return folder


@pytest.fixture(scope="module")
def run(store, tiny, tmp_path_factory):  # noqa: F811
    return train(store, tmp_path_factory.mktemp("source") / "run", recipe(2), autoencoder=tiny)


def test_its_weights_stay_and_its_latents_are_normalised(run, store, tiny):  # noqa: F811
    exported = part(weights(run), "latent_flow.autoencoder.")
    network = read_pretrained(tiny, SIZE)
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, exported[f"latent_flow.autoencoder.{name}"]) == (name not in ("mean", "deviation"))
    network.load_state_dict({name.removeprefix("latent_flow.autoencoder."): x for name, x in exported.items()})
    data = SpeechImageData(store, "train", SIZE)
    with torch.no_grad():
        latents = network.encode(data.crops(np.arange(len(data)), None))
    torch.testing.assert_close(latents.std((0, 2, 3)), torch.ones(16), atol=1e-3, rtol=1e-3)
    assert not (run / "checkpoints" / "autoencoder").exists()
    assert (run / "samples" / "autoencoder-00000000.png").exists()
    assert "autoencoder: tiny as it is; mean L1 of reconstructions" in (run / "log.txt").read_text()


def test_use_needs_neither_diffusers_nor_the_folder(run, store, monkeypatch):  # noqa: F811
    monkeypatch.setitem(sys.modules, "diffusers", None)
    model = SpeechToImage.load(run)
    assert isinstance(model.generator, LatentFlow)
    assert isinstance(model.generator.autoencoder, PretrainedAutoencoder)
    (image,) = model(store.audio_path(int(store.split_indices("test")[0])), samples=1)
    assert image.size == (SIZE, SIZE)


def test_it_is_recorded_by_content_and_another_refused(run, store, tiny, tmp_path):  # noqa: F811
    config = json.loads((run / "config.json").read_text())
    assert config["recipe"]["name"] == "tiny latent flow, autoencoder tiny"
    found = config["recipe"]["latent_flow"]["pretrained"]
    assert (found["source"], found["sha256"]) == ("tiny", read_pretrained(tiny, SIZE).config.sha256)
    assert "/" not in (run / "model" / "config.json").read_text(), "a path of this machine"
    before = weights(run)
    train(store, run, recipe(2), autoencoder=tiny, resume=True)
    assert same(before, weights(run))
    write_tiny(tmp_path / "tiny", seed=1, **SMALL)
    for other, message in ((tmp_path / "tiny", r"pretrained\.sha256 was"), (None, "latent_flow.pretrained was")):
        with pytest.raises(UserError, match=message):
            train(store, run, recipe(2), autoencoder=other, resume=True)
    with pytest.raises(UserError, match="the stage 2 of tiny is the RDG, which has none"):
        train(store, tmp_path / "rdg", replace(tiny_recipe(1)), autoencoder=tiny)


def test_a_training_begins_from_a_model_that_has_one(run, store, tiny, tmp_path):  # noqa: F811
    with pytest.raises(UserError, match=r"pretrained: tiny\); name the same one by --autoencoder"):
        InitialWeights.read(run, ["all"], recipe())
    found = train(store, tmp_path / "run", recipe(0), autoencoder=tiny, init_from=run)
    assert same(weights(run), weights(found))


def test_a_dry_run_knows_it(tiny):
    found = dry_run.dry_run(recipe(2), autoencoder=tiny, device="cpu")
    assert found["recipe"]["latent_flow"]["pretrained"]["source"] == "tiny"
    assert not found["parts"]["autoencoder"]["autoencoder"]["trained"]
    assert set(found["measured"]) == {"sen", "matchmap", "flow"}
