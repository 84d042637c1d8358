"""Flickr8k and its spoken captions as their publishers ship them, in miniature."""

from collections.abc import Callable
from pathlib import Path

import pytest

from s2igan.corpora.importers.flickr8k import IMPORTER
from s2igan.corpora.importers.source import Corpus, ReadOptions
from s2igan.errors import UserError
from sources import is_usable, pictures, reasons, recordings, texts

IDS = ("1000268201_693b08cb0e", "1001773457_577c3a7d70", "1002674143_1b742ab4b8", "1003163366_44323f5815")
NOWHERE = "1007129816_e794419615"  # in none of the lists, as 92 pictures are


def make(root: Path, images: str = "Flicker8k_Dataset", end: str = "\n") -> Path:
    def lines(*content: str) -> str:
        return end.join(content) + end

    pictures(root / images, *(f"{name}.jpg" for name in (*IDS, NOWHERE)))
    texts(
        root / "Flickr8k_text",
        {
            "Flickr_8k.trainImages.txt": lines(f"{IDS[2]}.jpg", f"{IDS[0]}.jpg"),
            "Flickr_8k.devImages.txt": lines(f"{IDS[1]}.jpg"),
            "Flickr_8k.testImages.txt": lines(f"{IDS[3]}.jpg"),
            "Flickr8k.token.txt": lines(
                *(
                    f"{name}.jpg#{k}\tA child {k} in {name[:7]} , and a #{k} ."
                    for name in (*IDS, NOWHERE)
                    for k in range(5)
                ),
                "2258277193_586949ec62.jpg.1#0\tpeople waiting for the subway",
            ),
            "Flickr8k.lemma.token.txt": lines(f"{IDS[0]}.jpg#0\ta child"),
        },
    )
    wavs = [f"{name}_{k}.wav" for name in (*IDS, NOWHERE) for k in range(5)]
    texts(
        root / "flickr_audio",
        {
            "wav2capt.txt": lines(*(f"{wav} {wav[:-6]}.jpg #{wav[-5]}" for wav in wavs)),
            "wav2spk.txt": lines(*(f"{wav} {number % 3}" for number, wav in enumerate(wavs))),
            "README": "Flickr Audio Caption Corpus",
        },
    )
    recordings(root / "flickr_audio/wavs", *wavs)
    texts(root / "__MACOSX" / images, {f"._{IDS[0]}.jpg": "resource fork"})
    return root


def read(root: Path) -> Corpus:
    corpus = IMPORTER.read(root, ReadOptions())
    is_usable(corpus, root)
    return corpus


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("images", ["Flicker8k_Dataset", "Flickr8k_Dataset", "data/Images"])
def test_as_published(tmp_path: Path, images: str, end: str) -> None:
    corpus = read(make(tmp_path, images, end))
    assert [(row.image, row.split) for row in corpus.rows[::5]] == [
        (f"{images}/{IDS[2]}.jpg", "train"),
        (f"{images}/{IDS[0]}.jpg", "train"),
        (f"{images}/{IDS[1]}.jpg", "validation"),
        (f"{images}/{IDS[3]}.jpg", "test"),
    ]
    assert len(corpus.rows) == 20
    for row in corpus.rows:
        name, number = row.audio.rpartition("/")[2][:-6], int(row.audio[-5])
        assert row.image == f"{images}/{name}.jpg"
        assert row.text == f"A child {number} in {name[:7]} , and a #{number} ."
        assert row.speaker == str((5 * IDS.index(name) + number) % 3)
        assert row.class_name is None
        assert row.language == "en"
    assert reasons(corpus) == {f"{NOWHERE}.jpg": "its 5 recordings are of a picture in none of the three lists"}


def test_ids_without_wav_are_problems(tmp_path: Path) -> None:
    make(tmp_path)
    (tmp_path / f"flickr_audio/wavs/{IDS[0]}_3.wav").unlink()
    (tmp_path / f"Flicker8k_Dataset/{IDS[1]}.jpg").unlink()
    path = tmp_path / "flickr_audio/wav2capt.txt"
    kept = [line for line in path.read_text().splitlines() if IDS[3] not in line]
    path.write_text("\n".join([*kept, "garbage"]))
    corpus = read(tmp_path)
    assert len(corpus.rows) == 9
    assert reasons(corpus) == {
        f"{IDS[0]}_3.wav": f"{IDS[0]}_3.wav is nowhere below the source",
        f"{IDS[1]}.jpg": f"{IDS[1]}.jpg is nowhere below the source",
        f"Flicker8k_Dataset/{IDS[3]}.jpg": "wav2capt.txt has no recording of it",
        "flickr_audio/wav2capt.txt": "the line 'garbage' is not <wav> <image>.jpg #<number>",
        f"{NOWHERE}.jpg": "its 5 recordings are of a picture in none of the three lists",
    }


