"""The embeddings of a StackGAN pack reach the right captions, and the baseline that reads them trains on them."""

import os
import pickle
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_cub import KEYS, caption
from test_cub import make as make_cub
from test_oxford102 import KEYS as FLOWERS
from test_oxford102 import make as make_flowers

from s2igan.checkpoint import load_model
from s2igan.corpora.importers import cub, oxford102
from s2igan.corpora.importers.pack_embeddings import CaptionEmbeddings
from s2igan.corpora.importers.source import Importer
from s2igan.corpora.prepare import corpus as prepare_module
from s2igan.corpora.prepare.corpus import prepare_corpus
from s2igan.corpora.prepare.options import PrepareOptions
from s2igan.data.dataset import encoder_input
from s2igan.data.store import Store
from s2igan.dry_run import DataFacts
from s2igan.errors import UserError
from s2igan.evaluation.evaluate import evaluate
from s2igan.evaluation.options import EvaluationOptions
from s2igan.pipeline import SpeechToImage
from s2igan.recipes import resolve
from s2igan.training.train import train_run
from sources import python_2, recordings, texts
from tiny_corpus import shrunk

LISTS = {
    "train": [KEYS[n] for n in (11788, 3, 61, 60)],  # not in the order of images.txt
    "test": [KEYS[n] for n in (121, 2, 1, 120)],
}
DIMENSIONS = 16


def embeddings(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, 10, DIMENSIONS)).astype(np.float32)


EMBEDDINGS = {split: embeddings(4, seed) for seed, split in enumerate(LISTS)}


def row_of(key: str, number: int) -> np.ndarray:
    """What the pack has for a caption."""
    split = next(split for split, names in LISTS.items() if key in names)
    row: np.ndarray = EMBEDDINGS[split][LISTS[split].index(key), number]
    return row


def write_pack(root: Path, lists: dict[str, list[str]], values: dict[str, np.ndarray]) -> None:
    """As StackGAN's were written: by Python 2."""
    for split, names in lists.items():
        files = {"filenames": names, "class_info": [1] * len(names), "char-CNN-RNN-embeddings": list(values[split])}
        texts(root / split, {f"{name}.pickle": python_2(content) for name, content in files.items()})


def source_of(root: Path) -> Path:
    make_cub(root)
    write_pack(root / "birds", LISTS, EMBEDDINGS)
    return root


def read(root: Path, importer: Importer = cub.IMPORTER, keys: Collection[str] | None = None) -> CaptionEmbeddings:
    assert importer.text_embeddings is not None
    return importer.text_embeddings(root, KEYS.values() if keys is None else keys)


@pytest.mark.parametrize(
    "pickled",
    [
        lambda values: python_2(list(values)),
        lambda values: python_2(values),
        lambda values: pickle.dumps([list(rows) for rows in values], 2),
        lambda values: pickle.dumps(values.astype(">f8"), 4),
    ],
    ids=["a list of arrays", "one array", "lists of lists", "Python 3"],
)
def test_row_k_of_a_picture_is_of_its_caption_k(tmp_path: Path, pickled: Callable[[np.ndarray], bytes]) -> None:
    source_of(tmp_path)
    for split, values in EMBEDDINGS.items():
        texts(tmp_path / "birds" / split, {"char-CNN-RNN-embeddings.pickle": pickled(values)})
    found = read(tmp_path)
    assert len(found.texts) == len(found.rows) == 80
    for key in KEYS.values():
        for number in range(10):
            row = found.rows[found.texts.index(caption(key, number))]
            np.testing.assert_array_equal(row, row_of(key, number).astype(np.float16))


@pytest.mark.parametrize("prefix", ["jpg/", "class"])
def test_flowers_are_named_without_their_class(tmp_path: Path, prefix: str) -> None:
    make_flowers(tmp_path)
    lists = {"train": [FLOWERS[3], FLOWERS[0]], "test": [FLOWERS[2], FLOWERS[5]]}
    named = {split: [k if prefix == "class" else prefix + k.partition("/")[2] for k in v] for split, v in lists.items()}
    values = {split: embeddings(2, seed) for seed, split in enumerate(lists)}
    write_pack(tmp_path / "flowers", named, values)
    write_pack(tmp_path / "birds", LISTS, EMBEDDINGS)  # another set's pack beside it
    found = read(tmp_path, oxford102.IMPORTER, FLOWERS)
    assert len(found.texts) == 40
    for split, keys in lists.items():
        for key, rows in zip(keys, values[split], strict=True):
            at = [found.texts.index(f"flower {key} number {k}") for k in range(10)]
            np.testing.assert_array_equal(found.rows[at], rows.astype(np.float16))


def test_only_the_pictures_asked_for(tmp_path: Path) -> None:
    source_of(tmp_path)
    (tmp_path / f"cvpr2016_cub/text_c10/{KEYS[60]}.txt").unlink()  # without captions, and so without rows
    found = read(tmp_path, keys=[KEYS[61], KEYS[1], KEYS[60]])
    assert set(found.texts) == {caption(key, number) for key in (KEYS[61], KEYS[1]) for number in range(10)}


