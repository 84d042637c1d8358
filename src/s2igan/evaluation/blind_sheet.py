"""The blind sheet: generated and real images in random order, for a reader who counts the clean ones without knowing
which is which (docs/metrics.md)."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Int, UInt8
from PIL import Image, ImageDraw, ImageFont

from s2igan.checkpoint import MODEL_FILES, file_digest
from s2igan.data.dataset import crop_and_flip
from s2igan.data.store import Store
from s2igan.errors import UserError
from s2igan.evaluation.evaluation_split import EvaluationSplit, check_size
from s2igan.evaluation.generation import draw_pictures
from s2igan.files import atomic_write, atomic_write_json
from s2igan.models.exported import find_model
from s2igan.pictures import write_picture
from s2igan.pipeline import SpeechToImage, to_pixels

KEY, ANSWERS, README, VERSION = "key.json", "answers.csv", "README.md", 1
"""Files of a sheet, and the version of the key's form."""
EACH = 64
"""Generated images, and real ones, unless the split has fewer pictures."""
COLUMNS, ROWS = 4, 4
"""Of images on a page; fewer where a page would be larger than `PAGE_SIDE`."""
PAGE_SIDE = 1180
"""Pixels: what readers, people and programs, see without reduction."""
SHOWN_SIDE = 256
"""Pixels: smaller images are enlarged by the whole number that comes nearest to it from below."""
GAP, LABEL = 10, 22
"""White pixels between images, and above each for its number."""
RESAMPLES = 2000
"""Of the bootstrap over pictures."""

INSTRUCTIONS = """# Blind sheet

{count} numbered images, {per_page} on a page. Some were generated from spoken descriptions, the others are real
pictures; the order is random. **Do not open `{key}` before every reader has answered**: it says which is which.

Copy `{answers}` under a name of your own and write 1 (clean) or 0 (not clean) beside every number. Look at each image
by itself; do not go back to compare.

An image is **clean** if all of this holds:

1. It shows one whole subject: one bird with one head, or one flower with one blossom. Nothing is doubled or missing;
   what the edge of the image cuts off is not missing.
2. The outline is closed: the subject ends where it should and does not run into the background.
3. Nothing is smeared, checkered or torn, neither in the subject nor behind it.

Colours, beauty and whether such a species exists do not count. When in doubt, write 0.
{enlarged}
`s2igan blind-count THIS_FOLDER ANSWERS ...` then counts the answers of one or two readers.
"""


