"""Whether descriptions of minutes are found as well as short ones: the captions of a species joined.

    python benchmarks/long_recordings.py --model models/birds --data runs/birds-64 [--seconds 30 120] [--queries 100]

Of a split whose species are new to the model (`development`), each query is one caption, that caption repeated with
pauses of 0.3 s until it lasts so long, or other captions of its species joined to it. Pictures of all its species are
ranked by each; prints one JSON object with the mAP by species, beside chance.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from s2igan.audio import SAMPLE_RATE, load_audio
from s2igan.data.dataset import SpeechImageData, pad_mels
from s2igan.data.store import Store
from s2igan.metrics.retrieval import cosine_similarity, mean_average_precision, same_label
from s2igan.models.exported import ExportedModel
from s2igan.spectrograms import log_mel

PAUSE_SECONDS = 0.3
PICTURES = 4
"""Of each species."""


def joined(waves: list[np.ndarray], seconds: float) -> np.ndarray:
    """The waves one after the other until they last so long; the first alone where that is 0."""
    if not seconds:
        return waves[0]
    pause = np.zeros(round(PAUSE_SECONDS * SAMPLE_RATE), np.float32)
    parts, length = [], 0
    for wave in waves:
        parts += [wave, pause]
        length += len(wave) + len(pause)
        if length >= seconds * SAMPLE_RATE:
            break
    return np.concatenate(parts)


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", default="development")
    parser.add_argument("--seconds", type=float, nargs="+", default=[30.0, 120.0])
    parser.add_argument("--queries", type=int, default=100)
    options = parser.parse_args()
    torch.set_num_threads(1)
    exported, store = ExportedModel.read(options.model), Store.open(options.data)
    speech, images = exported.speech_encoder().eval(), exported.image_encoder().eval()
    data = SpeechImageData(store, options.split, exported.image_size)
    rng = np.random.default_rng(0)
    chosen = np.concatenate([np.flatnonzero(data.classes == label)[:PICTURES] for label in range(data.n_classes)])
    gallery = torch.cat([images(data.crops(chosen[at : at + 50], None)) for at in range(0, len(chosen), 50)]).numpy()
    species_of = data.classes[np.searchsorted(data.images, np.asarray(store.image_index)[data.utterances])]
    front_end = exported.front_end
    kinds = [("single", 0.0), *((kind, seconds) for kind in ("repeated", "joined") for seconds in options.seconds)]
    queries: dict[tuple[str, float], list[np.ndarray]] = {kind: [] for kind in kinds}
    labels, lasting = [], dict.fromkeys(queries, 0.0)
    for number in range(options.queries):
        label = number % data.n_classes
        own = rng.permutation(data.utterances[species_of == label])[:60]
        waves = [load_audio(store.audio_path(int(index))) for index in own]
        labels.append(label)
        for (kind, seconds), found in queries.items():
            wave = torch.from_numpy(joined(waves if kind != "repeated" else waves[:1] * 60, seconds))
            mel = log_mel(wave, window=front_end.window, pad_mode=front_end.pad_mode)
            found.append(speech(*pad_mels([mel.numpy()]))[0].numpy())
            lasting[kind, seconds] += len(wave) / SAMPLE_RATE / options.queries
    relevant = same_label(np.array(labels), data.classes[chosen])
    scores = {}
    for (kind, seconds), found in queries.items():
        score = mean_average_precision(cosine_similarity(np.stack(found), gallery), relevant)
        scores[f"{kind}, {lasting[kind, seconds]:.0f} s"] = round(100 * score, 1)
    chance = rng.standard_normal((options.queries, gallery.shape[1]))
    facts = {"model": str(options.model), "split": options.split, "species": data.n_classes, "pictures": len(chosen)}
    guessed = round(100 * mean_average_precision(cosine_similarity(chance, gallery), relevant), 1)
    print(json.dumps({**facts, "queries": options.queries, "map_percent": scores, "chance_percent": guessed}, indent=2))


if __name__ == "__main__":
    main()
