"""The model that ships with the repository loads, hears a voice, and draws the colour that it hears."""

from pathlib import Path

import numpy as np
import pytest

from s2igan import SpeechToImage
from s2igan.speech import parse_voice

MODEL = Path(__file__).parents[1] / "models" / "birds"


@pytest.fixture(scope="module")
def model():
    return SpeechToImage.load(MODEL)


def drawn(model, sentence):
    voice = parse_voice("espeak:en-gb+f3")
    images = model((voice.synthesize(sentence), voice.sample_rate), samples=6, seed=2)
    assert [image.size for image in images] == [(64, 64)] * 6
    return np.stack([np.asarray(image, dtype=float) for image in images])


def test_it_reranks_though_its_config_has_the_old_name(model):
    assert '"candidates": 4' in (MODEL / "config.json").read_text()
    assert model.rerank == 4
    assert model.image_encoder is not None


def test_wings_have_the_colour_that_was_said(model):
    red, blue = (drawn(model, f"a bird with {colour} wings") for colour in ("red", "blue"))
    warmth = [float((pictures[..., 0] - pictures[..., 2])[:, 16:48, 16:48].mean()) for pictures in (red, blue)]
    assert warmth[0] > warmth[1] + 40
