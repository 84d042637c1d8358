"""A trained model in use: same seed, same images; every way in and every refusal."""

import dataclasses
import io
import json

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from s2igan import SpeechToImage, listener, pipeline
from s2igan.audio import SAMPLE_RATE, load_audio
from s2igan.checkpoint import load_model, save_model
from s2igan.errors import UserError
from s2igan.models import exported
from s2igan.models.generator import Generator, GeneratorConfig
from s2igan.models.speech_encoder import SpeechEncoder, SpeechEncoderConfig
from s2igan.spectrograms import log_mel
from tiny_models import export_latent_flow, export_rdg

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


@pytest.fixture(scope="module")
def flow(tmp_path_factory):
    return SpeechToImage.load(export_latent_flow(tmp_path_factory.mktemp("flow")))


@pytest.fixture(scope="module", params=["rdg", "flow"])
def either(request):
    """Every method is used alike."""
    return request.getfixturevalue("model" if request.param == "rdg" else "flow")


def test_the_result_says_how_it_came_about(either, sounds):
    drawn = either(sounds / "b.flac", samples=3, seed=5)
    assert len(drawn) == len(drawn.images) == 3
    assert [image.size for image in drawn] == [(either.scales[-1],) * 2] * 3
    assert drawn[0] is drawn.images[0]
    assert tuple(drawn.scales) == either.scales
    assert drawn.seed == 5
    assert drawn.seeds == (5, 6, 7)
    assert drawn.speech_seconds == pytest.approx(1.0, abs=1e-4)
    torch.testing.assert_close(drawn.embedding, either.embed(sounds / "b.flac"))


def test_every_image_has_a_seed_of_its_own(either, sounds):
    drawn = either(sounds / "a.wav", samples=3, seed=5)
    for seed, image in zip(drawn.seeds, drawn, strict=True):
        alone = pixels(either(sounds / "a.wav", samples=1, seed=seed)).astype(int)
        assert np.abs(alone[0] - np.asarray(image)).max() <= 1


def test_a_batch_draws_what_each_recording_alone_has_drawn(either, sounds, monkeypatch):
    monkeypatch.setattr(listener, "HEARD_AT_ONCE", 2)
    long = np.random.default_rng(3).standard_normal(2 * SAMPLE_RATE).astype(np.float32)
    recordings = [sounds / "a.wav", (long, SAMPLE_RATE), sounds / "b.flac"]
    batch = either(recordings, samples=2, seed=3)
    assert len(batch) == 3
    for recording, drawn in zip(recordings, batch, strict=True):
        alone = either(recording, samples=2, seed=3)
        assert np.abs(pixels(drawn).astype(int) - pixels(alone)).max() <= 1
        torch.testing.assert_close(drawn.embedding, alone.embedding)
        assert drawn.speech_seconds == alone.speech_seconds
    assert either([], samples=2) == []


def test_all_ways_in_are_the_same(model, sounds):
    content = (sounds / "b.flac").read_bytes()
    expected = pixels(model(sounds / "b.flac", samples=1))
    with (sounds / "b.flac").open("rb") as file:
        for audio in (str(sounds / "b.flac"), content, io.BytesIO(content), file):
            np.testing.assert_array_equal(pixels(model(audio, samples=1)), expected)
    samples, rate = soundfile.read(sounds / "b.flac")
    assert np.abs(pixels(model((samples, rate), samples=1)).astype(int) - expected).max() <= 1


