"""A run directory becomes one HTML page that needs nothing else: every picture, sound and style is inside it.

`write_report` reads what training and evaluation left (`config.json`, `environment.json`, `metrics.jsonl`, `samples/`,
`evaluation/`), computes nothing anew, and writes `report.html`.
"""

from __future__ import annotations

import base64
import html
import io
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import soundfile
from PIL import Image

from s2igan import __version__
from s2igan.errors import UserError
from s2igan.files import atomic_write
from s2igan.run_directory import RunDirectory

REPORT = "report.html"
"""Name of the page in a run directory."""
MAX_POINTS = 240
"""Points of one curve; longer ones are averaged over neighbours."""
SMOOTHING = 0.04
"""Share of a curve's points, on either side, that the smoothed curve averages over."""
SMOOTH_FROM = 40
"""Curves of fewer points are shown as they are."""
MAX_GRIDS = 6
"""Sample grids shown from the course of training, the first and the last among them."""
PNG_UP_TO = 128
"""Pictures with a longer side than this, in pixels, are inlined as JPEG."""
JPEG_QUALITY = 90
PHASES = 5
"""Colours in the stylesheet for the bar of phases."""


# ----------------------------------------------------------------------------------------------- what the page is about


@dataclass(frozen=True)
class Score:
    """One number and what it lies between."""

    name: str
    value: float
    chance: float | None = None
    ceiling: float | None = None
    ceiling_name: str = "oracle"
    std: float | None = None
    fraction: bool = True
    """Whether all of them are fractions of 1, shown as percentages and bars; a distance is not."""
    protocol: Mapping[str, Any] = field(default_factory=dict)
    group: str = ""
    """Heading of the table that it stands in."""
    headline: bool = False
    """Whether it stands at the top of the page and on the terminal."""


NO_TEXT = "(no transcription)"


@dataclass(frozen=True)
class Spoken:
    """One description that the model never met: what was said, what it was said of, and what was drawn."""

    text: str
    audio: Path
    samples: tuple[Path, ...]
    real: Path | None = None
    class_name: str = ""
    class_met: bool = False
    """Whether the model learnt from other pictures of the class."""
    speaker: str = ""


@dataclass(frozen=True)
class Changed:
    """One sentence of the paper's Figure 3: all but one word is the same."""

    word: str
    text: str
    audio: Path
    samples: tuple[Path, ...]


@dataclass(frozen=True)
class Findings:
    """All that the page shows, read from a run directory."""

    name: str
    recipe: str
    scores: tuple[Score, ...]
    protocols: Mapping[str, str]
    """How the scores of each group were measured, in words."""
    spoken: tuple[Spoken, ...]
    changed: tuple[Changed, ...]
    curves: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]]
    """(step, value) by stage and term."""
    grids: tuple[Path, ...]
    phases: Mapping[str, float]
    """Seconds."""
    config: Mapping[str, Any]
    environment: Mapping[str, Any]
    split: str = "test"
    """What was scored."""


# ---------------------------------------------------------------------------------------------------------- small parts


def escape(text: object) -> str:
    """Text as HTML, safe in elements and in quoted attributes."""
    return html.escape(str(text), quote=True)


def percent(value: float) -> str:
    """0.6234 -> "62.3 %"; "–" where there is no number."""
    return f"{100 * value:.1f} %" if math.isfinite(value) else "–"


def value_in_words(score: Score, value: float | None) -> str:
    """A value of a score in the score's unit; "–" where there is none."""
    if value is None or not math.isfinite(value):
        return "–"
    return percent(value) if score.fraction else f"{value:.4g}"


def share_in_words(score: Score) -> str:
    """How much of the ceiling was reached; empty where that means nothing."""
    return f"{100 * score.value / score.ceiling:.0f} %" if score.fraction and score.ceiling else ""


