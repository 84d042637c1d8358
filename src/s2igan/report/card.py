"""A model card: Markdown with the front matter of the Hugging Face hub, from what is recorded of a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from s2igan import __version__
from s2igan.corpora.registry import BUILT_IN, drawn_set
from s2igan.data.store import Store
from s2igan.errors import UserError
from s2igan.evaluation.scores import METRICS, Group
from s2igan.evaluation.subject import Subject
from s2igan.evaluation.training_data import about_data
from s2igan.files import atomic_write
from s2igan.report.page import groups_of, read_record

SYNTHETIC = ("espeak:", "piper:", "command:")
"""How names of voices begin that are programs."""
TASK = "speech-to-image"
BUILT_IN_LICENSE, UNKNOWN_LICENSE = "apache-2.0", "other"


@dataclass(frozen=True)
class Data:
    """What is known of the set that a model was trained on."""

    name: str
    built_in: str | None
    """Title, if it is a set that this package draws."""
    languages: tuple[str, ...]
    counts: Mapping[str, Any]
    """Of the training split."""
    synthetic: int
    """Voices of it that are programs."""
    people: int
    """Voices of it that are not."""

    @classmethod
    def of(cls, store: Store) -> Data:
        """Names of people are not told."""
        own = store.split_indices("train")
        voices = {store.speaker(int(utterance)) for utterance in own} - {None}
        synthetic = sum(str(voice).startswith(SYNTHETIC) for voice in voices)
        drawn = next((name for name in BUILT_IN if store.attributes.keys() == drawn_set(name).attributes.keys()), None)
        return cls(
            store.directory.resolve().name,
            None if drawn is None else BUILT_IN[drawn].title,
            store.languages,
            store.report["splits"]["train"],
            synthetic,
            len(voices) - synthetic,
        )


def write_card(
    model: str | Path,
    out: str | Path,
    *,
    data: str | Path | None = None,
    scores: str | Path | None = None,
    license: str | None = None,
) -> Path:
    """Writes the card and returns its path.

    Args:
        data: the set that the model was trained on; of a run the one that it names, if it is still there.
        scores: folder that an evaluation wrote; `Subject.evaluation` unless given.
        license: of the model, as the hub spells it; that of the package on a built-in set unless given.

    Raises:
        UserError: the model cannot be read, a named set is another one than it was trained on, a named folder has no
            scores, or those of another model.
    """
    subject = Subject.of(model)
    known = _data_of(subject, data)
    folder = subject.evaluation if scores is None else Path(scores)
    record = read_record(folder) if scores is not None or (folder / METRICS).exists() else None
    weights = subject.record["sha256"]
    if record is not None and record["model"]["sha256"] != weights:
        raise UserError(
            f"{folder}: has the scores of other weights ({record['model']['sha256'][:16]}) than those of {model} "
            f"({weights[:16]}); run s2igan evaluate --model {model} again, or name another folder by --scores."
        )
    groups = [] if record is None else groups_of(record)
    license = license or (BUILT_IN_LICENSE if known is not None and known.built_in else None)
    exported = subject.exported()
    drawer = exported.generator_config() if subject.trained else None
    page = Environment(
        loader=PackageLoader("s2igan", "report"), trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    text = page.get_template("card.md").render(
        front_matter=front_matter(subject, known, license, record, groups),
        name=subject.path.resolve().name,
        recipe=subject.recipe or "unknown",
        method=None if drawer is None else drawer.method,
        side=None if drawer is None else drawer.resolutions[-1],
        data=known,
        license=license,
        record=record,
        about_data="" if record is None else about_data(record["data"]),
        groups=groups,
        hears=exported.speech_encoder().reads == "speech",
        version=__version__,
    )
    with atomic_write(Path(out)) as file:
        file.write(text.encode())
    return Path(out)


def front_matter(
    subject: Subject,
    data: Data | None,
    license: str | None,
    record: Mapping[str, Any] | None,
    groups: list[Group],
) -> str:
    """The hub's YAML: licence, languages, tags, data, and the headline scores as results."""
    from huggingface_hub import EvalResult, ModelCardData

    name = data.name if data is not None else "unknown"
    results = [
        EvalResult(
            task_type=TASK,
            dataset_type=name,
            dataset_name=name if record is None else record["data"]["name"],
            dataset_split=None if record is None else record["split"],
            metric_type=score.key,
            metric_name=score.name,
            metric_value=score.value,
        )
        for group in groups
        for score in group.headlines
    ]
    described = ModelCardData(
        license=license or UNKNOWN_LICENSE,
        language=list(data.languages) if data is not None and data.languages else None,
        library_name="s2igan",
        tags=[TASK, "speech", "image-generation"],
        model_name=subject.path.resolve().name if results else None,
        eval_results=results or None,
    )
    return str(described.to_yaml()).strip()


def _data_of(subject: Subject, named: str | Path | None) -> Data | None:
    if named is not None:
        store = Store.open(named)
        if subject.store is not None and store.fingerprint != subject.store:
            raise UserError(
                f"{named}: is another prepared set than the one that {subject.path} was trained on; name that one, or "
                "leave --data out."
            )
        return Data.of(store)
    if subject.data is None:
        return None
    try:
        store = Store.open(subject.data)
    except UserError:
        return None
    return Data.of(store) if store.fingerprint == subject.store else None
