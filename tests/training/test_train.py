"""Every recipe through both stages at toy width: one step of each, gradients everywhere, a model that can be used."""

import hashlib
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.optim.optimizer import register_optimizer_step_pre_hook

from s2igan.audio import load_audio
from s2igan.checkpoint import load_latest, load_model
from s2igan.errors import UserError
from s2igan.evaluation.evaluate import evaluate
from s2igan.models.li2020 import CnnLstmConfig
from s2igan.pipeline import SpeechToImage
from s2igan.recipes import BASES, METHODS, resolve
from s2igan.spectrograms import log_mel
from s2igan.training import stages
from s2igan.training.stage_results import load_sen
from s2igan.training.train import train_run
from tiny_corpus import make_store, shrunk, tiny_recipe, with_rdg

CPU = torch.device("cpu")
RECORDING = "audio/4_0_0.wav"


@pytest.fixture
def gradients():
    """What each optimiser was about to step on: the gradients of its parameters, one entry a step."""
    seen = []

    def look(optimiser, args, kwargs):
        seen.append([parameter.grad for group in optimiser.param_groups for parameter in group["params"]])

    handle = register_optimizer_step_pre_hook(look)
    yield seen
    handle.remove()


def train(recipe, store, out, **options):
    return train_run(recipe, data=store.directory, out=out, device="cpu", **options)


def weights(folder, prefix):
    return {key: value for key, value in load_file(folder / "weights.safetensors").items() if key.startswith(prefix)}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize(
    ("method", "base"),
    [(method, "cub") for method in METHODS]
    + [(method, "birds-rdg") for method in ("s2igan", "li2020", "no-sen", "end-to-end")],
)
def test_every_method_trains_one_step_of_each_stage(method, base, store, tmp_path, gradients):
    recipe = shrunk(resolve(method, base))
    run = train(recipe, store, tmp_path / "run")

    scales = len(recipe.rdg.generator.resolutions)
    warm = recipe.beyond.warm_start.trainer.steps
    assert len(gradients) == recipe.sen.trainer.steps + warm + scales + (recipe.rdg.relation > 0) + 1
    for optimiser in gradients:
        assert all(gradient is not None and gradient.abs().sum() > 0 for gradient in optimiser)

    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    before = {"sen"} if recipe.sen.trainer.steps else set()
    assert {record["stage"] for record in records} == before | ({"warm_start"} if warm else set()) | {"rdg"}
    terms = {key for record in records for key in record}
    assert ("sen/distinctive_image" in terms) == (method not in ("no-distinctive", "li2020", "no-sen"))
    assert ("sen/distillation" in terms) == (method == "li2020")
    assert ("rdg/relation/total" in terms) == ("rdg/generator/relation" in terms) == (recipe.rdg.relation > 0)

    learnt, exported = (weights(run / folder, "speech_encoder.") for folder in ("sen", "model"))
    assert same(learnt, exported) == (recipe.rdg.speech == "frozen")

    for folder in ("sen", "model"):
        assert "/" not in (run / folder / "config.json").read_text(), "a path of this machine"
    model = SpeechToImage.load(run)
    if method.startswith("stackgan-v2-text"):
        with pytest.raises(UserError, match=rf"reads (published )?text .*baseline {method}\."):
            model(store.corpus_root / RECORDING)
    else:
        (image,) = model(store.corpus_root / RECORDING, samples=1)
        assert image.size == (32, 32)


def test_the_average_begins_where_the_warm_start_ends(store, tmp_path):
    """At a learning rate of nothing the exported generator is the one that the warm start left."""
    recipe = shrunk(resolve("birds-rdg"))
    still = replace(recipe, rdg=replace(recipe.rdg, learning_rate=0.0, ema_decay=0.999))
    run = train(still, store, tmp_path / "run")
    left = load_latest(run / "checkpoints" / "warm_start")[1]["stage"]["generator"]
    exported = {name.removeprefix("generator."): value for name, value in weights(run / "model", "generator.").items()}
    kernels = [name for name in left if left[name].dim() == 4]
    assert kernels
    for name in kernels:
        torch.testing.assert_close(exported[name], left[name], msg=name)


