"""A training that begins from an exported model: what is taken, what is refused, and that it resumes exactly."""

import hashlib
import json
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from test_resume import differences

from s2igan.checkpoint import load_latest, load_model, save_model
from s2igan.data.dataset import SpeechImageData
from s2igan.data.store import Store
from s2igan.errors import UserError
from s2igan.models.autoencoder import Autoencoder
from s2igan.models.latent_flow import LatentFlowConfig
from s2igan.models.li2020 import CnnLstmConfig
from s2igan.recipes import customised, groups, resolve
from s2igan.training import stages
from s2igan.training.initial import InitialWeights
from s2igan.training.latent_flow_stages import AutoencoderStage, DecoderStage, FlowStage, MatchmapStage
from s2igan.training.recipe import Recipe
from s2igan.training.train import train_run
from tiny_corpus import make_store, tiny_latent_flow, tiny_recipe

SIZE, STEPS, STOP_AFTER = 128, 4, 2
PYRAMID = {"pooling": "pyramid", "feature_dropout": 0.2}
STAGES = {"autoencoder": AutoencoderStage, "decoder": DecoderStage, "matchmap": MatchmapStage, "flow": FlowStage}


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    return make_store(tmp_path_factory.mktemp("tiny"), size=SIZE)


def recipe(steps=STEPS, **flow_changes):
    sen = replace(tiny_recipe(steps).sen, image_size=SIZE)
    return Recipe("tiny latent flow", sen, latent_flow=replace(tiny_latent_flow(steps, SIZE), **flow_changes))


def train(store, out, asked, **options):
    return train_run(asked, data=store.directory, out=out, device="cpu", **{"seed": 3, **options})


@pytest.fixture(scope="module")
def model(store, tmp_path_factory):
    return train(store, tmp_path_factory.mktemp("source") / "run", recipe(), seed=1)


def weights(run):
    return load_file(run / "model" / "weights.safetensors")


def part(of, prefix):
    return {name: tensor for name, tensor in of.items() if name.startswith(prefix)}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_a_training_without_steps_is_the_model_itself(model, store, tmp_path):
    """Its latents keep their mean and deviation, whatever the new pictures are."""
    other = make_store(tmp_path / "data", size=SIZE, with_classes=False)
    run = train(other, tmp_path / "run", recipe(0), init_from=model)
    assert same(weights(model), weights(run))
    assert weights(run)["latent_flow.autoencoder.deviation"].std() > 0


def test_what_is_not_taken_begins_at_random(model, store, tmp_path):
    source = weights(model)
    for parts, prefix in ((("speech",), ("speech_encoder.", "image_head.")), (("autoencoder",), "latent_flow.autoenc")):
        run = train(store, tmp_path / parts[0], recipe(0), init_from=model / "model", init_parts=parts)
        found = weights(run)
        for name in (name for name in source if source[name].dim() > 1):
            assert torch.equal(source[name], found[name]) == name.startswith(prefix), name


def test_an_autoencoder_alone_is_normalised_once_over_the_new_pictures(model, store, tmp_path):
    """With steps or without, and though the one that it is from is normalised already."""
    source = weights(model)
    sizes = LatentFlowConfig.from_json(load_model(model / "model")[0]["latent_flow"], Path("config.json")).autoencoder
    pictures = SpeechImageData(store, "train", SIZE)
    images = pictures.crops(np.arange(len(pictures)), None)
    network = Autoencoder(sizes).eval()
    for steps in (0, 2):
        run = train(store, tmp_path / f"{steps}", recipe(steps), init_from=model, init_parts=["autoencoder"])
        prefix = "latent_flow.autoencoder."
        network.load_state_dict({k.removeprefix(prefix): v for k, v in part(weights(run), prefix).items()})
        with torch.no_grad():
            latents = network.encode(images)
        torch.testing.assert_close(latents.mean((0, 2, 3)), torch.zeros(sizes.latent_channels), atol=1e-4, rtol=0)
        torch.testing.assert_close(latents.std((0, 2, 3)), torch.ones(sizes.latent_channels), atol=1e-3, rtol=0)
        kernels = {name for name in part(source, prefix) if source[name].dim() == 4}
        assert all(torch.equal(source[name], weights(run)[name]) for name in kernels) == (steps == 0)


