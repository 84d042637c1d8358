"""The page of a run: complete, escaped, and free of anything outside it."""

import base64
import io
import json
import math
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest
import soundfile
from PIL import Image

from s2igan.errors import UserError
from s2igan.evaluation.scores import VERSION
from s2igan.report import charts, embedded, headlines, write_report
from s2igan.report.page import MAX_GRIDS
from s2igan.run_directory import RunDirectory

NASTY = '<script>alert("x")</script> & a bird\'s "red" belly'
VOID = {"meta", "img", "rect", "line", "path", "br"}


def png(path, colour, size=(8, 8)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return path.name


def wav(path):
    soundfile.write(path, 0.3 * np.sin(np.arange(8000) / 9), 22_050)
    return path.name


def score(key, value, **changes):
    record = {
        "key": key,
        "name": f"Score {key}",
        "group": key.split("/")[0],
        "value": value,
        "std": None,
        "interval": None,
        "normalised": None,
        "normalised_interval": None,
        "chance": 0.083,
        "ceiling": 0.987,
        "ceiling_name": "oracle",
        "unit": "fraction",
        "better": "higher",
        "headline": False,
        "protocol": {"split": "test", "seed": 3, "classifier": {"steps": 9}},
    }
    return record | changes


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """An evaluated run as training and evaluation leave it, with its report."""
    path = tmp_path_factory.mktemp("runs") / "my <run>"
    with RunDirectory.create(path, {"recipe": {"name": "demo", "sen": {"steps": 300}}, "seed": 7}) as directory:
        for step in range(20, 1020, 20):
            directory.metrics(
                {"stage": "sen", "step": step, "epoch": 0, "seconds": step / 10, "sen/matching": 9 / step}
            )
        directory.metrics({"stage": "sen", "step": 1000, "epoch": 1, "seconds": 101.0, "sen/validation_map": 0.5})
        directory.metrics({"stage": "rdg", "step": 20, "epoch": 0, "seconds": 3720.0, "rdg/generator": math.nan})
        directory.metrics({"stage": "rdg", "step": 40, "epoch": 0, "seconds": 3725.0, "rdg/generator": 2.5})
    for step in range(1, 10):
        png(path / "samples" / f"rdg-{step * 100:08d}.png", (step, 0, 0), (20, 10))
    samples, figure3 = path / "evaluation" / "sample_sheet", path / "evaluation" / "figure3"
    spoken = [
        {
            "utterance": number,
            "text": text,
            "class": "species & co",
            "class_met": False,
            "speaker": "espeak:en-gb",
            "real": png(samples / f"{number:02d}-real.png", (0, 200, number)),
            "reconstruction": None,
            "samples": [png(samples / f"{number:02d}-{k}.png", (number, k, 90)) for k in range(1, 5)],
            "audio": wav(samples / f"{number:02d}.wav"),
            "audio_source": "audio/a.flac",
            "image_source": "images/a.png",
        }
        for number, text in enumerate([NASTY, "a small bird", None])
    ]
    (samples / "sample_sheet.json").write_text(json.dumps(spoken))
    rows = [
        {
            "word": word,
            "text": f"a bird with a {word} belly and black wings",
            "samples": [png(figure3 / f"{word}-{k}.png", (k, 1, 2)) for k in (1, 2)],
            "audio": wav(figure3 / f"{word}.wav"),
        }
        for word in ("red", "blue", "mauve")
    ]
    template = {"template": "a bird with a {} belly and black wings", "attribute": "belly", "voice": "v", "seed": 1}
    (figure3 / "figure3.json").write_text(json.dumps(template | {"rows": rows}))
    metrics = {
        "version": VERSION,
        "recipe": "demo",
        "data": {"name": "birds", "fingerprint": "f", "trained_on": True, "split_trained_on": False},
        "split": "test",
        "seconds": 74.0,
        "groups": {
            "sen": {"title": "Finding images by speech", "protocol": "One utterance against all images <of the test>."},
            "fid": {"title": "Likeness", "protocol": "Distances."},
        },
        "scores": [
            score("sen/map", 0.6234, headline=True, std=0.051),
            score("sen/recall", 0.705, protocol={"split": "test", "queries": 12, "classifier": {"steps": 9}}),
            score("fid/fid", 43.218, unit="distance", chance=None, ceiling=None, ceiling_name=None, better="lower"),
        ],
    }
    (path / "evaluation" / "metrics.json").write_text(json.dumps(metrics))
    write_report(path)
    return path


@pytest.fixture
def run(finished, tmp_path):
    """A copy to change."""
    return shutil.copytree(finished, tmp_path / finished.name)


class Page(HTMLParser):
    """What stands in the page: tags with attributes, text, and whether every tag is closed."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.texts, self.open = [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())


@pytest.fixture(scope="module")
def page(finished):
    return Page((finished / "report.html").read_text())


def test_nothing_is_fetched(finished, page):
    text = (finished / "report.html").read_text()
    assert not re.search(r"(?:https?:)?//\w", re.sub(r"base64,[\w+/=]+", "", text))
    assert not re.search(r"@import|url\(", text)
    assert not page.all("script")
    assert not page.all("link")
    for _, attributes in page.tags:
        assert attributes.get("src", "data:").startswith("data:")
        assert attributes.get("href", "#").startswith("#")
        assert not any(name.startswith("on") for name in attributes)
    policies = [a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy"]
    assert policies == ["default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'"]


def test_every_tag_is_closed_and_links_lead_somewhere(page):
    assert page.open == []
    anchors = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    links = [attributes["href"][1:] for attributes in page.all("a")]
    assert len(links) == 5
    assert set(links) <= anchors
    labels = {attributes["aria-labelledby"] for _, attributes in page.tags if "aria-labelledby" in attributes}
    assert labels <= anchors


def test_what_was_said_is_escaped(finished, page):
    assert NASTY in page.text
    assert "my <run>" in page.text
    assert "species & co" in page.text
    assert "<script" not in (finished / "report.html").read_text()


def test_every_picture_is_inside_and_described(page):
    images = page.all("img")
    assert len(images) == 3 * 5 + 3 * 2 + MAX_GRIDS
    assert all(image["alt"] for image in images)
    assert "Real image of: a small bird" in [image["alt"] for image in images]
    colours = []
    for image in images[:5]:
        data = base64.b64decode(image["src"].removeprefix("data:image/png;base64,"))
        with Image.open(io.BytesIO(data)) as decoded:
            colours.append(decoded.getpixel((0, 0)))
            assert (image["width"], image["height"]) == ("8", "8")
    assert colours == [(0, 200, 0), (0, 1, 90), (0, 2, 90), (0, 3, 90), (0, 4, 90)]


def test_every_recording_can_be_played(page):
    players = page.all("audio")
    assert len(players) == 3 + 3
    assert all(player["aria-label"] for player in players)
    data = base64.b64decode(players[1]["src"].removeprefix("data:audio/mpeg;base64,"))
    samples, rate = soundfile.read(io.BytesIO(data))
    assert rate == 22_050
    assert abs(len(samples) - 8000) < 2500  # MP3 pads to whole frames
    assert len(data) < 6000
    assert 0.25 < np.abs(samples).max() < 0.4


def test_scores_stand_with_chance_and_ceiling(page):
    for text in (
        "62.3 %",
        "± 5.1 %",
        "8.3 %",
        "98.7 %",
        "70.5 %",
        "43.22",
        "oracle",
        "One utterance against all images",
    ):
        assert text in page.text
    assert "all split test · classifier (steps 9) Score sen/map seed 3 Score sen/recall queries 12" in page.text
    labels = [attributes.get("aria-label", "") for attributes in page.all("svg")]
    assert (
        labels.count("Score sen/map: 62.3 %, chance 8.3 %, oracle 98.7 % (reached 63 % of it)") == 2
    )  # headline and table
    assert not any("fid" in label for label in labels), "a distance has no place between 0 and 100 %"


def test_curves_settings_and_time(page):
    labels = [attributes.get("aria-label", "") for attributes in page.all("svg")]
    assert any(label.startswith("matching from 0.45 at step 20 to 0.009 at step 1000") for label in labels)
    assert "generator from 2.5 at step 40 to 2.5 at step 40, lowest 2.5, highest 2.5" in labels
    assert any("(SEN) 1.7 min" in label and "(RDG) 1 h 02 min" in label for label in labels)
    assert any("Evaluation 1.2 min" in label for label in labels)
    assert '"seed": 7' in page.text
    assert '"torch"' in page.text


def test_the_changed_word_is_marked(page):
    assert "“a bird with a … belly and black wings”" in page.text
    assert "mauve" in page.text
    swatches = [a["style"] for a in page.all("span") if a.get("class") == "swatch"]
    assert swatches == ["background:#c8302c", "background:#2f6fc4"]


def test_grids_are_spread_over_training(page):
    alts = [image["alt"] for image in page.all("img") if image["alt"].startswith("Grid")]
    assert "step 100:" in alts[0]
    assert "step 900:" in alts[-1]


def test_headlines_for_the_terminal(finished):
    assert headlines(finished) == [
        "Finding images by speech",
        "  Score sen/map   62.3 %   chance 8.3 %, oracle 98.7 % (reached 63 % of it)",
    ]


def test_what_is_not_there_is_left_out(run):
    for name in ("sample_sheet/sample_sheet.json", "figure3/figure3.json"):
        (run / "evaluation" / name).unlink()
    (run / "metrics.jsonl").unlink()
    page = Page(write_report(run).read_text())
    assert page.open == []
    assert "One word changed" not in page.text
    assert "what was said" not in page.text
    assert "62.3 %" in page.text


@pytest.mark.parametrize(
    ("stage_2", "words"), [("rdg", "demo: the paper's RDG."), ("latent_flow", "demo: latent flow, not in the paper.")]
)
def test_the_method_is_named(run, stage_2, words):
    config = json.loads((run / "config.json").read_text())
    config["recipe"] |= {"rdg": None, "latent_flow": None, stage_2: {"steps": 1}}
    (run / "config.json").write_text(json.dumps(config))
    assert words in Page(write_report(run).read_text()).text


def test_runs_that_cannot_be_reported(run, tmp_path):
    with pytest.raises(UserError, match="nowhere"):
        write_report(tmp_path / "nowhere")
    (run / "evaluation" / "sample_sheet" / "01-real.png").unlink()
    with pytest.raises(UserError, match=r"01-real\.png"):
        write_report(run)
    (run / "evaluation" / "metrics.json").write_text("{")
    with pytest.raises(UserError, match=r"metrics\.json"):
        write_report(run)
    (run / "evaluation" / "metrics.json").unlink()
    with pytest.raises(UserError, match="s2igan evaluate"):
        write_report(run)


def test_a_recording_that_is_gone_is_named(run):
    (run / "evaluation" / "sample_sheet" / "00.wav").unlink()
    with pytest.raises(UserError, match=r"00\.wav"):
        write_report(run)


def changed_metrics(run, **changes):
    path = run / "evaluation" / "metrics.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_records_of_another_version_are_refused(run):
    changed_metrics(run, version=2)
    with pytest.raises(UserError, match=r"metrics\.json: of another version .* run s2igan evaluate again"):
        write_report(run)


def test_bars_end_where_the_score_is(run):
    record = score("sen/x", 0.25, chance=0.1, ceiling=1.7)
    group = {"sen": {"title": "Finding", "protocol": "How."}}
    changed_metrics(run, groups=group, scores=[record, score("sen/y", math.nan)])
    page = Page(write_report(run).read_text())
    widths = [rect["width"] for rect in page.all("rect") if rect.get("class") == "bar-score"]
    assert widths[1:] == ["25.00%", "0%"]  # the first is that of the key
    places = [(line["class"], line["x1"]) for line in page.all("line")][2:4]
    assert places == [("bar-chance", "10.00%"), ("bar-ceiling", "100.00%")]
    assert "–" in (run / "report.html").read_text()


def test_curves_are_drawn_to_scale():
    chart = charts.curve("loss", [(0, 4.0), (50, 2.0), (100, 3.0)])
    top, bottom = charts.TOP, charts.TOP + charts.HEIGHT
    width = charts.WIDTH
    assert chart.line == f"M0.0 {top:.1f}L{width / 2:.1f} {bottom:.1f}L{width:.1f} {(top + bottom) / 2:.1f}"
    assert charts.curve("nothing", [(1, math.nan)]) is None


def test_long_curves_are_thinned_without_a_shift():
    thin = charts.thinned([(step, math.sin(step / 100)) for step in range(1000)])
    assert len(thin) <= charts.MAX_POINTS
    for x, y in thin:
        assert abs(y - math.sin(x / 100)) < 0.01


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(5.2, "5 s"), (90, "1.5 min"), (3599, "60.0 min"), (3660, "1 h 01 min"), (90_000, "25 h 00 min")],
)
def test_durations(seconds, words):
    assert charts.duration(seconds) == words


def test_large_pictures_become_jpeg(tmp_path):
    png(tmp_path / "large.png", (10, 20, 30), (256, 256))
    assert embedded.picture(tmp_path / "large.png")[0].startswith("data:image/jpeg;base64,")


@pytest.mark.parametrize(
    ("class_name", "met", "claim"),
    [
        (None, False, "met neither them nor their pictures while it learnt"),
        ("wren", False, "met neither these classes nor their pictures while it learnt"),
        ("wren", True, "met neither them nor their pictures, but other pictures of their classes, while it learnt"),
    ],
)
def test_what_the_model_met_is_said_truly(run, class_name, met, claim):
    path = run / "evaluation" / "sample_sheet" / "sample_sheet.json"
    rows = json.loads(path.read_text())
    path.write_text(json.dumps([rows[-1] | {"class": class_name, "class_met": met}]))
    page = write_report(run).read_text()
    assert claim in page
    said = page[page.index('class="spoken"') : page.index("</ul>", page.index('class="spoken"'))]
    assert "“" not in said, "nobody said that there is no transcription"


def test_other_data_is_named_and_nothing_claimed_about_it(run):
    counts = {"pictures": 9, "recordings": 1200, "shared_pictures": 3, "shared_recordings": None}
    changed_metrics(run, data={"name": "dev & co", "fingerprint": "f", "trained_on": False} | counts)
    text = Page(write_report(run).read_text()).text
    assert "Evaluated on dev & co, a set that the model was not trained on; 3 of its 9 pictures" in text
    assert "an unknown number of its 1,200 recordings were trained on." in text
    assert "met neither" not in text
    assert "the model was trained on another set" in text


def test_intervals_and_normalised_accuracies_have_columns(run):
    """A group shows the columns that it fills and no others."""
    records = [
        score("attributes/belly", 0.8, interval=[0.75, 0.84], normalised=0.78, normalised_interval=[0.71, 0.83]),
        score("attributes/mean", 0.7, ceiling_name="real images"),
        score("independent/ratio", 2.5, unit="distance", interval=[1.9, None], chance=None, ceiling=None),
    ]
    groups = {name: {"title": name, "protocol": "How."} for name in ("attributes", "independent")}
    changed_metrics(run, groups=groups, scores=records)
    text = write_report(run).read_text()
    for words in ("75.0 % to 84.0 %", "0.78 (0.71 to 0.83)", "above 1.9"):
        assert words in text
    tables = text.split("<table>")[1:]
    assert ["normalised" in table for table in tables] == [True, False]
    assert ["0 to 100 %" in table for table in tables] == [True, False], "distances have no bar"
    assert "of it</th>" not in tables[0]


def test_a_reconstruction_stands_beside_its_original(run):
    folder = run / "evaluation" / "sample_sheet"
    rows = json.loads((folder / "sample_sheet.json").read_text())
    assert "Reconstruction of" not in (run / "report.html").read_text()
    changed = [
        row | {"reconstruction": png(folder / f"{n}-reconstruction.png", (n, 9, 9))} for n, row in enumerate(rows)
    ]
    (folder / "sample_sheet.json").write_text(json.dumps(changed))
    page = Page(write_report(run).read_text())
    alts = [image["alt"] for image in page.all("img")]
    assert alts[:2] == [f"Real image of: {NASTY}", f"Reconstruction of the real image of: {NASTY}"]
    assert sum(alt.startswith("Reconstruction") for alt in alts) == len(rows)
    assert "nothing that is drawn can be better" in page.text
