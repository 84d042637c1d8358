"""Folders as diffusers writes them, of its AutoencoderTiny with random weights: no download, no network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

SMALL: dict[str, Any] = {
    "encoder_block_out_channels": (8, 8, 8, 8),
    "decoder_block_out_channels": (8, 8, 8, 8),
    "num_encoder_blocks": (1, 1, 2, 1),
    "num_decoder_blocks": (2, 1, 1, 1),
}


def write_tiny(folder: Path, *, seed: int = 0, safe_serialization: bool = True, **sizes: Any) -> None:
    """One of these sizes, or of the published ones."""
    from diffusers import AutoencoderTiny

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        AutoencoderTiny(**sizes).save_pretrained(folder, safe_serialization=safe_serialization)
