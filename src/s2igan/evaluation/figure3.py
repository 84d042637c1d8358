"""The paper's Figure 3: one sentence with one word changed, spoken, drawn and scored."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image

from s2igan.audio import write_recording
from s2igan.corpora.builtin.drawn import DrawnSet, fill
from s2igan.data.dataset import crop_and_flip
from s2igan.errors import UserError
from s2igan.evaluation.attributes import AttributeClassifier, AttributesSeen
from s2igan.evaluation.generation import Evaluation, draw_samples
from s2igan.evaluation.scores import FIGURE3, Group, Score
from s2igan.files import atomic_write_json
from s2igan.metrics.bootstrap import mean_interval
from s2igan.pictures import write_picture
from s2igan.pipeline import SpeechToImage
from s2igan.speech import Synthesizer, parse_voice

SCORED, KEPT = 16, 4
"""Images of every sentence that its score counts, and of them those that are written."""


SECOND = "second"
"""Folder of the second sentence within that of the first."""


class Spoken(NamedTuple):
    """The sentence with one value filled in, spoken and drawn."""

    word: str
    text: str
    """What it says, in English."""
    wave: np.ndarray
    """At the synthesizer's sample rate."""
    pictures: UInt8[np.ndarray, "samples side side 3"]
    """The noise is the same for every value: sample k differs between values by the word alone."""


def figure3_group(
    evaluation: Evaluation, classifier: AttributeClassifier, drawn: DrawnSet, folder: Path
) -> Group | None:
    """How often images follow the changed word; images and recordings of the first sentence are kept in ``folder``,
    those of the second in its folder `SECOND`.

    None where no voice can be synthesized, and of the baseline that reads text and not speech.
    """
    model, seed = evaluation.model, evaluation.seed
    if model.speech_encoder.reads != "speech":
        return None
    try:
        voice = parse_voice(changed_voice(drawn, evaluation.split.name))
    except UserError as error:
        print(f"Figure 3 is left out: {error}", file=sys.stderr)
        return None
    scores: list[Score] = []
    evidence: dict[str, np.ndarray] = {}
    for name, template in drawn.changed_sentences.items():
        values = drawn.attributes[name]
        sentences = {value: drawn.changed_sentence(name, value) for value in values}
        rows = change_word(model, voice, sentences, template, samples=SCORED, seed=seed)
        if kept_in := kept_folder(folder, list(drawn.changed_sentences).index(name)):
            facts = {"template": template, "attribute": name, "voice": voice.name, "seed": seed}
            write_changed(kept_in, rows, facts, voice.sample_rate)
        protocol = {
            "split": evaluation.split.name,
            **AttributesSeen(classifier).facts,
            "sentence": template,
            "language": drawn.language,
            "voice": voice.name,
            "images_per_value": SCORED,
            "image_size": model.resolutions[-1],
            "seed": seed,
            "chance": "one over the number of values",
            "bootstrap": "words, then images",
        }
        words = np.arange(len(rows)).repeat(SCORED)
        for row in rows:
            numbers = range(1, SCORED + 1)
            evaluation.keep(f"{FIGURE3}/{name}", [f"{row.word}-{number:02d}" for number in numbers], row.pictures)
        seen = shown(rows, classifier)
        evidence[f"{name}/attributes"] = np.stack(list(seen.values()), axis=1)
        right = followed(rows, name, seen, classifier)
        scores.append(
            Score(
                f"figure3/{name}",
                f"{name.replace('_', ' ')} followed",
                float(right.mean()),
                protocol,
                interval=mean_interval(right, words, seed=seed),
                chance=1 / len(values),
                ceiling=classifier.record["held_out_accuracy"][name],
                ceiling_name="held-out drawings",
            )
        )
        if kept := drawn.kept_in_sentences.get(name):
            held_out = classifier.record["held_out_accuracy"]
            right = stayed(kept, seen, classifier)
            scores.append(
                Score(
                    f"figure3/{name}/stays",
                    f"the rest stays when {name.replace('_', ' ')} changes",
                    float(right.mean()),
                    {**protocol, "kept": dict(kept)},
                    interval=mean_interval(right, words, seed=seed),
                    chance=float(np.mean([1 / len(drawn.attributes[other]) for other in kept])),
                    ceiling=float(np.mean([held_out[other] for other in kept])),
                    ceiling_name="held-out drawings",
                )
            )
    about = (
        f"One sentence spoken by {voice.name} with every value in turn, {SCORED} images each with the same "
        "noise: how often the classifier sees the value spoken, and what else the "
        "sentence says. The ceiling is its accuracy on held-out drawings."
    )
    return Group("figure3", "One word changed (Figure 3)", about, scores, evidence)


