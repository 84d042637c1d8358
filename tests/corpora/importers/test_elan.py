"""ELAN annotation files: which picture is described when, by whom, in which words."""

from collections.abc import Callable, Sequence
from pathlib import Path
from xml.sax.saxutils import quoteattr

import pytest

from s2igan.corpora.importers.elan import IMPORTER
from s2igan.corpora.importers.source import Corpus, ReadOptions
from s2igan.errors import UserError
from sources import is_usable, pictures, reasons, recordings, texts

Note = tuple[int | None, int | None, str]
HEADER = (
    '<?xml version="1.0" encoding="UTF-8"?>\n<ANNOTATION_DOCUMENT AUTHOR="Ada Okafor" DATE="2024-05-01T10:00:00+01:00" '
    'FORMAT="3.0" VERSION="3.0" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
    'xsi:noNamespaceSchemaLocation="http://www.mpi.nl/tools/elan/EAFv3.0.xsd">\n'
)
MEDIA = 'MEDIA_URL="file:///C:/Users/Ada/talk%201.wav" MIME_TYPE="audio/x-wav" RELATIVE_MEDIA_URL="./talk%201.wav"'
PICTURES: list[Note] = [(1000, 3500, "dog.jpg"), (4000, 6250, "house.png"), (7000, 9000, "dog.jpg")]
WORDS: list[Note] = [(1100, 2000, "a dog"), (2100, 3600, "runs"), (4000, 6250, "a house"), (9500, 9900, "thanks")]


def tier(name: str, notes: Sequence[Note], **attributes: str) -> tuple[str, Sequence[Note], dict[str, str]]:
    return name, notes, attributes


def eaf(
    *tiers: tuple[str, Sequence[Note], dict[str, str]],
    media: str = MEDIA,
    header: str = HEADER,
) -> str:
    slots, bodies, number = [], [], 0
    for name, notes, attributes in tiers:
        annotations = []
        for start, end, value in notes:
            for time in (start, end):
                number += 1
                at = "" if time is None else f' TIME_VALUE="{time}"'
                slots.append(f'<TIME_SLOT TIME_SLOT_ID="ts{number}"{at}/>')
            annotations.append(
                f'<ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a{number}" TIME_SLOT_REF1="ts{number - 1}" '
                f'TIME_SLOT_REF2="ts{number}"><ANNOTATION_VALUE>{value}</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>'
            )
        extra = "".join(f" {key}={quoteattr(value)}" for key, value in attributes.items())
        kind = "" if "LINGUISTIC_TYPE_REF" in attributes else ' LINGUISTIC_TYPE_REF="default-lt"'
        bodies.append(f"<TIER{extra}{kind} TIER_ID={quoteattr(name)}>{''.join(annotations)}</TIER>")
    descriptor = f"<MEDIA_DESCRIPTOR {media}/>" if media else ""
    return (
        f'{header}<HEADER MEDIA_FILE="" TIME_UNITS="milliseconds">{descriptor}</HEADER>\n'
        f"<TIME_ORDER>{''.join(slots)}</TIME_ORDER>\n{''.join(bodies)}\n"
        '<LINGUISTIC_TYPE GRAPHIC_REFERENCES="false" LINGUISTIC_TYPE_ID="default-lt" TIME_ALIGNABLE="true"/>\n'
        "</ANNOTATION_DOCUMENT>\n"
    )


def make(root: Path, content: str, name: str = "talks/talk 1") -> Path:
    texts(root, {f"{name}.eaf": content})
    recordings(root, f"{name}.wav")
    pictures(root, "pictures/dog.jpg", "pictures/house.png")
    return root


def read(root: Path, **options: bool) -> Corpus:
    corpus = IMPORTER.read(root, ReadOptions(**options))
    is_usable(corpus, root)
    return corpus


FULL = eaf(
    tier("picture", PICTURES, PARTICIPANT="Ngozi Eze", LANG_REF="ibo"),
    tier("transcription", WORDS, PARTICIPANT="Ngozi Eze"),
)


def test_times_pictures_and_words(tmp_path: Path) -> None:
    corpus = read(make(tmp_path, FULL))
    assert not corpus.problems
    assert [(r.audio, r.image, r.start_seconds, r.end_seconds, r.text) for r in corpus.rows] == [
        ("talks/talk 1.wav", "pictures/dog.jpg", 1.0, 3.5, "a dog runs"),
        ("talks/talk 1.wav", "pictures/house.png", 4.0, 6.25, "a house"),
        ("talks/talk 1.wav", "pictures/dog.jpg", 7.0, 9.0, None),
    ]
    assert {(row.speaker, row.language, row.split) for row in corpus.rows} == {("speaker-1", "ibo", None)}


