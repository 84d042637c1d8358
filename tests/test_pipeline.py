"""A trained model in use: same seed, same images; every way in and every refusal."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from s2igan import SpeechToImage, pipeline
from s2igan.audio import SAMPLE_RATE, load_audio, log_mel
from s2igan.checkpoint import load_model, save_model
from s2igan.errors import UserError
from s2igan.models.generator import Generator, GeneratorConfig
from s2igan.models.speech_encoder import SpeechEncoder, SpeechEncoderConfig

SPEECH = SpeechEncoderConfig(conv_channels=(6, 8), hidden=8, layers=1, attention_hidden=6)
GENERATOR = GeneratorConfig(embedding=16, condition=5, z=7, width=4, resolutions=(8, 16), residual_blocks=1)


def export(directory, front_end=None, **changes):
    """A random model, small and lively enough that every input shows in the pixels."""
    torch.random.manual_seed(0)
    networks = {"speech_encoder": SpeechEncoder(SPEECH), "generator": Generator(GENERATOR)}
    weights = {f"{name}.{key}": value for name, net in networks.items() for key, value in net.state_dict().items()}
    for key, value in weights.items():
        if key.startswith("generator.") and value.dim() > 1:
            value.mul_(4.0)
    config = {
        "speech_encoder": dataclasses.asdict(SPEECH),
        "generator": dataclasses.asdict(GENERATOR),
        "front_end": front_end or {"window": "hann", "pad_mode": "reflect"},
        "resolutions": [8, 16],
        **changes,
    }
    save_model(directory, json.loads(json.dumps(config)), weights)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    with torch.random.fork_rng():
        path = tmp_path_factory.mktemp("runs") / "run"
        export(path / "model")
    return path


@pytest.fixture(scope="module")
def model(run):
    return SpeechToImage.load(run)


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    """Two different recordings, one of them stereo at another rate."""
    folder = tmp_path_factory.mktemp("sounds")
    rng = np.random.default_rng(0)
    soundfile.write(folder / "a.wav", 0.1 * rng.standard_normal(SAMPLE_RATE), SAMPLE_RATE, subtype="FLOAT")
    time = np.arange(16_000) / 16_000
    chirp = np.sin(2 * np.pi * (200 + 900 * time) * time)
    soundfile.write(folder / "b.flac", 0.3 * np.stack([chirp, 0.5 * chirp], axis=1), 16_000)
    return folder


def pixels(images):
    return np.stack([np.asarray(image) for image in images])


def test_images_have_the_final_resolution(model, sounds):
    images = model(sounds / "a.wav", samples=3, seed=1)
    assert [image.size for image in images] == [(16, 16)] * 3
    assert all(isinstance(image, Image.Image) and image.mode == "RGB" for image in images)
    assert len(model(sounds / "a.wav")) == 4


def test_same_seed_same_images_whatever_came_before(run, model, sounds):
    first = pixels(model(sounds / "a.wav", samples=4, seed=3))
    model(sounds / "b.flac", samples=2, seed=8)
    torch.random.manual_seed(123)
    np.testing.assert_array_equal(pixels(model(sounds / "a.wav", samples=4, seed=3)), first)
    np.testing.assert_array_equal(pixels(SpeechToImage.load(run / "model")(sounds / "a.wav", samples=4, seed=3)), first)


def test_using_a_model_leaves_global_randomness_alone(model, sounds):
    before = torch.random.get_rng_state()
    model(sounds / "a.wav", samples=1, seed=3)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_sample_does_not_depend_on_how_many_are_asked_for(model, sounds):
    assert torch.equal(model.noise(20, 3)[:2], model.noise(2, 3))
    few, many = (pixels(model(sounds / "a.wav", samples=n, seed=3)).astype(int) for n in (2, 20))
    assert np.abs(many[:2] - few).max() <= 1  # the width of a pass may change the last bit of a float


def test_samples_seeds_and_recordings_all_matter(model, sounds):
    a = pixels(model(sounds / "a.wav", samples=2, seed=1)).astype(int)
    assert np.abs(a[0] - a[1]).mean() > 1
    assert np.abs(a - pixels(model(sounds / "a.wav", samples=2, seed=2))).mean() > 1
    assert np.abs(a - pixels(model(sounds / "b.flac", samples=2, seed=1))).mean() > 0.1


def test_both_noises_reach_the_image(model, sounds):
    condition, noise = model.condition(sounds / "a.wav"), model.noise(1, 1)
    drawn = model.draw(condition, noise).astype(int)
    for columns in (slice(7), slice(7, 12)):  # z, and eps of the conditioning augmentation
        without = noise.clone()
        without[:, columns] = 0
        assert np.abs(drawn - model.draw(condition, without)).mean() > 0.1


def test_noise_is_standard_normal(model):
    noise = model.noise(2000, 7)
    assert noise.mean(dim=0).abs().max() < 0.1
    assert (noise.std(dim=0) - 1).abs().max() < 0.1
    assert abs(torch.corrcoef(noise[:, [0, 8]].T)[0, 1]) < 0.1


def test_embedding_is_that_of_the_networks(run, model, sounds):
    _, weights = load_model(run / "model")
    encoder = SpeechEncoder(SPEECH).eval()
    encoder.load_state_dict(
        {key.removeprefix("speech_encoder."): value for key, value in weights.items() if key.startswith("speech")}
    )
    mel = log_mel(torch.from_numpy(load_audio(sounds / "a.wav")))[None]
    with torch.no_grad():
        expected = encoder(mel, torch.tensor([mel.shape[1]]))[0]
    embedding = model.embed(sounds / "a.wav")
    torch.testing.assert_close(embedding, expected)
    torch.testing.assert_close(embedding.norm(), torch.tensor(1.0))


@pytest.mark.parametrize(
    "front_end", [{"window": "hamming", "pad_mode": "reflect"}, {"window": "hann", "pad_mode": "constant"}]
)
def test_the_front_end_is_that_of_training(front_end, model, sounds, tmp_path):
    with torch.random.fork_rng():
        export(tmp_path / "model", front_end=front_end)
    other = SpeechToImage.load(tmp_path)
    assert not torch.allclose(other.embed(sounds / "a.wav"), model.embed(sounds / "a.wav"), atol=1e-5)


def test_batch_statistics_are_not_used(model, sounds):
    assert not model.generator.training
    assert not model.speech_encoder.training
    before = {key: value.clone() for key, value in model.generator.state_dict().items()}
    model(sounds / "a.wav", samples=2)
    assert all(torch.equal(before[key], value) for key, value in model.generator.state_dict().items())


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16, np.int32, np.uint8])
def test_an_array_is_as_good_as_a_file(dtype):
    rng = np.random.default_rng(1)
    wave = np.clip(0.2 * rng.standard_normal(4000), -0.9, 0.9)
    if np.issubdtype(dtype, np.floating):
        array, step = wave.astype(dtype), 1e-6
    else:
        half = 2.0 ** (8 * np.dtype(dtype).itemsize - 1)
        array, step = np.round(wave * half + (half if dtype == np.uint8 else 0)).astype(dtype), 1 / half
    np.testing.assert_allclose(pipeline.waveform((array, SAMPLE_RATE)), wave, atol=step)


def test_an_array_of_another_rate_with_two_channels(sounds):
    samples, rate = soundfile.read(sounds / "b.flac", dtype="float32")
    assert samples.shape[1] == 2
    np.testing.assert_allclose(pipeline.waveform((samples, rate)), load_audio(sounds / "b.flac"), atol=1e-6)


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        ((np.zeros((2, 2, 2), np.float32), SAMPLE_RATE), r"float32\[2, 2, 2\]"),
        ((np.zeros(0, np.float32), SAMPLE_RATE), r"float32\[0\]"),
        ((np.array(["a"]), SAMPLE_RATE), "numbers"),
        ((np.ones(5000, np.float32), 0), "0 Hz"),
        ((np.zeros(5000, np.float32), SAMPLE_RATE), "the array"),
    ],
)
def test_arrays_that_cannot_be_heard(audio, message):
    with pytest.raises(UserError, match=message):
        pipeline.waveform(audio)


def test_a_recording_that_is_not_there_is_named(model, tmp_path):
    with pytest.raises(UserError, match=r"nobody\.wav"):
        model(tmp_path / "nobody.wav")


@pytest.mark.parametrize(("samples", "seed"), [(0, 1), (1, -1), (1, 2**63)])
def test_samples_and_seed_out_of_range(model, sounds, samples, seed):
    with pytest.raises(UserError, match=r"samples = 0|seed = "):
        model(sounds / "a.wav", samples=samples, seed=seed)


def test_pixels_are_rounded_clamped_and_in_order():
    images = torch.tensor([-1.0, 0.0, 1.0])[None, :, None, None].expand(1, 3, 2, 5).clone()
    images[0, :, 0, 1] = torch.tensor([2.0, -3.0, 0.5])
    out = pipeline.to_pixels(images)
    assert out.shape == (1, 2, 5, 3)
    assert out[0, 1, 4].tolist() == [0, 128, 255]
    assert out[0, 0, 1].tolist() == [255, 0, 191]


def test_files_of_several_recordings(model, sounds, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "a.wav").write_bytes((sounds / "b.flac").read_bytes())
    (tmp_path / "broken.wav").write_bytes(b"RIFF nothing")
    recordings = [sounds / "a.wav", tmp_path / "broken.wav", other / "a.wav"]
    out = tmp_path / "new" / "out"
    results = list(pipeline.generate_files(model, recordings, out, samples=2, seed=4))
    errors = [result for result in results if isinstance(result, UserError)]
    records = [result for result in results if isinstance(result, dict)]
    assert len(errors) == 1
    assert "broken.wav" in str(errors[0])
    assert [Path(record["image"]).name for record in records] == [
        "a-1.png",
        "a-2.png",
        "a-again2-1.png",
        "a-again2-2.png",
    ]
    assert records[1] == {
        "audio": str(sounds / "a.wav"),
        "method": "the paper's RDG",
        "sample": 2,
        "seed": 4,
        "image": str(out / "a-2.png"),
        "width": 16,
        "height": 16,
    }
    for record in records:
        drawn = model(record["audio"], samples=2, seed=4)[record["sample"] - 1]
        with Image.open(record["image"]) as image:
            np.testing.assert_array_equal(np.asarray(image), np.asarray(drawn))
    with Image.open(out / "contact-sheet.png") as sheet:
        assert sheet.size == (2 * 20 + 4, 2 * 20 + 4)
        for row, column, name in ((0, 0, "a-1"), (0, 1, "a-2"), (1, 0, "a-again2-1"), (1, 1, "a-again2-2")):
            place = sheet.crop((4 + 20 * column, 4 + 20 * row, 20 + 20 * column, 20 + 20 * row))
            with Image.open(out / f"{name}.png") as image:
                np.testing.assert_array_equal(np.asarray(place), np.asarray(image))
        assert sheet.getpixel((1, 1)) == sheet.getpixel((21, 21)) == (255, 255, 255)


def test_files_into_a_place_that_is_taken(model, sounds, tmp_path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(UserError, match="taken"):
        list(pipeline.generate_files(model, [sounds / "a.wav"], tmp_path / "taken", samples=1, seed=1))


class Whistle:
    name = "whistle:"
    sample_rate = 8000

    def synthesize(self, text):
        return (0.5 * np.sin(np.arange(8000) * len(text) / 50)).astype(np.float32)


def test_a_sentence_is_spoken_into_a_file(monkeypatch, tmp_path):
    voices = []
    monkeypatch.setattr(pipeline, "parse_voice", lambda voice: voices.append(voice) or Whistle())
    path = pipeline.speak_to_file("a red bird", "whistle:x", tmp_path / "deep" / "said.wav")
    assert voices == ["whistle:x"]
    samples, rate = soundfile.read(path)
    assert rate == 8000
    np.testing.assert_allclose(samples, Whistle().synthesize("a red bird"), atol=1e-4)
    with pytest.raises(UserError, match="empty"):
        pipeline.speak_to_file("  ", "whistle:x", tmp_path / "none.wav")


def test_a_model_of_0_1_0_gets_a_sentence(tmp_path):
    export(tmp_path, candidates=4)
    with pytest.raises(UserError, match=r"model of s2igan 0\.1\.0, which only that version loads; train it anew, or"):
        SpeechToImage.load(tmp_path)


def test_directories_without_a_model(tmp_path):
    with pytest.raises(UserError, match="no such run"):
        SpeechToImage.load(tmp_path / "missing")
    with pytest.raises(UserError, match="neither a run nor an exported model"):
        SpeechToImage.load(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match="--resume"):
        SpeechToImage.load(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"speech_encoder": {**dataclasses.asdict(SPEECH), "wings": 2}}, r"config\.json"),
        ({"generator": None}, r"config\.json"),
        ({"generator": {**dataclasses.asdict(GENERATOR), "z": 9}}, r"weights\.safetensors"),
        ({"front_end": {"colour": "red"}}, r"config\.json"),
    ],
)
def test_models_that_do_not_fit(changes, message, tmp_path):
    with torch.random.fork_rng():
        export(tmp_path, **changes)
    with pytest.raises(UserError, match=message):
        SpeechToImage.load(tmp_path)


def test_a_swapped_pair_is_named_and_channels_may_come_first(sounds):
    samples, rate = soundfile.read(sounds / "a.wav", dtype="float32")
    expected = pipeline.waveform((samples, rate))
    for array in (samples[None], np.stack([samples, samples])):
        np.testing.assert_allclose(pipeline.waveform((array, rate)), expected, atol=1e-6)
    with pytest.raises(UserError, match="the array comes second, after its sample rate: give"):
        pipeline.waveform((rate, samples))
