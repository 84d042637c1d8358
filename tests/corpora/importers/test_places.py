"""Places Audio as its publishers ship it, in miniature, and the paper's subset of it."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from s2igan.corpora.importers import places, places_subset
from s2igan.corpora.importers.source import Corpus, ReadOptions
from s2igan.corpora.lists import held_out_images
from s2igan.errors import UserError
from sources import is_usable, pictures, reasons, recordings, texts

DISTRO = "PlacesAudio_400k_distro"
LISTED = [held_out_images("places")[0], next(key for key in held_out_images("places") if "dinette" in key)]
IMAGES = [
    f"{LISTED[0]}.jpg",  # b/bedroom/gsun_...
    f"{LISTED[1]}.jpg",  # d/dinette/home/gsun_...
    "b/bedroom/gsun_0000000000000000000000000000000a.jpg",
    "a/abbey/gsun_000000000000000000000000000000b.jpg",
    "k/kitchen/gsun_000000000000000000000000000000c.jpg",
]


def entry(number: int) -> dict[str, Any]:
    return {
        "uttid": f"A{number}_utterance_{number}",
        "speaker": f"A{number % 2}KOGRJ",
        "asr_text": f"a picture of number {number}",
        "wav": f"wavs/{number}/utterance_{number}.wav",
        "image": IMAGES[number],
    }


def lists(root: Path, files: Mapping[str, list[Any]], base: str = "/data/sls/scratch/places", **more: Any) -> None:
    for name, data in files.items():
        content = {"image_base_path": base, "audio_base_path": "/data/sls/distro", "data": data} | more
        texts(root / DISTRO / "metadata", {name: json.dumps(content)})


EDITION_2020 = {
    "train_2020.json": (0, 3),
    "dev_seen_2020.json": (1,),
    "dev_unseen_2020.json": (2,),
    "test_seen_2020.json": (4,),
}


def make(root: Path, images: str = "places205/images256", **options: Any) -> Path:
    lists(root, {name: [entry(n) for n in numbers] for name, numbers in EDITION_2020.items()}, **options)
    texts(root / DISTRO, {"metadata/utt2ASR": "x", "lists/other.json": "{}", "README": "x"})
    recordings(root / DISTRO, *(entry(n)["wav"] for n in range(5)))
    pictures(root / images, *IMAGES)
    return root


def read(root: Path, importer: Any = places.IMPORTER) -> Corpus:
    corpus: Corpus = importer.read(root, ReadOptions())
    is_usable(corpus, root)
    return corpus


@pytest.mark.parametrize("images", ["places205/images256", ".", f"{DISTRO}/images"])
def test_as_published(tmp_path: Path, images: str) -> None:
    corpus = read(make(tmp_path, images))
    assert not corpus.problems
    prefix = "" if images == "." else f"{images}/"
    expected = [(0, "train"), (3, "train"), (1, "validation"), (2, "validation"), (4, "test")]
    assert [(row.audio, row.image, row.split, row.speaker, row.text) for row in corpus.rows] == [
        (f"{DISTRO}/{e['wav']}", f"{prefix}{e['image']}", split, e["speaker"], e["asr_text"])
        for e, split in ((entry(n), split) for n, split in expected)
    ]
    assert {row.class_name for row in corpus.rows} == {None}


def test_a_base_path_below_the_source_comes_first(tmp_path: Path) -> None:
    make(tmp_path, base="small")
    pictures(tmp_path / DISTRO / "small", *IMAGES)
    assert read(tmp_path).rows[0].image == f"{DISTRO}/small/{IMAGES[0]}"
    make(tmp_path, base=str(tmp_path / "places205/images256"))
    assert read(tmp_path).rows[0].image == f"places205/images256/{IMAGES[0]}"


def test_lists_of_2020_before_the_earlier_ones(tmp_path: Path) -> None:
    make(tmp_path)
    lists(tmp_path, {"train.json": [entry(4)], "val.json": [entry(0)]})
    assert [row.split for row in read(tmp_path).rows] == ["train", "train", "validation", "validation", "test"]
    for name in EDITION_2020:
        (tmp_path / DISTRO / "metadata" / name).unlink()
    assert [(row.audio[-5], row.split) for row in read(tmp_path).rows] == [("4", "train"), ("0", "validation")]


def test_what_is_missing_or_makes_no_sense(tmp_path: Path) -> None:
    make(tmp_path)
    bad = [entry(0), entry(0), {"wav": "wavs/x.wav"}, 7, None, {**entry(3), "image": "../secret.jpg"}, entry(4)]
    lists(tmp_path, {"train_2020.json": bad})
    (tmp_path / DISTRO / entry(1)["wav"]).unlink()
    (tmp_path / "places205/images256" / IMAGES[2]).unlink()
    corpus = read(tmp_path)
    assert [(row.audio[-5], row.split) for row in corpus.rows] == [("0", "train"), ("4", "test")]
    train = f"{DISTRO}/metadata/train_2020.json"
    assert reasons(corpus) == {
        train: "; ".join(f"entry {n} is no spoken caption" for n in (3, 4, 5)),
        entry(1)["wav"]: f"{entry(1)['wav']} is nowhere below the source",
        entry(2)["wav"]: f"{IMAGES[2]} is nowhere below the source",
        entry(3)["wav"]: "'../secret.jpg' is no path below the source",
        f"{DISTRO}/{entry(0)['wav']}": "listed twice",
        f"{DISTRO}/{entry(4)['wav']}": "its picture is in the split test as well",
    }


def test_the_papers_subset(tmp_path: Path) -> None:
    """Seven scenes; the listed pictures for testing in whatever list they are, all others for training."""
    make(tmp_path)
    (tmp_path / "places205/images256" / IMAGES[3]).unlink()  # of another scene: not missed
    corpus = read(tmp_path, places_subset.IMPORTER)
    assert [(row.image.removeprefix("places205/images256/"), row.split) for row in corpus.rows] == [
        (IMAGES[2], "train"),
        (IMAGES[0], "test"),
        (IMAGES[1], "test"),
    ]
    assert not corpus.problems


def test_lists_without_the_seven_scenes(tmp_path: Path) -> None:
    make(tmp_path)
    lists(tmp_path, {name: [entry(3)] for name in EDITION_2020})
    with pytest.raises(UserError, match="no spoken caption of the seven scenes is here or below"):
        places_subset.IMPORTER.read(tmp_path, ReadOptions())


def spoil_list(text: str) -> Callable[[Path], object]:
    return lambda root: texts(root, {f"{DISTRO}/metadata/train_2020.json": text})


def no_lists(root: Path) -> None:
    for path in (root / DISTRO / "metadata").glob("*.json"):
        path.unlink()


def no_files(suffix: str) -> Callable[[Path], object]:
    return lambda root: [path.unlink() for path in root.rglob(f"*{suffix}")]


WRONG: dict[str, tuple[Callable[[Path], object], str]] = {
    "no lists": (
        no_lists,
        r"no list of spoken captions is here or below; expected PlacesAudio_400k_distro/\{metadata/",
    ),
    "not JSON": (spoil_list('{"data": ['), r"train_2020\.json: not readable as JSON"),
    "another JSON": (
        spoil_list('{"images": []}'),
        r'train_2020\.json: expected \{"image_base_path".*found no list .data.',
    ),
    "a list": (spoil_list("[1, 2]"), r"found no list 'data'"),
    "data no list": (spoil_list('{"data": {"wav": "a"}}'), r"found no list 'data'"),
    "no recordings": (no_files(".wav"), r"no recording of the (lists|seven scenes) is here or below; expected"),
    "no pictures": (no_files(".jpg"), r"no picture of the (lists|seven scenes) is here or below; expected"),
    "a copy of a list": (
        lambda root: texts(root, {"copy/train_2020.json": "{}"}),
        r"train_2020\.json is here more than once, in several folders",
    ),
}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("importer", [places.IMPORTER, places_subset.IMPORTER], ids=["places", "places-subset"])
def test_wrong_layouts(tmp_path: Path, name: str, importer: Any) -> None:
    spoil, sentence = WRONG[name]
    spoil(make(tmp_path))
    with pytest.raises(UserError, match=sentence) as raised:
        importer.read(tmp_path, ReadOptions())
    assert "\n" not in str(raised.value)
