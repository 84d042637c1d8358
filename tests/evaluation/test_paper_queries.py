"""The paper's images are found by their names, and its mAP and recall are asked about them."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image
from scipy.io import savemat

from s2igan.corpora.importers import flickr8k, oxford102, places_subset
from s2igan.corpora.importers.source import ReadOptions
from s2igan.corpora.lists import ClassSet, held_out_images, map_queries
from s2igan.data.manifest import write_manifest
from s2igan.data.pack import build_store
from s2igan.data.store import Store
from s2igan.evaluation import generated
from s2igan.evaluation.evaluation_split import EvaluationSplit
from s2igan.evaluation.extractors import centre_crops
from s2igan.evaluation.generated import Queries, fake_recall_group, paper_map_group
from s2igan.evaluation.generation import Evaluation
from s2igan.evaluation.paper_queries import PaperQueries, RecallSet
from small_birds import fakes_of


class NamedStore(Store):
    """A store of which only the names of the pictures are known; every picture has two utterances."""

    def __init__(self, keys: list[str], folder: str) -> None:
        self.classes = tuple(sorted({key.partition("/")[0] for key in keys}))
        self.has_classes = True
        self.image_class = np.array([self.classes.index(key.partition("/")[0]) for key in keys], np.int32)
        self.image_index = np.repeat(np.arange(len(keys), dtype=np.int32), 2)
        self._paths = [Path("corpus") / folder / f"{key.rpartition('/')[2]}.jpg" for key in keys]

    def image_path(self, image: int) -> Path:
        return self._paths[image]


def split_of(keys: list[str], described: np.ndarray | None = None, folder: str = "jpg") -> EvaluationSplit:
    store = NamedStore(keys, folder)
    images = np.arange(len(keys)) if described is None else described
    utterances = np.flatnonzero(np.isin(store.image_index, images))
    return EvaluationSplit(store, "test", utterances, np.arange(len(keys)), "all")


def with_others(name: ClassSet) -> list[str]:
    """The queries among other pictures of their classes, in another order."""
    others = [f"{key.partition('/')[0]}/other_{number}" for number, key in enumerate(map_queries(name))]
    return [*others, *map_queries(name)[::-1]]


@pytest.mark.parametrize("name", ["cub", "oxford102"])
def test_the_papers_sets_are_known_by_their_pictures(name: ClassSet) -> None:
    keys = with_others(name)
    found = PaperQueries.of(split_of(keys))
    assert found is not None
    assert found.name == name
    assert tuple(keys[position] for position in found.positions) == map_queries(name)
    assert (found.listed, found.fakes) == {"cub": (100, 1000), "oxford102": (40, 400)}[name]


def test_a_missing_picture_is_left_out() -> None:
    keys = with_others("cub")
    without = [key for key in keys if key != map_queries("cub")[7]]
    found = PaperQueries.of(split_of(without))
    assert found is not None
    expected = [key for number, key in enumerate(map_queries("cub")) if number != 7]
    assert [without[position] for position in found.positions] == expected


def test_a_picture_that_nobody_describes_is_left_out() -> None:
    keys = with_others("oxford102")
    quiet = keys.index(map_queries("oxford102")[3])
    found = PaperQueries.of(split_of(keys, np.delete(np.arange(len(keys)), quiet)))
    assert found is not None
    assert len(found.positions) == 39
    assert quiet not in found.positions


def test_another_set_and_another_split_have_no_list() -> None:
    swapped = [f"class_00099/{key.partition('/')[2]}" for key in map_queries("oxford102")]
    assert PaperQueries.of(split_of(swapped)) is None
    assert PaperQueries.of(split_of([*map_queries("cub")[:50], "002.Laysan_Albatross/x"])) is None
    assert PaperQueries.of(split_of(["a/b"])) is None


def test_from_the_publishers_folders_to_the_queries(tmp_path: Path) -> None:
    """What the importer calls a class and a picture is what the list calls them."""
    keys = sorted(map_queries("oxford102"), key=lambda key: key.rpartition("_")[2])[:24]
    labels = np.full(8189, 50, np.uint8)
    seconds = np.arange(8000) / 16000
    for number, key in enumerate(keys):
        folder, _, name = key.partition("/")
        labels[int(name.removeprefix("image_")) - 1] = int(folder.removeprefix("class_"))
        files = [tmp_path / "jpg" / f"{name}.jpg", tmp_path / f"text_c10/{key}.txt", tmp_path / f"audio/{key}_0.wav"]
        for file in files:
            file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 12), (10 * number, 90, 60)).save(files[0])
        files[1].write_text("this flower is pink\n")
        soundfile.write(files[2], 0.3 * np.sin(2 * np.pi * (200 + 20 * number) * seconds), 16000)
    savemat(tmp_path / "imagelabels.mat", {"labels": labels[None]})
    rows = oxford102.IMPORTER.read(tmp_path, ReadOptions()).rows
    write_manifest(tmp_path / "manifest.jsonl", rows)
    build_store(tmp_path / "manifest.jsonl", image_size=8, jobs=1)
    store = Store.open(tmp_path)
    split = EvaluationSplit.of(store, "test")
    found = PaperQueries.of(split)
    assert found is not None
    asked = [store.image_path(int(split.images[position])).stem for position in found.positions]
    assert asked == [key.partition("/")[2] for key in map_queries("oxford102") if key in keys]


def test_the_map_asks_the_list(bird_store, model, extraction, monkeypatch: pytest.MonkeyPatch) -> None:
    split = EvaluationSplit.of(bird_store, "test")
    chosen = np.array([8, 0, 3])
    monkeypatch.setattr(generated.PaperQueries, "of", lambda _: PaperQueries("cub", chosen, 100, 1000))
    evaluation = Evaluation(model, split, 5, extraction)
    queries = Queries.of(split, split.utterances[:1], 5)
    captions = [int(u) for u in split.utterances if bird_store.image_index[u] in split.images[chosen]]
    assert queries.captions.tolist() == captions
    fakes = evaluation.draw(split.utterances)
    group = paper_map_group(evaluation, queries, fakes, evaluation.real())
    protocol = group.scores[0].protocol
    assert (protocol["queries"], protocol["gallery"]) == (3, 6)
    assert protocol["query_list"] == "the paper's, cub"
    assert "3 of the 100 real images that the paper lists" in group.protocol
    assert "6 where the paper has 1,000" in group.protocol


class ClasslessStore(NamedStore):
    """Of a set without classes; the paths are given."""

    def __init__(self, paths: list[str]) -> None:
        self.has_classes = False
        self.image_index = np.repeat(np.arange(len(paths), dtype=np.int32), 2)
        self._paths = [Path("corpus") / path for path in paths]


def classless(paths: list[str], quiet: int = -1) -> EvaluationSplit:
    """All pictures but one are described."""
    store = ClasslessStore(paths)
    return EvaluationSplit(store, "test", np.flatnonzero(store.image_index != quiet), np.arange(len(paths)), "all")


FOLDERS = {"flickr8k": "source/Flickr8k_Dataset", "places": "source/places205/images256"}


def paths_of(name: RecallSet) -> list[str]:
    """The listed pictures among others, in another order."""
    listed = held_out_images(name)[::-1]
    others = [f"{key.rpartition('/')[0]}/other_{n}".lstrip("/") for n, key in enumerate(listed[:300])]
    return [f"{FOLDERS[name]}/{key}.jpg" for key in [*others, *listed]]


@pytest.mark.parametrize("name", ["flickr8k", "places"])
def test_sets_without_classes_are_known_by_their_pictures(name: RecallSet) -> None:
    paths = paths_of(name)
    found = PaperQueries.of(classless(paths))
    assert found is not None
    assert found.name == name
    expected = [f"{FOLDERS[name]}/{key}.jpg" for key in held_out_images(name)]
    assert [paths[position] for position in found.positions] == expected
    assert (found.listed, found.fakes) == {"flickr8k": (994, 4970), "places": (2779, 2779)}[name]


def test_what_is_missing_or_not_described_is_left_out_of_the_recall() -> None:
    gone, silent = held_out_images("flickr8k")[5], held_out_images("flickr8k")[9]
    paths = [path for path in paths_of("flickr8k") if gone not in path]
    found = PaperQueries.of(classless(paths, quiet=paths.index(f"{FOLDERS['flickr8k']}/{silent}.jpg")))
    assert found is not None
    expected = [key for key in held_out_images("flickr8k") if key not in (gone, silent)]
    assert [Path(paths[position]).stem for position in found.positions] == expected
    assert (len(found.positions), found.listed) == (992, 994)


def test_other_sets_without_classes_have_no_list(bird_store) -> None:
    half = [f"x/{key}.jpg" for key in held_out_images("flickr8k")[:497]]
    assert PaperQueries.of(classless(half)) is None
    assert PaperQueries.of(classless([*half, f"x/{held_out_images('flickr8k')[497]}.jpg"])) is not None
    elsewhere = [f"z/{key.partition('/')[2]}.jpg" for key in held_out_images("places")]
    assert PaperQueries.of(classless(elsewhere)) is None
    assert PaperQueries.of(EvaluationSplit.of(bird_store, "test")) is None


def touch(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()


def test_from_the_importers_to_the_recall(tmp_path: Path) -> None:
    """What the importers call a picture is what the lists call it."""
    keys = held_out_images("flickr8k")[:500]
    for split in ("train", "dev"):
        (tmp_path / f"flickr/Flickr_8k.{split}Images.txt").parent.mkdir(exist_ok=True)
        (tmp_path / f"flickr/Flickr_8k.{split}Images.txt").touch()
    (tmp_path / "flickr/Flickr_8k.testImages.txt").write_text("".join(f"{key}.jpg\n" for key in sorted(keys)))
    (tmp_path / "flickr/wav2capt.txt").write_text("".join(f"{key}_0.wav {key}.jpg #0\n" for key in keys))
    touch(
        tmp_path / "flickr", *(f"Flicker8k_Dataset/{key}.jpg" for key in keys), *(f"wavs/{key}_0.wav" for key in keys)
    )
    rows = flickr8k.IMPORTER.read(tmp_path / "flickr", ReadOptions()).rows
    found = PaperQueries.of(classless([row.image for row in rows if row.split == "test"]))
    assert found is not None
    assert (found.name, len(found.positions)) == ("flickr8k", 500)

    keys = held_out_images("places")[::-1][:1400]  # every scene is among them
    entries = [{"wav": f"wavs/{n}.wav", "image": f"{key}.jpg"} for n, key in enumerate(keys)]
    touch(tmp_path / "places", *(entry["wav"] for entry in entries), *(f"images/{key}.jpg" for key in keys))
    (tmp_path / "places/metadata").mkdir()
    (tmp_path / "places/metadata/train.json").write_text(json.dumps({"data": entries}))
    rows = places_subset.IMPORTER.read(tmp_path / "places", ReadOptions()).rows
    found = PaperQueries.of(classless([row.image for row in rows if row.split == "test"]))
    assert found is not None
    assert (found.name, len(found.positions)) == ("places", 1400)


def test_the_recall_asks_the_list(bird_store, model, extraction, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fakes of every caption of the listed images, whatever else was generated; each belongs to its image."""
    split = EvaluationSplit.of(bird_store, "test")
    chosen = np.array([7, 0, 3, 5])  # not in the order of the store
    monkeypatch.setattr(generated.PaperQueries, "of", lambda _: PaperQueries("flickr8k", chosen, 994, 4970))
    evaluation = Evaluation(model, split, 5, extraction)
    queries, captions = Queries.of(split, split.utterances[:1], 5), split.utterances
    for shift, reached in ((0, 1.0), (2, 0.5)):  # at last every image's fakes are another's
        pictures = centre_crops(bird_store, np.roll(bird_store.image_index[captions], shift), 32)
        group = fake_recall_group(evaluation, queries, fakes_of(evaluation, captions, pictures), evaluation.real())
        assert group.scores[0].value == reached if shift == 0 else group.scores[0].value < reached
    protocol = group.scores[0].protocol
    assert (protocol["queries"], protocol["gallery"], protocol["captions"]) == (4, 8, 8)
    assert (protocol["query_list"], protocol["images_per_caption"], protocol["seed"]) == ("the paper's, flickr8k", 1, 5)
    assert group.scores[0].chance == pytest.approx(2 / 8)
    assert "4 of the 994 real images that the paper lists" in group.protocol
    assert "8 where the paper has 4,970" in group.protocol