def duration(seconds: float) -> str:
    """Seconds in the unit that people would use."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds / 60:.1f} min"
    return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60):02d} min"


def picture(path: Path, alt: str) -> str:
    """An image element with the picture inside: PNG where it is small, JPEG where it is large.

    Raises:
        UserError: the picture is missing or unreadable.
    """
    buffer = io.BytesIO()
    try:
        with Image.open(path) as image:
            width, height = image.size
            kind = "png" if max(width, height) <= PNG_UP_TO else "jpeg"
            image.convert("RGB").save(buffer, kind, quality=JPEG_QUALITY)
    except OSError as error:
        raise UserError(
            f"{path}: the report needs this picture and cannot read it; run s2igan evaluate again."
        ) from error
    data = base64.b64encode(buffer.getvalue()).decode()
    source = f'src="data:image/{kind};base64,{data}"'
    return f'<img {source} alt="{escape(alt)}" width="{width}" height="{height}" loading="lazy">'


def audio_uri(path: Path) -> str:
    """A recording as a data URI of MP3, which every browser plays.

    Raises:
        UserError: the recording is missing or unreadable.
    """
    try:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (OSError, soundfile.SoundFileError) as error:
        raise UserError(
            f"{path}: the report needs this sound and cannot read it; run s2igan evaluate again."
        ) from error
    buffer = io.BytesIO()
    soundfile.write(buffer, samples.mean(axis=1), rate, format="MP3", subtype="MPEG_LAYER_III", compression_level=0.6)
    return f"data:audio/mpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def player(path: Path, label: str) -> str:
    """An audio element with the sound inside."""
    return f'<audio controls preload="metadata" aria-label="{escape(label)}" src="{audio_uri(path)}"></audio>'


def score_bar(score: Score, height: int = 14) -> str:
    """The score as a bar from 0 to 100 %, with chance as a dashed and the ceiling as a solid line."""
    parts = [f'<rect class="bar-track" width="100%" height="{height}" rx="3"/>']
    parts.append(f'<rect class="bar-score" width="{_place(score.value)}" height="{height}" rx="3"/>')
    if score.chance is not None:
        parts.append(_upright("bar-chance", score.chance, height))
    if score.ceiling is not None:
        parts.append(_upright("bar-ceiling", score.ceiling, height))
    label = f"{score.name}: {in_words(score)}"
    opening = f'<svg class="bar" role="img" aria-label="{escape(label)}" width="100%" height="{height}">'
    return f"{opening}{''.join(parts)}</svg>"


def _place(value: float) -> str:
    return f"{100 * min(1.0, max(0.0, value)):.2f}%" if math.isfinite(value) else "0%"


def _upright(name: str, value: float, height: int) -> str:
    at = _place(value)
    return f'<line class="{name}" x1="{at}" x2="{at}" y1="0" y2="{height}"/>'


def in_words(score: Score) -> str:
    """The value, chance and ceiling as text."""
    return ", ".join(filter(None, (value_in_words(score, score.value), bounds_in_words(score))))


def bounds_in_words(score: Score) -> str:
    """Chance and ceiling as text, empty where there are none."""
    words = []
    if score.chance is not None:
        words.append(f"chance {value_in_words(score, score.chance)}")
    if score.ceiling is not None:
        share = share_in_words(score)
        words.append(
            f"{score.ceiling_name} {value_in_words(score, score.ceiling)}"
            + (f" (reached {share} of it)" if share else "")
        )
    return ", ".join(words)


def curve(name: str, points: Sequence[tuple[float, float]]) -> str:
    """A small line chart of (step, value) with its newest value; a long curve is smoothed over the raw line."""
    points = [(x, y) for x, y in points if math.isfinite(y)]
    if not points:
        return ""
    last = points[-1][1]
    low, high = min(y for _, y in points), max(y for _, y in points)
    label = (
        f"{name} from {_number(points[0][1])} at step {points[0][0]:.0f} to {_number(last)} at step "
        f"{points[-1][0]:.0f}, lowest {_number(low)}, highest {_number(high)}"
    )
    shown = _thin(points)
    raw = _path(shown, low, high)
    lines = f'<path class="plot-line" d="{raw}"/>'
    if len(points) >= SMOOTH_FROM:
        lines = f'<path class="plot-raw" d="{raw}"/><path class="plot-line" d="{_path(_smooth(shown), low, high)}"/>'
    return (
        f'<figure><p class="title"><span>{escape(name)}</span><b>{_number(last)}</b></p>'
        f'<svg role="img" aria-label="{escape(label)}" viewBox="0 0 {PLOT_WIDTH + 46} {PLOT_HEIGHT + 26}">'
        f'<path class="plot-grid" d="M0 6H{PLOT_WIDTH}M0 {PLOT_HEIGHT + 6}H{PLOT_WIDTH}"/>{lines}'
        f'<text class="plot-text" x="{PLOT_WIDTH + 5}" y="11">{_number(high)}</text>'
        f'<text class="plot-text" x="{PLOT_WIDTH + 5}" y="{PLOT_HEIGHT + 8}">{_number(low)}</text>'
        f'<text class="plot-text" x="0" y="{PLOT_HEIGHT + 22}">step {points[0][0]:.0f}</text>'
        f'<text class="plot-text" x="{PLOT_WIDTH}" y="{PLOT_HEIGHT + 22}" text-anchor="end">{points[-1][0]:.0f}</text>'
        "</svg></figure>"
    )


PLOT_WIDTH = 250
PLOT_HEIGHT = 96


def _number(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1e5 else f"{value:.1e}"


def _thin(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    group = math.ceil(len(points) / MAX_POINTS)
    groups = (points[start : start + group] for start in range(0, len(points), group))
    return [(sum(x for x, _ in part) / len(part), sum(y for _, y in part) / len(part)) for part in groups]


def _smooth(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The mean over the neighbours on both sides, fewer of them towards the ends, so that nothing is shifted."""
    reach = max(1, round(SMOOTHING * len(points)))
    smoothed = []
    for i, (x, _) in enumerate(points):
        near = min(reach, i, len(points) - 1 - i)
        part = points[i - near : i + near + 1]
        smoothed.append((x, sum(y for _, y in part) / len(part)))
    return smoothed