def write_blind_sheet(
    model_path: str | Path,
    data_dir: str | Path,
    out: str | Path,
    *,
    split: str = "test",
    seed: int = 0,
    device: str | None = None,
) -> Path:
    """Draws `EACH` images of utterances of a split, mixes them with as many real pictures of it, and writes pages of
    numbered images, `README.md` for the reader, an empty `answers.csv`, and `key.json`. Returns the folder.

    Generated images and real ones are of different pictures of the split, as long as it has enough. All follows from
    the seed.

    Raises:
        UserError: the model or the set cannot be read, they do not fit together, or the folder holds a sheet already.
    """
    out = Path(out)
    if (out / KEY).exists():
        raise UserError(f"{out}: holds a blind sheet already, whose answers would no longer fit; choose another --out.")
    directory = find_model(model_path)
    model = SpeechToImage.load(directory, device)
    store = Store.open(data_dir)
    chosen = EvaluationSplit.of(store, split)
    check_size(model, store)
    rng = np.random.default_rng([seed, 0xB11D])
    real, utterances = choose(chosen, rng)
    side = model.resolutions[-1]
    pictures = np.concatenate(
        [
            draw_pictures(model, store, utterances, seed=seed),
            to_pixels(crop_and_flip(store.images[real], side, None)),
        ]
    )
    order = rng.permutation(len(pictures))
    entries = [_generated(store, int(u)) for u in utterances] + [_real(store, int(i)) for i in real]
    key = {
        "version": VERSION,
        "model": {"name": Path(model_path).resolve().name, "sha256": file_digest(directory / MODEL_FILES[1])},
        "data": {"name": store.directory.resolve().name, "fingerprint": store.fingerprint},
        "split": split,
        "voices": chosen.voices,
        "seed": seed,
        "image_size": side,
        "pictures": [{"number": number, **entries[i]} for number, i in enumerate(order, start=1)],
    }
    factor = max(1, SHOWN_SIDE // side)
    columns, rows = grid(factor * side)
    for page, first in enumerate(range(0, len(order), columns * rows), start=1):
        shown = order[first : first + columns * rows]
        write_picture(out / f"page-{page:02d}.png", draw_page(pictures[shown], first + 1, columns, rows, factor))
    enlarged = f"\nThe images are of {side} px and shown {factor} times as large.\n" if factor > 1 else ""
    words = {"count": len(order), "per_page": columns * rows, "key": KEY, "answers": ANSWERS, "enlarged": enlarged}
    _write_text(out / README, INSTRUCTIONS.format(**words))
    _write_text(out / ANSWERS, "number,clean\n" + "".join(f"{number},\n" for number in range(1, len(order) + 1)))
    atomic_write_json(out / KEY, key)  # last: with it the sheet is whole
    return out


def choose(
    split: EvaluationSplit, rng: np.random.Generator
) -> tuple[Int[np.ndarray, " each"], Int[np.ndarray, " each"]]:
    """Real pictures and utterances (numbers in the store), as many of each; no utterance describes one of the pictures
    as long as the split has enough."""
    images = rng.permutation(split.images)
    described = split.store.image_index[split.utterances]
    each = min(EACH, len(images))
    real = images[:each]
    others = [image for image in np.roll(images, -each) if image in described]
    told = np.resize(np.array(others), each)
    return real, np.array([rng.choice(split.utterances[described == image]) for image in told])


def grid(side: int) -> tuple[int, int]:
    """Columns and rows of a page of images of so many pixels a side."""
    return (
        max(1, min(COLUMNS, (PAGE_SIDE - GAP) // (side + GAP))),
        max(1, min(ROWS, (PAGE_SIDE - GAP) // (side + GAP + LABEL))),
    )


def draw_page(
    pictures: UInt8[np.ndarray, "pictures side side 3"], first: int, columns: int, rows: int, factor: int
) -> Image.Image:
    """A page of images, numbered from ``first``, each enlarged by a whole factor."""
    side = factor * pictures.shape[1]
    page = Image.new("RGB", (GAP + columns * (side + GAP), GAP + rows * (side + GAP + LABEL)), "white")
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(LABEL - 6)
    for i, picture in enumerate(pictures):
        row, column = divmod(i, columns)
        left, top = GAP + column * (side + GAP), GAP + row * (side + GAP + LABEL)
        pen.text((left, top), str(first + i), "black", font)
        shown = Image.fromarray(picture)
        if factor > 1:
            shown = shown.resize((side, side), Image.Resampling.BICUBIC)
        page.paste(shown, (left, top + LABEL))
    return page


def _generated(store: Store, utterance: int) -> dict[str, Any]:
    described = int(store.image_index[utterance])
    speaker, text = store.speaker(utterance), store.text(utterance)
    return {"real": False, "utterance": utterance, "describes": described, "speaker": speaker, "text": text}


def _real(store: Store, image: int) -> dict[str, Any]:
    return {"real": True, "image": image, "source": os.path.relpath(store.image_path(image), store.corpus_root)}


def _write_text(path: Path, text: str) -> None:
    with atomic_write(path) as file:
        file.write(text.encode())


# ------------------------------------------------------------------------------------------------------------- counting


def count_answers(sheet: str | Path, answers: Sequence[str | Path]) -> dict[str, Any]:
    """What one or two readers found clean (docs/metrics.md): of generated images, of real ones, and their ratio, by
    reader and in the mean; and how far two readers agree.

    Raises:
        UserError: there is no sheet, its key or an answer cannot be read, or a number lacks its answer.
    """
    if not 1 <= len(answers) <= 2:
        raise UserError(f"{len(answers)} files of answers: name those of one or two readers.")
    key = _read_key(Path(sheet))
    real = np.array([picture["real"] for picture in key["pictures"]])
    readers = [read_answers(Path(path), len(real)) for path in answers]
    counts = [{"answers": Path(path).name, **ratio(clean, real)} for path, clean in zip(answers, readers, strict=True)]
    ratios = [count["ratio"] for count in counts]
    return {
        **{name: key[name] for name in ("model", "data", "split", "seed", "image_size")},
        "readers": counts,
        "mean_ratio": None if None in ratios else float(np.mean(ratios)),
        "agreement": agreement(*readers) if len(readers) == 2 else None,
    }


def read_answers(path: Path, count: int) -> Bool[np.ndarray, " count"]:
    """The answers of a reader, in the order of the numbers 1 to ``count``.

    Raises:
        UserError: the file cannot be read, a number is unknown or answered twice, or an answer is not 0 or 1.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: the answers cannot be read ({error}); name a filled-in copy of {ANSWERS}.") from error
    found: dict[int, bool] = {}
    for line, row in enumerate(csv.reader(io.StringIO(text)), start=1):
        cells = [cell.strip() for cell in row]
        if not any(cells) or cells == ["number", "clean"]:
            continue
        if len(cells) != 2 or not cells[0].isdecimal() or cells[1] not in ("0", "1"):
            raise UserError(f"{path}, line {line}: {','.join(row)!r} is not a number and 0 or 1; correct it.")
        number = int(cells[0])
        if not 1 <= number <= count or number in found:
            raise UserError(f"{path}, line {line}: the sheet has each number from 1 to {count} once; correct {number}.")
        found[number] = cells[1] == "1"
    if missing := [number for number in range(1, count + 1) if number not in found]:
        raise UserError(f"{path}: {len(missing)} images have no answer, the first is {missing[0]}; fill them in.")
    return np.array([found[number] for number in range(1, count + 1)])


def ratio(clean: Bool[np.ndarray, " pictures"], real: Bool[np.ndarray, " pictures"]) -> dict[str, Any]:
    """Counts of clean images among generated and real ones, and the quotient of their shares with a 95 % interval.

    The bootstrap draws the images of each kind again. The quotient is None where no real image is clean; so is an end
    of the interval where a resample has no clean real one.
    """
    kinds = {"generated": clean[~real], "real": clean[real]}
    rng = np.random.default_rng(0)
    fake, known = (rng.binomial(len(kind), kind.mean(), RESAMPLES) / len(kind) for kind in kinds.values())
    quotients = np.divide(fake, known, out=np.full(RESAMPLES, np.inf), where=known > 0)
    ends = np.quantile(quotients, (0.025, 0.975), method="nearest")
    return {
        **{name: {"clean": int(kind.sum()), "of": len(kind)} for name, kind in kinds.items()},
        "ratio": float(clean[~real].mean() / clean[real].mean()) if clean[real].any() else None,
        "ratio_interval_95": [float(end) if np.isfinite(end) else None for end in ends],
    }


def agreement(first: Bool[np.ndarray, " pictures"], second: Bool[np.ndarray, " pictures"]) -> dict[str, Any]:
    """Share of images on which two readers agree, and Cohen's kappa: how much of what chance leaves open they agree on.

    Kappa is None where both readers gave one and the same answer to all.
    """
    same = float((first == second).mean())
    by_chance = float(first.mean() * second.mean() + (1 - first.mean()) * (1 - second.mean()))
    return {"same": same, "kappa": (same - by_chance) / (1 - by_chance) if by_chance < 1 else None}


def _read_key(sheet: Path) -> Mapping[str, Any]:
    path = sheet / KEY
    try:
        key: dict[str, Any] = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not readable ({error}); name a folder that s2igan blind-sheet wrote.") from error
    if key.get("version") != VERSION:
        raise UserError(f"{path}: of another version of s2igan; count it with that version.")
    return key
