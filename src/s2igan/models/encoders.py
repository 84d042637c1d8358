"""The encoders that stage 1 can train in the place of the paper's, behind one interface.

Each is called with a padded batch of what it `reads` and the lengths, has a `config` with the dimensions of its
`embedding`, and returns rows of unit length.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from s2igan.checkpoint import config_from_json
from s2igan.models.li2020 import CnnLstmConfig, CnnLstmEncoder
from s2igan.models.precomputed import Precomputed, PrecomputedConfig
from s2igan.models.speech_encoder import SpeechEncoder, SpeechEncoderConfig
from s2igan.models.text_encoder import TextEncoder, TextEncoderConfig

Encoder = SpeechEncoder | CnnLstmEncoder | TextEncoder | Precomputed
EncoderConfig = SpeechEncoderConfig | CnnLstmConfig | TextEncoderConfig | PrecomputedConfig
Reads = Literal["speech", "text", "embeddings"]
"""Log-mels, one-hot characters, or published embeddings of the text."""

KINDS: dict[str, tuple[type[Any], type[Any]]] = {
    "sed": (SpeechEncoderConfig, SpeechEncoder),
    "li2020": (CnnLstmConfig, CnnLstmEncoder),
    "text": (TextEncoderConfig, TextEncoder),
    "precomputed": (PrecomputedConfig, Precomputed),
}
"""The paper's SED and the encoders of three baselines (method.md 7), by the word for them in a model's config."""


def build_encoder(config: EncoderConfig) -> Encoder:
    """A network of these sizes with PyTorch's own initial weights."""
    return next(network(config) for kind, network in KINDS.values() if isinstance(config, kind))


def encoder_to_json(config: EncoderConfig) -> dict[str, Any]:
    """The sizes and the kind, for a model's config."""
    kind = next(name for name, (cls, _) in KINDS.items() if isinstance(config, cls))
    return {"kind": kind, **asdict(config)}


def encoder_from_json(values: Any, path: Path) -> EncoderConfig:
    """Reads back what `encoder_to_json` gave; without a kind it is the paper's encoder.

    Raises:
        UserError: `values` describes no encoder that is known here; `path` is the file that holds them.
    """
    sizes = dict(values) if isinstance(values, Mapping) else {}
    cls, _ = KINDS.get(sizes.pop("kind", "sed"), (None, None))
    return config_from_json(cls or SpeechEncoderConfig, sizes if cls and values else None, path, "a speech encoder")
