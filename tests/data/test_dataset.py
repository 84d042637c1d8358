"""Batches: right images, right captions, and nothing of another split."""

import copy
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from s2igan.data import dataset
from s2igan.data.dataset import SpeechImageData, crop_and_flip, draw_other_views, encoder_input, pad_mels
from s2igan.data.manifest import Utterance, write_manifest
from s2igan.data.pack import build_store
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


def test_the_order_of_an_epoch_is_drawn_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes as long as the split is large, and a step must not; what was kept is never another epoch's."""
    data, drawn = SpeechImageData(store, "train", 32), []
    default_rng = np.random.default_rng

    def count(key: list[int]) -> np.random.Generator:
        drawn.append(key)
        return default_rng(key)

    monkeypatch.setattr(np.random, "default_rng", count)
    dataset._epoch.cache_clear()
    epoch = data.steps_per_epoch(4)
    assert epoch >= 2
    steps = [*range(2 * epoch), 0]
    batches = [data.positions(step, 4, seed=0) for step in steps]
    assert len(drawn) == 3
    assert not np.array_equal(data.positions(0, 4, seed=1), batches[0])
    assert len(data.positions(0, 2, seed=1)) == 2
    for step, batch in zip(steps, batches, strict=True):
        np.testing.assert_array_equal(batch, SpeechImageData(store, "train", 32).positions(step, 4, seed=0))


def test_an_epoch_shows_every_image_once_and_epochs_differ(train: SpeechImageData) -> None:
    epochs = [np.concatenate([train.positions(epoch * 4 + step, 4, seed=0) for step in range(4)]) for epoch in range(2)]
    for epoch in epochs:
        assert sorted(epoch.tolist()) == list(range(16))
    assert epochs[0].tolist() != epochs[1].tolist()
    assert train.positions(0, 4, seed=0).tolist() != train.positions(0, 4, seed=1).tolist()


