"""Speech embeddings of many recordings: a row each, or a sentence."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from s2igan import SpeechToImage, embed
from s2igan.embed import embed_files
from s2igan.errors import UserError
from s2igan.generate import find_recordings
from tiny_models import export_rdg


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return SpeechToImage.load(export_rdg(tmp_path_factory.mktemp("model")))


def test_embeddings_go_to_a_table(model, sounds, tmp_path, monkeypatch):
    monkeypatch.setattr(embed, "RECORDINGS_AT_ONCE", 2)
    (tmp_path / "broken.wav").write_bytes(b"RIFF nothing")
    recordings = find_recordings([str(tmp_path / "broken.wav"), str(sounds)])
    (error,) = embed_files(model, recordings, tmp_path / "deep" / "e.parquet")
    assert "broken.wav" in str(error)
    table = pq.read_table(tmp_path / "deep" / "e.parquet")
    assert table.column_names == ["audio", "speech_seconds", "embedding"]
    assert table["audio"].to_pylist() == [recording.name for recording in recordings[1:]]
    assert table["speech_seconds"].to_pylist() == [1.0] * 3
    for recording, row in zip(recordings[1:], table["embedding"].to_pylist(), strict=True):
        np.testing.assert_allclose(row, model.embed(recording.audio), atol=1e-5)
    with pytest.raises(UserError, match="none of the recordings"):
        list(embed_files(model, recordings[:1], tmp_path / "none.parquet"))
    assert not (tmp_path / "none.parquet").exists()