def test_averages_begin_at_the_model_and_latents_unnormalised(model, store, tmp_path, monkeypatch):
    """At a learning rate of nothing what is exported is the model; the autoencoder trains as one from scratch does."""
    seen = {}
    original = AutoencoderStage.update

    def update(stage, step):
        seen["mean"], seen["deviation"] = stage.state.autoencoder.mean, stage.state.autoencoder.deviation
        return original(stage, step)

    monkeypatch.setattr(AutoencoderStage, "update", update)
    flow = tiny_latent_flow(2, SIZE)
    still = {name: replace(getattr(flow, name), learning_rate=0.0, weight_decay=0.0) for name in STAGES}
    run = train(store, tmp_path / "run", recipe(2, **still), init_from=model)
    assert not seen["mean"].any()
    assert (seen["deviation"] == 1).all()
    for prefix in ("latent_flow.", "matchmap."):
        assert differences(part(weights(model), prefix), part(weights(run), prefix)) == []


def test_resumed_equals_uninterrupted(model, store, tmp_path, monkeypatch):
    whole = train(store, tmp_path / "whole", recipe(), init_from=model)
    interrupted = tmp_path / "interrupted"
    for resume, stage in enumerate((stages.SENStage, *STAGES.values())):
        original = stage.update

        def update(self, step, original=original):
            if step == STOP_AFTER - 1:
                signal.raise_signal(signal.SIGINT)
            return original(self, step)

        with monkeypatch.context() as patch:
            patch.setattr(stage, "update", update)
            with pytest.raises(KeyboardInterrupt, match=f"saved at step {STOP_AFTER}"):
                train(store, interrupted, recipe(), init_from=model, resume=bool(resume))
    train(store, interrupted, recipe(), init_from=model, resume=True)
    for name in STAGES:
        expected, actual = (load_latest(path / "checkpoints" / name)[1] for path in (whole, interrupted))
        assert differences(expected["stage"], actual["stage"], name) == []
    assert differences(weights(whole), weights(interrupted)) == []
    assert not same(weights(whole), weights(model))


def test_the_source_is_recorded_and_another_refused(model, store, tmp_path):
    run = train(store, tmp_path / "run", recipe(0), init_from=model, init_parts=["autoencoder", "speech"])
    digest = hashlib.sha256((model / "model" / "weights.safetensors").read_bytes()).hexdigest()
    expected = {"recipe": "tiny latent flow", "sha256": digest, "parts": ["autoencoder", "speech"]}
    recorded = json.loads((run / "config.json").read_text())["init_from"]
    assert recorded == expected == load_model(run / "model")[0]["init_from"]
    assert load_model(run / "sen")[0]["trained"]["init_from"] == expected
    for options, difference in (
        ({"init_from": model, "init_parts": ["speech"]}, r"init_from\.parts was"),
        ({}, "init_from was"),
        ({"init_from": run, "init_parts": ["autoencoder", "speech"]}, r"init_from\.sha256 was"),
    ):
        with pytest.raises(UserError, match=difference):
            train(store, run, recipe(0), resume=True, **options)
    plain = train(store, tmp_path / "plain", recipe(0))
    assert "init_from" not in load_model(plain / "model")[0]
    with pytest.raises(UserError, match="init_from was null"):
        train(store, plain, recipe(0), resume=True, init_from=model)


def altered(asked, name, **changes):
    flow = asked.latent_flow
    stage = getattr(flow, name)
    return replace(
        asked, latent_flow=replace(flow, **{name: replace(stage, network=replace(stage.network, **changes))})
    )


def with_sen(**changes):
    return replace(recipe(), sen=replace(recipe().sen, **changes))


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (
            altered(recipe(), "autoencoder", widths=(8, 8, 8, 16)),
            r"the widths of its autoencoder is \[8, 8, 8, 8\] and the recipe's \[8, 8, 8, 16\]; train with "
            r"--autoencoder.network.widths 8 8 8 8, or take less by --init-parts speech",
        ),
        (altered(recipe(), "flow", width=32), r"--flow.network.width 16, .* --init-parts speech autoencoder"),
        (altered(recipe(), "matchmap", hop=3), "--matchmap.network.hop 4, "),
        (with_sen(speech=replace(recipe().sen.speech, conv_channels=(8, 8))), "--sen.speech.conv-channels 6 8, "),
        (with_sen(image=replace(recipe().sen.image, input_size=None)), "--sen.image.input-size 32, .* autoencoder"),
        (with_sen(image=replace(recipe().sen.image, **PYRAMID)), "--sen.image.pooling mean, .* autoencoder"),
        (with_sen(speech=CnnLstmConfig(width=1, hidden=8)), "is of the kind sed, and that of the recipe .* li2020"),
    ],
)
def test_other_sizes_are_refused_with_the_flag_that_mends_it(model, store, tmp_path, asked, message):
    with pytest.raises(UserError, match=message):
        InitialWeights.read(model, ["all"], asked)