class TestPairsOfSimilarLength:
    """16 images in batches of 3: 5 steps an epoch, one image left out."""

    BATCH, STEPS, SEED = 3, 5, 7

    @pytest.fixture
    def varied(self, store: Store) -> SpeechImageData:
        """Utterances of 50 to 400 frames, some of equal length; only the index says so."""
        changed = copy.copy(store)
        changed.n_frames = np.random.default_rng(4).integers(5, 40, len(store), dtype=np.int32) * 10
        return SpeechImageData(changed, "train", 32)

    def epoch(self, data: SpeechImageData, window: int, epoch: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Positions and utterances of every step, drawn from the last to the first."""
        steps = reversed(range(epoch * self.STEPS, (epoch + 1) * self.STEPS))
        pairs = [data.pairs_of_similar_length(step, self.BATCH, self.SEED, window) for step in steps]
        positions, utterances = (np.stack(part)[::-1] for part in zip(*pairs, strict=True))
        return positions, utterances

    @pytest.mark.parametrize("window", [2, 3, 5, 100])
    def test_every_window_has_its_images_once_with_a_caption_each(self, varied: SpeechImageData, window: int) -> None:
        drawn = set()
        for epoch in range(30):
            positions, utterances = self.epoch(varied, window, epoch)
            assert positions.shape == (self.STEPS, self.BATCH)
            np.testing.assert_array_equal(varied.store.image_index[utterances], varied.images[positions])
            for first in range(0, self.STEPS, window):
                steps = range(first, min(first + window, self.STEPS))
                plain = [varied.positions(epoch * self.STEPS + step, self.BATCH, self.SEED) for step in steps]
                assert sorted(positions[steps].ravel()) == sorted(np.concatenate(plain))
            drawn |= set(utterances.ravel().tolist())
        assert drawn == set(varied.utterances.tolist())

    @pytest.mark.parametrize("window", [2, 5])
    def test_batches_of_a_window_do_not_overlap_in_length(self, varied: SpeechImageData, window: int) -> None:
        """Nor do they come from short to long in every epoch."""
        ascending = 0
        for epoch in range(30):
            frames = varied.store.n_frames[self.epoch(varied, window, epoch)[1]]
            for first in range(0, self.STEPS, window):
                part = frames[first : first + window]
                order = np.argsort(part.sum(axis=1))
                assert (part[order].max(axis=1)[:-1] <= part[order].min(axis=1)[1:]).all()
                ascending += len(part) > 1 and order.tolist() == list(range(len(part)))
        assert ascending < 0.75 * 30 * (self.STEPS // window)

    def test_less_is_padding(self, varied: SpeechImageData) -> None:
        def padding(batches: np.ndarray) -> float:
            frames = varied.store.n_frames[batches]
            return 1 - frames.sum() / (frames.max(axis=1) * frames.shape[1]).sum()

        shares = [
            padding(np.concatenate([self.epoch(varied, window, epoch)[1] for epoch in range(10)]))
            for window in (1, 2, 5)
        ]
        assert shares[0] > 1.3 * shares[1] > 1.6 * shares[2]

    def test_a_batch_has_short_and_long_ones_in_any_order(self, varied: SpeechImageData) -> None:
        """So that processes which share it have as much to do, and the same statistics."""
        frames = np.concatenate([varied.store.n_frames[self.epoch(varied, 5, epoch)[1]] for epoch in range(100)])
        assert 0.4 < (frames[:, 0] > frames[:, -1]).mean() / (frames[:, 0] != frames[:, -1]).mean() < 0.6

    def test_all_follows_from_seed_and_step(self, varied: SpeechImageData) -> None:
        """Also where many utterances are of one length."""
        varied = copy.copy(varied)
        varied.store = copy.copy(varied.store)
        varied.store.n_frames = np.minimum(varied.store.n_frames, 60)
        first, again = self.epoch(varied, 3), self.epoch(varied, 3)
        for a, b in zip(first, again, strict=True):
            np.testing.assert_array_equal(a, b)
        alone = varied.pairs_of_similar_length(4, self.BATCH, self.SEED, 3)
        np.testing.assert_array_equal(alone[1], first[1][4])
        other = varied.pairs_of_similar_length(4, self.BATCH, self.SEED + 1, 3)
        assert alone[1].tolist() != other[1].tolist()

    def test_a_split_smaller_than_the_batch_fills_one(self, varied: SpeechImageData) -> None:
        positions, utterances = varied.pairs_of_similar_length(3, 20, self.SEED, 4)
        assert sorted(positions) == sorted(varied.positions(3, 20, self.SEED))
        np.testing.assert_array_equal(varied.store.image_index[utterances], varied.images[positions])


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


def test_an_image_paired_with_itself_shows_another_view(store_without_classes: Store) -> None:
    data = SpeechImageData(store_without_classes, "train", 32)
    positions = np.tile(np.arange(len(data)), 50)
    rng = np.random.default_rng(5)
    views = rng.integers(0, 4, len(positions))
    is_same = data.similar(positions, rng) == positions
    assert is_same.all()
    other = draw_other_views(views, is_same, 4, rng)
    assert np.unique((other - views) % 4, return_counts=True)[0].tolist() == [1, 2, 3]
    with pytest.raises(UserError, match="image_views is 1"):
        draw_other_views(views, is_same, 1, rng)


def test_other_images_show_any_view() -> None:
    views = np.zeros(400, dtype=np.int64)
    alone = np.arange(400) < 100
    other = draw_other_views(views, alone, 4, np.random.default_rng(6))
    assert set(other[alone].tolist()) == {1, 2, 3}
    assert set(other[~alone].tolist()) == {0, 1, 2, 3}
    plain = draw_other_views(views, alone & False, 4, np.random.default_rng(7))
    np.testing.assert_array_equal(plain, np.random.default_rng(7).integers(0, 4, 400))  # as drawn without pairs


@pytest.mark.parametrize("shape", [(40, 70), (70, 40), (40, 40)])
def test_random_crops_reach_all_that_is_stored(tmp_path: Path, shape: tuple[int, int]) -> None:
    """Along the longer side as well, as the reference crops; the crop without random numbers is the middle."""
    rows = []
    for number in range(2):  # every pixel says where it is
        y, x = np.mgrid[: shape[0], : shape[1]].astype(np.uint8)
        Image.fromarray(np.stack([y, x, np.full_like(y, number)], axis=-1)).save(tmp_path / f"{number}.png")
        soundfile.write(tmp_path / f"{number}.wav", np.sin(np.arange(9000) / 5) / 2, 22_050)
        rows.append(Utterance(f"{number}.wav", f"{number}.png", split="train"))
    write_manifest(tmp_path / "manifest.jsonl", rows)
    build_store(tmp_path / "manifest.jsonl", image_size=34, jobs=1)
    store = Store.open(tmp_path)
    assert store.images.shape == (2, 40, 40, 3)
    assert store.images.whole(1).shape == (*shape, 3)
    data = SpeechImageData(store, "train", 34)

    def corners(crops: torch.Tensor) -> set[tuple[int, int]]:
        pixels = crops.add(1).mul(127.5).round().long()
        assert (pixels[:, 2] == torch.tensor([0, 1] * (len(pixels) // 2))[:, None, None]).all()
        assert (pixels[:, 0].diff(dim=1) == 1).all()
        return {(int(one[0].min()), int(one[1].min())) for one in pixels}

    positions = np.array([0, 1])
    drawn = corners(data.crops(np.tile(positions, 2000), np.random.default_rng(0)))
    assert drawn == {(top, left) for top in range(shape[0] - 33) for left in range(shape[1] - 33)}
    assert corners(data.crops(positions, None)) == {((shape[0] - 34) // 2, (shape[1] - 34) // 2)}
    middle = (shape[0] - 40) // 2, (shape[1] - 40) // 2
    assert tuple(store.images[1][0, 0, :2]) == tuple(store.images[[1]][0, 0, 0, :2]) == middle


def test_training_reads_a_random_window_of_what_is_long(store):
    utterances = np.arange(3)
    whole, lengths = encoder_input(store, utterances, "speech")
    longest = int(lengths.min()) - 5
    seen = set()
    for seed in range(20):
        mel, cut = encoder_input(store, utterances, "speech", (longest, np.random.default_rng(seed)))
        assert set(cut.tolist()) == {longest}
        starts = [start for start in range(6) if torch.equal(mel[0], whole[0, start : start + longest])]
        seen.update(starts)
    assert len(seen) > 1
    rng = np.random.default_rng(0)
    same, same_lengths = encoder_input(store, utterances, "speech", (int(lengths.max()), rng))
    assert torch.equal(same, whole)
    assert torch.equal(same_lengths, lengths)
    assert rng.bit_generator.state == np.random.default_rng(0).bit_generator.state  # nothing was drawn