def _path(points: Sequence[tuple[float, float]], low: float, high: float) -> str:
    """An SVG path; one point becomes a short stroke."""
    first, last = points[0][0], points[-1][0]
    across, up = (last - first) or 1.0, (high - low) or 1.0
    places = [
        f"{PLOT_WIDTH * (x - first) / across:.1f} {6 + PLOT_HEIGHT * (1 - (y - low) / up):.1f}" for x, y in points
    ]
    return "M" + "L".join(places) + ("h4" if len(places) == 1 else "")


# ------------------------------------------------------------------------------------------------------------- sections


def headline_section(findings: Findings) -> str:
    """The scores that say most, as cards."""
    cards = []
    for score in (score for score in findings.scores if score.headline):
        number, _, unit = value_in_words(score, score.value).partition(" ")
        bar = score_bar(score) if score.fraction else ""
        bounds = escape(bounds_in_words(score)).replace(" %", "&nbsp;%")
        cards.append(
            f'<div class="card"><div class="soft small">{escape(score.group)}</div>'
            f'<div class="name">{escape(score.name)}</div><div class="number">{number}'
            f'<small> {unit}</small></div>{bar}<div class="bounds">{bounds}</div></div>'
        )
    return f'<div class="headlines">{"".join(cards)}</div>{BAR_KEY}' if cards else ""


BAR_KEY = (
    '<ul class="key" aria-label="How to read the bars">'
    '<li><svg aria-hidden="true"><rect class="bar-score" width="100%" height="100%" rx="2"/></svg>score</li>'
    '<li><svg aria-hidden="true"><line class="bar-chance" x1="50%" x2="50%" y1="0" y2="100%"/></svg>chance</li>'
    '<li><svg aria-hidden="true"><line class="bar-ceiling" x1="50%" x2="50%" y1="0" y2="100%"/></svg>'
    "what is possible (oracle or ceiling)</li></ul>"
)


