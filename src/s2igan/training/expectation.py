"""What a set of some size lets one expect, before anything is trained on it.

Only drawn sets, with six recordings of each picture, have been trained on here. In rough prototypes colours followed
the words with 1,056 training pictures, and shapes came with 1,920 (docs/results/latent-flow.md); what fewer give was
not measured. So the numbers below are estimates: about half, and four fifths, of what was seen to work.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from s2igan.data.store import Store

Level = Literal["finding", "colours", "shapes"]
COLOURS_PICTURES, COLOURS_RECORDINGS = 500, 2_000
"""From this many on, for training, colours are expected to follow the words; an estimate."""
SHAPES_PICTURES, SHAPES_RECORDINGS = 1_500, 6_000
"""From this many on also shapes; an estimate. Recordings count as well as pictures: speech found pictures as well with
400 of them and five recordings of each as with 1,600 and one (docs/your-own-corpus.md)."""


@dataclass(frozen=True)
class Expectation:
    """What is expected of a set with so much to train on."""

    pictures: int
    recordings: int
    classes: int
    """0 where there are none."""

    @classmethod
    def of(cls, store: Store) -> Expectation:
        """What is expected of a store's training split."""
        counts = store.report["splits"]["train"]
        return cls(counts["images"], counts["utterances"], counts["classes"])

    @property
    def level(self) -> Level:
        """How far it should come: speech that finds its picture, colours that follow the words, shapes as well."""
        if self.pictures >= SHAPES_PICTURES and self.recordings >= SHAPES_RECORDINGS:
            return "shapes"
        if self.pictures >= COLOURS_PICTURES and self.recordings >= COLOURS_RECORDINGS:
            return "colours"
        return "finding"

    @property
    def sentence(self) -> str:
        """The same for a user, with what it is judged by."""
        classes = f" of {self.classes:,} classes" if self.classes else ""
        each = self.recordings / max(1, self.pictures)
        counted = f"{self.pictures:,} pictures{classes} to train on, with {each:.1f} recordings of each: "
        if self.level == "finding":
            return (
                f"{counted}expect speech that finds its picture more often than chance does, and no drawings of what "
                f"is said. Colours need about {COLOURS_PICTURES:,} pictures and {COLOURS_RECORDINGS:,} recordings, by "
                "estimate."
            )
        if self.level == "colours":
            return (
                f"{counted}expect drawings whose colours follow the words, and hardly shapes. Those need about "
                f"{SHAPES_PICTURES:,} pictures of one kind of thing and {SHAPES_RECORDINGS:,} recordings, by estimate."
            )
        return f"{counted}expect drawings of the named shapes and colours, if all pictures are of one kind of thing."
