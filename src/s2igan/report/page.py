"""The page of a run, and its headline scores for a terminal."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from s2igan import __version__
from s2igan.errors import UserError
from s2igan.evaluation.scores import FIGURE3, METRICS, SAMPLE_SHEET, VERSION, Group, Score
from s2igan.evaluation.training_data import about_data
from s2igan.files import atomic_write
from s2igan.models.generator import GeneratorConfig
from s2igan.models.latent_flow import LatentFlowConfig
from s2igan.report import charts
from s2igan.report.embedded import picture, sound
from s2igan.run_directory import RunDirectory

MAX_GRIDS = 6
"""Sample grids shown from the course of training, the first and the last among them."""
STAGES = {
    "sen": "Stage 1, speech embedding network (SEN)",
    "warm_start": "Stage 2, the generator's warm start",
    "rdg": "Stage 2, generator (RDG)",
    "autoencoder": "Stage 2 by latent flow, its autoencoder",
    "decoder": "Stage 2 by latent flow, its decoder",
    "matchmap": "Stage 2 by latent flow, word embeddings (matchmap)",
    "flow": "Stage 2 by latent flow, the flow",
}

METHODS = {"rdg": GeneratorConfig.method, "latent_flow": LatentFlowConfig.method}
"""What draws, by the name of stage 2 in a recipe."""


def write_report(run: str | Path) -> Path:
    """Writes RUN/report.html and returns its path.

    Raises:
        UserError: there is no run, it has not been evaluated, or a file that the page needs is missing.
    """
    directory = RunDirectory.open(run)
    content = page(directory).encode()
    with atomic_write(directory.report) as file:
        file.write(content)
    return directory.report


def headlines(run: str | Path) -> list[str]:
    """The headline scores as lines for a terminal, under the title of their group; UserError as `write_report`."""
    _, groups = read_evaluation(RunDirectory.open(run))
    width = max((len(score.name) for group in groups for score in group.headlines), default=0)
    lines = []
    for group in groups:
        lines += [group.title] if group.headlines else []
        for score in group.headlines:
            lines.append(f"  {score.name:{width}}  {score.shown(score.value):>7}   {score.bounds}".rstrip())
    return lines


def page(run: RunDirectory) -> str:
    """The whole page as HTML; UserError as `write_report`."""
    evaluation, groups = read_evaluation(run)
    records = run.read_metrics()
    sample_sheet, figure3 = run.evaluation / SAMPLE_SHEET, run.evaluation / FIGURE3
    samples = read_json(sample_sheet / f"{SAMPLE_SHEET}.json") or []
    seconds: dict[str, float] = {}
    for record in records:
        stage = STAGES.get(record["stage"], record["stage"])
        seconds[stage] = max(seconds.get(stage, 0.0), record["seconds"])
    seconds |= {"Evaluation": evaluation["seconds"]} if evaluation["seconds"] else {}
    recipe = run.config.get("recipe", {})
    settings = {"Configuration": run.config, "Environment": read_json(run.path / "environment.json")}
    return (
        templates()
        .get_template("page.html")
        .render(
            name=run.path.resolve().name,
            recipe=recipe.get("name", "unknown"),
            method=next((method for stage_2, method in METHODS.items() if recipe.get(stage_2)), None),
            version=__version__,
            groups=groups,
            split=evaluation["split"],
            other_data=about_data(evaluation["data"]),
            finding=run.config.get("expect") == "finding",
            met=met(evaluation, samples),
            protocols=protocols,
            sample_sheet=sample_sheet,
            samples=samples,
            figure3=figure3,
            changed=read_json(figure3 / f"{FIGURE3}.json"),
            stages=list(stages(records)),
            grids=grids(run.samples),
            phases=list(charts.phases(seconds)),
            together=charts.duration(sum(seconds.values())),
            settings={
                name: json.dumps(facts, indent=2, ensure_ascii=False) for name, facts in settings.items() if facts
            },
            charts=charts,
            picture=picture,
            sound=sound,
        )
    )


def templates() -> Environment:
    """The pages of this folder; every value in them is escaped."""
    return Environment(
        loader=PackageLoader("s2igan", "report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )


def read_evaluation(run: RunDirectory) -> tuple[dict[str, Any], list[Group]]:
    """The content of `metrics.json`, and its groups of scores.

    Raises:
        UserError: the run has not been evaluated, or by a version of other records.
    """
    content = read_record(run.evaluation)
    return content, groups_of(content)


def read_record(folder: Path) -> dict[str, Any]:
    """The content of `metrics.json` in a folder that an evaluation wrote; UserError as `read_evaluation`."""
    path = folder / METRICS
    content: dict[str, Any] | None = read_json(path)
    if content is None:
        raise UserError(
            f"{folder.parent}: not evaluated yet; run s2igan evaluate --model {folder.parent} --data DIR first."
        )
    if content.get("version") != VERSION:
        raise UserError(f"{path}: of another version of s2igan; run s2igan evaluate again.")
    return content


def groups_of(content: Mapping[str, Any]) -> list[Group]:
    """Its groups of scores."""
    scores = [Score.of_record(record) for record in content["scores"]]
    return [
        Group(key, **words, scores=[score for score in scores if score.group == key])
        for key, words in content["groups"].items()
    ]


def read_json(path: Path) -> Any:
    """What a JSON file holds; None where there is no such file."""
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise UserError(f"{path}: not readable ({error}); run s2igan evaluate again.") from error


def met(evaluation: Mapping[str, Any], samples: Sequence[Mapping[str, Any]]) -> str:
    """Whether the model met the descriptions of the sample sheet while it learnt, as far as that is known."""
    if not evaluation["data"]["trained_on"]:
        return "the model was trained on another set"
    if evaluation["data"]["split_trained_on"]:
        return "the model met them while it learnt"
    new = "them nor their pictures"
    if any(row["class_met"] for row in samples):
        new += ", but other pictures of their classes,"
    elif any(row["class"] for row in samples):
        new = "these classes nor their pictures"
    return f"the model met neither {new} while it learnt"


def protocols(group: Group) -> Iterator[tuple[str, str]]:
    """What the protocols of all scores have in common, then what each adds, in a line each."""
    first, *others = [score.protocol for score in group.scores]
    common = {name: value for name, value in first.items() if all(other.get(name) == value for other in others)}
    if others:
        yield "all", _in_a_line(common)
    for score in group.scores:
        own = {name: value for name, value in score.protocol.items() if not others or common.get(name) != value}
        if own:
            yield score.name, _in_a_line(own)


def _in_a_line(values: Mapping[str, Any]) -> str:
    return " · ".join(
        f"{name.replace('_', ' ')} {f'({_in_a_line(value)})' if isinstance(value, Mapping) else value}"
        for name, value in values.items()
    )


def stages(records: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, list[charts.Curve], list[charts.Curve]]]:
    """Of each stage its title, the curves that say something of the whole (scores and totals), and the others."""
    for stage in dict.fromkeys(record["stage"] for record in records):
        points: dict[str, list[charts.Point]] = defaultdict(list)
        for record in records:
            for key, value in record.items():
                if key.startswith(f"{stage}/") and isinstance(value, int | float):  # null where it was not finite
                    points[key.removeprefix(f"{stage}/")].append((record["step"], value))
        totals: list[charts.Curve] = []
        terms: list[charts.Curve] = []
        for term, values in points.items():
            if curve := charts.curve(term.replace("_", " "), values):
                (totals if "/" not in term or term.endswith("/total") else terms).append(curve)
        if totals or terms:
            yield STAGES.get(stage, stage), totals, terms


def grids(folder: Path) -> list[tuple[str, Path]]:
    """At most `MAX_GRIDS` sample grids of training, evenly, with both ends, each under the step that it shows."""
    paths = sorted(folder.glob("*.png"))
    if len(paths) > MAX_GRIDS:
        paths = [paths[round(i * (len(paths) - 1) / (MAX_GRIDS - 1))] for i in range(MAX_GRIDS)]
    steps = [re.findall(r"\d+", path.stem) for path in paths]
    return [(f"step {int(found[-1])}" if found else path.stem, path) for path, found in zip(paths, steps, strict=True)]
