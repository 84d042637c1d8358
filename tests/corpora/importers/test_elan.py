"""ELAN annotation files: which picture is described when, by whom, in which words."""

import re
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
        "other.eaf": "<TEI/>",
    }
    texts(tmp_path, files)
    corpus = read(tmp_path)
    assert len(corpus.rows) == 3
    found = reasons(corpus)
    assert set(found) == set(files)
    for name in ("torn.eaf", "empty.eaf", "bomb.eaf", "other.eaf"):
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


# ------------------------------------------------------------------------ as ELAN projects are after years in use


def ref(name: str, to: str, value: str, previous: str = "") -> str:
    before = f' PREVIOUS_ANNOTATION="{previous}"' if previous else ""
    return (
        f'<ANNOTATION><REF_ANNOTATION ANNOTATION_ID="{name}" ANNOTATION_REF="{to}"{before}>'
        f"<ANNOTATION_VALUE>{value}</ANNOTATION_VALUE></REF_ANNOTATION></ANNOTATION>"
    )


def aligned(name: str, start: str, end: str, value: str) -> str:
    return (
        f'<ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="{name}" TIME_SLOT_REF1="{start}" TIME_SLOT_REF2="{end}">'
        f"<ANNOTATION_VALUE>{value}</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>"
    )


def with_tier(content: str, name: str, annotations: str, parent: str = "", slots: str = "") -> str:
    up = f' PARENT_REF="{parent}"' if parent else ""
    own = f'<TIER LINGUISTIC_TYPE_REF="x"{up} TIER_ID="{name}">{annotations}</TIER>'
    return content.replace("</TIME_ORDER>", f"{slots}</TIME_ORDER>").replace(
        "<LINGUISTIC_TYPE ", f"{own}<LINGUISTIC_TYPE ", 1
    )


def spans(corpus: Corpus) -> list[tuple[str, float | None, float | None]]:
    return [(Path(row.image).name, row.start_seconds, row.end_seconds) for row in corpus.rows]


DOG_AND_HOUSE = [("dog.jpg", 1.0, 3.5), ("house.png", 4.0, 6.25), ("dog.jpg", 7.0, 9.0)]


def test_a_gloss_below_words_without_times(tmp_path: Path) -> None:
    content = eaf(tier("picture", PICTURES), tier("utt", [(1000, 3500, "the dog")]))
    slots = '<TIME_SLOT TIME_SLOT_ID="inner"/>'
    words = aligned("w1", "ts7", "inner", "the") + aligned("w2", "inner", "ts8", "dog")
    content = with_tier(content, "word", words, "utt", slots)
    content = with_tier(content, "gloss", ref("g1", "w1", "DEF") + ref("g2", "w2", "canine"), "word")
    corpus = read(make(tmp_path, content))
    assert not corpus.problems
    assert spans(corpus) == DOG_AND_HOUSE
    assert corpus.rows[0].text == "the dog"


def test_words_come_in_the_order_of_their_references(tmp_path: Path) -> None:
    words = ref("w2", "a2", "brown", "w1") + ref("w3", "a2", "dog", "w2") + ref("w1", "a2", "the")
    corpus = read(make(tmp_path, with_tier(eaf(tier("picture", PICTURES)), "said", words, "picture")))
    assert [row.text for row in corpus.rows] == ["the brown dog", None, None]


def test_pictures_that_divide_an_utterance_share_its_time(tmp_path: Path) -> None:
    names = ref("p2", "a2", "house.png", "p1") + ref("p1", "a2", "dog.jpg")
    content = with_tier(eaf(tier("utt", [(1000, 4000, "a dog and a house")])), "picture", names, "utt")
    assert spans(read(make(tmp_path, content))) == [("dog.jpg", 1.0, 2.5), ("house.png", 2.5, 4.0)]


def test_slots_without_times_share_the_time_between_those_with(tmp_path: Path) -> None:
    slots = '<TIME_SLOT TIME_SLOT_ID="x"/><TIME_SLOT TIME_SLOT_ID="y"/>'
    names = (
        aligned("p1", "ts1", "x", "dog.jpg") + aligned("p2", "x", "y", "house.png") + aligned("p3", "y", "ts2", "dog")
    )
    content = with_tier(eaf(tier("utt", [(1000, 4000, "and")])), "picture", names, "utt", slots)
    assert spans(read(make(tmp_path, content))) == [
        ("dog.jpg", 1.0, 2.0),
        ("house.png", 2.0, 3.0),
        ("dog.jpg", 3.0, 4.0),
    ]


ODD: dict[str, Callable[[str], str]] = {
    "time with a fraction": lambda text: text.replace('TIME_VALUE="3500"', 'TIME_VALUE="3500.0"'),
    "no value": lambda text: with_tier(
        text, "note", '<ANNOTATION><REF_ANNOTATION ANNOTATION_ID="n" ANNOTATION_REF="a2"/></ANNOTATION>', "picture"
    ),
    "empty licence": lambda text: text.replace("<HEADER", "<LICENSE/><HEADER"),
    "slots without digits": lambda text: text.replace('"ts1"', '"begin"').replace('"a2"', '"first"'),
    "a reference to nothing": lambda text: with_tier(text, "note", ref("n", "gone", "hm"), "picture"),
    "a reference to itself": lambda text: with_tier(text, "note", ref("n", "n", "hm"), "picture"),
    "no attributes": lambda text: text.replace("<HEADER", "<HEADER><PROPERTY/></HEADER><HEADER").replace(
        "<LINGUISTIC_TYPE ", "<LOCALE/><CONSTRAINT/><LINGUISTIC_TYPE/><LINGUISTIC_TYPE ", 1
    ),
}


