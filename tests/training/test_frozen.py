"""What frozen encoders give: the same as at the time of asking, in the order of asking."""

import numpy as np
import pytest
import torch
from rich.console import Console

from s2igan.data.dataset import crop_and_flip, encoder_input
from s2igan.errors import UserError
from s2igan.models.encoders import TextEncoderConfig, build_encoder
from s2igan.models.image_encoder import ImageEncoder, ImageEncoderConfig
from s2igan.training.frozen import draw_views, image_features, speech_embeddings
from s2igan.training.train import train_run
from tiny_corpus import tiny_recipe

CPU = torch.device("cpu")
QUIET = Console(quiet=True)


@pytest.fixture
def encoder():
    return build_encoder(tiny_recipe().sen.speech).eval()


@pytest.fixture
def images():
    return ImageEncoder(tiny_recipe().sen.image).eval()


@pytest.fixture
def compute(tmp_path):
    def run(store, encoder, views=2, size=32):
        return image_features(store, encoder, size, views, cache=tmp_path, console=QUIET, device=CPU)

    return run


def test_embeddings_are_in_the_order_of_asking(store, encoder):
    utterances = np.array([7, 0, 30, 1])
    embedded = speech_embeddings(store, encoder, utterances, device=CPU)
    for row, utterance in zip(embedded, utterances, strict=True):
        with torch.no_grad():
            alone = encoder(*encoder_input(store, np.array([utterance]), "speech"))[0]
        torch.testing.assert_close(row, alone, atol=1e-5, rtol=1e-4)
    assert not embedded.requires_grad


def test_the_encoder_embeds_in_eval_mode_and_is_left_as_it_was(store, encoder):
    expected = speech_embeddings(store, encoder, np.arange(4), device=CPU)
    state = {key: value.clone() for key, value in encoder.state_dict().items()}
    encoder.train()
    torch.testing.assert_close(speech_embeddings(store, encoder, np.arange(4), device=CPU), expected)
    assert encoder.training
    assert all(torch.equal(value, state[key]) for key, value in encoder.state_dict().items())


def test_text_is_embedded_where_the_encoder_reads(store, tmp_path):
    reader = build_encoder(TextEncoderConfig(conv_channels=(4, 4, 4), hidden=4, embedding=8)).eval()
    embedded = speech_embeddings(store, reader, np.arange(3), device=CPU)
    assert embedded.shape == (3, 8)
    assert not torch.allclose(embedded[0], embedded[1], atol=1e-3)


def test_an_utterance_without_text_is_named(store, monkeypatch):
    monkeypatch.setattr(type(store), "text", lambda self, index: None)
    with pytest.raises(UserError, match=r"0_1_0\.wav.*has no text"):
        encoder_input(store, np.array([2]), "text")


def test_the_first_view_is_the_centre_crop_and_the_others_differ(store, images, compute):
    features = compute(store, images, views=3)
    assert features.shape == (24, 3, images.config.features)
    with torch.no_grad():
        centre = images.features(crop_and_flip(store.images[np.arange(24)], 32, None))
    torch.testing.assert_close(features[:, 0].float(), centre, atol=2e-3, rtol=1e-2)
    assert (features[:, 1] != features[:, 2]).any(dim=1).all()


def test_views_are_drawn_evenly_and_without_randomness_it_is_the_first(store, images, compute):
    features = compute(store, images, views=2)
    chosen = np.array([3, 3, 5])
    torch.testing.assert_close(draw_views(features, chosen, None), features[chosen, 0].float())
    rng = np.random.default_rng(0)
    drawn = draw_views(features, np.full(400, 3), rng)
    share = (drawn == features[3, 1].float()).all(dim=1).float().mean()
    assert 0.4 < share < 0.6


def test_features_are_computed_once_for_each_setting(store, images, compute, monkeypatch):
    first = compute(store, images)
    calls = []
    monkeypatch.setattr(ImageEncoder, "features", lambda self, x: calls.append(len(x)) or torch.zeros(len(x), 1280))
    assert torch.equal(compute(store, images), first)
    assert calls == []
    compute(store, images, size=31)
    compute(store, images, views=1)
    other = ImageEncoder(ImageEncoderConfig(input_size=33, embedding=16)).eval()
    compute(store, other)
    assert len(calls) == 2 + 1 + 2
    monkeypatch.setattr(images, "weights_digest", "of other weights")
    compute(store, images)
    assert len(calls) == 2 + 1 + 2 + 2


def test_training_writes_nothing_into_the_data(store, tmp_path):
    """A corpus may be read-only."""

    def listing():
        return {path: path.stat().st_mtime_ns for path in store.directory.rglob("*")}

    before = listing()
    run = train_run(tiny_recipe(1), data=store.directory, out=tmp_path / "run", device="cpu")
    assert listing() == before
    assert list((run / "cache").glob("features-*.safetensors"))
