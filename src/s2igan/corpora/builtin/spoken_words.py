"""When each word of a drawn set's recordings is spoken: the truth that found words are compared with.

No corpus keeps it. A recording follows from the settings of its corpus and its own name, so that what was said is put
together again, and espeak-ng says when each word begins.
"""

from __future__ import annotations

import json
import random
import re
from dataclasses import dataclass

from s2igan.corpora.builtin.drawn import ENGLISH, LANGUAGE, Description, DrawnSet, caption_key, describe
from s2igan.corpora.builtin.invented import BirdCaptions
from s2igan.data.manifest import SPLITS
from s2igan.data.store import Store
from s2igan.errors import UserError
from s2igan.speech import parse_voice
from s2igan.speech.espeak import Espeak

RECORDING = re.compile(r"audio/(\d+)[^/]*/(\d+)_(\d+)\.flac")


@dataclass(frozen=True)
class SpokenWord:
    """A word of a recording."""

    word: str
    """In an unwritten language what it means; words that differ by an affix are one."""
    start_seconds: float


class WordTimes:
    """Words of the recordings of one prepared set.

    Raises:
        UserError: the set is not one that this version has drawn.
    """

    def __init__(self, store: Store, drawn: DrawnSet) -> None:
        path = store.corpus_root / f"{drawn.name}.json"
        try:
            settings = json.loads(path.read_text(encoding="utf-8"))
            self.seed, self.extra_voices = int(settings["seed"]), tuple(settings["extra_voices"])
            known = settings.get(LANGUAGE, ENGLISH) == drawn.language
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path}: does not say how the set was made; prepare it again.") from error
        if not known:
            raise UserError(f"{path}: the set is in another language than {drawn.language}; prepare it again.")
        self.store, self.drawn = store, drawn

    def said(self, utterance: int) -> tuple[Description, list[str]] | None:
        """What an utterance says and its voice, and its words; None where another version put the caption together."""
        store = self.store
        found = RECORDING.fullmatch(store.audio_path(utterance).relative_to(store.corpus_root).as_posix())
        if found is None:
            return None
        number, individual, k = map(int, found.groups())
        key = caption_key(self.seed, number, individual, k)
        attributes = store.image_attributes(int(store.image_index[utterance]))
        split = SPLITS[store.split[utterance]]
        extra = self.extra_voices if k == individual == 0 and split in ("train", "validation") else ()
        description = describe(self.drawn, attributes, split, random.Random(key), extra)
        known = store.text(utterance) if self.drawn.written else description.text
        if (description.mentions, description.speaker) != (store.mentions(utterance), store.speaker(utterance)):
            return None
        return (description, self._words(description, attributes, key)) if description.text == known else None

    def of(self, utterance: int) -> list[SpokenWord] | None:
        """The words of an utterance in their order; None where nobody can tell: `said` does not, another engine than
        espeak-ng spoke, or espeak-ng counts its words in another way."""
        said = self.said(utterance)
        if said is None:
            return None
        description, words = said
        voice = parse_voice(description.voice)
        if not isinstance(voice, Espeak):
            return None
        starts = voice.word_starts(description.text)
        if len(starts) != len(words):
            return None
        return [SpokenWord(word, start) for word, start in zip(words, starts, strict=True)]

    def _words(self, said: Description, attributes: dict[str, str], key: str) -> list[str]:
        caption = self.drawn.caption
        if isinstance(caption, BirdCaptions):
            clauses, _ = caption.words(attributes, random.Random(key))
            return [word.meaning for clause in clauses for word in clause]
        return said.text.replace(",", "").split()
