"""Descriptions of over 30 s are trained on by random windows, and scored and drawn whole."""

from dataclasses import replace

import torch

from s2igan.models.speech_encoder import WINDOW_FRAMES, SpeechEncoder
from s2igan.pipeline import SpeechToImage
from s2igan.training.augment import SpeechAugment
from s2igan.training.train import train_run
from tiny_corpus import make_store, tiny_recipe

SECONDS = 32.0


def test_training_on_descriptions_of_over_30_s(tmp_path, monkeypatch):
    store = make_store(tmp_path / "data", second_seconds=SECONDS)
    longest = int(store.n_frames.max())
    assert longest > WINDOW_FRAMES + 100
    read: dict[bool, list[tuple[int, bytes]]] = {True: [], False: []}
    frames = SpeechEncoder.frames

    def spied(self, mel, lengths):
        # The first frames tell from where in a recording the window is.
        read[self.training] += [
            (length, row[:5].numpy().tobytes()) for row, length in zip(mel, lengths.tolist(), strict=True)
        ]
        return frames(self, mel, lengths)

    monkeypatch.setattr(SpeechEncoder, "frames", spied)
    recipe = tiny_recipe(steps=6)
    recipe = replace(recipe, sen=replace(recipe.sen, augment=SpeechAugment(), image_views=1))
    out = train_run(recipe, data=store.directory, out=tmp_path / "run", device="cpu")
    windows = [start for length, start in read[True] if length == WINDOW_FRAMES]
    assert max(length for length, _ in read[True]) == WINDOW_FRAMES
    assert len(windows) > 5
    beginnings = {store.mel(index)[:5].astype("float32").tobytes() for index in range(len(store.n_frames))}
    assert sum(start in beginnings for start in windows) < len(windows) / 2, "windows begin anywhere"
    assert longest in {length for length, _ in read[False]}, "scores are of whole recordings"
    del out
    model = SpeechToImage.load(tmp_path / "run")
    drawn = model(store.directory / "audio/4_0_1.wav", samples=1)
    assert drawn.speech_seconds == SECONDS
    assert bool(torch.isfinite(drawn.embedding).all())