def spoken_section(spoken: Sequence[Spoken], split: str = "test") -> str:
    """What was said, the real image, and the samples, side by side."""
    new = "them nor their pictures"
    if any(item.class_met for item in spoken):
        new += ", but other pictures of their classes,"
    elif any(item.class_name for item in spoken):
        new = "these classes nor their pictures"
    met = f"the model met neither {new}" if split != "train" else "the model met them"
    cards = []
    for item in spoken:
        about = " · ".join(filter(None, (item.class_name, item.speaker)))
        said = escape(item.text) if item.text == NO_TEXT else f"“{escape(item.text)}”"
        pictures = ""
        if item.real is not None:
            pictures = _figure(item.real, f"Real image of: {item.text}", "real", "real")
        for number, sample in enumerate(item.samples, start=1):
            pictures += _figure(sample, f"Sample {number} drawn from the recording of: {item.text}", str(number))
        cards.append(
            f'<li class="card"><p class="said">{said}</p>'
            f"{player(item.audio, f'Recording: {item.text}')}"
            f'<div class="pictures">{pictures}</div><p class="soft small">{escape(about)}</p></li>'
        )
    return _section(
        "said",
        "What was said, what was drawn",
        f"Descriptions from the {split} split: {met} while it learnt. It "
        "hears the recording and never sees the words; beside the real image stand samples that differ in noise only.",
        f'<ul class="spoken">{"".join(cards)}</ul>' if cards else "",
    )


def _figure(path: Path, alt: str, caption: str, name: str = "") -> str:
    opening = f'<figure class="{name}">' if name else "<figure>"
    return f"{opening}{picture(path, alt)}<figcaption>{escape(caption)}</figcaption></figure>"


def changed_section(changed: Sequence[Changed]) -> str:
    """The paper's Figure 3 on this set: one sentence, one word changed."""
    items = []
    for item in changed:
        pictures = "".join(
            picture(path, f"Sample {number} for: {item.text}") for number, path in enumerate(item.samples, start=1)
        )
        swatch = ""
        if item.word in SWATCHES:
            swatch = f'<span class="swatch" style="background:{SWATCHES[item.word]}" aria-hidden="true"></span>'
        items.append(
            f'<li><p class="word">{swatch}{escape(item.word)}</p><div class="pair">{pictures}</div>'
            f"{player(item.audio, f'Recording: {item.text}')}</li>"
        )
    sentence = ""
    if changed:
        marked = re.sub(rf"\b{re.escape(changed[0].word)}\b", "…", changed[0].text, count=1)
        sentence = f" The sentence: “{marked}”."
    return _section(
        "changed",
        "One word changed",
        "The same sentence and the same noise, with one word changed, as in Figure 3 of the paper: what follows the "
        f"word should change, and the rest should stay.{sentence}",
        f'<ul class="changed">{"".join(items)}</ul>' if items else "",
    )


SWATCHES = {
    "black": "#1c1c1e",
    "blue": "#2f6fc4",
    "brown": "#7a4a28",
    "gray": "#8b8f94",
    "green": "#3f8f46",
    "grey": "#8b8f94",
    "orange": "#e8822a",
    "pink": "#e88bab",
    "purple": "#7d4aa8",
    "red": "#c8302c",
    "white": "#ffffff",
    "yellow": "#f0c62e",
}


def scores_section(findings: Findings) -> str:
    """Every score with chance and ceiling, a table for each group."""
    tables = []
    for group in dict.fromkeys(score.group for score in findings.scores):
        scores = [score for score in findings.scores if score.group == group]
        ceiling_name = next((score.ceiling_name for score in scores if score.ceiling is not None), "ceiling")
        heads = "".join(
            f'<th scope="col" class="n">{escape(head)}</th>' for head in ("reached", "chance", ceiling_name, "of it")
        )
        measured = _protocols(scores)
        tables.append(
            f'<h3>{escape(group)}</h3><div class="scroll"><table>'
            f"<caption>{escape(findings.protocols.get(group, ''))}</caption>"
            f'<thead><tr><th scope="col">score</th>{heads}<th scope="col" class="wide">0 to 100 %</th></tr></thead>'
            f"<tbody>{''.join(map(_score_row, scores))}</tbody></table></div>"
            + (f"<details><summary>How they were measured</summary><dl>{measured}</dl></details>" if measured else "")
        )
    return _section(
        "scores",
        "Scores",
        "Beside every score stand what guessing would reach, and what the best possible answer reaches.",
        BAR_KEY + "".join(tables) if tables else "",
    )


