"""Text as an input: one column for each character, for the baseline that reads what the others hear."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32

from s2igan.errors import UserError

ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789-,;.!?:'\"/\\|_@#$%^&*~`+=<>()[]{} "
"""Characters that are told apart; capitals count as small letters, what is not here as a blank row."""

MAX_CHARACTERS = 201
"""Characters read of a text (Reed et al. 2016); what follows is left out."""


def one_hot(text: str, name: str = "the text") -> Float32[np.ndarray, "characters alphabet"]:
    """A row for each character, 1 in the column of that character.

    Raises:
        UserError: the text has no character of `ALPHABET` but blanks; `name` says whose text it is.
    """
    text = text.lower()[:MAX_CHARACTERS]
    if not any(character in ALPHABET and character != " " for character in text):
        raise UserError(f"{name} has no letter that the text encoder knows: it reads the Latin alphabet only.")
    return (np.array(list(text))[:, None] == np.array(list(ALPHABET))).astype(np.float32)
