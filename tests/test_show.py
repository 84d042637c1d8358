"""The page of spoken sentences: every model beside the others, named by its method, and nothing fetched."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
import soundfile
from PIL import Image

from s2igan import SpeechToImage, cli
from s2igan.corpora.builtin.drawn import TRAINING_VOICES, species, split_classes
from s2igan.corpora.registry import BUILT_IN, drawn_set
from s2igan.errors import UserError
from s2igan.models import exported
from s2igan.report.show import SENTENCES, VOICES, write_page
from s2igan.speech import parse_voice
from test_report import Page
from tiny_models import export_latent_flow, export_rdg

FLOW, RDG = "Latent flow, not in the paper", "The paper's RDG"


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """Two models of birds."""
    monkeypatch.setattr(exported, "SHIPPED", tmp_path / "models")
    export_latent_flow(tmp_path / "models" / "birds")
    export_rdg(tmp_path / "models" / "birds-rdg")
    return tmp_path / "models"


def pixels(image):
    assert image["src"].startswith("data:image/png;base64,")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(image["src"].partition(",")[2]))))


def test_each_sentence_is_drawn_by_every_shipped_model(shipped, tmp_path):
    assert write_page(tmp_path / "page.html", samples=2, seed=5) == tmp_path / "page.html"
    text = (tmp_path / "page.html").read_text()
    page = Page(text)
    assert page.open == []
    assert len(SENTENCES["birds"]) == len(page.all("audio")) == 8
    assert len(page.all("img")) == 8 * 2 * 2
    assert page.text.count(FLOW) == page.text.count(RDG) == 8
    assert "Flowers" not in page.text
    for number, sentence in enumerate(SENTENCES["birds"]):
        assert f"“{sentence}”" in page.text
        speaker = parse_voice(f"espeak:{VOICES[number % len(VOICES)]}")
        wave = speaker.synthesize(sentence)
        samples, rate = soundfile.read(io.BytesIO(base64.b64decode(page.all("audio")[number]["src"].partition(",")[2])))
        assert len(samples) / rate == pytest.approx(len(wave) / speaker.sample_rate, abs=0.1)
        if number < 2:
            row = page.all("img")[4 * number : 4 * number + 4]
            drawn = [
                image
                for name in ("birds", "birds-rdg")
                for image in SpeechToImage.load(name)((wave, speaker.sample_rate), samples=2, seed=5)
            ]
            for image, expected in zip(row, drawn, strict=True):
                np.testing.assert_array_equal(pixels(image), np.asarray(expected))


def test_nothing_is_fetched(shipped, tmp_path):
    text = write_page(tmp_path / "page.html", samples=1).read_text()
    assert "default-src 'none'" in text
    assert "<script" not in text
    assert not re.findall(r"""(?:src|href)=["'](?!data:)""", text)


def test_one_model_is_one_column_and_flowers_have_sentences_of_their_own(shipped, tmp_path):
    export_latent_flow(tmp_path / "garden" / "model", recipe="flowers")
    text = write_page(tmp_path / "page.html", [str(tmp_path / "garden")], samples=1).read_text()
    assert text.count("<audio") == text.count("<img") == len(SENTENCES["flowers"]) == 4
    assert "Birds" not in Page(text).text
    assert RDG not in Page(text).text


def test_folders_of_one_name_are_two_columns(shipped, tmp_path):
    runs = [export_rdg(tmp_path / run / "model") for run in ("first", "second")]
    text = write_page(tmp_path / "page.html", [str(run) for run in runs], samples=1).read_text()
    assert text.count("<img") == 2 * 8
    assert all(str(run) in text for run in runs)


def test_no_model_at_all(shipped, tmp_path, monkeypatch):
    monkeypatch.setattr(exported, "SHIPPED", tmp_path / "nowhere")
    with pytest.raises(UserError, match="--models"):
        write_page(tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


@pytest.mark.parametrize("subject", SENTENCES)
def test_sentences_name_what_no_training_species_has(subject):
    drawn = drawn_set(subject)
    classes = BUILT_IN[subject].classes
    trained = species(drawn, classes)[: split_classes(drawn, classes).count("train")]
    for sentence, said in SENTENCES[subject].items():
        assert all(value in drawn.attributes[name] for name, value in said.items())
        assert not [kind for kind in trained if said.items() <= kind.items()], sentence


def test_no_training_hears_the_voices():
    assert not set(VOICES) & set(TRAINING_VOICES)


def test_the_command_line_lists_shipped_models_and_shows_them(shipped, tmp_path, capsys):
    cli.main(["models"])
    assert capsys.readouterr().out.splitlines() == [
        "birds      latent flow, not in the paper; 64 px",
        "birds-rdg  the paper's RDG; 16 px",
    ]
    cli.main(["show", str(tmp_path / "page.html"), "--models", "birds-rdg", "--samples", "1"])
    assert str(tmp_path / "page.html") in capsys.readouterr().out
    assert (tmp_path / "page.html").read_text().count("<img") == 8


def test_a_shipped_model_is_found_by_its_name_and_a_folder_comes_first(shipped, tmp_path, monkeypatch):
    assert SpeechToImage.load("birds").method == "latent flow, not in the paper"
    monkeypatch.chdir(tmp_path)
    export_rdg(tmp_path / "birds" / "model")
    assert SpeechToImage.load("birds").method == "the paper's RDG"
    with pytest.raises(UserError, match=r"no shipped model \(there are birds, birds-rdg\)"):
        SpeechToImage.load("fish")


def test_an_installation_without_models(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(exported, "SHIPPED", tmp_path)
    cli.main(["models"])
    assert "without" in capsys.readouterr().out