def _score_row(score: Score) -> str:
    spread = f' <span class="soft">± {value_in_words(score, score.std)}</span>' if score.std is not None else ""
    return (
        f'<tr><th scope="row">{escape(score.name)}</th>'
        f'<td class="n"><b>{value_in_words(score, score.value)}</b>{spread}</td>'
        f'<td class="n">{value_in_words(score, score.chance)}</td>'
        f'<td class="n">{value_in_words(score, score.ceiling)}</td>'
        f'<td class="n">{share_in_words(score)}</td>'
        f'<td class="wide">{score_bar(score) if score.fraction else ""}</td></tr>'
    )


def _protocols(scores: Sequence[Score]) -> str:
    """What all protocols have in common, then what each adds."""
    first, *others = [score.protocol for score in scores]
    common = {name: value for name, value in first.items() if all(other.get(name) == value for other in others)}
    terms = {"all": common} if others else {}
    for score in scores:
        terms[score.name] = {
            name: value for name, value in score.protocol.items() if not others or common.get(name) != value
        }
    return "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(_in_a_line(values))}</dd>" for name, values in terms.items() if values
    )


def _in_a_line(values: Mapping[str, Any]) -> str:
    return " · ".join(
        f"{name.replace('_', ' ')} {f'({_in_a_line(value)})' if isinstance(value, Mapping) else value}"
        for name, value in values.items()
    )


def training_section(findings: Findings) -> str:
    """Curves, sample grids over the course of training, and where the time went."""
    parts = []
    for stage, terms in findings.curves.items():
        charts = {term: chart for term, points in terms.items() if (chart := curve(term.replace("_", " "), points))}
        shown = [chart for term, chart in charts.items() if _is_summary(term)]
        folded = [chart for term, chart in charts.items() if not _is_summary(term)]
        if charts:
            parts.append(f"<h3>{escape(STAGES.get(stage, stage))}</h3>{_curves(shown or folded)}")
        if shown and folded:
            parts.append(f"<details><summary>{len(folded)} single terms</summary>{_curves(folded)}</details>")
    if findings.grids:
        grids = "".join(
            _figure(path, f"Grid of samples, {_step_of(path)}: the first column is real", _step_of(path))
            for path in _spread(findings.grids, MAX_GRIDS)
        )
        parts.append(f'<h3>Samples while it learnt</h3><div class="grids">{grids}</div>')
    if findings.phases:
        parts.append(f"<h3>Time spent</h3>{phases_bar(findings.phases)}")
    return _section("training", "How it learnt", "Values are means over the steps between two records.", "".join(parts))


STAGES = {"sen": "Stage 1, speech embedding network (SEN)", "rdg": "Stage 2, generator (RDG)"}


def _is_summary(term: str) -> bool:
    """Whether a term says something of the whole: a score, or a total of losses."""
    return "/" not in term or term.endswith("/total")


def _curves(charts: Sequence[str]) -> str:
    return f'<div class="curves">{"".join(charts)}</div>'


def _step_of(path: Path) -> str:
    digits = re.findall(r"\d+", path.stem)
    return f"step {int(digits[-1])}" if digits else path.stem


def _spread(paths: Sequence[Path], count: int) -> list[Path]:
    """At most `count` of them, evenly, with both ends."""
    if len(paths) <= count:
        return list(paths)
    return [paths[round(i * (len(paths) - 1) / (count - 1))] for i in range(count)]


