"""Which pictures `s2igan evaluate` takes for copies of training pictures; prints one JSON object.

    python benchmarks/memorisation.py DATA [--without-lite2]

DATA is a built-in set. Asked are real pictures of species that training does not see, new individuals of such species
and of training species, and training pictures that are slightly changed: cut at random, with noise, blurred, paler,
tinted, mirrored, shifted, turned, enlarged. `copies` is the share of each kind that is called a copy; `lite2_p50` the
median distance to the nearest training picture or its mirror image in EfficientNet-Lite2, and `lite2_near` the share
below the 5th percentile of real test pictures there.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from s2igan.data.dataset import crop_and_flip
from s2igan.data.store import Store
from s2igan.evaluation.drawings import FIRST_INDIVIDUAL, drawn_set_with
from s2igan.evaluation.extractors import Extraction
from s2igan.evaluation.memorisation import COPY_PERCENTILE, OTHERS, Middle, copies, nearest_middles
from s2igan.evaluation.spaces import lite
from s2igan.metrics.distances import nearest_distances
from s2igan.pipeline import to_pixels

COUNT = 100  # pictures of each kind
TINT = (1.1, 0.95, 0.85)  # of red, green and blue


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument(
        "--without-lite2", action="store_true", help="leave out its columns, which take most of the time"
    )
    options = parser.parse_args()
    store = Store.open(options.data)
    drawing = drawn_set_with(store.attributes)
    if drawing is None:
        raise SystemExit(f"{store.directory}: holds no pictures that this package draws.")
    side, stored_side, rng = store.image_size, store.images.shape[1], np.random.default_rng(0)
    images = {
        name: np.unique(store.image_index[store.split_indices(name)]) for name in ("train", "development", "test")
    }

    def some(name: str) -> np.ndarray:
        return rng.permutation(images[name])[:COUNT]

    def centre(pictures: np.ndarray) -> np.ndarray:
        return to_pixels(crop_and_flip(pictures, side, None))

    def cut(name: str) -> np.ndarray:
        return to_pixels(crop_and_flip(store.images[some(name)], side, rng))

    def noisy(pictures: np.ndarray, deviation: float) -> np.ndarray:
        return bytes_of(pictures + rng.normal(0, deviation, pictures.shape))

    def blurred(pictures: np.ndarray) -> np.ndarray:
        small = [Image.fromarray(one).resize((3 * side // 8,) * 2, Image.Resampling.BILINEAR) for one in pictures]
        return np.stack([np.asarray(one.resize((side, side), Image.Resampling.BICUBIC)) for one in small])

    def anew(name: str, first: int) -> np.ndarray:
        facts = [store.image_attributes(int(image)) for image in some(name)]
        return centre(np.stack([drawing.draw(row, first + n, stored_side) for n, row in enumerate(facts)]))

    def shifted(pictures: np.ndarray) -> np.ndarray:
        """By up to an eighth of the side; the edge is repeated."""
        most = side // 8
        padded = np.pad(pictures, ((0, 0), (most, most), (most, most), (0, 0)), mode="edge")
        places = rng.integers(0, 2 * most + 1, (len(pictures), 2))
        shown = [one[top : top + side, left : left + side] for one, (top, left) in zip(padded, places, strict=True)]
        return np.stack(shown)

    def turned(pictures: np.ndarray) -> np.ndarray:
        return np.stack([np.asarray(Image.fromarray(one).rotate(5, Image.Resampling.BICUBIC)) for one in pictures])

    def enlarged(pictures: np.ndarray) -> np.ndarray:
        box = (side / 22, side / 22, side - side / 22, side - side / 22)  # by a tenth
        return np.stack(
            [np.asarray(Image.fromarray(one).resize((side, side), Image.Resampling.BICUBIC, box)) for one in pictures]
        )

    def tinted(pictures: np.ndarray) -> np.ndarray:
        return bytes_of(pictures * TINT)

    kinds = {
        "real, test species": centre(store.images[images["test"]]),
        "real, development species": centre(store.images[some("development")]),
        "new individuals of test species": anew("test", FIRST_INDIVIDUAL),
        "new individuals of training species": anew("train", FIRST_INDIVIDUAL + COUNT),
        "training, noise of 8": noisy(centre(store.images[some("train")]), 8),
        "training, blurred": blurred(centre(store.images[some("train")])),
        "training, cut at random": cut("train"),
        "training, cut, noise of 8": noisy(cut("train"), 8),
        "training, cut, noise of 25": noisy(cut("train"), 25),
        "training, cut, blurred": blurred(cut("train")),
        "training, cut, paler": bytes_of(0.8 * cut("train") + 30),
        "training, cut, tinted": tinted(cut("train")),
        "training, mirrored": centre(store.images[some("train")])[:, :, ::-1],
        "training, cut, shifted": shifted(cut("train")),
        "training, all of these": noisy(blurred(tinted(shifted(cut("train")))), 8),
        "training, turned by 5 degrees": turned(cut("train")),
        "training, enlarged by a tenth": enlarged(cut("train")),
        "training, grey": np.repeat(cut("train").mean(axis=3, keepdims=True), 3, axis=3).astype(np.uint8),
    }
    training = images["train"]
    others = rng.permutation(len(training))[:OTHERS]
    seen = Extraction([*([] if options.without_lite2 else [lite("lite2", torch.device("cpu"))]), Middle()])
    rows = {name: seen.of([pictures]) for name, pictures in kinds.items()}
    shown = seen.of([centre(store.images[training[others]])], ["middle"])
    known = nearest_middles(shown["middle"], store.images, training, itself=others)
    near = {name: nearest_middles(found["middle"], store.images, training) for name, found in rows.items()}
    real = near["real, test species"]

    table: dict[str, dict[str, float]] = {
        name: {"pictures": len(pictures), "copies": round(copies(near[name], real, known, {}).value, 3)}
        for name, pictures in kinds.items()
    }
    if not options.without_lite2:
        gallery = [
            seen.of_stored(store, training, crop=side, mirrored=mirrored, names=["lite2"])["lite2"]
            for mirrored in (False, True)
        ]
        apart = {name: nearest_distances(found["lite2"], np.concatenate(gallery)) for name, found in rows.items()}
        low = np.percentile(apart["real, test species"], 5)
        for name, distances in apart.items():
            table[name]["lite2_p50"] = round(float(np.median(distances)), 2)
            table[name]["lite2_near"] = round(float((distances < low).mean()), 3)
    facts = {"set": drawing.name, "side": side, "training_pictures": len(training)}
    print(
        json.dumps(
            {**facts, "copy_below": round(float(np.percentile(known, COPY_PERCENTILE)), 4), "kinds": table}, indent=2
        )
    )


def bytes_of(pictures: np.ndarray) -> np.ndarray:
    """Rounded down and kept within a byte."""
    return np.clip(pictures, 0, 255).astype(np.uint8)


if __name__ == "__main__":
    main()
