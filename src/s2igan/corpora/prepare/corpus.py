"""Any source becomes a prepared store: unpack, import, speak what is only written, split, write the manifest, pack.

`OUT/source` is a link to the source's folder (or to `OUT/unpacked`), so that the manifest in OUT names every picture
and recording by a path below itself, and nothing is copied. `OUT/prepare.json` holds the options. `.prepare.lock`
keeps a second process out. An interrupted preparation is begun again, and keeps unpacked archives, spoken captions and
packed shards.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from s2igan.corpora.importers.source import Corpus, Problem, ReadOptions
from s2igan.corpora.importers.source_files import Tree, base_name, stem
from s2igan.corpora.prepare.archives import read_state, unpack
from s2igan.corpora.prepare.duplicates import Cleaned, cleaned, equal_files, published
from s2igan.corpora.prepare.options import PrepareOptions
from s2igan.corpora.prepare.quality import trimmed
from s2igan.corpora.prepare.splits import with_splits
from s2igan.corpora.registry import IMPORTERS, PUBLISHED, importer
from s2igan.data.layout import REJECTED, STORE
from s2igan.data.manifest import FORMATS, Utterance, write_manifest
from s2igan.errors import UserError
from s2igan.files import atomic_write_json, disk_errors

SOURCE, MANIFEST, STATE, LOCK = "source", "manifest.jsonl", "prepare.json", ".prepare.lock"
MIN_SECONDS = 0.3
"""Shorter recordings are no descriptions: a click, or a button pressed twice; and the speech encoder needs 0.21 s."""
DEFAULT_VOICES = ("espeak:en-us",)
"""Speaks the captions of published corpora, which are in English, where no voice is named."""
MISNAMED = "the name of the file is not UTF-8 or has a line break; rename it"


def prepare_corpus(
    name: str,
    source: str | Path,
    out: str | Path,
    options: PrepareOptions = PrepareOptions(),
    *,
    size: int = 64,
    seed: int = 0,
    jobs: int | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Make a source ready for training under `out`, and return the store's report.

    What is there already is kept: interrupted, it goes on where it stopped, and added files are added.

    Args:
        name: of the importer.
        source: folder, archive, folder of archives, or for "folder" a manifest; `out` does not lie in it.
        size: side in pixels of the largest images to be trained on.
        seed: of splits and of who speaks which caption.
        say: is told sentences that a user should read.

    Raises:
        UserError: the source has another layout or cannot be used, `out` holds something else, or the disk is full;
            what is finished stays.
    """
    from s2igan.data.pack import build_store
    from s2igan.data.store import Store
    from s2igan.speech import parse_voice

    for voice in options.voice:  # a misspelt one is told now, and also where nothing has to be spoken
        parse_voice(voice)
    source, out = Path(source), Path(out)
    if importer(name).text_embeddings is None and options.text_embeddings:
        having = ", ".join(other for other in IMPORTERS if importer(other).text_embeddings is not None)
        raise UserError(f"{name}: nobody has published embeddings of its captions; --text-embeddings is for {having}.")
    _check_places(source, out)
    with _only_one(out):
        _claim(out, name)
        folder, left_out = open_source(source, out)
        corpus = read_corpus(name, folder, ReadOptions(options.keep_personal_data), left_out)
        if options.text_embeddings:
            keep_text_embeddings(name, folder, corpus.rows, out, say=say)
        rows, unspoken = speak(name, corpus.rows, out, options.voice, seed, jobs=jobs, say=say)
        rows = trimmed(rows, out, jobs) if options.trim_silence else rows
        tidy = clean(name, rows, out)
        split = with_splits(
            tidy.rows,
            proportions=options.proportions,
            seed=seed,
            speaker_disjoint=options.speaker_disjoint,
            same=tidy.same,
        )
        if not split.rows:
            raise UserError(f"{out / SOURCE}: no description can be used; s2igan validate says why.")
        atomic_write_json(out / STATE, {"corpus": name, "seed": seed, **asdict(options)})
        write_manifest(out / MANIFEST, split.rows)
        for note in (*corpus.notes, *tidy.notes, *split.notes):
            say(note)
        report = build_store(
            out / MANIFEST,
            image_size=size,
            window=options.window,
            boxes=corpus.boxes,
            min_seconds=MIN_SECONDS,
            max_seconds=options.max_seconds,
            left_out=[problem.record() for problem in (*corpus.problems, *unspoken, *tidy.problems)],
            validation_from_train=split.validation_from_train,
            jobs=jobs,
            allow_rejected=options.allow_rejected,
        )
    say(Store.open(out).summary())
    for kind, records in by_kind(rejections(out)).items():
        say(f"    {len(records):,}  {kind}, such as {records[0]['path']}")
    return report