def phases_bar(phases: Mapping[str, float]) -> str:
    """One bar of all phases, and what each took."""
    total = sum(phases.values()) or 1.0
    bars, keys, start = [], [], 0.0
    for number, (name, seconds) in enumerate(phases.items()):
        share = 100 * seconds / total
        fill = f"var(--phase-{number % PHASES + 1})"
        bars.append(f'<rect x="{start:.2f}%" width="{share:.2f}%" height="18" style="fill:{fill}"/>')
        mark = f'<svg aria-hidden="true"><rect width="100%" height="100%" rx="2" style="fill:{fill}"/></svg>'
        keys.append(f"<li>{mark}{escape(name)}: {duration(seconds)}</li>")
        start += share
    label = ", ".join(f"{name} {duration(seconds)}" for name, seconds in phases.items())
    return (
        f'<svg class="phases" role="img" aria-label="Time spent: {escape(label)}" width="100%" height="18">'
        f'{"".join(bars)}</svg><ul class="key">{"".join(keys)}<li>together {duration(total)}</li></ul>'
    )


def settings_section(findings: Findings) -> str:
    """Configuration and environment, folded away."""
    parts = "".join(
        f"<details><summary>{title}</summary><pre>{escape(_pretty(values))}</pre></details>"
        for title, values in (("Configuration", findings.config), ("Environment", findings.environment))
        if values
    )
    return _section("settings", "Configuration", "", parts)


def _pretty(values: Mapping[str, Any]) -> str:
    return json.dumps(values, indent=2, ensure_ascii=False)


def _section(anchor: str, title: str, introduction: str, body: str) -> str:
    """A section with a heading, or nothing where it has no content."""
    if not body:
        return ""
    lead = f'<p class="soft">{escape(introduction)}</p>' if introduction else ""
    heading = f'<h2 id="{anchor}-title">{title}</h2>'
    return f'<section id="{anchor}" aria-labelledby="{anchor}-title">{heading}{lead}{body}</section>'


def page(findings: Findings) -> str:
    """The whole page as HTML."""
    sections = {
        "What was said": spoken_section(findings.spoken, findings.split),
        "One word changed": changed_section(findings.changed),
        "Scores": scores_section(findings),
        "How it learnt": training_section(findings),
        "Configuration": settings_section(findings),
    }
    links = "".join(
        f'<li><a href="#{found[1]}">{title}</a></li>'
        for title, body in sections.items()
        if (found := re.match(r'<section id="(\w+)"', body))
    )
    style = files("s2igan").joinpath("report.css").read_text(encoding="utf-8")
    title = escape(findings.name)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{title} · s2igan</title>'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}"><style>{style}</style></head><body>'
        f'<header><p class="eyebrow">Speech to image, no text in between</p><h1>{title}</h1>'
        f'<p class="soft">Recipe {escape(findings.recipe)}.</p>'
        f'{headline_section(findings)}<nav aria-label="On this page"><ul>{links}</ul></nav></header>'
        f"<main>{''.join(sections.values())}</main>"
        f"<footer>Written by s2igan {escape(__version__)} from this run's own records.</footer></body></html>"
    )


POLICY = "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'"
"""The page may not fetch anything, even if something in it asked to."""


# ----------------------------------------------------------------------------------------------- reading and writing


def write_report(run: str | Path) -> Path:
    """Writes RUN/report.html and returns its path.

    Raises:
        UserError: there is no run, it has not been evaluated, or a file that the page needs is missing.
    """
    findings = read_findings(run)
    path = Path(run) / REPORT
    with atomic_write(path) as file:
        file.write(page(findings).encode())
    return path


def headlines(run: str | Path) -> list[str]:
    """The headline scores as lines for a terminal, under the title of their group; UserError as `write_report`."""
    scores = [score for score in read_scores(Path(run))[0] if score.headline]
    width = max((len(score.name) for score in scores), default=0)
    lines = []
    for group in dict.fromkeys(score.group for score in scores):
        lines.append(group)
        lines += [
            f"  {score.name:{width}}  {value_in_words(score, score.value):>7}   {bounds_in_words(score)}".rstrip()
            for score in scores
            if score.group == group
        ]
    return lines


