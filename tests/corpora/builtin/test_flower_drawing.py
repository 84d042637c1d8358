"""The drawn flowers: every attribute is to be seen, in its own place, and nothing else decides what is said of one."""

import itertools
from functools import cache

import numpy as np
import numpy.typing as npt
import pytest

from s2igan.corpora.builtin.flower_drawing import ATTRIBUTES, CENTRES, PETALS, draw_flower, flower_svg
from s2igan.corpora.builtin.svg import MIN_SIZE
from s2igan.errors import UserError

SIZE = 64  # pixels: the smallest pictures in which everything must be readable
PLAIN_FLOWER = {
    "petal_colour": "red",
    "petal_count": "five",
    "petal_shape": "round",
    "petal_pattern": "plain",
    "centre_colour": "yellow",
    "centre_size": "large",
    "stamens": "absent",
    "leaf_shape": "broad",
    "habitat": "forest",
}

Picture = npt.NDArray[np.uint8]


@cache
def draw(seed: int = 3, size: int = SIZE, **changed: str) -> Picture:
    return draw_flower(PLAIN_FLOWER | changed, seed, size)


def differs(a: Picture, b: Picture, threshold: int = 24) -> npt.NDArray[np.bool_]:
    """Which pixels are clearly not the same."""
    return np.abs(a.astype(int) - b.astype(int)).max(axis=-1) > threshold


