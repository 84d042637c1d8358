"""Any source becomes a prepared store: unpack, import, speak what is only written, split, write the manifest, pack.

`OUT/source` is a link to the source's folder (or to `OUT/unpacked`), so that the manifest in OUT names every picture
and recording by a path below itself, and nothing is copied. `OUT/prepare.json` says what the manifest was made from.

Everything before packing is done by one process at a time (`.prepare.lock`), also where several machines prepare shards
of one store; whoever comes second finds the manifest finished, since it follows from the source and the options alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from s2igan.corpora.importers.source import Corpus, Problem, ReadOptions
from s2igan.corpora.importers.source_files import Tree, base_name, stem
from s2igan.corpora.prepare.archives import is_archive, unpack
from s2igan.corpora.prepare.duplicates import Cleaned, cleaned, equal_files, published
from s2igan.corpora.prepare.options import PrepareOptions
from s2igan.corpora.prepare.splits import with_splits
from s2igan.corpora.registry import IMPORTERS, PUBLISHED, importer
from s2igan.data.images import Box
from s2igan.data.layout import REJECTED
from s2igan.data.manifest import FORMATS, Utterance, iter_manifest, write_manifest
from s2igan.errors import UserError
from s2igan.files import atomic_write_json, disk_errors, only_one

SOURCE, MANIFEST, STATE, LOCK = "source", "manifest.jsonl", "prepare.json", ".prepare.lock"
VERSION = 2
"""Of the manifests made here; another one is made again."""
MIN_SECONDS = 0.3
"""Shorter recordings are no descriptions: a click, or a button pressed twice; and the speech encoder needs 0.21 s."""
DEFAULT_VOICES = ("espeak:en-us",)
"""Speaks the captions of published corpora, which are in English, where no voice is named."""
THREADS = 16
MISNAMED = "the name of the file is not UTF-8 or has a line break; rename it"


@dataclass(frozen=True)
class Imported:
    """What a source holds, with paths relative to OUT, before it is packed."""

    rows: list[Utterance]
    boxes: dict[str, Box]
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]
    validation_from_train: bool
    """As in `Splits`."""


def prepare_corpus(
    name: str,
    source: str | Path,
    out: str | Path,
    options: PrepareOptions = PrepareOptions(),
    *,
    size: int = 64,
    seed: int = 0,
    jobs: int | None = None,
    part: tuple[int, int] | None = None,
    progress: bool = True,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Make a source ready for training under `out`, and return the store's report.

    What is there already is kept: interrupted, it goes on where it stopped, and added files are added.

    Args:
        name: of the importer.
        source: folder, archive, folder of archives, or for "folder" a manifest.
        out: directory to make; not inside the source.
        options: how to read and split the source, and who speaks what is only written.
        size: side in pixels of the largest images to be trained on.
        seed: of splits and of who speaks which caption.
        jobs: processes; one per usable core unless given.
        part: (i, n): write only the i-th of every n shards, for n machines that share `out`.
        progress: show progress bars.
        say: is told sentences that a user should read.

    Raises:
        UserError: the source has another layout or cannot be used, `out` holds something else, or the disk is full;
            what is finished stays.
    """
    from s2igan.data.pack import MAX_REJECTED, build_store, too_many_rejected, write_rejected
    from s2igan.data.store import Store
    from s2igan.speech import parse_voice

    for voice in options.voice:  # a misspelt one is told now, and also where nothing has to be spoken
        parse_voice(voice)
    source, out = Path(source), Path(out)
    settings = {
        "version": VERSION,
        "corpus": name,
        "seed": seed,
        "voices": list(options.voice),
        "proportions": list(options.proportions),
        "speaker_disjoint": options.speaker_disjoint,
        "keep_personal_data": options.keep_personal_data,
    }
    if importer(name).text_embeddings is None and options.text_embeddings:
        having = ", ".join(other for other in IMPORTERS if importer(other).text_embeddings is not None)
        raise UserError(f"{name}: nobody has published embeddings of its captions; --text-embeddings is for {having}.")
    _check_places(source, out)
    with disk_errors(out):
        out.mkdir(parents=True, exist_ok=True)

    def waiting(holder: str) -> None:
        say(f"Waiting for {holder}, which is reading the corpus.")

    with only_one(out / LOCK, waiting):
        _claim(out, settings, shared=part is not None)
        folder, left_out = unpack_source(source, out, progress=progress)
        link_source(folder, out)
        corpus = read_corpus(name, entry_of(source, folder), ReadOptions(options.keep_personal_data))
        corpus = replace(corpus, problems=(*left_out, *corpus.problems))
        if options.text_embeddings:
            keep_text_embeddings(name, folder, corpus.rows, out, say=say)
        imported = _manifest_rows(name, corpus, out, settings, jobs=jobs, progress=progress, say=say)
    for note in imported.notes:
        say(note)
    problems = [problem.record() for problem in imported.problems]
    lost = sum(problem.lost for problem in imported.problems)
    total = len(imported.rows) + lost
    if lost > MAX_REJECTED * total and not options.allow_rejected:
        write_rejected(out, problems)
        raise too_many_rejected(out, source, problems, lost, total)
    report = build_store(
        out / MANIFEST,
        out,
        image_size=size,
        window=options.window,
        boxes=imported.boxes,
        min_seconds=MIN_SECONDS,
        left_out=problems,
        validation_from_train=imported.validation_from_train,
        jobs=jobs,
        progress=progress,
        allow_rejected=options.allow_rejected,
        part=part,
    )
    if report["complete"]:
        say(Store.open(out).summary())
        for kind, records in by_kind(rejections(out)).items():
            say(f"    {len(records):,}  {kind}, such as {records[0]['path']}")
    else:
        say(f"{out}: {report['shards_missing']:,} of {report['shards']:,} shards are still to be made by others.")
    return report


