import dataclasses

import numpy as np
import pytest
import torch

from s2igan.checkpoint import load_model, save_model
from s2igan.data.store import Store
from s2igan.errors import UserError
from s2igan.evaluation.evaluation_split import EvaluationSplit, Networks, check_size
from s2igan.evaluation.subject import Subject
from s2igan.models.generator import Generator
from s2igan.pipeline import SpeechToImage
from s2igan.run_directory import RunDirectory
from small_birds import SIDE, TEST_VOICE, make_run


def test_only_new_voices_are_evaluated(bird_store):
    split = EvaluationSplit.of(bird_store, "test")
    np.testing.assert_array_equal(split.utterances, bird_store.split_indices("test"))
    assert split.voices == "1 that speak in no other split"
    assert {bird_store.speaker(int(u)) for u in split.utterances} == {TEST_VOICE}


def test_all_voices_where_none_is_known(store):
    split = EvaluationSplit.of(store, "test")
    np.testing.assert_array_equal(split.utterances, store.split_indices("test"))
    assert "none of which is known to be new" in split.voices
    np.testing.assert_array_equal(split.images, np.unique(store.image_index[split.utterances]))


def test_an_empty_split_is_named(bird_store):
    with pytest.raises(UserError, match="validation"):
        EvaluationSplit.of(bird_store, "validation")


def test_mentioned_facts_are_those_of_the_picture(bird_store):
    split = EvaluationSplit.of(bird_store, "test")
    utterance = int(split.utterances[0])
    facts = split.mentioned(utterance)
    assert tuple(facts) == bird_store.mentions(utterance)
    assert facts.items() <= bird_store.image_attributes(int(bird_store.image_index[utterance])).items()


def test_networks_of_both_stages_and_of_one(networks, bird_store, tmp_path):
    assert networks.model is not None
    assert networks.image_size == SIDE
    only = Networks.load(Subject.of(make_run(tmp_path / "run", bird_store, trained="sen")), torch.device("cpu"))
    assert only.model is None
    for key, value in only.image.head.state_dict().items():
        torch.testing.assert_close(value, networks.image.head.state_dict()[key])


def test_a_model_without_image_encoder_is_refused(small_run, tmp_path):
    config, weights = load_model(small_run / "model")
    save_model(tmp_path / "model", config, {key: value for key, value in weights.items() if "image_head" not in key})
    with pytest.raises(UserError, match=r"weights\.safetensors does not fit"):
        Networks.load(Subject.of(tmp_path / "model"), torch.device("cpu"))


def test_a_run_without_networks_is_refused(tmp_path):
    RunDirectory.create(tmp_path / "run", {}).close()
    with pytest.raises(UserError, match="no finished stage 1"):
        Networks.load(Subject.of(tmp_path / "run"), torch.device("cpu"))


def test_pictures_too_small_for_the_model(model, bird_store):
    check_size(model, bird_store)
    large = dataclasses.replace(model.generator.config, resolutions=(16, 32, 64))
    with pytest.raises(UserError, match="--size 64"):
        check_size(SpeechToImage(model.speech_encoder, Generator(large), model.front_end), bird_store)


def test_a_few_new_voices_by_accident_do_not_decide(store):
    """Where speakers are not kept apart, the whole split is evaluated, and it is said how many voices are new."""
    opened = Store.open(store.directory)
    own = opened.split_indices("test")
    opened.speaker_index = np.zeros(len(opened), np.int32)
    opened.speaker_index[own[:1]] = 1
    split = EvaluationSplit.of(opened, "test")
    np.testing.assert_array_equal(split.utterances, own)
    assert split.voices == f"all of the split, of which 1 that speak in no other split (1 of {len(own)} utterances)"
    opened.speaker_index[own[: len(own) // 2]] = 1
    np.testing.assert_array_equal(EvaluationSplit.of(opened, "test").utterances, own[: len(own) // 2])
