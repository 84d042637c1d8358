"""A page for whoever meets the shipped models first: spoken sentences, each drawn by every model, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path

from s2igan import __version__
from s2igan.corpora.builtin.drawn import DEVELOPMENT_VOICES, TEST_VOICES
from s2igan.devices import choose_device
from s2igan.errors import UserError
from s2igan.files import atomic_write
from s2igan.models.exported import ExportedModel, find_model, shipped_models
from s2igan.pipeline import SpeechToImage
from s2igan.report.embedded import picture_uri, sound_uri
from s2igan.report.page import templates
from s2igan.speech import parse_voice

SENTENCES: Mapping[str, Mapping[str, Mapping[str, str]]] = {
    "birds": {
        "this bird has a red head, a white belly and blue wings": {
            "head_colour": "red", "belly_colour": "white", "wing_colour": "blue"
        },
        "a bird with a yellow breast and purple wings, sitting in the snow": {
            "belly_colour": "yellow", "wing_colour": "purple", "habitat": "snow"
        },
        "you can see a bird with a green head and orange wings in the desert": {
            "head_colour": "green", "wing_colour": "orange", "habitat": "desert"
        },
        "there is a bird with black wings, a red belly and a long tail": {
            "wing_colour": "black", "belly_colour": "red", "tail_length": "long"
        },
        "this bird has a white head, a green back and a long orange beak": {
            "head_colour": "white", "back_colour": "green", "beak_length": "long", "beak_colour": "orange"
        },
        "a bird with a striped grey chest and a yellow head, by the water": {
            "belly_colour": "grey", "breast_pattern": "striped", "head_colour": "yellow", "habitat": "water"
        },
        "this bird sits among the trees; its belly is white and spotted, and its wings are red with bars": {
            "belly_colour": "white", "breast_pattern": "spotted", "wing_colour": "red", "wing_bars": "present",
            "habitat": "forest"
        },
        "here is a bird that has a purple head, a green belly and black wings": {
            "head_colour": "purple", "belly_colour": "green", "wing_colour": "black"
        },
    },
    "flowers": {
        "this flower has five red petals and a yellow centre": {
            "petal_count": "five", "petal_colour": "red", "centre_colour": "yellow"
        },
        "a flower with six pointed blue petals in the mountains": {
            "petal_count": "six", "petal_shape": "pointed", "petal_colour": "blue", "habitat": "mountains"
        },
        "this flower has three white petals that look like hearts, and a black centre": {
            "petal_count": "three", "petal_shape": "heart", "petal_colour": "white", "centre_colour": "black"
        },
        "there is a flower with many narrow purple petals and a large centre": {
            "petal_count": "many", "petal_shape": "narrow", "petal_colour": "purple", "centre_size": "large"
        },
    },
}  # fmt: skip
"""For each built-in set, what is said, and the attributes that it names: combinations that no species has that the
set's training shows. A set is drawn by the models whose recipe names it, and birds by the others too."""

VOICES = (*TEST_VOICES, *DEVELOPMENT_VOICES)
"""Of espeak-ng: those that speak in no training; each sentence has the next one."""


def write_page(
    out: str | Path, models: Sequence[str] = (), *, samples: int = 3, seed: int = 1, device: str | None = None
) -> Path:
    """Writes the page, a single file, and returns its path.

    Args:
        models: names of shipped models, or run directories, in the order of their columns; all shipped models unless
            given.
        samples: images of each sentence by each model.
        seed: of the noise.
        device: where to compute; a GPU if there is one.

    Raises:
        UserError: no model is shipped or named, one cannot be read, espeak-ng is not installed, or the page cannot be
            written.
    """
    names = models or list(shipped_models())
    if not names:
        raise UserError("no trained model comes with this installation; name one, as in --models runs/demo.")
    where = choose_device(device)
    sections: dict[str, dict[str, SpeechToImage]] = {subject: {} for subject in SENTENCES}
    for name in names:
        exported = ExportedModel.read(find_model(name))
        subject = next((subject for subject in SENTENCES if subject in exported.recipe), "birds")
        sections[subject][name] = SpeechToImage.of(exported, where)
    rows = {
        subject: [_row(*said, models, samples, seed) for said in zip(SENTENCES[subject], cycle(VOICES), strict=False)]
        for subject, models in sections.items()
        if models
    }
    template = templates().get_template("show.html")
    page = template.render(sections=sections, rows=rows, samples=samples, seed=seed, version=__version__)
    with atomic_write(out) as file:
        file.write(page.encode())
    return Path(out)


def _row(sentence: str, voice: str, models: Mapping[str, SpeechToImage], samples: int, seed: int) -> dict[str, object]:
    """A sentence as the page shows it: who says it, its sound, and the pictures of each model."""
    speaker = parse_voice(f"espeak:{voice}")
    wave = speaker.synthesize(sentence)
    pictures = {
        name: [picture_uri(image) for image in model((wave, speaker.sample_rate), samples, seed)]
        for name, model in models.items()
    }
    return {"text": sentence, "voice": voice, "sound": sound_uri(wave, speaker.sample_rate), "pictures": pictures}
