import dataclasses

import numpy as np
import pytest
from toy_drawing import TOY

from s2igan.corpora.builtin.bird_drawing import ATTRIBUTES as BIRD_ATTRIBUTES
from s2igan.corpora.builtin.flower_drawing import ATTRIBUTES as FLOWER_ATTRIBUTES
from s2igan.corpora.registry import drawn_set
from s2igan.evaluation.drawings import draw_random, drawn_set_with, fingerprint


def test_values_are_uniform_and_independent():
    """What keeps the classifier from reading one attribute off another."""
    _, codes = draw_random(TOY, 1200, 8, seed=0, jobs=1)
    assert codes.shape == (1200, 2)
    table = np.histogram2d(codes[:, 0], codes[:, 1], bins=(3, 2))[0]
    np.testing.assert_allclose(table / 1200, 1 / 6, atol=0.04)


def test_pictures_show_their_codes():
    pictures, codes = draw_random(TOY, 60, 16, seed=1, jobs=1)
    brightest = pictures.reshape(60, -1, 3).max(axis=1).argmax(axis=1)
    np.testing.assert_array_equal(brightest, codes[:, 0])


def test_all_follows_from_the_seed_whatever_the_processes():
    alone, codes = draw_random(TOY, 120, 8, seed=3, jobs=1)
    together, codes_together = draw_random(TOY, 120, 8, seed=3, jobs=2)
    np.testing.assert_array_equal(alone, together)
    np.testing.assert_array_equal(codes, codes_together)
    other, _ = draw_random(TOY, 120, 8, seed=4, jobs=1)
    assert not (other == alone).all(axis=(1, 2, 3)).any()


def test_the_fingerprint_is_of_the_drawing_s_source(monkeypatch):
    birds = drawn_set("birds")
    assert len({fingerprint(birds), fingerprint(drawn_set("flowers")), fingerprint(TOY)}) == 3
    assert fingerprint(dataclasses.replace(birds, name="others")) == fingerprint(birds)
    before = fingerprint(birds)
    monkeypatch.setattr("importlib.metadata.version", lambda _: "another renderer")
    assert fingerprint(birds) != before


@pytest.mark.parametrize(("name", "known"), [("birds", BIRD_ATTRIBUTES), ("flowers", FLOWER_ATTRIBUTES)])
def test_drawn_sets_are_known_by_their_attributes(name, known):
    found = drawn_set_with(known)
    assert found is not None
    assert found.name == name
    assert found.attributes == known
    assert found.changed_sentences.keys() <= known.keys()
    some = {attribute: values[-1:] for attribute, values in known.items()}  # a small corpus need not show every value
    assert drawn_set_with(some) == found
    assert drawn_set_with(some | {"habitat": ("forest", "moon")}) is None
    assert drawn_set_with(some | {"scent": ("sweet",)}) is None


def test_pictures_that_are_no_drawings_are_not_taken_for_any():
    assert drawn_set_with({}) is None
    assert drawn_set_with({"habitat": ("forest", "meadow")}) is None  # of photographs, say