@pytest.mark.parametrize("base", [name for name in BASES if name != "cub" and BASES[name]().rdg is not None])
def test_the_other_base_recipes(base, store, store_without_classes, tmp_path):
    train(shrunk(resolve(base)), store_without_classes if base in ("flickr8k", "places") else store, tmp_path / "run")
    terms = (tmp_path / "run" / "metrics.jsonl").read_text()
    assert ("relation/identical" in terms) == ("distinctive" in terms) == (base not in ("flickr8k", "places"))


def test_a_fine_tuned_encoder_starts_from_stage_1_and_one_from_scratch_does_not(store, tmp_path):
    """At a learning rate of nothing the exported encoder is what stage 2 began with, but for running statistics."""
    first = train(tiny_recipe(2), store, tmp_path / "first", stage="1")
    learnt = weights(first / "sen", "speech_encoder.")
    started = {}
    for speech in ("finetuned", "scratch"):
        recipe = with_rdg(tiny_recipe(1), speech=speech, learning_rate=0.0)
        run = train(recipe, store, tmp_path / speech, sen_from=first, stage="2")
        started[speech] = weights(run / "model", "speech_encoder.")
    statistics = [key for key in learnt if key.endswith("running_mean")]
    assert not any(torch.equal(started["finetuned"][key], learnt[key]) for key in statistics)  # it is in train mode
    parameters = [key for key in learnt if "running" not in key and "num_batches" not in key]
    assert all(torch.equal(started["finetuned"][key], learnt[key]) for key in parameters)
    assert not any(torch.equal(started["scratch"][key], learnt[key]) for key in parameters if key.endswith("weight"))


def test_samples_of_a_speech_encoder_that_trains_along_follow_it(store, tmp_path):
    """Evaluation embeds anew, with the encoder as it then is and as it is exported."""
    embedded = []
    original = stages.speech_embeddings

    def spy(*args, **kwargs):
        embedded.append(original(*args, **kwargs))
        return embedded[-1]

    recipe = with_rdg(tiny_recipe(2), speech="finetuned", learning_rate=1e-2)
    recipe = replace(recipe, rdg=replace(recipe.rdg, trainer=replace(recipe.rdg.trainer, evaluate_every=1)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages, "speech_embeddings", spy)
        train(recipe, store, tmp_path / "run")
    same_size = [a for a in embedded if len(a) == len(embedded[-1])]
    assert not torch.allclose(same_size[0], same_size[-1], atol=1e-4)


def test_the_front_end_travels_from_store_to_model(tmp_path):
    """Row 1 of method.md section 8: a model trained on Hamming windows listens through Hamming windows."""
    store = make_store(tmp_path / "data", window="hamming")
    run = train(tiny_recipe(1), store, tmp_path / "run")
    model = SpeechToImage.load(run)
    assert (model.front_end.window, model.front_end.pad_mode) == ("hamming", "reflect")

    wave = torch.from_numpy(load_audio(store.audio_path(0)))
    mels = {window: log_mel(wave, window=window).numpy() for window in ("hann", "hamming")}
    np.testing.assert_allclose(store.mel(0), mels["hamming"], atol=4e-3)
    assert np.abs(store.mel(0) - mels["hann"]).max() > 0.1


def test_the_first_stage_of_another_run(store, tmp_path):
    first = train(tiny_recipe(1), store, tmp_path / "first", stage="1")
    second = train(with_rdg(tiny_recipe(1), relation=0.0), store, tmp_path / "second", sen_from=first)
    assert same(weights(first / "sen", ""), weights(second / "sen", ""))
    assert same(weights(first / "sen", "speech_encoder."), weights(second / "model", "speech_encoder."))
    assert not (second / "checkpoints" / "sen").exists()


def test_the_source_of_stage_1_is_recorded(store, tmp_path):
    """By recipe, store and content, not by path; --resume keeps what was copied and knows another source."""
    first = train(tiny_recipe(1), store, tmp_path / "first", stage="1")
    second = train(tiny_recipe(1), store, tmp_path / "second", sen_from=first)
    recorded = json.loads((second / "config.json").read_text())["sen_from"]
    digest = hashlib.sha256((first / "sen" / "weights.safetensors").read_bytes()).hexdigest()
    assert recorded == {"recipe": "tiny", "store": store.fingerprint, "sha256": digest, "other_data": False}
    assert str(tmp_path) not in json.dumps(recorded)
    copied = (second / "sen" / "weights.safetensors").stat().st_mtime_ns
    train(tiny_recipe(1), store, second, sen_from=first, resume=True)
    assert (second / "sen" / "weights.safetensors").stat().st_mtime_ns == copied
    other = train(tiny_recipe(1), store, tmp_path / "other", stage="1", seed=5)
    with pytest.raises(UserError, match=r"sen_from\.sha256 was"):
        train(tiny_recipe(1), store, second, sen_from=other, resume=True)


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        (lambda sen: replace(sen, distinctive=0.0), r"distinctive was 1\.0, is now 0\.0"),
        (lambda sen: replace(sen, speech=CnnLstmConfig(width=1, hidden=8)), "speech.width was null, is now 1"),
        (lambda sen: replace(sen, speech=replace(sen.speech, conv_activation="relu")), "speech.conv_activation"),
        (lambda sen: replace(sen, speech=replace(sen.speech, mask_padding=False)), "speech.mask_padding"),
        (lambda sen: replace(sen, objective="distillation"), "objective"),
    ],
)
def test_a_stage_1_that_the_recipe_does_not_have_is_refused_before_training(store, tmp_path, change, difference):
    first = train(tiny_recipe(1), store, tmp_path / "first", stage="1")
    recipe = replace(tiny_recipe(1), sen=change(tiny_recipe(1).sen))
    with pytest.raises(UserError, match=f"its stage 1 is not that of the recipe tiny .*{difference}"):
        train(recipe, store, tmp_path / "second", sen_from=first)
    assert not (tmp_path / "second").exists()
    longer = replace(tiny_recipe(1), sen=replace(tiny_recipe(1).sen, trainer=replace(tiny_recipe(9).sen.trainer)))
    train(longer, store, tmp_path / "third", sen_from=first)  # how long it trained is no difference