@pytest.mark.parametrize("name", ODD)
def test_one_odd_thing_costs_nothing_else(tmp_path: Path, name: str) -> None:
    corpus = read(make(tmp_path, ODD[name](eaf(tier("picture", PICTURES)))))
    assert spans(corpus) == DOG_AND_HOUSE
    named = {"a reference to nothing": "'gone', which is not there", "a reference to itself": "which leads back"}
    assert [problem.lost for problem in corpus.problems] == [0] * (name in named)
    assert named.get(name, "") in reasons(corpus).get("talks/talk 1.eaf", "")


def test_an_annotation_of_the_picture_tier_that_makes_no_sense_is_lost_alone(tmp_path: Path) -> None:
    content = eaf(tier("picture", PICTURES)).replace('TIME_SLOT_REF1="ts1"', 'TIME_SLOT_REF1="ts99"')
    corpus = read(make(tmp_path, content))
    assert spans(corpus) == DOG_AND_HOUSE[1:]
    assert reasons(corpus)["talks/talk 1.eaf"].startswith(
        "in the tier picture, the annotation a2 ('dog.jpg') refers to"
    )
    assert corpus.problems[0].lost == 1


def test_values_of_a_vocabulary(tmp_path: Path) -> None:
    empty = "<ANNOTATION_VALUE></ANNOTATION_VALUE>"
    content = eaf(tier("picture", PICTURES)).replace("<ANNOTATION_VALUE>house.png</ANNOTATION_VALUE>", empty)
    content = content.replace('ANNOTATION_ID="a4"', 'ANNOTATION_ID="a4" CVE_REF="cve1"')
    source = make(tmp_path, content)
    assert "a4 has no value: the entry cve1" in reasons(read(source))["talks/talk 1.eaf"]
    vocabulary = (
        '<CONTROLLED_VOCABULARY CV_ID="v"><CV_ENTRY_ML CVE_ID="cve1"><CVE_VALUE LANG_REF="und">house.png</CVE_VALUE>'
        "</CV_ENTRY_ML></CONTROLLED_VOCABULARY></ANNOTATION_DOCUMENT>"
    )
    make(tmp_path, content.replace("</ANNOTATION_DOCUMENT>", vocabulary))
    assert spans(read(source)) == DOG_AND_HOUSE


def test_names_in_other_forms(tmp_path: Path) -> None:
    names: list[Note] = [(0, 10, "t\u00eate.jpg"), (10, 20, "t%C3%AAte.jpg"), (20, 30, "T\u00caTE.JPG")]
    source = make(tmp_path, eaf(tier("picture", names)))
    pictures(source, "pictures/te\u0302te.jpg")
    corpus = read(source)
    assert not corpus.problems
    assert {row.image for row in corpus.rows} == {"pictures/te\u0302te.jpg"}


@pytest.mark.parametrize("suffix", [".WAV", ".Mp3", ".m4a", ".opus", ".MP4"])
def test_a_recording_called_like_the_file_whatever_its_suffix(tmp_path: Path, suffix: str) -> None:
    make(tmp_path, eaf(tier("picture", PICTURES), media=""))
    (tmp_path / "talks/talk 1.wav").rename(tmp_path / f"talks/Talk 1{suffix}")
    assert {row.audio for row in read(tmp_path).rows} == {f"talks/Talk 1{suffix}"}


def test_a_tier_that_writes_suffixes_goes_first(tmp_path: Path) -> None:
    english: list[Note] = [(1000, 3500, "dog"), (4000, 6250, "house"), (7000, 9000, "dog")]
    corpus = read(make(tmp_path, eaf(tier("English", english), tier("what", PICTURES))))
    assert spans(corpus) == DOG_AND_HOUSE
    assert corpus.rows[0].text == "dog"


def test_numbers_of_segments_are_no_pictures(tmp_path: Path) -> None:
    numbers: list[Note] = [(0, 1000, "1"), (1000, 2000, "2")]
    other: list[Note] = [(0, 1000, "2.jpg"), (1000, 2000, "1.jpg")]
    source = make(tmp_path, eaf(tier("segment", numbers), tier("shown", other)))
    pictures(source, "1.jpg", "2.jpg")
    assert spans(read(source)) == [("2.jpg", 0.0, 1.0), ("1.jpg", 1.0, 2.0)]
    make(tmp_path, eaf(tier("segment", numbers)))
    with pytest.raises(UserError, match="segment holds bare numbers: call it picture if they are names"):
        read(source)
    make(tmp_path, eaf(tier("picture", numbers), tier("segment", numbers)))
    assert spans(read(source)) == [("1.jpg", 0.0, 1.0), ("2.jpg", 1.0, 2.0)]


def test_a_converted_recording_is_found_by_the_name_in_the_file(tmp_path: Path) -> None:
    make(tmp_path, FULL)
    texts(tmp_path, {"talk.eaf": FULL.replace("talk%201.wav", "walk.mpg")})
    recordings(tmp_path, "talk.wav", "media/Walk.WAV")
    assert {row.audio for row in read(tmp_path).rows if row.audio != "talks/talk 1.wav"} == {"media/Walk.WAV"}


def test_annotations_of_one_name_are_all_kept(tmp_path: Path) -> None:
    content = eaf(tier("picture", PICTURES))
    names = re.findall(r'ANNOTATION_ID="(a\d+)"', content)
    make(tmp_path, content.replace(f'"{names[1]}"', f'"{names[0]}"'))
    assert len(read(tmp_path).rows) == len(PICTURES)


def test_times_in_frames_are_not_taken_for_milliseconds(tmp_path: Path) -> None:
    make(tmp_path, re.sub("<HEADER[^>]*>", '<HEADER TIME_UNITS="PAL-frames">', FULL))
    with pytest.raises(UserError, match="its times are in PAL-frames"):
        read(tmp_path)
