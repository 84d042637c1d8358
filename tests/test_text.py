"""Characters as columns."""

import numpy as np
import pytest

from s2igan.errors import UserError
from s2igan.text import ALPHABET, MAX_CHARACTERS, one_hot


def test_each_character_has_its_own_column():
    assert len(set(ALPHABET)) == len(ALPHABET)
    np.testing.assert_array_equal(one_hot(ALPHABET), np.eye(len(ALPHABET), dtype=np.float32))


def test_capitals_count_as_small_letters_and_the_unknown_as_nothing():
    np.testing.assert_array_equal(one_hot("A Red Bird"), one_hot("a red bird"))
    rows = one_hot("aéz")
    assert rows.sum(axis=1).tolist() == [1, 0, 1]
    assert one_hot("ab").tolist() != one_hot("ba").tolist()


def test_a_long_text_is_cut():
    assert len(one_hot("b" * 500)) == MAX_CHARACTERS


@pytest.mark.parametrize("text", ["", "   ", "птица"])
def test_a_text_without_letters_is_refused_by_name(text):
    with pytest.raises(UserError, match=r"a\.wav"):
        one_hot(text, "The text of a.wav")