def test_a_stage_1_of_another_store_is_refused_unless_allowed(store, tmp_path):
    """Pictures that it was trained on may be test pictures here."""
    other = make_store(tmp_path / "data", window="hamming")
    first = train(tiny_recipe(1), other, tmp_path / "first", stage="1")
    with pytest.raises(UserError, match=r"was trained on another store .*--allow-other-data"):
        train(tiny_recipe(1), store, tmp_path / "second", sen_from=first)
    run = train(tiny_recipe(1), store, tmp_path / "second", sen_from=first, allow_other_data=True)
    assert json.loads((run / "config.json").read_text())["sen_from"]["other_data"] is True


def test_what_is_exported_are_the_sizes_of_what_was_loaded(store, tmp_path):
    run = train(tiny_recipe(1), store, tmp_path / "run")
    exported, _ = load_model(run / "model")
    learnt, _ = load_model(run / "sen")
    assert exported["speech_encoder"] == learnt["speech_encoder"]
    assert exported["image_encoder"] == learnt["image_encoder"]


def test_a_moved_store_resumes(store, tmp_path):
    """The data are compared by content, not by the path as it was typed."""
    train(tiny_recipe(1), store, tmp_path / "run", stage="1")
    moved = tmp_path / "moved"
    shutil.copytree(store.directory, moved)
    train_run(tiny_recipe(1), data=moved, out=tmp_path / "run", device="cpu", resume=True)


def test_stage_2_needs_stage_1(store, tmp_path):
    for options in ({"stage": "2"}, {"sen_from": tmp_path}):
        with pytest.raises(UserError, match="no finished stage 1"):
            train(tiny_recipe(1), store, tmp_path / "-".join(options), **options)


