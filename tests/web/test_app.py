"""The page's server: pictures as JSON, and for whatever else comes a sentence. Nothing that was sent stays."""

from __future__ import annotations

import base64
import io
import json
import socket
from dataclasses import replace

import anyio
import httpx2
import numpy as np
import pytest
import soundfile
from PIL import Image
from starlette.testclient import TestClient

from s2igan import SpeechToImage, cli
from s2igan.audio import SAMPLE_RATE
from s2igan.errors import UserError
from s2igan.models import exported
from s2igan.web import app as web
from s2igan.web.app import EXAMPLES, Server, make_app, read_examples
from s2igan.web.drawing import envelope, spectrogram_picture
from s2igan.web.limits import Limits
from s2igan.web.serve import is_loopback, serve
from tiny_models import export_latent_flow, export_rdg


def wav(seconds=1.0, seed=0):
    """The content of a sound file."""
    content = io.BytesIO()
    noise = 0.1 * np.random.default_rng(seed).standard_normal(int(seconds * SAMPLE_RATE))
    soundfile.write(content, noise, SAMPLE_RATE, format="WAV")
    return content.getvalue()


LONG = base64.b64encode(wav(11)).decode()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return SpeechToImage.load(export_rdg(tmp_path_factory.mktemp("model")))


@pytest.fixture(scope="module")
def server(model):
    return Server(model, "finches", limits=Limits(seconds=10, megabytes=1, samples=3, steps=4), examples=EXAMPLES)


@pytest.fixture
def client(server):
    return TestClient(make_app(server), base_url="http://127.0.0.1", raise_server_exceptions=False)


def pixels(uri):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))


def refused(answer, status):
    """The sentence of an answer, which has nothing else."""
    assert answer.status_code == status
    assert list(answer.json()) == ["error"]
    sentence = answer.json()["error"]
    assert sentence[-1] == "."
    assert "Traceback" not in sentence
    assert "/tmp" not in sentence
    return sentence


def test_a_recording_is_drawn_as_the_library_draws_it(client, model):
    answer = client.post("/api/draw?samples=2&seed=5", content=wav()).json()
    drawn = model(wav(), samples=2, seed=5)
    assert answer["seed"] == 5
    assert [image["seed"] for image in answer["images"]] == [5, 6]
    for k, image in enumerate(answer["images"]):
        assert list(image["scales"]) == ["8", "16"]
        for side, uri in image["scales"].items():
            np.testing.assert_array_equal(pixels(uri), np.asarray(drawn.scales[int(side)][k]))
    assert answer["speech_seconds"] == 1.0
    assert len(answer["waveform"]) == 240
    assert pixels(answer["spectrogram"]).shape == (40, 101, 3)
    assert "nearest" not in answer
    assert client.post("/api/draw?samples=2&seed=5", content=wav()).json() == answer
    assert len(client.post("/api/draw?samples=1&seed=5&truncation=1.5", content=wav()).json()["images"]) == 1