def read_findings(run: str | Path) -> Findings:
    """Gathers what a run directory holds; UserError as `write_report`."""
    directory = RunDirectory.open(run)
    scores, protocols, seconds = read_scores(directory.path)
    records = directory.read_metrics()
    phases = {STAGES.get(stage, stage): spent for stage, spent in _seconds(records).items()}
    recipe = directory.config.get("recipe", {})
    return Findings(
        name=directory.path.resolve().name,
        recipe=str(recipe.get("name", "unknown")),
        scores=tuple(scores),
        protocols=protocols,
        spoken=tuple(_read_spoken(directory.evaluation / "samples")),
        changed=tuple(_read_changed(directory.evaluation / "figure3")),
        curves=_read_curves(records),
        grids=tuple(sorted(directory.samples.glob("*.png"))),
        phases=phases | ({"Evaluation": seconds} if seconds else {}),
        config=directory.config,
        environment=_read_json(directory.path / "environment.json"),
        split=_read_json(directory.evaluation / "metrics.json").get("split", "test"),
    )


def read_scores(run: Path) -> tuple[list[Score], dict[str, str], float]:
    """The scores of an evaluated run, how each group was measured, and the seconds that it took.

    Raises:
        UserError: the run does not exist or has not been evaluated.
    """
    path = RunDirectory.open(run).evaluation / "metrics.json"
    if not path.is_file():
        raise UserError(f"{run}: not evaluated yet; run s2igan evaluate --model {run} --data DIR first.")
    content = _read_json(path)
    titles = {key: group["title"] for key, group in content["groups"].items()}
    scores = [
        Score(
            name=record["name"],
            value=math.nan if record["value"] is None else record["value"],
            chance=record["chance"],
            ceiling=record["ceiling"],
            ceiling_name=record["ceiling_name"] or "ceiling",
            std=record["std"],
            fraction=record["unit"] == "fraction",
            protocol=record["protocol"],
            group=titles[record["group"]],
            headline=record["headline"],
        )
        for record in content["scores"]
    ]
    return scores, {group["title"]: group["protocol"] for group in content["groups"].values()}, content["seconds"]


def _read_spoken(folder: Path) -> list[Spoken]:
    return [
        Spoken(
            text=item["text"] or NO_TEXT,
            audio=folder / item["audio"],
            samples=tuple(folder / name for name in item["samples"]),
            real=folder / item["real"],
            class_name=item["class"] or "",
            class_met=item.get("class_met", False),
            speaker=item["speaker"] or "",
        )
        for item in _read_json(folder / "samples.json", [])
    ]


def _read_changed(folder: Path) -> list[Changed]:
    return [
        Changed(row["word"], row["text"], folder / row["audio"], tuple(folder / name for name in row["samples"]))
        for row in _read_json(folder / "figure3.json", {"rows": []})["rows"]
    ]


def _read_curves(records: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """(step, value) by stage and term; a value that was not finite is left out."""
    curves: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for record in records:
        stage = record.get("stage", "")
        for key, value in record.items():
            if key.startswith(f"{stage}/") and isinstance(value, int | float):
                term = key.removeprefix(f"{stage}/")
                curves.setdefault(stage, {}).setdefault(term, []).append((record["step"], value))
    return curves


def _seconds(records: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """What each stage took, from its newest record."""
    spent: dict[str, float] = {}
    for record in records:
        spent[record["stage"]] = max(spent.get(record["stage"], 0.0), record["seconds"])
    return spent


def _read_json(path: Path, default: Any = None) -> Any:
    """What a JSON file holds; the default, or an empty dict, where there is no such file."""
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return {} if default is None else default
    except ValueError as error:
        raise UserError(f"{path}: not readable ({error}); run s2igan evaluate again.") from error
