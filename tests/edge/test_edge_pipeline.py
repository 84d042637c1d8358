"""A call gives what PyTorch gives, whatever the lengths, batches and options."""

import numpy as np
import pytest
import torch

import s2igan
import s2igan_edge
from s2igan.models.latent_flow import LatentFlow
from s2igan_edge import UserError

RATE = 22_050
SECONDS = {
    "short": (0.3,),
    "one": (2.5,),
    "several": (1.1, 4.7, 0.4),
    "beyond one window": (34.0, 2.0),
    "several windows": (71.0,),
}
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def models(exported):
    """The same model by PyTorch and by onnxruntime."""
    ours = s2igan.SpeechToImage.load(exported.torch, device="cpu")
    return ours, s2igan_edge.SpeechToImage.from_directory(exported.onnx, threads=1)


def said(seconds, seed=0):
    """Noise in syllables."""
    rng, n = np.random.default_rng(seed), round(seconds * RATE)
    return (0.1 * rng.standard_normal(n) * np.sin(np.arange(n) / 4000) ** 2).astype(np.float32)


def pixels(drawn):
    return {side: np.stack([np.asarray(image, int) for image in images]) for side, images in drawn.scales.items()}


@pytest.mark.parametrize("name", SECONDS)
def test_what_is_heard(models, name):
    torch_model, edge = models
    waves = [said(seconds, seed) for seed, seconds in enumerate(SECONDS[name])]
    expected, found = torch_model.hear(waves), edge.hear(waves)
    np.testing.assert_allclose(found.embedding, expected.embedding, rtol=0, atol=TOLERANCE)
    if expected.words is None:
        assert found.words is None
        return
    np.testing.assert_array_equal(found.inside, expected.inside)
    inside = found.inside[..., None]
    np.testing.assert_allclose(found.words * inside, expected.words.numpy() * inside, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("name", SECONDS)
@pytest.mark.parametrize("options", [{}, {"guidance": 1.0}, {"guidance": 4.0}])
def test_what_is_drawn(models, name, options):
    """The networks' output, before it is rounded to one of 256 levels."""
    torch_model, edge = models
    is_flow = isinstance(torch_model.generator, LatentFlow)
    if options and not is_flow:
        pytest.skip("the paper's RDG has no guidance")
    waves = [said(seconds, seed) for seed, seconds in enumerate(SECONDS[name])]
    heard, noise = edge.hear(waves), edge.picture_noise(len(waves), 5)
    torch_noise = torch_model.picture_noise(len(waves), 5)
    with torch.inference_mode():
        expected = torch_model._images(torch_model.hear(waves), torch_noise, options.get("guidance"), None)
    found = edge.images(heard, noise, **options)
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other.numpy(), rtol=0, atol=TOLERANCE)


def test_the_whole_call(models):
    """Also in another batch, and one sample alone by its seed; rounding may differ by one level."""
    torch_model, edge = models
    recordings = [(said(seconds, seed), RATE) for seed, seconds in enumerate((1.0, 33.0, 2.2))]
    expected, found = torch_model(recordings, 3, 8), edge(recordings, 3, 8)
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours.seed, ours.seeds, ours.speech_seconds) == (theirs.seed, theirs.seeds, theirs.speech_seconds)
        np.testing.assert_allclose(ours.embedding, theirs.embedding, rtol=0, atol=TOLERANCE)
        assert list(ours.scales) == list(theirs.scales)
        for side, images in pixels(theirs).items():
            assert np.abs(pixels(ours)[side] - images).max() <= 1
    alone = edge(recordings[2], 1, 10)
    for side, images in pixels(alone).items():
        assert np.abs(pixels(found[2])[side][2] - images[0]).max() <= 1
    assert (
        np.abs(pixels(edge(recordings[0], 1, 9))[edge.resolutions[-1]] - pixels(alone)[edge.resolutions[-1]]).max() > 1
    )
    np.testing.assert_array_equal(edge.embed(recordings[2]), edge.hear([recordings[2][0]]).embedding[0])


def test_options(models):
    torch_model, edge = models
    recording = (said(1.5), RATE)
    options = [{"truncation": 0.5}, {"scales": 1}]
    if isinstance(torch_model.generator, LatentFlow):
        options += [{"guidance": 3.0}]
    for option in options:
        expected, found = torch_model(recording, 2, 3, **option), edge(recording, 2, 3, **option)
        assert list(found.scales) == list(expected.scales)
        for side, images in pixels(expected).items():
            assert np.abs(pixels(found)[side] - images).max() <= 1


def test_steps_are_those_of_the_call(models):
    torch_model, edge = models
    recording = (said(1.5), RATE)
    if not isinstance(torch_model.generator, LatentFlow):
        with pytest.raises(UserError, match="steps"):
            edge(recording, steps=3)
        return
    side, own = edge.resolutions[-1], torch_model.generator.config.steps
    default = pixels(edge(recording, 1, 3))[side]
    np.testing.assert_array_equal(pixels(edge(recording, 1, 3, steps=own))[side], default)
    assert np.abs(pixels(edge(recording, 1, 3, steps=own + 3))[side] - default).max() > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": 0}, "samples = 0"),
        ({"seed": -1}, "seed = -1"),
        ({"truncation": 0.0}, "truncation"),
        ({"guidance": -1.0}, "guidance"),
        ({"steps": 0}, "steps"),
        ({"scales": 9}, "scales = 9"),
    ],
)
def test_options_out_of_range(models, options, message):
    with pytest.raises(UserError, match=message):
        models[1]((said(1.0), RATE), **options)


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        ("gone.wav", r"gone\.wav: no such sound file"),
        (b"no sound at all", "the recording"),
        ((np.zeros(RATE, np.float32), RATE), "silent"),
        ((said(0.06), RATE), "too short"),
        ((RATE, said(1.0)), "the array comes second"),
    ],
)
def test_what_cannot_be_heard_is_refused_as_by_s2igan(models, audio, message):
    for model, error in zip(models, (s2igan.UserError, UserError), strict=True):
        with pytest.raises(error, match=message):
            model(audio)