def test_nothing_that_was_sent_stays(client, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    client.post("/api/draw", content=wav())
    client.post("/api/draw", content=b"no sound")
    assert list(tmp_path.iterdir()) == []


def test_the_way_between_two_recordings(client, model):
    both = {"first": base64.b64encode(wav()).decode(), "last": base64.b64encode(wav(seed=1)).decode()}
    answer = client.post("/api/interpolate?steps=3&seed=2", json=both).json()
    expected = model.interpolate(wav(), wav(seed=1), 3, 2)
    for uri, image in zip(answer["images"], expected, strict=True):
        np.testing.assert_array_equal(pixels(uri), np.asarray(image))


@pytest.mark.parametrize(
    ("path", "content", "status", "sentence"),
    [
        ("draw", b"", 400, "No recording came"),
        ("draw", b"RIFF nothing", 400, "the recording: this is a text, no sound"),
        ("draw", wav(0.001), 400, "too short"),
        ("draw", wav(0.04), 400, "too short"),
        ("draw", bytes(1_000_001), 413, "more than 1 MB"),
        ("draw", wav(11), 400, "the recording: too long, 11.0 s where at most 10 s"),
        ("draw?samples=4", wav(), 400, "samples = 4 is more than this server draws at once; choose 3 or fewer"),
        ("draw?samples=0", wav(), 400, "samples = 0"),
        ("draw?samples=two", wav(), 400, "samples = two is no whole number"),
        ("draw?seed=-1", wav(), 400, "seed = -1"),
        ("draw?seed=" + "9" * 5000, wav(), 400, "is no whole number"),
        ("draw?seed=99999999999999999999", wav(), 400, "out of range"),
        ("draw?truncation=nan", wav(), 400, "truncation = nan"),
        ("draw?guidance=2", wav(), 400, "the paper's RDG, which has none"),
        ("interpolate?steps=5", b"{}", 400, "steps = 5 is more"),
        ("interpolate", b"not json", 400, "Send JSON"),
        ("interpolate", b"[" * 100_000, 400, "Send JSON"),
        ("interpolate", b"[1, 2]", 400, "Send JSON"),
        ("interpolate", json.dumps({"first": "###", "last": ""}).encode(), 400, "Send JSON"),
        ("interpolate", json.dumps({"first": "UklG", "last": "UklG"}).encode(), 400, "the recording"),
        ("interpolate", json.dumps({"first": LONG, "last": LONG}).encode(), 400, "too long, 11.0 s"),
    ],
)
def test_what_cannot_be_drawn_gets_a_sentence(client, path, content, status, sentence):
    assert sentence in refused(client.post(f"/api/{path}", content=content), status)


def test_other_addresses_and_methods_get_a_sentence(client):
    for answer, status in (
        (client.get("/api/draw"), 405),
        (client.get("/nothing"), 404),
        (client.get("/examples/%2e%2e%2fapp.py"), 404),
        (client.get("/examples/secret.wav"), 404),
        (client.get("/static/%2e%2e/app.py"), 404),
    ):
        refused(answer, status)


def test_a_hundred_malformed_uploads_do_not_take_it_down(server):
    rng = np.random.default_rng(0)
    good = wav()
    kinds = [good, good[:44], b"fLaC" + good, b"OggS" + good, b"ID3" + good, b"\xff\xfb" + good]
    app = TestClient(make_app(replace(server, limits=Limits(per_minute=1000))), base_url="http://localhost")
    for number in range(100):
        broken = bytearray(kinds[number % len(kinds)])
        for at in rng.integers(0, min(len(broken), 200), 20):
            broken[at] = rng.integers(256)
        answer = app.post("/api/draw?samples=1", content=bytes(broken[: rng.integers(1, len(broken) + 1)]))
        assert answer.status_code == 200 or refused(answer, 400)
    assert app.post("/api/draw?samples=1", content=good).status_code == 200


def test_one_address_may_send_so_many(server):
    app = TestClient(make_app(replace(server, limits=Limits(per_minute=2))), base_url="http://localhost")
    assert [app.post("/api/draw", content=b"x").status_code for _ in range(2)] == [400, 400]
    answer = app.post("/api/draw", content=b"x")
    assert "2 requests in a minute" in refused(answer, 429)
    assert 1 <= int(answer.headers["retry-after"]) <= 61
    assert app.get("/api").status_code == 200


def test_too_many_at_once_are_sent_away(server):
    app = TestClient(make_app(replace(server, limits=Limits(waiting=0))), base_url="http://localhost")
    answer = app.post("/api/draw", content=wav())
    assert "Too many draw here" in refused(answer, 503)
    assert answer.headers["retry-after"] == "5"


def test_a_fault_of_ours_is_a_sentence_too(client, monkeypatch, caplog):
    def broken(*args, **options):
        raise ZeroDivisionError("inner workings")

    monkeypatch.setattr(web.drawing, "draw", broken)
    assert "inner" not in refused(client.post("/api/draw", content=wav()), 500)
    assert "inner workings" in caplog.text


def test_other_sites_may_not_draw_here(client, server):
    answer = client.post("/api/draw", content=wav(), headers={"Sec-Fetch-Site": "cross-site"})
    assert "for its own page only" in refused(answer, 403)
    rebound = TestClient(make_app(server), base_url="http://evil.example")
    assert rebound.post("/api/draw", content=wav()).status_code == 400
    assert TestClient(make_app(server, hosts=("*",)), base_url="http://any").get("/api").status_code == 200


def test_every_answer_forbids_what_the_page_does_not_need(client):
    for answer in (client.get("/"), client.get("/static/page.js"), client.post("/api/draw"), client.get("/none")):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_the_page_says_what_the_model_can_and_cannot(client, model, server):
    page = client.get("/").text
    assert "It draws birds." in page
    assert "It knows nothing else." in page
    assert page.count('class="example"') == len(server.example_list) == 6
    river = replace(model.exported, config={**model.exported.config, "recipe": "<b>laptop"})
    other = SpeechToImage.of(river)
    page = TestClient(make_app(Server(other, "<i>river")), base_url="http://localhost").get("/").text
    assert "“&lt;i&gt;river”" in page
    assert "It draws birds." not in page
    assert 'class="example"' not in page


def test_the_facts_are_what_programs_need(client):
    facts = client.get("/api").json()
    assert facts["resolutions"] == [8, 16]
    assert facts["limits"]["samples"] == 3
    assert facts["limits"]["seconds"] == 10
    assert facts["model"] == "finches"


def test_examples_are_sound_and_said_as_written(client, server):
    voices = set()
    for example in server.example_list:
        answer = client.get(f"/examples/{example['file']}")
        samples, rate = soundfile.read(io.BytesIO(answer.content))
        assert 1 < len(samples) / rate < 8
        voices.add(example["voice"])
    assert len(voices) >= 4


def test_the_page_says_where_its_examples_come_from(client, server):
    assert "Drawn by lot from descriptions" in server.about_examples
    assert server.about_examples in client.get("/").text


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"recordings": [{"file": "a.wav"}]}', '{"recordings": 3}', '{"recordings": [1]}'],
)
def test_examples_that_cannot_be_read_are_refused(tmp_path, content):
    (tmp_path / "examples.json").write_text(content)
    with pytest.raises(UserError, match=r"examples\.json: cannot be read"):
        read_examples(tmp_path)