def kept_folder(folder: Path, number: int) -> Path | None:
    """Where a sentence is kept, by its number; None of the third and those after it."""
    return (folder, folder / SECOND)[number] if number < 2 else None


def changed_voice(drawn: DrawnSet, split: str) -> str:
    """Who speaks the sentences: a voice that no training hears, on the test split one of the test split's."""
    return drawn.voice(drawn.voices["test" if split == "test" else "development"][0])


def change_word(
    model: SpeechToImage,
    voice: Synthesizer,
    sentences: Mapping[str, str],
    template: str,
    *,
    samples: int,
    seed: int,
) -> list[Spoken]:
    """For every value its sentence, spoken, and drawn with the same noise; ``template`` is what it says in English."""
    noise = model.noise(samples, seed)
    rows = []
    for value, sentence in sentences.items():
        text = fill(template, value)
        wave = voice.synthesize(sentence)
        condition = model.condition((wave, voice.sample_rate))
        rows.append(Spoken(value, text, wave, draw_samples(model, condition, noise[None])[0]))
    return rows


def shown(rows: Sequence[Spoken], classifier: AttributeClassifier) -> dict[str, Int[np.ndarray, " pictures"]]:
    """What the classifier sees of each picture, row by row, as `AttributeClassifier.predict` gives it."""
    pictures = np.concatenate([row.pictures for row in rows])
    return classifier.predict(crop_and_flip(pictures, pictures.shape[1], None))


def followed(
    rows: Sequence[Spoken],
    attribute: str,
    seen: Mapping[str, Int[np.ndarray, " pictures"]],
    classifier: AttributeClassifier,
) -> Float[np.ndarray, " pictures"]:
    """Of each picture, row by row, whether the classifier sees the value that was spoken: 1 or 0."""
    known = classifier.attributes[attribute]
    spoken = [known.index(row.word) for row in rows for _ in row.pictures]
    return (seen[attribute] == spoken).astype(np.float64)


def stayed(
    kept: Mapping[str, str], seen: Mapping[str, Int[np.ndarray, " pictures"]], classifier: AttributeClassifier
) -> Float[np.ndarray, " pictures"]:
    """Of each picture the share of the attributes that the sentence keeps of which it shows the value that is said."""
    right = [seen[name] == classifier.attributes[name].index(value) for name, value in kept.items()]
    return np.stack(right).mean(axis=0)


def write_changed(folder: Path, rows: Sequence[Spoken], facts: Mapping[str, Any], sample_rate: int) -> None:
    """Writes `figure3.json` (docs/metrics.md) and the files that it names into ``folder``.

    Raises:
        UserError: the folder cannot be written.
    """
    records = []
    for word, text, wave, drawn in rows:
        pictures = {f"{word}-{number}.png": picture for number, picture in enumerate(drawn[:KEPT], start=1)}
        for name, picture in pictures.items():
            write_picture(folder / name, Image.fromarray(picture))
        write_recording(folder / f"{word}.wav", wave, sample_rate)
        records.append({"word": word, "text": text, "audio": f"{word}.wav", "samples": list(pictures)})
    atomic_write_json(folder / f"{FIGURE3}.json", {**facts, "rows": records})
