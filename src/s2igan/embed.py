"""Speech embeddings of many recordings, in a table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from s2igan.audio import SAMPLE_RATE
from s2igan.errors import UserError
from s2igan.files import atomic_write
from s2igan.generate import RECORDINGS_AT_ONCE, Recording, heard
from s2igan.pipeline import SpeechToImage


def embed_files(model: SpeechToImage, recordings: Sequence[Recording], out: Path) -> Iterator[UserError]:
    """Writes a Parquet table with a row for each recording: audio, speech_seconds, embedding (unit length).

    Yields the error of each recording that cannot be used; the others are written.

    Raises:
        UserError: none can be used, or the table cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows: list[tuple[str, float, np.ndarray]] = []
    for first in range(0, len(recordings), RECORDINGS_AT_ONCE):
        waves = [(recording, heard(model, recording)) for recording in recordings[first : first + RECORDINGS_AT_ONCE]]
        yield from (wave for _, wave in waves if isinstance(wave, UserError))
        usable = [(recording.name, wave) for recording, wave in waves if not isinstance(wave, UserError)]
        if usable:
            embeddings = model.hear([wave for _, wave in usable]).embedding.cpu().numpy()
            rows += [(n, len(w) / SAMPLE_RATE, row) for (n, w), row in zip(usable, embeddings, strict=True)]
    if not rows:
        raise UserError("none of the recordings can be used, so no table was written.")
    names, seconds, vectors = zip(*rows, strict=True)
    numbers = pa.array(np.concatenate(vectors), pa.float32())
    columns = {
        "audio": pa.array(names),
        "speech_seconds": pa.array(seconds),
        "embedding": pa.FixedSizeListArray.from_arrays(numbers, len(vectors[0])),
    }
    with atomic_write(out) as file:
        pq.write_table(pa.table(columns), file)