def test_a_caption_that_occurs_again_has_one_row_and_the_same(tmp_path: Path) -> None:
    """Captions repeat in every published set; where their embeddings do not, something is out of order."""
    source_of(tmp_path)
    again = "this bird is black."
    values = {split: rows.copy() for split, rows in EMBEDDINGS.items()}
    for split, names in LISTS.items():
        for number, key in enumerate(names):
            lines = [caption(key, k) for k in range(10)]
            lines[number] = again
            values[split][number, number] = np.linspace(1, 2, DIMENSIONS)
            texts(tmp_path / "cvpr2016_cub/text_c10", {f"{key}.txt": "\n".join(lines)})
    write_pack(tmp_path / "birds", LISTS, values)
    found = read(tmp_path)
    assert len(found.texts) == len(set(found.texts)) == 80 - 8 + 1
    np.testing.assert_array_equal(
        found.rows[found.texts.index(again)], np.linspace(1, 2, DIMENSIONS).astype(np.float16)
    )
    write_pack(tmp_path / "birds", LISTS, {split: np.roll(rows, 1, axis=1) for split, rows in values.items()})
    with pytest.raises(
        UserError, match=r"7 of 7 captions that occur again .* such as 'this bird is black\.', so the rows"
    ):
        read(tmp_path)
    write_pack(tmp_path / "birds", {s: v[::-1] for s, v in LISTS.items()}, values)
    with pytest.raises(UserError, match="are not in the order of filenames"):
        read(tmp_path)


PICKLE = "birds/test/char-CNN-RNN-embeddings.pickle"


def put(content: object) -> Callable[[Path], object]:
    raw = content if isinstance(content, bytes) else pickle.dumps(content, 2)
    return lambda root: texts(root, {PICKLE: raw})


def changed(value: float, where: tuple[int, ...] = (1, 3, 2)) -> np.ndarray:
    rows = EMBEDDINGS["test"].copy()
    rows[where] = value
    return rows


