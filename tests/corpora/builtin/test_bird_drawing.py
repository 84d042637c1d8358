"""The drawn birds: every attribute is to be seen, in its own place, and nothing else decides what is said of a bird."""

import itertools
from functools import cache

import numpy as np
import numpy.typing as npt
import pytest

from s2igan.corpora.builtin.bird_drawing import ATTRIBUTES, PLUMAGE, bird_svg, draw_bird
from s2igan.corpora.builtin.svg import MIN_SIZE
from s2igan.errors import UserError

SIZE = 64  # pixels: the smallest pictures in which everything must be readable
PARTS = ("belly", "wing", "head", "back")
PLAIN_BIRD = {
    "belly_colour": "white",
    "wing_colour": "blue",
    "head_colour": "red",
    "back_colour": "brown",
    "beak_length": "short",
    "beak_colour": "yellow",
    "breast_pattern": "plain",
    "wing_bars": "absent",
    "tail_length": "short",
    "habitat": "meadow",
}

Picture = npt.NDArray[np.uint8]


@cache
def draw(seed: int = 3, size: int = SIZE, **changed: str) -> Picture:
    return draw_bird(PLAIN_BIRD | changed, seed, size)


def differs(a: Picture, b: Picture, threshold: int = 24) -> npt.NDArray[np.bool_]:
    """Which pixels are clearly not the same."""
    return np.abs(a.astype(int) - b.astype(int)).max(axis=-1) > threshold


def region(part: str, seed: int) -> npt.NDArray[np.bool_]:
    """Where a part's colour shows: the pixels that change from black to white with it."""
    black, white = (draw(seed, **{f"{part}_colour": colour}) for colour in ("black", "white"))
    return differs(black, white, 110)


def nearest_colour(rgb: npt.NDArray[np.floating]) -> str:
    return min(PLUMAGE, key=lambda name: float(np.linalg.norm(rgb - np.array(PLUMAGE[name][1]))))


def test_same_attributes_and_seed_give_the_same_bytes() -> None:
    first, second = (draw_bird(PLAIN_BIRD, 5, SIZE) for _ in range(2))
    assert first.tobytes() == second.tobytes()
    assert bird_svg(PLAIN_BIRD, 5) == bird_svg(dict(reversed(PLAIN_BIRD.items())), 5)


def test_individuals_differ() -> None:
    pictures = [draw(seed) for seed in range(6)]
    for a, b in itertools.combinations(pictures, 2):
        assert differs(a, b).mean() > 0.15


def test_individuals_face_both_ways() -> None:
    # The beak is the only part that changes with its colour, so it tells where the bird looks.
    looks_right = []
    for seed in range(12):
        _, columns = np.nonzero(differs(draw(seed, beak_colour="black"), draw(seed, beak_colour="yellow")))
        looks_right.append(columns.mean() > SIZE / 2)
    assert 2 <= sum(looks_right) <= 10


@pytest.mark.parametrize("size", [64, 152, 300])
def test_size_is_honoured(size: int) -> None:
    picture = draw(size=size)
    assert picture.shape == (size, size, 3)
    assert picture.dtype == np.uint8


def test_size_scales_one_and_the_same_picture() -> None:
    small, large = draw(size=64).astype(float), draw(size=256).astype(float)
    shrunk = large.reshape(64, 4, 64, 4, 3).mean(axis=(1, 3))
    assert np.abs(small - shrunk).mean() < 6


@pytest.mark.parametrize("part", PARTS)
def test_part_is_large_and_wears_the_named_colour(part: str) -> None:
    for seed in (1, 2):
        where = region(part, seed)
        assert where.mean() > 0.03, f"{part} of individual {seed} covers only {where.mean():.1%} of the picture"
        for colour in PLUMAGE:
            pixels = draw(seed, **{f"{part}_colour": colour})[where]
            assert nearest_colour(np.median(pixels, axis=0)) == colour


def test_parts_do_not_share_their_pixels() -> None:
    regions = {part: region(part, 4) for part in PARTS}
    for a, b in itertools.combinations(PARTS, 2):
        shared = (regions[a] & regions[b]).sum()
        assert shared < 0.1 * min(regions[a].sum(), regions[b].sum()), (a, b)