def _only_one(out: Path) -> AbstractContextManager[object]:
    """Makes the folder and holds its lock, which the system releases when the process ends, however it ends.

    Raises:
        UserError: another process holds it, or nothing can be written here.
    """
    from filelock import FileLock, Timeout

    with disk_errors(out):
        out.mkdir(parents=True, exist_ok=True)
        try:
            return FileLock(out / LOCK).acquire(blocking=False)
        except Timeout:
            raise UserError(
                f"{out}: another process is preparing a corpus here; wait until it ends, or choose another --out."
            ) from None


# --------------------------------------------------------------------------------------------------------- the source


def _check_places(source: Path, out: Path) -> None:
    """UserError where the prepared files would become part of the source."""
    folder = source if source.is_dir() else source.parent
    here, inside = out.resolve(), folder.resolve()
    if source.is_dir() and (here == inside or inside in here.parents):
        raise UserError(f"{out}: lies inside the source {source}, which is only read; choose an --out elsewhere.")
    if out.exists() and not out.is_dir():
        raise UserError(f"{out}: a file is here; choose another --out.")


def _claim(out: Path, corpus: str) -> None:
    """UserError where `out` holds something else."""
    if not (out / STATE).exists():
        if (out / MANIFEST).exists() or (out / STORE).exists():
            raise UserError(f"{out}: holds another prepared corpus; choose another --out or delete this one.")
        return
    found = read_state(out / STATE).get("corpus", corpus)
    if found != corpus:
        raise UserError(f"{out}: holds the corpus {found!r}, not {corpus!r}; choose another --out or delete this one.")


def open_source(source: Path, out: Path) -> tuple[Path, tuple[Problem, ...]]:
    """What the importer reads, a manifest or a folder, and what of archives was left out.

    Archives are unpacked under `out`, and `OUT/source` leads to the folder.
    """
    if source.is_file() and source.suffix.casefold() in FORMATS:
        link_source(source.parent, out)
        return source, ()
    folder, left_out = unpack(source, out)
    link_source(folder, out)
    return folder, left_out


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


def read_corpus(name: str, path: Path, options: ReadOptions, left_out: Sequence[Problem] = ()) -> Corpus:
    """What the importer finds, with its paths below OUT, and what was left out before.

    Rows that cannot be written to a manifest are problems.
    """
    if path.is_file() and name != "folder":
        raise UserError(f"{path}: {name} is read from a folder or an archive; name that, or import it as 'folder'.")
    corpus = importer(name).read(path, options)
    rows, problems = [], [*left_out, *corpus.problems]
    for row in corpus.rows:
        odd = next((file for file in (row.audio, row.image) if not _writable(file)), None)
        if odd is None:
            rows.append(replace(row, image=below(row.image), audio=below(row.audio) if row.audio else ""))
        else:
            problems.append(Problem(odd, MISNAMED))
    problems = [
        Problem(
            below(_shown(problem.path)), _shown(problem.reason) if _writable(problem.path) else MISNAMED, problem.lost
        )
        for problem in problems
    ]
    return Corpus(rows, {below(image): box for image, box in corpus.boxes.items()}, tuple(problems), corpus.notes)


def below(path: str) -> str:
    """A path of the source as it stands in OUT."""
    return f"{SOURCE}/{path}"


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


def clean(name: str, rows: list[Utterance], root: Path) -> Cleaned:
    """Rows without duplicates that mislead, with the policy that fits the corpus."""
    # What was spoken here is not looked at.
    paths = [path for row in rows for path in (row.image, row.audio) if path.startswith(below(""))]
    same = equal_files(root, paths)
    return published(rows, same) if name in PUBLISHED else cleaned(rows, same)


def speak(
    name: str,
    rows: list[Utterance],
    out: Path,
    voices: tuple[str, ...],
    seed: int,
    *,
    jobs: int | None,
    say: Callable[[str], None],
) -> tuple[list[Utterance], list[Problem]]:
    """Have captions without a recording spoken; of own corpora without a voice they are left out."""
    silent = [row for row in rows if not row.audio]
    if not silent:
        return rows, []
    voices = voices or (DEFAULT_VOICES if name in PUBLISHED else ())
    if not voices:
        if len(silent) == len(rows):
            raise UserError(
                f"{out / SOURCE}: holds {len(rows):,} descriptions in writing and no recording; name a voice to have "
                "them spoken, such as --voice espeak:en-us."
            )
        reason = "a description in writing only; name a --voice to have it spoken"
        return [row for row in rows if row.audio], [Problem(row.image, reason) for row in silent]
    from s2igan.corpora.prepare.speak import speak_rows

    say(f"{len(silent):,} captions are spoken by {', '.join(voices)}.")
    return speak_rows(rows, voices, out, seed=seed, jobs=jobs)


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