@pytest.mark.parametrize(("content", "message"), [(b"", "the recording: .*empty"), (b"RIFF nothing", "the recording")])
def test_content_that_cannot_be_heard_is_no_path_in_the_sentence(model, content, message, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(UserError, match=message) as refused:
        model(content)
    assert str(tmp_path) not in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def test_scales_come_from_the_lowest(model, sounds):
    drawn = model(sounds / "a.wav", samples=2)
    few = model(sounds / "a.wav", samples=2, scales=1)
    assert {side: [image.size for image in images] for side, images in drawn.scales.items()} == {
        8: [(8, 8)] * 2,
        16: [(16, 16)] * 2,
    }
    np.testing.assert_array_equal(pixels(few), pixels(drawn.scales[8]))


def test_truncation_keeps_the_order_of_the_noise_and_cuts_it_off(model):
    noise, cut = model.picture_noise(200, 3), model.picture_noise(200, 3, truncation=0.5)
    assert cut.abs().max() <= 0.5
    assert (cut.flatten().argsort() == noise.flatten().argsort()).all()
    torch.testing.assert_close(model.picture_noise(200, 3, truncation=30), noise, atol=1e-4, rtol=0)
    expected = 0.5 / np.sqrt(3)  # nearly uniform that near to the middle
    assert cut.std() == pytest.approx(expected, rel=0.05)


def test_guidance_is_that_of_the_call(flow, sounds):
    stated = flow.generator.config.guidance
    same, more = (pixels(flow(sounds / "a.wav", samples=1, guidance=of)) for of in (stated, 4 * stated))
    np.testing.assert_array_equal(pixels(flow(sounds / "a.wav", samples=1)), same)
    assert np.abs(more.astype(int) - same).max() > 1
    assert flow.generator.config.guidance == stated


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"guidance": 2.0}, "the paper's RDG, which has none"),
        ({"truncation": 0.0}, "truncation = 0"),
        ({"truncation": float("nan")}, "truncation = nan"),
        ({"scales": 3}, "this model has 2"),
        ({"scales": 0}, "scales = 0"),
    ],
)
def test_options_that_a_model_does_not_have(model, sounds, options, message):
    with pytest.raises(UserError, match=message):
        model(sounds / "a.wav", **options)


def test_guidance_out_of_range(flow, sounds):
    with pytest.raises(UserError, match="guidance = -1"):
        flow(sounds / "a.wav", guidance=-1.0)


def test_interpolation_begins_and_ends_with_what_each_recording_has_drawn(either, sounds, monkeypatch):
    way = pixels(either.interpolate(sounds / "a.wav", sounds / "b.flac", steps=5, seed=2)).astype(int)
    ends = [pixels(either(sounds / name, samples=1, seed=2))[0].astype(int) for name in ("a.wav", "b.flac")]
    assert np.abs(way[[0, -1]] - ends).max() <= 1
    apart = [[np.abs(picture - end).mean() for picture in way] for end in ends]
    assert apart[0] == sorted(apart[0])
    assert apart[1] == sorted(apart[1], reverse=True)
    monkeypatch.setattr(pipeline, "IMAGES_AT_ONCE", 2)
    again = pixels(either.interpolate(sounds / "a.wav", sounds / "b.flac", steps=5, seed=2)).astype(int)
    assert np.abs(way - again).max() <= 1
    with pytest.raises(UserError, match="steps = 1"):
        either.interpolate(sounds / "a.wav", sounds / "b.flac", steps=1)


def test_the_arc_between_two_embeddings():
    east, north = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    half = torch.tensor([0.5, 0.5]).sqrt()
    torch.testing.assert_close(pipeline.on_the_arc(east, north, 0.5), half)
    torch.testing.assert_close(
        pipeline.on_the_arc(east, half, 0.5), torch.tensor([np.cos(np.pi / 8), np.sin(np.pi / 8)]).float()
    )
    torch.testing.assert_close(pipeline.on_the_arc(east, east, 0.3), east)
    torch.testing.assert_close(pipeline.on_the_arc(east, -east, 0.5), torch.zeros(2))


def test_a_model_is_saved_and_found_again(either, sounds, tmp_path):
    folder = either.save_pretrained(tmp_path / "shared")
    assert {path.name for path in folder.iterdir()} == {"config.json", "weights.safetensors", "README.md"}
    again = SpeechToImage.from_pretrained(folder)
    np.testing.assert_array_equal(pixels(again(sounds / "a.wav", seed=4)), pixels(either(sounds / "a.wav", seed=4)))
    either.save_pretrained(folder)  # in its own place


