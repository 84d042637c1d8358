import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from s2igan import cli
from s2igan.checkpoint import file_digest
from s2igan.errors import UserError
from s2igan.evaluation import blind_sheet
from s2igan.evaluation.blind_sheet import GAP, LABEL, agreement, count_answers, grid, ratio, write_blind_sheet
from s2igan.evaluation.evaluation_split import EvaluationSplit
from s2igan.evaluation.generation import draw_pictures
from small_birds import SIDE


@pytest.fixture(scope="module")
def sheet(small_run, bird_store, tmp_path_factory) -> Path:
    """Nine images of each kind, at their own size, on two pages."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blind_sheet, "SHOWN_SIDE", SIDE)
        out = tmp_path_factory.mktemp("blind") / "sheet"
        return write_blind_sheet(small_run, bird_store.directory, out, seed=3, device="cpu")


@pytest.fixture(scope="module")
def key(sheet) -> dict:
    return json.loads((sheet / "key.json").read_text())


def shown(sheet: Path) -> list[np.ndarray]:
    """The images of all pages, by number."""
    found = []
    for page in sorted(sheet.glob("page-*.png")):
        with Image.open(page) as opened:
            assert not opened.info, "nothing in the file tells more than its pixels"
            pixels = np.asarray(opened)
        for row in range(4):
            for column in range(4):
                top, left = GAP + row * (SIDE + GAP + LABEL) + LABEL, GAP + column * (SIDE + GAP)
                found.append(pixels[top : top + SIDE, left : left + SIDE])
    return found


def answers(folder: Path, name: str, clean) -> Path:
    path = folder / name
    path.write_text("number,clean\n" + "".join(f"{n},{int(c)}\n" for n, c in enumerate(clean, start=1)))
    return path


def test_the_key_says_which_image_stands_where(sheet, key, bird_store):
    pictures, entries = shown(sheet), key["pictures"]
    assert [entry["number"] for entry in entries] == list(range(1, 19))
    for entry, picture in zip(entries, pictures, strict=False):
        if entry["real"]:
            np.testing.assert_array_equal(picture, bird_store.images[entry["image"]][3:35, 3:35])
            assert (bird_store.corpus_root / entry["source"]).is_file()
        else:
            assert entry["text"] == bird_store.text(entry["utterance"])
            assert entry["describes"] == bird_store.image_index[entry["utterance"]]
    real = {picture.tobytes() for entry, picture in zip(entries, pictures, strict=False) if entry["real"]}
    assert len(real) == sum(entry["real"] for entry in entries) == 9
    assert not any(p.tobytes() in real for e, p in zip(entries, pictures, strict=False) if not e["real"])
    assert all((picture == 255).all() for picture in pictures[18:])


def test_the_fakes_are_those_of_the_seed(sheet, key, model, bird_store):
    """Whatever the order of the sheet: drawn again in the order of the key, each is found."""
    pictures = shown(sheet)
    fakes = [(entry["utterance"], pictures[entry["number"] - 1]) for entry in key["pictures"] if not entry["real"]]
    split = EvaluationSplit.of(bird_store, "test")
    _, utterances = blind_sheet.choose(split, np.random.default_rng([3, 0xB11D]))
    assert sorted(u for u, _ in fakes) == sorted(utterances)
    drawn = draw_pictures(model, bird_store, utterances, seed=3)
    for utterance, picture in fakes:
        best = min(np.abs(picture.astype(int) - d).max() for d in drawn[utterances == utterance])
        assert best == 0


def test_the_record_names_model_data_split_and_seed(key, small_run, bird_store):
    assert key["model"]["sha256"] == file_digest(small_run / "model" / "weights.safetensors")
    assert key["data"]["fingerprint"] == bird_store.fingerprint
    assert (key["split"], key["seed"], key["image_size"]) == ("test", 3, SIDE)


def test_a_reader_is_told_what_is_clean_and_not_what_is_real(sheet):
    text = (sheet / "README.md").read_text()
    for words in (
        "one bird with one head",
        "one flower with one blossom",
        "closed",
        "smeared",
        "Do not open `key.json`",
    ):
        assert words in text
    lines = (sheet / "answers.csv").read_text().splitlines()
    assert lines == ["number,clean", *(f"{number}," for number in range(1, 19))]


def test_the_order_is_random_and_follows_the_seed(tmp_path, key, small_run, bird_store):
    def real(seed: int) -> list[bool]:
        out = write_blind_sheet(small_run, bird_store.directory, tmp_path / f"{seed}", seed=seed, device="cpu")
        return [entry["real"] for entry in json.loads((out / "key.json").read_text())["pictures"]]

    three = real(3)
    assert three == [entry["real"] for entry in key["pictures"]]
    assert real(4) != three
    assert sorted(three) not in (three, three[::-1])


def test_real_pictures_are_not_those_described_where_there_are_enough(bird_store, monkeypatch):
    monkeypatch.setattr(blind_sheet, "EACH", 4)
    real, utterances = blind_sheet.choose(EvaluationSplit.of(bird_store, "test"), np.random.default_rng(0))
    assert len(set(real)) == len(real) == len(utterances) == 4
    assert not set(real) & set(bird_store.image_index[utterances])


@pytest.mark.parametrize(("side", "cells"), [(64, (4, 4)), (256, (4, 4)), (512, (2, 2)), (2048, (1, 1))])
def test_pages_stay_small_enough_to_be_seen_whole(side, cells):
    columns, rows = grid(side)
    assert (columns, rows) == cells
    if side < 1100:
        assert GAP + columns * (side + GAP) < 1200
        assert GAP + rows * (side + GAP + LABEL) < 1200


def test_an_exported_model_is_enough_and_a_sheet_is_not_overwritten(tmp_path, small_run, bird_store):
    model = shutil.copytree(small_run / "model", tmp_path / "exported")
    write_blind_sheet(model, bird_store.directory, tmp_path / "sheet", device="cpu")
    with pytest.raises(UserError, match="holds a blind sheet already"):
        write_blind_sheet(model, bird_store.directory, tmp_path / "sheet", device="cpu")


# ------------------------------------------------------------------------------------------------------------- counting


def test_counts_ratio_and_agreement(sheet, key, tmp_path):
    real = np.array([entry["real"] for entry in key["pictures"]])
    clean = real.copy()
    clean[np.flatnonzero(~real)[:6]] = True  # six of nine fakes
    strict = clean.copy()
    strict[np.flatnonzero(real)[:3]] = False  # six of nine real ones
    found = count_answers(sheet, [answers(tmp_path, "a.csv", clean), answers(tmp_path, "b.csv", strict)])
    first, second = found["readers"]
    assert first["generated"] == {"clean": 6, "of": 9}
    assert first["real"] == {"clean": 9, "of": 9}
    assert first["ratio"] == pytest.approx(2 / 3)
    assert second["ratio"] == pytest.approx(1.0)
    assert found["mean_ratio"] == pytest.approx((2 / 3 + 1) / 2)
    assert first["ratio_interval_95"][0] < 2 / 3 < first["ratio_interval_95"][1]
    assert found["agreement"]["same"] == pytest.approx(15 / 18)
    assert found["model"] == key["model"]
    assert count_answers(sheet, [tmp_path / "a.csv"])["agreement"] is None


def test_the_order_of_the_kinds_matters():
    real = np.arange(20) < 10
    clean = np.arange(20) < 15
    assert ratio(clean, real)["ratio"] == pytest.approx(0.5)
    assert ratio(clean, ~real)["ratio"] == pytest.approx(2.0)
    assert ratio(np.zeros(20, bool), real)["ratio"] is None


def test_kappa_is_that_of_the_definition():
    first, second = np.arange(10) < 5, np.array([1, 1, 1, 1, 0, 1, 0, 0, 0, 0], bool)
    assert agreement(first, second) == {"same": pytest.approx(0.8), "kappa": pytest.approx(0.6)}
    assert agreement(first, ~first)["kappa"] == pytest.approx(-1.0)
    assert agreement(np.ones(4, bool), np.ones(4, bool)) == {"same": 1.0, "kappa": None}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda text: text.replace("7,1", "7,"), r"line 8: '7,' is not a number and 0 or 1"),
        (lambda text: text.replace("7,1", "7,2"), "line 8"),
        (lambda text: text.replace("\n7,1\n", "\n"), "1 images have no answer, the first is 7"),
        (lambda text: text + "7,1\n", "each number from 1 to 18 once; correct 7"),
        (lambda text: text + "19,1\n", "correct 19"),
    ],
)
def test_answers_that_cannot_be_counted_are_named(sheet, tmp_path, change, words):
    path = answers(tmp_path, "a.csv", np.ones(18))
    path.write_text(change(path.read_text()))
    with pytest.raises(UserError, match=words):
        count_answers(sheet, [path])


def test_missing_files_are_named(sheet, tmp_path):
    with pytest.raises(UserError, match=r"key\.json"):
        count_answers(tmp_path, [answers(tmp_path, "a.csv", np.ones(18))])
    with pytest.raises(UserError, match=r"missing\.csv"):
        count_answers(sheet, [tmp_path / "missing.csv"])
    with pytest.raises(UserError, match="one or two readers"):
        count_answers(sheet, [])


def test_the_command_prints_json(sheet, tmp_path, capsys):
    cli.main(["blind-count", str(sheet), str(answers(tmp_path, "a.csv", np.ones(18)))])
    assert json.loads(capsys.readouterr().out)["readers"][0]["ratio"] == 1.0