def middle(picture: Picture) -> Picture:
    """The part with the flower in it, which companions out of focus do not reach."""
    return picture[:, SIZE // 5 : -SIZE // 5]


def petals(seed: int, **changed: str) -> npt.NDArray[np.bool_]:
    """Where the petals' colour shows: the pixels that change much from red to blue, in the middle of the picture."""
    where = differs(draw(seed, petal_colour="red", **changed), draw(seed, petal_colour="blue", **changed), 110)
    where[:, : SIZE // 6], where[:, -SIZE // 6 :] = False, False
    return where


def centre(seed: int) -> npt.NDArray[np.bool_]:
    where = differs(draw(seed, centre_colour="black"), draw(seed, centre_colour="white"), 110)
    where[:, : SIZE // 3], where[:, -SIZE // 3 :] = False, False
    return where


def nearest(rgb: npt.NDArray[np.floating], among: dict[str, tuple]) -> str:
    return min(among, key=lambda name: float(np.linalg.norm(rgb - np.array(among[name][1]))))


def test_same_attributes_and_seed_give_the_same_bytes() -> None:
    assert draw_flower(PLAIN_FLOWER, 5, SIZE).tobytes() == draw_flower(PLAIN_FLOWER, 5, SIZE).tobytes()
    assert flower_svg(PLAIN_FLOWER, 5) == flower_svg(dict(reversed(PLAIN_FLOWER.items())), 5)


def test_individuals_differ() -> None:
    for a, b in itertools.combinations([draw(seed) for seed in range(5)], 2):
        assert differs(a, b).mean() > 0.15


@pytest.mark.parametrize("size", [MIN_SIZE, 64, 152])
def test_size_is_honoured(size: int) -> None:
    assert draw(size=size).shape == (size, size, 3)


def test_size_scales_one_and_the_same_picture() -> None:
    small, large = draw(size=64).astype(float), draw(size=256).astype(float)
    assert np.abs(small - large.reshape(64, 4, 64, 4, 3).mean(axis=(1, 3))).mean() < 6


@pytest.mark.parametrize("seed", [1, 2])
def test_petals_are_large_and_wear_the_named_colour(seed: int) -> None:
    where = petals(seed)
    assert where.mean() > 0.12
    for colour in PETALS:
        assert nearest(np.median(draw(seed, petal_colour=colour)[where], axis=0), PETALS) == colour


@pytest.mark.parametrize("seed", [1, 2])
def test_the_centre_is_in_the_petals_midst_and_wears_the_named_colour(seed: int) -> None:
    where, around = centre(seed), petals(seed)
    assert where.mean() > 0.02
    assert (where & around).sum() < 0.1 * where.sum()
    for a, b in zip(np.nonzero(where), np.nonzero(around), strict=True):
        assert b.min() < a.min() < a.max() < b.max()
    for colour in CENTRES:
        assert nearest(np.median(draw(seed, centre_colour=colour)[where], axis=0), CENTRES) == colour


def test_colours_are_far_apart() -> None:
    for tones in (PETALS, CENTRES):
        for a, b in itertools.combinations(tones.values(), 2):
            assert np.linalg.norm(np.subtract(a[1], b[1])) > 75


@pytest.mark.parametrize("count", ATTRIBUTES["petal_count"])
def test_petals_can_be_counted(count: str) -> None:
    """Once round the flower, near the tips of its narrow petals, it is petal as often as it has petals."""
    size = 256
    pictures = [
        draw_flower(
            PLAIN_FLOWER
            | {"petal_count": count, "petal_shape": "narrow", "petal_colour": colour, "leaf_shape": "narrow"},
            4, size,
        )
        for colour in ("red", "blue")
    ]  # fmt: skip
    where = differs(*pictures, 100)
    inside = differs(draw(4, size, centre_colour="black"), draw(4, size, centre_colour="white"), 110)
    inside[:, : size // 3], inside[:, -size // 3 :] = False, False
    y, x = (axis.mean() for axis in np.nonzero(inside))
    angle = np.linspace(0, 2 * np.pi, 1440, endpoint=False)
    runs = []
    for radius in (48, 52, 56, 60):
        ring = where[(y + radius * np.sin(angle)).astype(int), (x + radius * np.cos(angle)).astype(int)]
        runs.append(int((ring & ~np.roll(ring, 1)).sum()))
    expected = {"three": 3, "four": 4, "five": 5, "six": 6, "eight": 8}.get(count)
    if expected is None:
        assert max(runs) >= 12
    else:
        assert expected in runs


@pytest.mark.parametrize("name", ["petal_shape", "petal_pattern", "leaf_shape"])
def test_values_change_what_is_to_be_seen(name: str) -> None:
    for count in ("four", "eight"):
        pictures = [middle(draw(6, petal_count=count, **{name: value})) for value in ATTRIBUTES[name]]
        for (i, a), (j, b) in itertools.combinations(enumerate(pictures), 2):
            assert differs(a, b).sum() > 60, (count, ATTRIBUTES[name][i], ATTRIBUTES[name][j])


@pytest.mark.parametrize("colour", PETALS)
def test_patterns_show_on_the_petals_and_leave_them_their_colour(colour: str) -> None:
    where = petals(6)
    plain = draw(6, petal_colour=colour)
    for pattern in ATTRIBUTES["petal_pattern"][1:]:
        picture = draw(6, petal_colour=colour, petal_pattern=pattern)
        changed = differs(plain, picture)
        changed[:, : SIZE // 6], changed[:, -SIZE // 6 :] = False, False
        assert changed.sum() > 40, pattern
        assert (changed & where).sum() > 0.6 * changed.sum(), pattern
        assert nearest(np.median(picture[where & ~changed], axis=0), PETALS) == colour, pattern


def test_stamens_stand_around_the_centre() -> None:
    for colour in PETALS:
        changed = differs(*(draw(6, petal_colour=colour, stamens=value) for value in ATTRIBUTES["stamens"]))
        assert changed.sum() > 30
        assert not (changed & centre(6)).sum() > 0.2 * changed.sum()


def test_a_large_centre_is_larger() -> None:
    areas = [
        differs(*(draw(6, centre_size=size, centre_colour=colour) for colour in ("black", "white")), 110).sum()
        for size in ("small", "large")
    ]
    assert areas[1] > 1.8 * areas[0]


def test_every_habitat_changes_the_background_and_leaves_the_flower() -> None:
    flower = petals(7) | centre(7)
    pictures = [draw(7, habitat=habitat) for habitat in ATTRIBUTES["habitat"]]
    for a, b in itertools.combinations(pictures, 2):
        changed = differs(a, b)
        assert changed[~flower].mean() > 0.4
        assert changed[flower].mean() < 0.05


@pytest.mark.parametrize("size", [0, 100_000])
def test_unfit_size_is_refused(size: int) -> None:
    with pytest.raises(UserError, match=str(size)):
        draw(size=size)
