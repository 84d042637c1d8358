"""The models that ship with the repository load, hear a voice, and draw the colour that they hear."""

import numpy as np
import pytest

from s2igan import SpeechToImage
from s2igan.models.exported import shipped_models
from s2igan.speech import parse_voice

MODELS = shipped_models()


def drawn(model, sentence, samples=6):
    voice = parse_voice("espeak:en-gb+belinda")
    images = model((voice.synthesize(sentence), voice.sample_rate), samples=samples, seed=2)
    side = model.resolutions[-1]
    assert [image.size for image in images] == [(side, side)] * samples
    return np.stack([np.asarray(image, dtype=float) for image in images])


def test_birds_are_shipped_and_every_model_has_a_page_of_its_own():
    assert "birds" in MODELS
    assert all((directory / "README.md").is_file() for directory in MODELS.values())


@pytest.mark.parametrize("name", MODELS)
def test_it_draws(name):
    pictures = drawn(SpeechToImage.load(name), "a red one with a yellow middle", samples=2)
    assert pictures.std() > 10
    assert np.abs(pictures[0] - pictures[1]).mean() > 1


def test_wings_have_the_colour_that_was_said():
    model = SpeechToImage.load(MODELS["birds"])
    red, blue = (drawn(model, f"a bird with {colour} wings") for colour in ("red", "blue"))
    middle = slice(red.shape[1] // 4, 3 * red.shape[1] // 4)
    warmth = [float((pictures[..., 0] - pictures[..., 2])[:, middle, middle].mean()) for pictures in (red, blue)]
    assert warmth[0] > warmth[1] + 20
