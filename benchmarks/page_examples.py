"""The recordings that the page offers: chosen by lot, spoken, and how many of them a model draws right.

    python benchmarks/page_examples.py DATA --out src/s2igan/web/examples    # chooses and writes them
    python benchmarks/page_examples.py DATA --model birds                    # reads what a model draws for them

DATA is what `s2igan prepare birds` made. What the model makes of them has no part in the choice: of the descriptions of
species kept for development that name two or more of the colours that the page tells visitors to name, and nothing
else but the place, the lot draws six, each of another species. The four voices that speak in no training say them in
turn. Prints one JSON object: for each example what the classifier of drawings reads in its pictures.
"""

from __future__ import annotations

import argparse
import json
import re
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from s2igan import SpeechToImage
from s2igan.data.store import Store
from s2igan.evaluation.attributes import load_or_train_classifier
from s2igan.evaluation.drawings import drawn_set_of
from s2igan.report.show import VOICES
from s2igan.speech import parse_voice
from s2igan.web.app import EXAMPLES, read_examples

SEED = 0
NUMBER = 6
COLOURS = {"head_colour", "wing_colour", "belly_colour", "back_colour"}
"""What page.html tells visitors to name."""
ABOUT = (
    "Drawn by lot from descriptions of birds that it never saw, and said by voices that it never heard: it may get "
    "some of them wrong."
)
ACCENTS = {"en-gb": "British", "en-gb-x-rp": "British", "en-gb-scotland": "Scottish", "en-us": "American"}


def chosen(store: Store) -> list[int]:
    """Utterances of a store, by the rule above."""
    utterances = np.random.default_rng(SEED).permutation(store.split_indices("development"))
    found: dict[int, int] = {}
    for utterance in map(int, utterances):
        named = set(store.mentions(utterance))
        if len(named & COLOURS) >= 2 and named <= COLOURS | {"habitat"}:
            found.setdefault(int(store.utterance_class[utterance]), utterance)
    return list(found.values())[:NUMBER]


def write(store: Store, out: Path) -> None:
    """Has them spoken, and writes recordings and examples.json in place of those in a folder."""
    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob("*.mp3"):
        old.unlink()
    recordings = []
    for number, (utterance, voice) in enumerate(zip(chosen(store), cycle(VOICES), strict=False), start=1):
        sentence = str(store.text(utterance))
        speaker = parse_voice(f"espeak:{voice}")
        accent, _, name = voice.partition("+")
        file = f"{number}-{re.sub('[^a-z]+', '-', sentence)[:40].strip('-')}.mp3"
        soundfile.write(out / file, speaker.synthesize(sentence), speaker.sample_rate, format="MP3")
        said_by = f"synthetic {ACCENTS[accent]} voice, {name.capitalize()}"
        recordings.append({"file": file, "sentence": sentence, "voice": said_by})
    text = json.dumps({"about": ABOUT, "recordings": recordings}, indent=1)
    (out / "examples.json").write_text(text + "\n", encoding="utf-8")


def read(store: Store, model: SpeechToImage, samples: int) -> list[dict[str, Any]]:
    """For each example of the page the share of its pictures in which each named attribute is right."""
    drawn = drawn_set_of(store)
    assert drawn is not None
    classifier = load_or_train_classifier(drawn)
    results = []
    for example, utterance in zip(read_examples(EXAMPLES)[1], chosen(store), strict=True):
        assert example["sentence"] == store.text(utterance), "choose them again: they are of another corpus"
        pictures = np.stack([np.asarray(image) for image in model(EXAMPLES / example["file"], samples, seed=1)])
        shown = classifier.predict(torch.from_numpy(pictures).permute(0, 3, 1, 2) / 127.5 - 1)
        truth = classifier.codes([store.image_attributes(int(store.image_index[utterance]))])
        right = {name: float((shown[name] == truth[name]).mean()) for name in store.mentions(utterance)}
        results.append({"sentence": example["sentence"], "voice": example["voice"], "right": right})
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, help="folder to write recordings and examples.json into")
    parser.add_argument("--model", help="reads what it draws for those of the page")
    parser.add_argument("--samples", type=int, default=8)
    options = parser.parse_args()
    store = Store.open(options.data)
    if options.out is not None:
        write(store, options.out)
    record: dict[str, Any] = {"chosen": [store.text(utterance) for utterance in chosen(store)]}
    if options.model is not None:
        results = read(store, SpeechToImage.from_pretrained(options.model), options.samples)
        colours = [share for result in results for name, share in result["right"].items() if name in COLOURS]
        record |= {"model": options.model, "samples": options.samples, "examples": results}
        record["colours_right"] = round(float(np.mean(colours)), 3)
    print(json.dumps(record))


if __name__ == "__main__":
    main()
