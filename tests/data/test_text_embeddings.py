"""Embeddings are found by their texts, whatever the order; damage is a sentence."""

from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import torch

from s2igan.data import text_embeddings as module
from s2igan.data.dataset import embedding_rows, encoder_input
from s2igan.data.store import Store
from s2igan.data.text_embeddings import FILE, TextEmbeddings, text_keys, write_text_embeddings
from s2igan.errors import UserError

TEXTS = [f"this bird has {n} feathers" for n in range(50)] + ["", "é", "A bird", "a bird"]
ROWS = np.random.default_rng(0).standard_normal((len(TEXTS), 6)).astype(np.float16)


def test_every_text_finds_its_row(tmp_path: Path) -> None:
    write_text_embeddings(tmp_path, TEXTS, ROWS, made_from="x")
    found = TextEmbeddings.open(tmp_path)
    assert (found.rows.shape, found.made_from) == ((54, 6), "x")
    asked = [*TEXTS[::-1], TEXTS[3]]
    np.testing.assert_array_equal(found.rows[found.find(asked)], ROWS[[*range(53, -1, -1), 3]])
    assert found.find(["another", TEXTS[0], "a bird "]).tolist()[::2] == [-1, -1]
    assert found.find([]).shape == (0,)


def test_rows_are_mapped_and_cannot_be_written(tmp_path: Path) -> None:
    path = write_text_embeddings(tmp_path, TEXTS, ROWS)
    found = TextEmbeddings.open(tmp_path)
    assert str(path) in Path("/proc/self/maps").read_text()
    with pytest.raises(ValueError, match="read-only"):
        found.rows[0] = 0


def test_the_order_of_writing_does_not_matter_and_the_fingerprint_tells_content(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one = write_text_embeddings(tmp_path / "a", TEXTS, ROWS).read_bytes()
    assert write_text_embeddings(tmp_path / "b", TEXTS[::-1], ROWS[::-1]).read_bytes() == one
    first = TextEmbeddings.open(tmp_path / "a").fingerprint
    changed = ROWS.copy()
    changed[7, 2] += 1
    write_text_embeddings(tmp_path / "b", TEXTS, changed)
    assert TextEmbeddings.open(tmp_path / "b").fingerprint != first
    write_text_embeddings(tmp_path / "b", [*TEXTS[:-1], "other"], ROWS)
    assert TextEmbeddings.open(tmp_path / "b").fingerprint != first


def test_keys_are_the_beginning_of_a_digest() -> None:
    """SHA-256 of the empty text begins with e3b0c44298fc1c14."""
    assert text_keys([""]).tolist() == [0xE3B0C44298FC1C14 - 2**64]


def test_a_text_twice_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="same"):
        write_text_embeddings(tmp_path, ["a", "b", "a"], ROWS[:3])


def test_an_empty_file_finds_nothing(tmp_path: Path) -> None:
    write_text_embeddings(tmp_path, [], ROWS[:0])
    assert TextEmbeddings.open(tmp_path).find(["a", "b"]).tolist() == [-1, -1]


def test_missing_torn_and_other_versions_are_sentences(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=rf"{FILE}: there are no text embeddings .* --text-embeddings"):
        TextEmbeddings.open(tmp_path)
    whole = write_text_embeddings(tmp_path, TEXTS, ROWS).read_bytes()
    other = safetensors.numpy.save({"keys": np.zeros(1)})
    for damaged in (b"", whole[:5], whole[:100], whole[:-1], whole + b"x", other):
        (tmp_path / FILE).write_bytes(damaged)
        with pytest.raises(UserError, match=rf"{FILE}: the text embeddings are damaged"):
            TextEmbeddings.open(tmp_path)
    (tmp_path / FILE).write_bytes(whole)
    monkeypatch.setattr(module, "VERSION", 2)
    with pytest.raises(UserError, match="of version 1, and this program reads version 2"):
        TextEmbeddings.open(tmp_path)


def test_an_encoder_is_given_one_frame_for_each_utterance(store: Store) -> None:
    asked = np.array([9, 0, 30])
    frames, lengths = encoder_input(store, asked, "embeddings")
    assert frames.shape == (3, 1, 16)
    assert frames.dtype == torch.float32
    assert lengths.tolist() == [1, 1, 1]
    rows = store.text_embeddings.rows[store.text_embeddings.find([str(store.text(int(u))) for u in asked])]
    np.testing.assert_array_equal(frames[:, 0], rows)


def test_an_utterance_whose_text_has_none_is_named(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Store, "text", lambda self, u: {2: "unheard of", 5: "as well"}.get(int(u), "shade a, take 0"))
    with pytest.raises(UserError, match=r"no embedding of 2 of 6 captions, such as 'unheard of' of .*0_1_0\.wav"):
        embedding_rows(store, np.arange(6))
    monkeypatch.setattr(Store, "text", lambda self, u: None)
    with pytest.raises(UserError, match="has no text"):
        encoder_input(store, np.arange(1), "embeddings")
