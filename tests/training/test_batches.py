"""What the two stages feed their networks: the right pairs, of the training split only."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from rich.console import Console

from s2igan.data.dataset import SpeechImageData
from s2igan.data.store import Store, StoredImages
from s2igan.errors import UserError
from s2igan.models.generator import noise
from s2igan.models.image_encoder import ImageEncoder
from s2igan.models.speech_encoder import SpeechEncoder
from s2igan.training.augment import SpeechAugment
from s2igan.training.beyond import Beyond
from s2igan.training.frozen import draw_views, image_features, speech_embeddings
from s2igan.training.prefetch import read_steps, streams
from s2igan.training.rdg import RDGConfig
from s2igan.training.stages import RDGStage, SENStage
from tiny_corpus import batch_of, tiny_recipe

CPU = torch.device("cpu")
QUIET = Console(quiet=True)
STEPS = 8


@pytest.fixture
def sen_stage(store, tmp_path):
    def build(store=store, **changes):
        config = replace(tiny_recipe(STEPS).sen, **changes)
        data = SpeechImageData(store, "train", 32)
        return SENStage(config, data, None, seed=0, device=CPU, console=QUIET, cache=tmp_path)

    return build


@pytest.fixture
def rdg_stage(store, tmp_path):
    def build(store=store, **changes):
        recipe = tiny_recipe(STEPS)
        speech, image = SpeechEncoder(recipe.sen.speech).eval(), ImageEncoder(recipe.sen.image).eval()
        config: RDGConfig = replace(recipe.rdg, **changes)
        data = SpeechImageData(store, "train", 32)
        folders = {"samples": tmp_path, "cache": tmp_path}
        given = {"speech": speech, "image": image, "seed": 0, "device": CPU, "console": QUIET}
        return RDGStage(config, Beyond(), data, None, **given, **folders)

    return build


@pytest.fixture
def touched(monkeypatch):
    """Numbers of the utterances and images that anything reads from a store."""
    seen = {"utterances": set(), "images": set()}
    mel, pixels, whole = Store.mel, StoredImages.__getitem__, StoredImages.whole

    def read_mel(self, utterance):
        seen["utterances"].add(int(utterance))
        return mel(self, utterance)

    def read_pixels(self, chosen):
        seen["images"] |= set(np.atleast_1d(np.arange(len(self))[chosen]).tolist())
        return pixels(self, chosen)

    monkeypatch.setattr(Store, "mel", read_mel)

    def read_whole(self, image):
        seen["images"].add(int(image))
        return whole(self, image)

    monkeypatch.setattr(StoredImages, "__getitem__", read_pixels)
    monkeypatch.setattr(StoredImages, "whole", read_whole)
    return seen


@pytest.mark.parametrize(("speech", "length_window"), [("frozen", 1), ("finetuned", 2)])
def test_no_batch_holds_anything_of_another_split(store, sen_stage, rdg_stage, touched, speech, length_window):
    stages = [
        sen_stage(image_views=0, length_window=length_window),
        rdg_stage(image_views=0, speech=speech),
    ]
    for stage in stages:
        for index in range(STEPS):
            batch_of(stage, index)
    train = store.split_indices("train")
    assert touched["utterances"] <= set(train.tolist())
    assert len(touched["utterances"]) > 0.8 * len(train)  # chance may pass over a caption in so few steps
    assert touched["images"] == set(store.image_index[train].tolist())


def test_no_batch_holds_features_of_another_split(store, sen_stage, rdg_stage, monkeypatch):
    """The same where images were encoded once: the table has all images, batches look up those of the split."""
    views, drawn = 2, []
    draw = draw_views

    def spy(features, images, rng):
        drawn.append(images)
        return draw(features, images, rng)

    monkeypatch.setattr("s2igan.training.data.draw_views", spy)
    sen = sen_stage(image_views=views)
    assert sen.reader.features.shape[:2] == (24, views)
    for index in range(STEPS):
        batch_of(sen, index)
    of_train = set(np.unique(store.image_index[store.split_indices("train")]).tolist())
    assert set(np.concatenate(drawn).tolist()) == of_train

    rdg = rdg_stage(image_views=views)
    others = [image for image in range(store.n_images) if image not in of_train]
    rdg.reader.image_embeddings[others] = torch.nan
    for index in range(STEPS):
        assert all(torch.isfinite(part).all() for part in batch_of(rdg, index).relation_features.values())


@pytest.mark.parametrize("length_window", [1, 2])
def test_a_batch_of_stage_1_pairs_utterances_with_their_images(store, sen_stage, length_window):
    stage = sen_stage(image_views=1, augment=SpeechAugment(), length_window=length_window)
    for index in range(4):
        batch = batch_of(stage, index)
        for row in range(len(batch.mel)):
            mel = batch.mel[row, : batch.lengths[row]].half().numpy()
            (utterance,) = [u for u in stage.train.utterances if np.array_equal(store.mel(int(u)), mel)]
            image = int(store.image_index[utterance])
            torch.testing.assert_close(batch.image_features[row], stage.reader.features[image, 0].float())
            position = int(np.flatnonzero(stage.train.images == image)[0])
            assert batch.class_ids[row] == stage.train.classes[position]


def test_a_window_of_one_batch_leaves_batches_as_they_were_drawn(store, sen_stage):
    stage = sen_stage()
    assert stage.config.length_window == 1
    for step in range(STEPS):
        rng, _ = streams(0, "sen", step)
        positions = stage.train.positions(step, 6, 0)
        utterances = stage.train.caption(positions, rng)
        features = draw_views(stage.reader.features, stage.train.images[positions], rng)
        assert stage.reader.items(step) == [str(store.audio_path(int(utterance))) for utterance in utterances]
        torch.testing.assert_close(batch_of(stage, step).image_features, features, rtol=0, atol=0)


@pytest.mark.parametrize("length_window", [1, 2])
def test_the_shares_of_two_processes_make_up_the_batch_of_one(sen_stage, length_window):
    """Distorted speech and images cropped in the step, for each of which the draws are those of all."""
    stage = sen_stage(image_views=0, length_window=length_window, augment=SpeechAugment(strength=1.0, rises=(0, 0)))
    for step in (3, 0):
        whole = batch_of(stage, step)
        shares = [replace(stage.reader, rows=rows) for rows in (slice(0, 3), slice(3, 6))]
        parts = [stage.batch(reader.read(step)) for reader in shares]
        for field in fields(whole):
            both = torch.cat([getattr(part, field.name) for part in parts])
            torch.testing.assert_close(both, getattr(whole, field.name), msg=lambda text, name=field.name: name + text)


def test_batches_by_length_have_less_padding(sen_stage):
    """The tiny set has utterances of two lengths, so that most batches of a pair can be of one."""

    def padding(**options):
        stage = sen_stage(augment=SpeechAugment(), **options)
        batches = [batch_of(stage, step) for step in range(20)]
        return 1 - sum(int(batch.lengths.sum()) for batch in batches) / sum(
            batch.mel[..., 0].numel() for batch in batches
        )

    assert padding(length_window=2) < 0.7 * padding()


def test_a_window_is_at_least_one_batch(sen_stage):
    with pytest.raises(UserError, match="length_window 0 must be 1 or more"):
        sen_stage(length_window=0)


def test_a_batch_of_stage_2_pairs_speech_images_and_relations(store, rdg_stage, tmp_path):
    stage = rdg_stage(image_views=1)
    data = stage.train
    embedded = speech_embeddings(store, stage.speech, data.utterances, device=CPU)
    cached = image_features(store, stage.image, 32, 1, cache=tmp_path, console=QUIET, device=CPU)
    with torch.no_grad():
        crops = stage.image.project(cached[:, 0].float())
    by_image = {tuple(row.tolist()): image for image, row in enumerate(crops)}
    classes = np.asarray(store.image_class)
    for index in range(2):
        batch = batch_of(stage, index)
        assert batch.identical
        for row in range(6):
            (match,) = torch.nonzero((embedded == batch.embedding[row]).all(dim=1)).flatten().tolist()
            image = int(store.image_index[data.utterances[match]])
            named = {name: by_image[tuple(rows[row].tolist())] for name, rows in batch.relation_features.items()}
            assert named["real"] == image
            assert named["similar"] != image
            assert classes[named["similar"]] == classes[image]
            assert classes[named["negative"]] != classes[image]
            assert closest(store, batch.real[32][row]) == image
            assert closest(store, batch.mismatched[32][row]) == named["negative"]
            for images in (batch.real, batch.mismatched):
                torch.testing.assert_close(images[8][row], torch.nn.functional.avg_pool2d(images[32][row], 4))


def closest(store, picture):
    """The image that a picture is a crop of. Those of a class differ by noise: look at every window, flipped or not."""
    margin = store.images.shape[1] - picture.shape[-1]
    best = None
    for image in range(store.n_images):
        stored = torch.from_numpy(store.images[image].copy()).permute(2, 0, 1).float() / 127.5 - 1
        for top in range(margin + 1):
            for left in range(margin + 1):
                window = stored[:, top : top + picture.shape[1], left : left + picture.shape[2]]
                for candidate in (window, window.flip(2)):
                    distance = float((candidate - picture).abs().max())
                    if best is None or distance < best[0]:
                        best = (distance, image)
    assert best[0] < 1e-5
    return best[1]


def test_batches_follow_from_seed_and_step(rdg_stage):
    first, second = rdg_stage(), rdg_stage()
    for index in (0, 5):
        a, b = batch_of(first, index), batch_of(second, index)
        assert torch.equal(a.real[32], b.real[32])
        assert torch.equal(a.z, b.z)
        assert torch.equal(a.eps, b.eps)
    a, b = batch_of(first, 0), batch_of(first, 1)
    assert not torch.equal(a.z, b.z)
    assert a.z.shape == (6, 4)
    rng = torch.Generator().manual_seed(0)
    z, eps = noise(first.config.generator, 4000, rng)
    for draw in (z, eps):
        torch.testing.assert_close(torch.std_mean(draw), (torch.tensor(1.0), torch.tensor(0.0)), atol=0.03, rtol=0)
    assert not torch.equal(z[:, :4], eps[:, :4])


def test_without_classes_there_is_no_identical_relation(store_without_classes, sen_stage, rdg_stage):
    assert not batch_of(rdg_stage(store_without_classes), 0).identical
    assert sen_stage(store_without_classes).state.classifier is None


def test_worker_processes_read_what_this_one_reads(sen_stage, rdg_stage):
    for stage in (sen_stage(image_views=0), rdg_stage(image_views=1)):
        here, elsewhere = (list(read_steps(stage.reader, range(2, 5), CPU, workers)) for workers in (0, 2))
        assert len(here) == 3
        for a, b in zip(here, elsewhere, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=0)