NOT_NUMBERS = rf"the embeddings of {LISTS['test'][1]} are not \(captions, dimensions\) finite numbers"
WRONG: dict[str, tuple[Callable[[Path], object], str]] = {
    "no pack": (
        lambda root: [path.unlink() for path in root.rglob("*.pickle")],
        r"no filenames\.pickle of a StackGAN pack is here or below; expected a StackGAN pack, \{train,test\}/",
    ),
    "no embeddings": (lambda root: (root / PICKLE).unlink(), rf"{PICKLE}: this part of the StackGAN pack is not here"),
    "half a pack": (lambda root: (root / "birds/test/filenames.pickle").unlink(), "other half of this StackGAN pack"),
    "fewer pictures": (
        put(EMBEDDINGS["test"][:3]),
        rf"{PICKLE}: embeddings of 3 pictures for the 4 names of filenames",
    ),
    "nine rows": (
        put(EMBEDDINGS["test"][:, :9]),
        rf"{KEYS[121]}\.txt: 10 captions, and .*{PICKLE} has 9 embeddings for {KEYS[121]}, .*unknown",
    ),
    "nine captions": (
        lambda root: texts(root, {f"cvpr2016_cub/text_c10/{KEYS[61]}.txt": "a bird\n\n" * 9}),
        rf"{KEYS[61]}\.txt: 9 captions, and .* has 10 embeddings",
    ),
    "names": (put(["a", "b", "c", "d"]), "the embeddings of .* are not"),
    "a number": (put(7), rf"{PICKLE}: this is no list of embeddings"),
    "ragged": (put([*EMBEDDINGS["test"][:1], [[1.0], [1.0, 2.0]], *EMBEDDINGS["test"][2:]]), NOT_NUMBERS),
    "other dimensions": (put([EMBEDDINGS["test"][0], *EMBEDDINGS["test"][1:, :, :5]]), NOT_NUMBERS),
    "not a number": (put(changed(np.nan)), NOT_NUMBERS),
    "beyond float16": (put(changed(1e5)), NOT_NUMBERS),
    "zeros": (put(changed(0.0, (1, 3))), NOT_NUMBERS),
    "evil": (put(b"cos\nsystem\n(S'touch mark'\ntR."), r"this pickle is not read, since it asks for os\.system"),
    "torn": (lambda root: os.truncate(root / PICKLE, 500), "not a readable pickle"),
    "other captions": (
        lambda root: [path.rename(path.with_name(f"x{path.name}")) for path in (root / "cvpr2016_cub").rglob("*.txt")],
        "the StackGAN pack has none of the 8 pictures",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_fit_is_refused_in_a_sentence(name: str, tmp_path: Path) -> None:
    source_of(tmp_path)
    damage, message = WRONG[name]
    damage(tmp_path)
    with pytest.raises(UserError, match=message) as refused:
        read(tmp_path)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "mark").exists()


# ------------------------------------------------------------------------------------------------ prepared and trained


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = source_of(tmp_path_factory.mktemp("cub"))
    rng = np.random.default_rng(0)
    for key in KEYS.values():  # larger than those that are only looked for, and not flat
        pixels = rng.integers(0, 256, (40, 48, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / f"CUB_200_2011/images/{key}.jpg")
    boxes = "".join(f"{number} 8.0 6.0 24.0 20.0\n" for number in KEYS)
    texts(root, {"CUB_200_2011/bounding_boxes.txt": boxes})
    wavs = [f"CUB_200_2011_audio/{key}_{k}.wav" for key in KEYS.values() for k in range(10)]
    recordings(root, *wavs, seconds=0.35)
    return root


def prepare(source: Path, out: Path, name: str = "cub", **options) -> list[str]:
    said: list[str] = []
    prepare_corpus(name, source, out, PrepareOptions(**options), size=32, jobs=1, say=said.append)
    return said


@pytest.fixture(scope="module")
def data(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("data")
    said = prepare(source, out, text_embeddings=True)
    assert f"{out / 'text_embeddings.safetensors'}: 80 text embeddings of 16 dimensions." in said
    return out


def expected_rows(store: Store) -> np.ndarray:
    """Of every utterance, by the number in its recording's name."""
    names = [
        store.audio_path(u).relative_to(store.corpus_root / "source/CUB_200_2011_audio") for u in range(len(store))
    ]
    return np.stack([row_of(str(n.with_suffix("")).rpartition("_")[0], int(n.stem[-1])) for n in names])


def test_the_baseline_trains_on_a_miniature_of_cub(data: Path, tmp_path: Path) -> None:
    """From the publishers' files to scores; the generator is given what the pack has for the caption."""
    store = Store.open(data)
    assert len(store) == 80
    recipe = shrunk(resolve("stackgan-v2-text-reed", "cub"), steps=2)
    run = train_run(recipe, data=data, out=tmp_path / "run", device="cpu")
    config, weights = load_model(run / "model")
    assert config["speech_encoder"] == {"kind": "precomputed", "embedding": 16, "normalize_pooled": False}
    assert not [name for name in weights if name.startswith("speech_encoder.")]
    model = SpeechToImage.load(run)
    given = model.speech_encoder(*encoder_input(store, np.arange(80), "embeddings"))
    rows = torch.from_numpy(expected_rows(store))
    torch.testing.assert_close(given, rows / rows.norm(dim=1, keepdim=True), atol=1e-3, rtol=0)
    keys = {score["key"] for score in evaluate(run, data, EvaluationOptions(max_captions=6), device="cpu")["scores"]}
    assert {"sen/map", "fakes/map_lite0", "distances/kd_lite0"} <= keys
    with pytest.raises(UserError, match=r"reads published text embeddings and cannot hear: .* stackgan-v2-text-reed"):
        model(store.audio_path(0))

    with pytest.raises(UserError, match="have 16 dimensions where the recipe reads 1024"):
        train_run(resolve("stackgan-v2-text-reed", "cub"), data=data, out=tmp_path / "full", device="cpu")
    assert not (tmp_path / "full").exists()


def test_embeddings_are_read_once_and_again_where_the_source_changed(
    source: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    importer = replace(cub.IMPORTER, text_embeddings=lambda *_: pytest.fail("read again"))
    before = (data / "text_embeddings.safetensors").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(prepare_module, "importer", lambda name: importer)
        assert not any("text embeddings" in line for line in prepare(source, data, text_embeddings=True))
        os.utime(source / PICKLE)
        with pytest.raises(pytest.fail.Exception, match="read again"):
            prepare(source, data, text_embeddings=True)
    prepare(source, data)  # without: they stay
    assert (data / "text_embeddings.safetensors").read_bytes() == before
    prepare(source, data, text_embeddings=True)
    (data / "text_embeddings.safetensors").write_bytes(before[:-1])
    prepare(source, data, text_embeddings=True)
    assert len(Store.open(data).text_embeddings) == 80


def test_nothing_is_prepared_where_the_embeddings_do_not_fit(source: Path, tmp_path: Path) -> None:
    """Before hours are spent on speaking and decoding."""
    (tmp_path / "a").mkdir()
    for name in ("CUB_200_2011", "cvpr2016_cub", "CUB_200_2011_audio"):
        (tmp_path / "a" / name).symlink_to(source / name)
    with pytest.raises(UserError, match=r"no filenames\.pickle of a StackGAN pack"):
        prepare(tmp_path / "a", tmp_path / "out", text_embeddings=True)
    assert not (tmp_path / "out/store").exists()
    with pytest.raises(UserError, match=r"flickr8k: nobody has published .* is for cub, oxford102\."):
        prepare(source, tmp_path / "out", "flickr8k", text_embeddings=True)


def test_without_embeddings_the_recipe_is_refused(data: Path, tmp_path: Path) -> None:
    recipe = shrunk(resolve("stackgan-v2-text-reed", "cub"))
    kept = data / "text_embeddings.safetensors"
    kept.rename(tmp_path / "kept")
    try:
        for refused in (
            lambda: train_run(recipe, data=data, out=tmp_path / "run", device="cpu"),
            lambda: DataFacts.of(recipe, data),
        ):
            with pytest.raises(UserError, match=r"no text embeddings beside this store; .* --text-embeddings"):
                refused()
    finally:
        (tmp_path / "kept").rename(kept)
    assert not (tmp_path / "run").exists()
