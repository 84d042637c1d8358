"""Batches: right images, right captions, and nothing of another split."""

import numpy as np
import pytest
import torch

from s2igan.data.dataset import SpeechImageData, crop_and_flip, pad_mels
from s2igan.data.store import Store
from s2igan.errors import UserError


@pytest.fixture(scope="module")
def train(store: Store) -> SpeechImageData:
    return SpeechImageData(store, "train", 32)


def test_a_split_holds_its_own_images_and_utterances_only(store: Store) -> None:
    seen: dict[str, set[int]] = {}
    for split in ("train", "validation", "test"):
        data = SpeechImageData(store, split, 32)
        seen[split] = set(data.images.tolist())
        assert {int(store.image_index[u]) for u in data.utterances} == seen[split]
        rng = np.random.default_rng(0)
        for _ in range(20):
            positions = rng.integers(0, len(data), 8)
            assert set(data.caption(positions, rng).tolist()) <= set(data.utterances.tolist())
            assert set(store.image_index[data.caption(positions, rng)].tolist()) <= seen[split]
    assert not seen["train"] & seen["test"]
    assert not seen["train"] & seen["validation"]
    assert not seen["validation"] & seen["test"]
    assert {store.classes[c] for c in store.image_class[list(seen["test"])]} == {"class 5"}


def test_a_caption_describes_its_image_and_every_caption_is_drawn(train: SpeechImageData) -> None:
    rng = np.random.default_rng(1)
    drawn = set()
    for _ in range(40):
        positions = np.arange(len(train))
        utterances = train.caption(positions, rng)
        np.testing.assert_array_equal(train.store.image_index[utterances], train.images[positions])
        drawn |= set(utterances.tolist())
    assert drawn == set(train.utterances.tolist())


def test_similar_is_another_image_of_the_class_and_mismatched_one_of_another_class(train: SpeechImageData) -> None:
    rng = np.random.default_rng(2)
    positions = np.arange(len(train))
    similar, mismatched = [set() for _ in positions], [set() for _ in positions]
    for _ in range(300):
        for i, (s, m) in enumerate(zip(train.similar(positions, rng), train.mismatched(positions, rng), strict=True)):
            similar[i].add(int(s))
            mismatched[i].add(int(m))
    for i in positions:
        own = set(np.flatnonzero(train.classes == train.classes[i]).tolist())
        assert similar[i] == own - {i}
        assert mismatched[i] == set(positions.tolist()) - own


def test_without_classes_the_similar_image_is_the_same_one(store_without_classes: Store) -> None:
    data = SpeechImageData(store_without_classes, "train", 32)
    positions = np.arange(len(data))
    rng = np.random.default_rng(3)
    np.testing.assert_array_equal(data.similar(positions, rng), positions)
    assert (data.mismatched(positions, rng) != positions).all()
    assert data.n_classes == len(data)


def test_an_epoch_shows_every_image_once_and_epochs_differ(train: SpeechImageData) -> None:
    epochs = [np.concatenate([train.positions(epoch * 4 + step, 4, seed=0) for step in range(4)]) for epoch in range(2)]
    for epoch in epochs:
        assert sorted(epoch.tolist()) == list(range(16))
    assert epochs[0].tolist() != epochs[1].tolist()
    assert train.positions(0, 4, seed=0).tolist() != train.positions(0, 4, seed=1).tolist()


def test_crops_are_windows_of_the_picture_flipped_or_not() -> None:
    pixels = np.arange(6 * 6 * 3, dtype=np.uint8).reshape(1, 6, 6, 3)
    rng = np.random.default_rng(0)
    windows = {
        bytes(pixels[0, t : t + 4, left : left + 4][:, ::step].tobytes())
        for t in range(3)
        for left in range(3)
        for step in (1, -1)
    }
    seen = set()
    for _ in range(400):
        crop = crop_and_flip(pixels, 4, rng)
        assert crop.shape == (1, 3, 4, 4)
        seen.add(((crop[0].permute(1, 2, 0) + 1) * 127.5).round().to(torch.uint8).numpy().tobytes())
    assert seen == windows
    centre = ((crop_and_flip(pixels, 4, None)[0].permute(1, 2, 0) + 1) * 127.5).round().to(torch.uint8).numpy()
    np.testing.assert_array_equal(centre, pixels[0, 1:5, 1:5])


def test_mels_are_padded_with_zeros() -> None:
    mels = [np.ones((3, 2), np.float16), 2 * np.ones((5, 2), np.float16)]
    padded, lengths = pad_mels(mels)
    assert lengths.tolist() == [3, 5]
    assert padded[0].sum() == 6
    assert padded[1].sum() == 20
    assert (padded[0, 3:] == 0).all()


def test_refusals_say_what_to_do(store: Store) -> None:
    with pytest.raises(UserError, match="prepare it again with --size 256"):
        SpeechImageData(store, "train", 256)