# --------------------------------------------------------------------------------------------------------- the source


def _check_places(source: Path, out: Path) -> None:
    """UserError where the prepared files would become part of the source."""
    folder = source if source.is_dir() else source.parent
    here, inside = out.resolve(), folder.resolve()
    if source.is_dir() and (here == inside or inside in here.parents):
        raise UserError(f"{out}: lies inside the source {source}, which is only read; choose an --out elsewhere.")
    if out.exists() and not out.is_dir():
        raise UserError(f"{out}: a file is here; choose another --out.")


def _claim(out: Path, settings: Mapping[str, Any], *, shared: bool) -> None:
    """UserError where `out` holds something else, or machines that share it disagree."""
    path = out / STATE
    if not path.exists():
        others = [entry.name for entry in out.iterdir() if not entry.name.startswith(".")]
        if "manifest.jsonl" in others or "store" in others:
            raise UserError(f"{out}: holds another prepared corpus; choose another --out or delete this one.")
        return
    found = _read_state(path).get("settings", {})
    if found.get("corpus", settings["corpus"]) != settings["corpus"]:
        raise UserError(
            f"{out}: holds the corpus {found['corpus']!r}, not {settings['corpus']!r}; choose another --out or delete "
            "this one."
        )
    differ = [name for name in settings if found and found.get(name) != settings[name]]
    if shared and differ:
        was, now = (", ".join(f"{name} {values.get(name)}" for name in differ) for values in (found, settings))
        raise UserError(
            f"{out}: is being prepared with {was}, not {now}; give all machines the same options, or prepare once "
            "without --shard to change them."
        )


def unpack_source(source: Path, out: Path, *, progress: bool) -> tuple[Path, tuple[Problem, ...]]:
    """The folder to import from; archives are unpacked under `out`."""
    if source.is_file() and source.suffix.casefold() in FORMATS and not is_archive(source):
        return source.parent, ()
    return unpack(source, out, progress=progress)


def entry_of(source: Path, folder: Path) -> Path:
    """What the importer reads: a manifest that was named, or the folder."""
    return source if source.is_file() and source.parent == folder else folder


def link_source(folder: Path, out: Path) -> None:
    """OUT/source leads to the folder: by a relative link to what lies in OUT, else by an absolute one."""
    link, target = out / SOURCE, folder.resolve()
    if link.is_dir() and link.resolve() == target:
        return
    if link.is_symlink():
        link.unlink()  # the source has moved
    elif link.exists():
        raise UserError(f"{link}: is in the way of the link to the source; move it, or choose another --out.")
    inside = out.resolve() in target.parents
    try:
        link.symlink_to(os.path.relpath(target, out.resolve()) if inside else target, target_is_directory=True)
    except OSError as error:
        raise UserError(
            f"{link}: a link to the source cannot be made here ({error.strerror}); choose an --out on another disk."
        ) from error