def test_a_model_is_not_saved_over_other_files(model, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match=r"thesis\.txt is here already"):
        model.save_pretrained(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"
    with pytest.raises(UserError, match="networks in memory"):
        SpeechToImage(model.speech_encoder, model.generator, model.front_end).save_pretrained(tmp_path / "new")


def test_shipped_models_are_found_by_name_before_the_hub_is_asked(tmp_path, monkeypatch, sounds):
    monkeypatch.setattr(exported, "SHIPPED", tmp_path)
    monkeypatch.setattr("s2igan.hub.download", lambda *args, **options: pytest.fail("the hub was asked"))
    export_rdg(tmp_path / "finches")
    export_rdg(tmp_path / "owner" / "name")
    assert SpeechToImage.from_pretrained("finches").scales == (8, 16)
    monkeypatch.chdir(tmp_path)
    assert SpeechToImage.from_pretrained("owner/name").scales == (8, 16)
    with pytest.raises(UserError, match="there are finches"):
        SpeechToImage.from_pretrained("sparrows")


def test_a_folder_of_pictures_does_not_hide_the_shipped_model_of_its_name(tmp_path, monkeypatch):
    """As `generate --model finches --out finches` leaves one."""
    monkeypatch.setattr(exported, "SHIPPED", tmp_path / "shipped")
    export_rdg(tmp_path / "shipped" / "finches")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "finches").mkdir()
    assert SpeechToImage.from_pretrained("finches").scales == (8, 16)
    (tmp_path / "finches" / "config.json").write_text("{}")  # of a run of one's own
    with pytest.raises(UserError, match="training has not finished"):
        SpeechToImage.from_pretrained("finches")


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


@pytest.mark.parametrize(
    ("audio", "kind"),
    [(None, "NoneType"), (5, "int"), (np.zeros(9), "ndarray"), ({"array": 1}, "dict"), ((1, 2, 3), "tuple")],
)
def test_what_is_no_recording_is_refused_by_its_kind(audio, kind):
    with pytest.raises(UserError, match=rf"^{kind}: is no recording; give a path, bytes"):
        pipeline.waveform(audio)
    with pytest.raises(UserError, match=r"^str: is no recording"):
        pipeline.waveform(io.StringIO("a file opened for reading text"))


def test_a_recording_may_be_limited_in_length(sounds):
    content = (sounds / "a.wav").read_bytes()
    for audio in (
        sounds / "a.wav",
        content,
        bytearray(content),
        io.BytesIO(content),
        (np.ones(SAMPLE_RATE), SAMPLE_RATE),
    ):
        with pytest.raises(UserError, match="too long"):
            pipeline.waveform(audio, max_seconds=0.25)


def test_recordings_are_heard_a_bounded_number_of_seconds_at_a_time(model, monkeypatch):
    rng = np.random.default_rng(0)
    recordings = [(0.1 * rng.standard_normal(int(seconds * 16_000)), 16_000) for seconds in (1, 1, 4, 1, 1, 1, 1)]
    heard = []
    hear = model.hear
    monkeypatch.setattr(model, "hear", lambda waves: heard.append(len(waves)) or hear(waves))
    together = model(recordings, samples=1)
    monkeypatch.setattr(listener, "SECONDS_AT_ONCE", 4.0)
    apart = model(recordings, samples=1)
    assert heard == [7, 2, 1, 4]
    for one, other in zip(together, apart, strict=True):
        torch.testing.assert_close(one.embedding, other.embedding, rtol=0, atol=1e-5)


def test_latent_flow_hears_the_end_of_a_long_recording(flow):
    """All of it becomes words, in proportion to its length, and the last second changes the picture."""
    rng = np.random.default_rng(0)
    minute = (0.1 * rng.standard_normal(60 * SAMPLE_RATE)).astype(np.float32)
    changed = minute.copy()
    changed[-SAMPLE_RATE:] = 0.3 * np.sin(np.arange(SAMPLE_RATE) / 7)
    short, one, other = (flow.condition((wave, SAMPLE_RATE)) for wave in (minute[: 6 * SAMPLE_RATE], minute, changed))
    assert one.words.shape[1] == pytest.approx(10 * short.words.shape[1], abs=20)
    assert bool(one.inside.all())
    last = one.words.shape[1] // 60
    assert not torch.allclose(one.words[:, -last:], other.words[:, -last:], atol=1e-3)
    noise = flow.picture_noise(1, 1)
    assert (flow.draw(one, noise) != flow.draw(other, noise)).any()