def test_texts_and_speakers_are_optional(tmp_path: Path) -> None:
    make(tmp_path)
    (tmp_path / "Flickr8k_text/Flickr8k.token.txt").unlink()
    (tmp_path / "flickr_audio/wav2spk.txt").unlink()
    corpus = read(tmp_path)
    assert {(row.text, row.speaker) for row in corpus.rows} == {(None, None)}


def test_a_list_cannot_escape(tmp_path: Path) -> None:
    source = make(tmp_path / "source")
    recordings(tmp_path, "secret.wav")
    texts(source, {"flickr_audio/wav2capt.txt": f"../secret.wav {IDS[0]}.jpg #0\n../../secret.wav {IDS[0]}.jpg #1\n"})
    with pytest.raises(UserError, match="no picture of the lists with a recording"):
        IMPORTER.read(source, ReadOptions())


def drop(*paths: str) -> Callable[[Path], object]:
    return lambda root: [(root / path).unlink() for path in paths]


WRONG: dict[str, tuple[Callable[[Path], object], str]] = {
    "no audio": (
        drop("flickr_audio/wav2capt.txt"),
        r"no wav2capt\.txt is here or below; expected Flickr8k_Dataset/.* found Flicker8k_Dataset/, Flickr8k_text/",
    ),
    "no lists": (drop("Flickr8k_text/Flickr_8k.devImages.txt"), r"no Flickr_8k\.devImages\.txt is here or below"),
    "no images": (drop(*(f"Flicker8k_Dataset/{name}.jpg" for name in IDS)), "no picture of the lists with a recording"),
    "in two lists": (
        lambda root: texts(root, {"Flickr8k_text/Flickr_8k.testImages.txt": f"{IDS[1]}.jpg\n"}),
        rf"testImages\.txt: {IDS[1]}\.jpg is in the list of validation as well",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_layouts(tmp_path: Path, name: str) -> None:
    spoil, sentence = WRONG[name]
    spoil(make(tmp_path))
    with pytest.raises(UserError, match=sentence):
        IMPORTER.read(tmp_path, ReadOptions())


def mirrored(root: Path) -> Path:
    """As mirrors have it: one folder of pictures, one file of captions, no lists."""
    make(root, "Images")
    for path in (root / "Flickr8k_text").iterdir():
        path.unlink()
    captions = [f'{name}.jpg,"A child {k}, and a ""{name[:4]}"" ."' for name in IDS for k in range(5)]
    texts(root, {"captions.txt": "\n".join(["image,caption", *captions]) + "\n"})
    return root


def test_as_mirrored(tmp_path: Path) -> None:
    corpus = read(mirrored(tmp_path))
    assert len(corpus.rows) == 25
    assert {row.split for row in corpus.rows} == {None}
    (row,) = [row for row in corpus.rows if row.audio.endswith(f"{IDS[1]}_3.wav")]
    assert (row.image, row.text) == (f"Images/{IDS[1]}.jpg", f'A child 3, and a "{IDS[1][:4]}" .')


def test_a_mirror_with_the_recordings_alone_and_one_without(tmp_path: Path) -> None:
    mirrored(tmp_path)
    (tmp_path / "flickr_audio/wav2capt.txt").unlink()
    corpus = read(tmp_path)
    assert len(corpus.rows) == 25
    assert {(row.audio[-5], (row.text or "?")[:9]) for row in corpus.rows if NOWHERE not in row.image} == {
        (str(k), f"A child {k}") for k in range(5)
    }
    for wav in (tmp_path / "flickr_audio/wavs").iterdir():
        wav.unlink()
    corpus = read(tmp_path)
    assert [(row.audio, row.text) for row in corpus.rows[:2]] == [
        ("", f'A child 0, and a "{IDS[0][:4]}" .'),
        ("", f'A child 1, and a "{IDS[0][:4]}" .'),
    ]
    assert len(corpus.rows) == 20