def read_corpus(name: str, path: Path, options: ReadOptions) -> Corpus:
    """What the importer finds, without rows that cannot be written to a manifest."""
    if path.is_file() and name != "folder":
        raise UserError(f"{path}: {name} is read from a folder or an archive; name that, or import it as 'folder'.")
    corpus = importer(name).read(path, options)
    rows, problems = [], list(corpus.problems)
    for row in corpus.rows:
        odd = next((file for file in (row.audio, row.image) if not _writable(file)), None)
        if odd is None:
            rows.append(row)
        else:
            problems.append(Problem(odd, MISNAMED))
    problems = [
        problem
        if _writable(problem.path) and _writable(problem.reason)
        else Problem(
            _shown(problem.path), _shown(problem.reason) if _writable(problem.path) else MISNAMED, problem.lost
        )
        for problem in problems
    ]
    return Corpus(rows, corpus.boxes, tuple(problems))


def _writable(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return "\n" not in path and "\0" not in path


def _shown(text: str) -> str:
    """On one line, with the bytes of a name that are not UTF-8 as `\\xe9`."""
    try:
        raw = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # what stands for no byte of a name
        raw = text.encode("utf-8", "backslashreplace")
    return raw.decode("utf-8", "backslashreplace").replace("\n", "\\n").replace("\0", "\\0")


# -------------------------------------------------------------------------------------------------------- the manifest


def _manifest_rows(
    name: str,
    corpus: Corpus,
    out: Path,
    settings: Mapping[str, Any],
    *,
    jobs: int | None,
    progress: bool,
    say: Callable[[str], None],
) -> Imported:
    """Speak, clean, split and write the manifest, unless it is there as it would be written now."""
    rows = [below(row) for row in corpus.rows]
    boxes = {f"{SOURCE}/{path}": box for path, box in corpus.boxes.items()}
    problems = tuple(replace(problem, path=f"{SOURCE}/{problem.path}") for problem in corpus.problems)
    key = _fingerprint(rows, problems, out, settings)
    state = _read_state(out / STATE)
    if state.get("key") == key and state.get("manifest") == _digest(out / MANIFEST):
        left_out = tuple(Problem(*problem) for problem in state["left_out"])
        written_rows = [row for _, row in iter_manifest(out / MANIFEST) if isinstance(row, Utterance)]
        return Imported(written_rows, boxes, left_out, tuple(state["notes"]), state["validation_from_train"])

    notes: list[str] = []
    rows, unspoken = speak(name, rows, out, settings, jobs=jobs, progress=progress, say=say)
    tidy = clean(name, rows, out)
    split = with_splits(
        tidy.rows,
        proportions=tuple(settings["proportions"]),
        seed=settings["seed"],
        speaker_disjoint=settings["speaker_disjoint"],
        same=tidy.same,
    )
    problems = (*problems, *unspoken, *tidy.problems)
    notes += [*tidy.notes, *split.notes]
    if not split.rows:
        raise UserError(f"{out / SOURCE}: no description can be used; s2igan validate says why.")
    write_manifest(out / MANIFEST, split.rows)
    atomic_write_json(
        out / STATE,
        {
            "settings": settings,
            "key": key,
            "manifest": _digest(out / MANIFEST),
            "left_out": [[problem.path, problem.reason, problem.lost] for problem in problems],
            "notes": notes,
            "validation_from_train": split.validation_from_train,
        },
    )
    return Imported(split.rows, boxes, problems, tuple(notes), split.validation_from_train)


def below(row: Utterance) -> Utterance:
    """The row with its paths below OUT."""
    return replace(row, image=f"{SOURCE}/{row.image}", audio=f"{SOURCE}/{row.audio}" if row.audio else "")


def clean(name: str, rows: list[Utterance], root: Path) -> Cleaned:
    """Rows without duplicates that mislead, with the policy that fits the corpus."""
    same = equal_files(root, _files_of(rows))
    return published(rows, same) if name in PUBLISHED else cleaned(rows, same)


def _files_of(rows: Iterable[Utterance]) -> list[str]:
    """Pictures and recordings of the source; what was spoken here is not looked at."""
    prefix = f"{SOURCE}/"
    return [path for row in rows for path in (row.image, row.audio) if path.startswith(prefix)]


def speak(
    name: str,
    rows: list[Utterance],
    out: Path,
    settings: Mapping[str, Any],
    *,
    jobs: int | None,
    progress: bool,
    say: Callable[[str], None],
) -> tuple[list[Utterance], tuple[Problem, ...]]:
    """Have captions without a recording spoken; of own corpora without a voice they are left out."""
    silent = [row for row in rows if not row.audio]
    if not silent:
        return rows, ()
    voices = tuple(settings["voices"]) or (DEFAULT_VOICES if name in PUBLISHED else ())
    if not voices:
        if len(silent) == len(rows):
            raise UserError(
                f"{out / SOURCE}: holds {len(rows):,} descriptions in writing and no recording; name a voice to have "
                "them spoken, such as --voice espeak:en-us."
            )
        reason = "a description in writing only; name a --voice to have it spoken"
        return [row for row in rows if row.audio], tuple(Problem(row.image, reason) for row in silent)
    from s2igan.corpora.prepare.speak import speak_rows

    say(f"{len(silent):,} captions are spoken by {', '.join(voices)}.")
    unspoken: list[Problem] = []
    spoken = speak_rows(
        rows, voices, out, seed=settings["seed"], jobs=jobs, progress=progress, on_problem=unspoken.append
    )
    return [row for row in spoken if row.audio], tuple(unspoken)


def _fingerprint(rows: Sequence[Utterance], problems: Sequence[Problem], out: Path, settings: Mapping[str, Any]) -> str:
    """Of all that the manifest follows from: what was imported, the files' sizes and times, the options."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    files = list(dict.fromkeys(_files_of(rows)))

    def status(path: str) -> tuple[int, int]:
        try:
            found = os.stat(out / path)
        except OSError:
            return (-1, -1)
        return found.st_size, found.st_mtime_ns

    with ThreadPoolExecutor(THREADS) as pool:  # on a network disk, asking for a million files is waiting
        for path, (size, changed) in zip(files, pool.map(status, files), strict=True):
            digest.update(f"{path}\t{size}\t{changed}\n".encode())
    for row in rows:
        digest.update(json.dumps(asdict(row), sort_keys=True).encode())
    for problem in problems:
        digest.update(f"{problem.path}\t{problem.reason}\t{problem.lost}\n".encode())
    return digest.hexdigest()


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""


def _read_state(path: Path) -> dict[str, Any]:
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}


# ---------------------------------------------------------------------------------------------------- text embeddings


def keep_text_embeddings(
    name: str, folder: Path, rows: Sequence[Utterance], out: Path, *, say: Callable[[str], None]
) -> None:
    """Write the published embeddings of the captions of `rows` beside the store, unless they are there already."""
    from s2igan.data.text_embeddings import TextEmbeddings, write_text_embeddings

    read = importer(name).text_embeddings
    assert read is not None
    keys = dict.fromkeys(f"{row.class_name}/{stem(base_name(row.image))}" for row in rows)
    digest = hashlib.sha256(json.dumps(list(keys)).encode())
    for path in Tree(folder).with_suffix({".pickle", ".txt"}):
        status = os.stat(folder / path)
        digest.update(f"{path}\t{status.st_size}\t{status.st_mtime_ns}\n".encode())
    made_from = digest.hexdigest()
    with contextlib.suppress(UserError):
        if TextEmbeddings.open(out).made_from == made_from:
            return
    found = read(folder, keys)
    missing = sorted({row.text or "" for row in rows} - set(found.texts))
    if missing:
        raise UserError(
            f"{folder}: {len(missing):,} captions have no embedding in the StackGAN pack, such as {missing[0]!r}; "
            "fetch the pack again."
        )
    written = write_text_embeddings(out, found.texts, found.rows, made_from=made_from)
    say(f"{written}: {len(found.texts):,} text embeddings of {found.rows.shape[1]:,} dimensions.")


# ------------------------------------------------------------------------------------------------------------ rejected


def rejections(out: Path) -> list[dict[str, Any]]:
    """What `rejected.jsonl` lists."""
    return [json.loads(line) for line in (out / REJECTED).read_text(encoding="utf-8").splitlines()]


def by_kind(records: Iterable[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """Records by what their reasons have in common, the most frequent first."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for record in records:
        found.setdefault(kind_of(record["reason"]), []).append(record)
    return dict(sorted(found.items(), key=lambda item: -len(item[1])))


def kind_of(reason: str) -> str:
    """The part of a reason that does not change from file to file: before the first comma, colon or bracket, no numbers
    or names."""
    reason = re.sub(r"'[^']*'", "...", re.sub(r"^line \d+: ", "", reason))
    general = re.split(r"[,;:(]| as ", reason, maxsplit=1)[0]
    general = re.sub(r"\S*/\S*|\S+\.\w{2,5}\b", "...", general)
    return re.sub(r"(?<!-)\b\d[\d.]*\b", "N", general).strip()