def test_dropout_of_features_may_differ(model, tmp_path):
    config, content = load_model(model / "model")
    save_model(tmp_path / "model", config | {"image_encoder": config["image_encoder"] | PYRAMID}, content)
    image = replace(recipe().sen.image, **PYRAMID | {"feature_dropout": 0.1})
    InitialWeights.read(tmp_path / "model", ["all"], with_sen(image=image))


def test_sizes_of_what_begins_anew_may_differ(model, store):
    for asked, parts in (
        (altered(recipe(), "flow", width=32), ["autoencoder", "speech"]),
        (altered(recipe(), "autoencoder", channels=6), ["speech"]),
        (with_sen(speech=replace(recipe().sen.speech, hidden=16)), ["autoencoder"]),
        (tiny_recipe(), ["speech"]),
    ):
        InitialWeights.read(model, parts, replace(asked, sen=replace(asked.sen)))


def test_the_pictures_of_stage_1_follow_the_size_that_a_flag_names():
    """So that one flag is enough to begin a recipe of 128 px from a model of 256 px."""
    laptop = resolve("laptop")
    flow = laptop.latent_flow
    larger = replace(flow.autoencoder, network=replace(flow.autoencoder.network, size=256))
    found = customised(laptop, groups(laptop) | {"autoencoder": larger})
    assert found.image_size == found.picture_size == found.sen.image_size == 256
    own = replace(laptop.sen, image_size=64)
    assert customised(laptop, groups(laptop) | {"autoencoder": larger, "sen": own}).sen.image_size == 64


def test_what_cannot_be_taken(model, store, tmp_path):
    with pytest.raises(UserError, match=r"tiny: its stage 2 is the RDG .* choose --init-parts speech"):
        InitialWeights.read(model, ["all"], tiny_recipe())
    rdg = train(make_store(tmp_path / "small"), tmp_path / "rdg", tiny_recipe(1))
    with pytest.raises(UserError, match=r"model: its stage 2 is the RDG .* choose --init-parts speech"):
        InitialWeights.read(rdg, ["autoencoder"], recipe())
    InitialWeights.read(rdg, ["speech"], recipe())
    with pytest.raises(UserError, match="no such run directory"):
        InitialWeights.read(tmp_path / "nothing", ["all"], recipe())
    with pytest.raises(UserError, match="names no part"):
        InitialWeights.read(model, [], recipe())
    hamming = make_store(tmp_path / "hamming", size=SIZE, window="hamming")
    with pytest.raises(UserError, match=r"through a hann window, and those of .* a hamming one"):
        train(hamming, tmp_path / "run", recipe(0), init_from=model)
    for options, message in (
        ({"init_parts": ["speech"]}, "add --init-from MODEL"),
        ({"init_from": model, "sen_from": model}, "both bring a stage 1; choose --init-parts autoencoder"),
    ):
        with pytest.raises(UserError, match=message):
            train(store, tmp_path / "run", recipe(0), **options)
    assert not (tmp_path / "run").exists()
    train(store, tmp_path / "run", recipe(0), init_from=model, init_parts=["autoencoder"], sen_from=model)
    assert same(part(weights(model), "speech"), part(weights(tmp_path / "run"), "speech"))


def test_a_model_without_its_matchmap_is_refused(model, tmp_path):
    config, tensors = load_model(model / "model")
    save_model(tmp_path / "model", config, {name: x for name, x in tensors.items() if not name.startswith("matchmap.")})
    with pytest.raises(UserError, match=r"holds no matchmap, .* choose --init-parts speech autoencoder"):
        InitialWeights.read(tmp_path / "model", ["all"], recipe())
    InitialWeights.read(tmp_path / "model", ["speech", "autoencoder"], recipe())


def test_a_head_on_other_weights_of_the_frozen_network_is_refused(model, store, tmp_path):
    config, tensors = load_model(model / "model")
    save_model(tmp_path / "model", {**config, "image_encoder_weights": "0" * 64}, tensors)
    with pytest.raises(UserError, match="was trained with other weights of efficientnet_lite0"):
        train(store, tmp_path / "run", recipe(0), init_from=tmp_path / "model")


def test_stage_1_keeps_the_start_where_training_only_spoils_it(model, store, tmp_path, monkeypatch):
    scores = iter([0.7, 0.6, 0.2])
    monkeypatch.setattr(stages.SENStage, "validation_map", lambda stage, data: next(scores))
    asked = recipe(2)
    asked = replace(asked, sen=replace(asked.sen, trainer=replace(asked.sen.trainer, evaluate_every=1)))
    run = train(store, tmp_path / "run", asked, init_from=model, init_parts=["speech"], stage="1")
    found, tensors = load_model(run / "sen")
    assert (found["step"], found["score"]) == (0, 0.7)
    assert all(torch.equal(tensor, weights(model)[name]) for name, tensor in tensors.items())