def test_names_are_dropped_unless_asked_for(tmp_path: Path) -> None:
    corpus = read(make(tmp_path, FULL))
    assert "Ngozi" not in repr(corpus)
    assert "Ada" not in repr(corpus)
    assert {row.speaker for row in read(tmp_path, keep_personal_data=True).rows} == {"Ngozi Eze"}


def test_speakers_are_told_apart_across_files_and_tiers(tmp_path: Path) -> None:
    make(tmp_path, FULL, "b")
    both = eaf(
        tier("pic@A", PICTURES[:1], PARTICIPANT="Chidi"),
        tier("pic@B", PICTURES[1:], PARTICIPANT="ngozi  eze"),
        tier("words@A", WORDS[:2], PARTICIPANT="Chidi"),
        tier("words@B", WORDS[2:], PARTICIPANT="ngozi  eze"),
    )
    make(tmp_path, both, "a")
    texts(tmp_path, {"b.eaf": FULL.replace("talk%201", "b"), "a.eaf": both.replace("talk%201", "a")})
    assert [(row.audio, row.speaker, row.text) for row in read(tmp_path).rows] == [
        ("a.wav", "speaker-1", "a dog runs"),
        ("a.wav", "speaker-2", "a house"),
        ("a.wav", "speaker-2", None),
        ("b.wav", "speaker-2", "a dog runs"),
        ("b.wav", "speaker-2", "a house"),
        ("b.wav", "speaker-2", None),
    ]


def words_of(root: Path, *tiers: tuple[str, Sequence[Note], dict[str, str]]) -> str | None:
    make(root, eaf(tier("picture", PICTURES), *tiers))
    return read(root).rows[0].text


def test_text_only_where_it_is_obvious(tmp_path: Path) -> None:
    gloss: list[Note] = [(1000, 3000, "DOG run")]
    assert words_of(tmp_path) is None
    assert words_of(tmp_path, tier("whatever", WORDS)) == "a dog runs"
    assert words_of(tmp_path, tier("a", WORDS), tier("b", gloss)) is None
    assert words_of(tmp_path, tier("notes", gloss), tier("Transcription", WORDS)) == "a dog runs"
    assert words_of(tmp_path, tier("tx@A", WORDS), tier("notes", gloss)) == "a dog runs"
    assert words_of(tmp_path, tier("tx@A", WORDS), tier("text", gloss)) is None
    assert words_of(tmp_path, tier("tx", WORDS), tier("gloss", gloss, PARENT_REF="tx")) == "a dog runs"
    assert words_of(tmp_path, tier("elsewhere", [(20000, 21000, "bye")])) is None


def test_words_that_hang_on_the_picture_tier(tmp_path: Path) -> None:
    """A symbolic association: annotations without times of their own."""
    child = (
        '<TIER LINGUISTIC_TYPE_REF="assoc" PARENT_REF="picture" TIER_ID="said"><ANNOTATION><REF_ANNOTATION '
        'ANNOTATION_ID="a90" ANNOTATION_REF="a4"><ANNOTATION_VALUE>a house</ANNOTATION_VALUE></REF_ANNOTATION>'
        "</ANNOTATION></TIER>"
    )
    content = eaf(tier("picture", PICTURES)).replace("<LINGUISTIC_TYPE ", child + "<LINGUISTIC_TYPE ", 1)
    assert [row.text for row in read(make(tmp_path, content)).rows] == [None, "a house", None]


@pytest.mark.parametrize(
    ("media", "wav"),
    [
        ('MEDIA_URL="file:///D:/x/rec.wav" MIME_TYPE="audio/x-wav"', "wavs/rec.wav"),
        ('MEDIA_URL="file:///D:/x/film.mp4" MIME_TYPE="video/mp4"', "talks/talk 1.wav"),
        ("", "talks/talk 1.wav"),
        ('MEDIA_URL="file:///D:/x/gone.wav" MIME_TYPE="audio/x-wav"', "talks/talk 1.wav"),
    ],
)
def test_the_recording(tmp_path: Path, media: str, wav: str) -> None:
    make(tmp_path, eaf(tier("picture", PICTURES), media=media))
    recordings(tmp_path, "wavs/rec.wav", "other/talk 1.wav")
    assert {row.audio for row in read(tmp_path).rows} == {wav}


def test_an_offset_of_the_recording(tmp_path: Path) -> None:
    media = 'MEDIA_URL="talk 1.wav" MIME_TYPE="audio/x-wav" TIME_ORIGIN="{}"'
    make(tmp_path, eaf(tier("picture", PICTURES), media=media.format(1500)))
    assert [row.start_seconds for row in read(tmp_path).rows] == [2.5, 5.5, 8.5]
    make(tmp_path, eaf(tier("picture", PICTURES), media=media.format(-1500)))
    corpus = read(tmp_path)
    assert [(row.start_seconds, row.end_seconds) for row in corpus.rows] == [(2.5, 4.75), (5.5, 7.5)]
    assert "has no time in the recording" in reasons(corpus)["talks/talk 1.eaf"]