def test_epochs_are_counted_in_the_store_s_images(store, tmp_path):
    recipe = tiny_recipe(0)
    recipe = replace(recipe, sen=replace(recipe.sen, trainer=replace(recipe.sen.trainer, epochs=3)))
    recipe = with_rdg(recipe, trainer=replace(recipe.rdg.trainer, epochs=2), batch_size=3)
    run = train(recipe, store, tmp_path / "run")
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    last = {record["stage"]: (record["step"], record["epoch"]) for record in records}
    assert last == {"sen": (3 * (16 // 6), 3), "rdg": (2 * (16 // 3), 2)}  # 16 images; the last batch is left out


def test_stage_1_exports_its_best_weights(store, tmp_path, monkeypatch):
    scores = iter([0.2, 0.7, 0.3, 0.1])
    kept = {}

    def score(stage, data):
        value = next(scores)
        kept[value] = {key: tensor.clone() for key, tensor in stage.state.speech.state_dict().items()}
        return value

    monkeypatch.setattr(stages.SENStage, "validation_map", score)
    recipe = tiny_recipe(4)
    recipe = replace(recipe, sen=replace(recipe.sen, trainer=replace(recipe.sen.trainer, evaluate_every=1)))
    run = train(recipe, store, tmp_path / "run", stage="1")
    speech, _ = load_sen(run, CPU)
    assert same(dict(speech.state_dict()), kept[0.7])
    assert not same(kept[0.7], kept[0.1])
    assert load_model(run / "sen")[0]["step"] == 2


def test_stage_1_looks_at_validation_images_and_at_no_test_image(store, tmp_path, monkeypatch):
    """Row 10 of method.md section 8."""
    splits = []
    original = stages.SENStage.validation_map

    def spy(stage, data):
        splits.append(data)
        return original(stage, data)

    monkeypatch.setattr(stages.SENStage, "validation_map", spy)
    train(tiny_recipe(1), store, tmp_path / "run", stage="1")
    (data,) = splits
    np.testing.assert_array_equal(data.utterances, store.split_indices("validation"))


@pytest.mark.parametrize("method", ["stackgan-v2-text", "stackgan-v2-text-reed"])
def test_the_model_that_reads_is_scored_as_the_others(method, store, tmp_path):
    run = train(shrunk(resolve(method, "birds-rdg")), store, tmp_path / "run")
    scores = evaluate(run, store.directory, device="cpu")["scores"]
    assert "sen/map" in {score["key"] for score in scores}
    assert {score["group"] for score in scores} > {"sen"}  # its images as well


@pytest.mark.parametrize("method", ["s2igan", "li2020", "stackgan-v2-text", "end-to-end"])
def test_every_kind_of_network_trains_in_bf16(method, store, tmp_path, gradients):
    """Weights and gradients stay float32; the first losses are those of float32, nearly."""
    recipe = shrunk(resolve(method, "birds-rdg"))

    def losses(precision):
        loops = {stage: replace(getattr(recipe, stage).trainer, precision=precision) for stage in ("sen", "rdg")}
        changed = {stage: replace(getattr(recipe, stage), trainer=loop) for stage, loop in loops.items()}
        run = train(replace(recipe, **changed), store, tmp_path / precision)
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        return {key: value for line in lines for key, value in line.items() if key.endswith("total")}

    expected, actual = losses("float32"), losses("bf16")
    assert all(gradient.dtype == torch.float32 for gradients_of_one in gradients for gradient in gradients_of_one)
    assert expected.keys() == actual.keys()
    for key, value in expected.items():
        assert actual[key] == pytest.approx(value, rel=0.1), key
        assert actual[key] != value, key


def test_a_run_goes_on_wherever_its_data_lie_and_not_with_another_version(store, tmp_path):
    out = tmp_path / "run"
    train(tiny_recipe(1), store, out)
    elsewhere = store.directory / ".." / store.directory.name
    train_run(tiny_recipe(1), data=elsewhere, out=out, device="cpu", resume=True)
    config = json.loads((out / "config.json").read_text())
    del config["version"], config["recipe"]["sen"]["batch_size"]
    (out / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"was made by another version of s2igan, .* another --out") as error:
        train(tiny_recipe(1), store, out, resume=True)
    assert "batch_size" not in str(error.value)