def test_parts_lie_where_they_belong() -> None:
    def centre(part: str) -> tuple[float, float]:
        rows, columns = np.nonzero(region(part, 4))
        return float(rows.mean()), float(columns.mean())

    rows, columns = zip(*(centre(part) for part in PARTS), strict=True)
    belly, wing, head, back = range(4)
    assert rows[head] < min(rows[belly], rows[wing], rows[back])
    # From the front backwards: belly, wing, back; the head says which way is front.
    front = np.sign(columns[head] - columns[back])
    assert front * columns[belly] > front * columns[wing] > front * columns[back]


def test_beak_wears_the_named_colour() -> None:
    for seed in (1, 2):
        where = differs(draw(seed, 128, beak_colour="black"), draw(seed, 128, beak_colour="yellow"), 110)
        assert where.any()
        for colour in ATTRIBUTES["beak_colour"]:
            pixels = draw(seed, 128, beak_colour=colour)[where]
            assert nearest_colour(np.median(pixels, axis=0)) == colour


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_long_beak_reaches_further_than_a_short_one(seed: int) -> None:
    def area(length: str) -> float:
        colours = (draw(seed, 128, beak_length=length, beak_colour=colour) for colour in ("black", "yellow"))
        return float(differs(*colours).sum())

    assert area("long") > 1.4 * area("short")


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_long_tail_shows_more_of_the_back_colour(seed: int) -> None:
    def area(length: str) -> float:
        colours = (draw(seed, tail_length=length, back_colour=colour) for colour in ("black", "white"))
        return float(differs(*colours).sum())

    assert area("long") > 1.3 * area("short")


@pytest.mark.parametrize("colour", PLUMAGE)
def test_breast_patterns_show_on_the_belly_and_leave_it_its_colour(colour: str) -> None:
    seed = 6
    belly = region("belly", seed)
    pictures = {pattern: draw(seed, belly_colour=colour, breast_pattern=pattern)
                for pattern in ATTRIBUTES["breast_pattern"]}  # fmt: skip
    for a, b in itertools.combinations(pictures, 2):
        changed = differs(pictures[a], pictures[b])
        assert changed.sum() > 30, (a, b)
        assert (changed & belly).sum() > 0.8 * changed.sum()
    for picture in pictures.values():
        assert nearest_colour(np.median(picture[belly], axis=0)) == colour


@pytest.mark.parametrize("colour", PLUMAGE)
def test_wing_bars_show_on_the_wing_and_leave_it_its_colour(colour: str) -> None:
    wing = region("wing", 6)
    with_bars, without = (draw(6, wing_colour=colour, wing_bars=bars) for bars in ("present", "absent"))
    changed = differs(with_bars, without, 40)
    assert changed.sum() > 30
    assert (changed & wing).sum() > 0.7 * changed.sum()
    assert nearest_colour(np.median(with_bars[wing], axis=0)) == colour


def test_every_habitat_changes_the_background_and_leaves_the_bird() -> None:
    seed = 7
    bird = np.logical_or.reduce([region(part, seed) for part in PARTS])
    pictures = [draw(seed, habitat=habitat) for habitat in ATTRIBUTES["habitat"]]
    for a, b in itertools.combinations(pictures, 2):
        changed = differs(a, b)
        assert changed[~bird].mean() > 0.4
        assert changed[bird].mean() < 0.05


def test_part_colours_are_far_apart() -> None:
    for a, b in itertools.combinations(PLUMAGE, 2):
        assert np.linalg.norm(np.subtract(PLUMAGE[a][1], PLUMAGE[b][1])) > 75, (a, b)


def test_smallest_size_is_drawn() -> None:
    assert draw(size=MIN_SIZE).shape == (MIN_SIZE, MIN_SIZE, 3)


@pytest.mark.parametrize("size", [0, -64, 100_000])
def test_unfit_size_is_refused(size: int) -> None:
    with pytest.raises(UserError, match=str(size)):
        draw(size=size)