def test_names_of_pictures_in_many_forms(tmp_path: Path) -> None:
    notes: list[Note] = [
        (0, 1, "DOG.JPG"),
        (1, 2, " house "),
        (2, 3, "pictures\\dog.jpg"),
        (3, 4, "/home/ada/pictures/house.png"),
        (4, 5, "b/twin.jpg"),
        (5, 6, "twin"),
        (6, 7, "ghost.jpg"),
        (7, 7, "dog.jpg"),
        (None, 9, "dog.jpg"),
        (9, 10, ""),
        (10, 11, "../../secret.jpg"),
    ]
    source = make(tmp_path / "source", eaf(tier("picture", notes)))
    pictures(source, "a/twin.jpg", "b/twin.jpg")
    pictures(tmp_path, "secret.jpg")
    corpus = read(source)
    assert [row.image for row in corpus.rows] == [
        "pictures/dog.jpg",
        "pictures/house.png",
        "pictures/dog.jpg",
        "pictures/house.png",
        "b/twin.jpg",
    ]
    found = sorted(problem.reason for problem in corpus.problems)
    assert found == [
        "'../../secret.jpg' in the tier picture at 0.01 s is no picture below the source",
        "'dog.jpg' in the tier picture has no time in the recording",
        "'dog.jpg' in the tier picture has no time in the recording",
        "'ghost.jpg' in the tier picture at 0.006 s is no picture below the source",
        "'twin' in the tier picture at 0.005 s may be a/twin.jpg or b/twin.jpg",
    ]


def test_a_file_of_another_program(tmp_path: Path) -> None:
    """Without a schema, a version, an author."""
    make(tmp_path, eaf(tier("picture", PICTURES), header="<ANNOTATION_DOCUMENT>"))
    assert len(read(tmp_path).rows) == 3


def test_a_bad_file_does_not_stop_the_others(tmp_path: Path) -> None:
    make(tmp_path, FULL)
    bomb = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">' + "".join(
        f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefghij", "bcdefghijk", strict=True)
    )
    files = {
        "torn.eaf": FULL[: len(FULL) // 2],
        "empty.eaf": "",
        "bomb.eaf": bomb + "]><ANNOTATION_DOCUMENT>&k;</ANNOTATION_DOCUMENT>",
        "no tier.eaf": eaf(tier("words", WORDS)),
        "no wav.eaf": FULL.replace("talk%201", "gone"),
        "slot.eaf": FULL.replace('TIME_SLOT_REF1="ts1"', 'TIME_SLOT_REF1="ts99"'),
    }
    texts(tmp_path, files)
    corpus = read(tmp_path)
    assert len(corpus.rows) == 3
    found = reasons(corpus)
    assert set(found) == set(files)
    for name in ("torn.eaf", "empty.eaf", "bomb.eaf", "slot.eaf"):
        assert found[name].startswith("not readable as an ELAN file ("), found[name]
    assert found["no tier.eaf"] == "no tier names pictures; its tiers: words"
    assert found["no wav.eaf"] == "its recording is nowhere below the source (gone.wav)"


WRONG: dict[str, tuple[Callable[[Path], object], str]] = {
    "no eaf": (
        lambda root: (root / "talks/talk 1.eaf").unlink(),
        r"no \.eaf is here or below; expected \*\.eaf with .* and found pictures/, talks/ \(3 files in all\)",
    ),
    "no pictures": (
        lambda root: [path.unlink() for path in (root / "pictures").iterdir()],
        r"found no picture with its recording in 1 \.eaf \(tiers: picture, transcription\); the first problem: .*is no "
        r"picture below",
    ),
    "no recording": (
        lambda root: (root / "talks/talk 1.wav").unlink(),
        r"found no picture with its recording .* its recording is nowhere below the source \(talk 1\.wav\)",
    ),
    "no picture tier": (
        lambda root: texts(root, {"talks/talk 1.eaf": eaf(tier("words", WORDS))}),
        r"tiers: words\); the first problem: talks/talk 1\.eaf: no tier names pictures",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_layouts(tmp_path: Path, name: str) -> None:
    spoil, sentence = WRONG[name]
    spoil(make(tmp_path, FULL))
    with pytest.raises(UserError, match=sentence) as raised:
        IMPORTER.read(tmp_path, ReadOptions())
    assert "Ngozi" not in str(raised.value)
