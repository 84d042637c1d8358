"""Descriptions of unseen species by voices and engines that no training met:
`python benchmarks/other_voices.py RUN DATA piper:joe espeak:en-us+croak [--captions 60] [--noise 0.02]`.

Test captions are spoken anew by each voice. Prints one JSON object: for each voice, and for the voices of the test
split on the same captions, class mAP of the spoken queries against all test images, and the share of captions whose
nearest image is of the right class.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from s2igan.audio import waveform
from s2igan.data.store import Store
from s2igan.evaluation.evaluation_split import EvaluationSplit, Networks
from s2igan.evaluation.features import image_features
from s2igan.evaluation.subject import Subject
from s2igan.metrics.retrieval import chance_map, cosine_similarity, hits_at, mean_average_precision, same_label
from s2igan.spectrograms import log_mel
from s2igan.speech import parse_voice
from s2igan.training.frozen import speech_embeddings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("voices", nargs="+")
    parser.add_argument("--captions", type=int, default=60)
    parser.add_argument("--noise", type=float, default=0.0, help="white noise added, in shares of the speech's RMS")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    store = Store.open(options.data)
    split = EvaluationSplit.of(store, "test")
    networks = Networks.load(Subject.of(options.run), torch.device("cpu"))
    rng = np.random.default_rng(options.seed)
    captions = np.sort(rng.choice(split.utterances, options.captions, replace=False))
    images = image_features(networks.image, store.images, split.images, crop=networks.image_size, project=True)
    right = same_label(store.utterance_class[captions], store.image_class[split.images])

    def scores(embeddings: torch.Tensor) -> dict[str, float]:
        similarity = cosine_similarity(embeddings.numpy(), images)
        return {
            "map": float(mean_average_precision(similarity, right)),
            "recall@1": float(hits_at(similarity, right, (1,)).mean()),
        }

    @torch.inference_mode()
    def embed(voice: str, text: str) -> torch.Tensor:
        synthesizer = parse_voice(voice)
        wave = synthesizer.synthesize(text)
        wave = wave + rng.standard_normal(len(wave)).astype(np.float32) * options.noise * np.sqrt((wave**2).mean())
        mel = log_mel(torch.from_numpy(waveform((wave, synthesizer.sample_rate))))[None]
        return networks.speech(mel, torch.tensor([mel.shape[1]]))[0]

    device = torch.device("cpu")
    result = {"the split's own": scores(speech_embeddings(store, networks.speech, captions, device=device))}
    for voice in options.voices:
        result[voice] = scores(torch.stack([embed(voice, store.text(int(caption)) or "") for caption in captions]))
    facts = {"captions": len(captions), "seed": options.seed, "noise": options.noise}
    print(json.dumps({**facts, "chance_map": chance_map(right), "voices": result}))


if __name__ == "__main__":
    main()