def test_an_example_that_is_not_there_or_elsewhere(tmp_path):
    (tmp_path / "secret.wav").write_bytes(wav())
    folder = tmp_path / "shown"
    folder.mkdir()
    for name in ("gone.wav", "../secret.wav"):
        listed = {"recordings": [{"file": name, "sentence": "a boat", "voice": "Ana"}]}
        (folder / "examples.json").write_text(json.dumps(listed))
        with pytest.raises(UserError, match="there is no recording"):
            read_examples(folder)
    with pytest.raises(UserError, match=r"examples\.json: cannot be read"):
        read_examples(tmp_path)


def test_nearest_pictures_of_a_corpus(store, tmp_path, model):
    from s2igan.finding import Finder
    from s2igan.training.train import train_run
    from tiny_corpus import tiny_recipe

    run = train_run(tiny_recipe(1), data=store.directory, out=tmp_path / "run", device="cpu")
    finder = Finder.load(tmp_path / "run", store.directory, device="cpu")
    del run
    app = TestClient(make_app(Server(model, "m", finder)), base_url="http://localhost")
    answer = app.post("/api/draw?samples=1", content=store.audio_path(0).read_bytes()).json()
    similarities = [found["similarity"] for found in answer["nearest"]]
    assert len(similarities) == 6
    assert similarities == sorted(similarities, reverse=True)
    assert pixels(answer["nearest"][0]["image"]).shape == (128, 128, 3)


def test_the_drawn_waveform_and_spectrogram():
    wave = np.zeros(2400, np.float32)
    wave[1205], wave[1215] = -0.5, 0.25
    drawn = envelope(wave)
    assert drawn[120] == 1.0
    assert drawn[121] == 0.5
    assert sum(drawn) == 1.5
    assert len(envelope(np.ones(100, np.float32))) == 240  # shorter than it is wide
    mel = np.full((3, 40), -9, np.float32)
    mel[1, 0] = 9  # the lowest band, in the middle
    picture = spectrogram_picture(mel)
    assert picture.shape == (40, 3, 3)
    assert picture[39, 1].sum() > 600
    assert picture[0, 1].sum() < 10


@pytest.mark.parametrize(
    ("host", "own"), [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("pc.lan", False)]
)
def test_loopback(host, own):
    assert is_loopback(host) is own


def test_it_listens_where_it_says(tmp_path, monkeypatch, capsys):
    """The command itself, with the server replaced by one that tells where it was bound."""
    bound = []

    def run(self, sockets):
        bound.extend(listening.getsockname() for listening in sockets)
        for listening in sockets:
            listening.close()

    monkeypatch.setattr("uvicorn.Server.run", run)
    folder = export_latent_flow(tmp_path / "river")
    cli.main(["serve", str(folder), "--port", "0"])
    assert bound[0][0] == "127.0.0.1"
    out = capsys.readouterr().out
    assert f"http://127.0.0.1:{bound[0][1]} " in out
    assert "whoever reaches" not in out
    serve(folder, host="0.0.0.0", port=0)
    assert "whoever reaches this machine may use it" in capsys.readouterr().out


def test_a_port_that_is_taken(tmp_path, monkeypatch):
    monkeypatch.setattr(exported, "SHIPPED", tmp_path)
    export_rdg(tmp_path / "birds")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"--port {port}: cannot listen there"):
            serve("birds", port=port)
    with pytest.raises(UserError, match=r"--host no\.such\.host\.invalid --port 0: cannot listen there"):
        serve("birds", host="no.such.host.invalid", port=0)


def test_users_at_once_all_get_their_pictures(server, model):
    async def ask(client, seed, answers):
        answer = await client.post(f"/api/draw?samples=1&seed={seed}", content=wav(seed=seed))
        answers[seed] = answer.json()

    async def ask_all():
        answers = {}
        transport = httpx2.ASGITransport(make_app(server))
        async with (
            httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client,
            anyio.create_task_group() as users,
        ):
            for seed in range(8):
                users.start_soon(ask, client, seed, answers)
        return answers

    for seed, answer in anyio.run(ask_all).items():
        expected = np.asarray(model(wav(seed=seed), samples=1, seed=seed)[0])
        np.testing.assert_array_equal(pixels(answer["images"][0]["scales"]["16"]), expected)
