"""How a prepared store lies on disk: what `pack` writes and `store` reads.

Beside the manifest, `store/`:

- `mels-00000.safetensors` ...: `mels` float16 (frames, 40), `offsets` int64 (items + 1), and `rows` int32 (items):
  which of the manifest rows of this shard each item is;
- `images-00000.safetensors` ...: `images` uint8 (lines, S, 3), S = 76/64 of the training size (room for random crops);
  `offsets` int64 (items + 1), the lines of each picture; `wide` (items), whether its lines are columns, and `rows`,
  which of the different pictures of this shard it is. A line has S pixels and there are S or more lines: the shorter
  side has S pixels, and the longer one what a random crop can reach of it, up to `LONGEST` * S;
- `index.parquet` (one row per utterance), `images.parquet` (one row per picture), `report.json`;

and `rejected.jsonl` beside it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from s2igan.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

VERSION = 2  # of everything that lies there; another version is refused
CROP_MARGIN = 76 / 64  # stored over training size (method.md section 3: resize 304, random crop 256)
LONGEST = 2.0  # longer side of a stored picture over the shorter one; of longer ones the middle is kept

STORE, REJECTED, REPORT = "store", "rejected.jsonl", "report.json"
INDEX, IMAGES = "index.parquet", "images.parquet"
HEADER = "s2igan"  # the one entry in the header of a shard; safetensors writes several in random order

Kind = Literal["images", "mels"]


def stored_size(image_size: int) -> int:
    """Shorter side in pixels of the stored pictures for training at `image_size`."""
    return round(image_size * CROP_MARGIN)


def shard_name(kind: Kind, number: int) -> str:
    """`images-00000.safetensors` and the like."""
    return f"{kind}-{number:05d}.safetensors"


def column_types() -> dict[str, dict[str, pa.DataType]]:
    """Of both tables, by file name: the columns with their types."""
    import pyarrow as pa

    word = pa.dictionary(pa.int32(), pa.string())
    return {
        INDEX: {
            "image": pa.int32(),
            "shard": pa.int32(),
            "offset": pa.int64(),
            "n_frames": pa.int32(),
            "split": word,
            "speaker": word,
            "language": word,
            "audio": pa.large_string(),
            "start_seconds": pa.float64(),
            "end_seconds": pa.float64(),
            "text": pa.large_string(),
            "mentions": pa.list_(pa.string()),
        },
        IMAGES: {
            "path": pa.large_string(),
            "class": word,
            "shard": pa.int32(),
            "offset": pa.int64(),
            "length": pa.int32(),
            "wide": pa.bool_(),
            "attributes": pa.large_string(),
        },
    }


def damaged(path: Path, error: Exception) -> UserError:
    """What to raise for a file of the store that is not there or not as it was written."""
    what = "is missing" if isinstance(error, FileNotFoundError) else f"is damaged ({error})"
    return UserError(f"{path}: this part of the prepared store {what}; run 's2igan prepare' again, it mends only that.")
