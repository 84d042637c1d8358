"""What is evaluated on what: a split of a prepared set, and the networks of a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Int

from s2igan.data.store import Store
from s2igan.errors import UserError
from s2igan.evaluation.subject import Subject
from s2igan.models.encoders import Encoder
from s2igan.models.image_encoder import ImageEncoder
from s2igan.pipeline import SpeechToImage


@dataclass(frozen=True)
class EvaluationSplit:
    """The utterances and the images of a split."""

    store: Store
    name: str
    """`train`, `validation`, `development` or `test`."""
    utterances: Int[np.ndarray, " utterances"]
    """Numbers in the store, as for the images."""
    images: Int[np.ndarray, " images"]
    """All images of the split, whether or not one of the utterances describes them."""
    voices: str
    """Whose utterances these are, in words."""

    @classmethod
    def of(cls, store: Store, split: str) -> EvaluationSplit:
        """The utterances by voices that speak in no other split; all of the split where those are fewer than half.

        Raises:
            UserError: the split has no utterances.
        """
        own = store.split_indices(split)
        if len(own) == 0:
            raise UserError(f"{store.directory}: the split {split!r} has no utterances; name another, or prepare one.")
        elsewhere = np.setdiff1d(np.arange(len(store)), own)
        speakers = store.speaker_index[own]
        new = (speakers >= 0) & ~np.isin(speakers, store.speaker_index[elsewhere])  # -1 is an unknown speaker
        voices = f"{len(np.unique(speakers[new]))} that speak in no other split"
        if not new.all():
            voices += f" ({new.sum()} of {len(own)} utterances)"
        if 2 * new.sum() < len(own):  # where speakers are not kept apart, a few are new by accident
            known = f"of which {voices}" if new.any() else "none of which is known to be new"
            new, voices = np.ones(len(own), dtype=bool), f"all of the split, {known}"
        return cls(store, split, own[new], np.unique(store.image_index[own]), voices)

    @property
    def protocol(self) -> dict[str, Any]:
        """What every score on this split has in its record."""
        return {"split": self.name, "voices": self.voices}

    def captions_of(self, positions: Int[np.ndarray, " some"]) -> Int[np.ndarray, " captions"]:
        """The utterances that describe the ``images`` at these positions."""
        return self.utterances[np.isin(self.store.image_index[self.utterances], self.images[positions])]

    def mentioned(self, utterance: int) -> dict[str, str]:
        """The attributes that an utterance names, with their values."""
        facts = self.store.image_attributes(int(self.store.image_index[utterance]))
        return {name: facts[name] for name in self.store.mentions(utterance)}


@dataclass(frozen=True)
class Networks:
    """What a run offers: both encoders of stage 1, and the model in use once stage 2 is trained."""

    speech: Encoder
    image: ImageEncoder
    image_size: int
    """Side in pixels of the images that the image encoder was trained on."""
    model: SpeechToImage | None

    @classmethod
    def load(cls, subject: Subject, device: torch.device) -> Networks:
        """Those of the exported model, or of stage 1 alone where that is all there is.

        Raises:
            UserError: not even stage 1 is finished, or its files are of another version.
        """
        exported = subject.exported()
        model = SpeechToImage.of(exported, device) if subject.trained else None
        speech = exported.speech_encoder().to(device).eval() if model is None else model.speech_encoder
        return cls(speech, exported.image_encoder().to(device).eval(), exported.image_size, model)


def check_size(model: SpeechToImage, store: Store) -> None:
    """UserError where the stored pictures are smaller than the images that the model makes."""
    stored, made = store.images.shape[1], model.resolutions[-1]
    if stored < made:
        raise UserError(
            f"{store.directory}: the stored images have {stored} px and the model makes {made} px; prepare the set "
            f"again with --size {made}."
        )
