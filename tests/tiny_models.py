"""Exported models with random weights, one of each method."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from s2igan.checkpoint import save_model
from s2igan.models.autoencoder import AutoencoderConfig
from s2igan.models.blocks import seeded
from s2igan.models.encoders import encoder_to_json
from s2igan.models.flow import FlowNetworkConfig
from s2igan.models.generator import Generator, GeneratorConfig
from s2igan.models.latent_flow import LatentFlow, LatentFlowConfig
from s2igan.models.matchmap import MatchmapConfig
from s2igan.models.speech_encoder import SpeechEncoder, SpeechEncoderConfig

SPEECH = SpeechEncoderConfig(conv_channels=(6, 8), hidden=8, layers=1, attention_hidden=6)
GENERATOR = GeneratorConfig(embedding=16, condition=5, z=7, width=4, resolutions=(8, 16), residual_blocks=1)
LATENT_FLOW = LatentFlowConfig(
    AutoencoderConfig(64, channels=4, widths=(8, 8, 8, 8)),
    MatchmapConfig(window=9, hop=3, words=5, hidden=8),
    FlowNetworkConfig(width=16, depth=1, heads=2, outer_width=8, outer_depth=1, outer_heads=2),
    frames=2 * SPEECH.hidden,
    steps=2,
    guidance=1.5,
    shift=3.0,
)


def export_rdg(directory: Path, recipe: str = "birds-rdg") -> Path:
    """16 px by the paper's RDG."""
    with seeded(0):
        return _export(directory, Generator(GENERATOR), "generator", recipe)


def export_latent_flow(directory: Path, recipe: str = "birds") -> Path:
    """64 px by latent flow; also the layers that begin at zero have weights."""
    with seeded(1):
        flow = LatentFlow(LATENT_FLOW)
        for parameter in flow.parameters():
            nn.init.normal_(parameter, std=0.2)
        return _export(directory, flow, "latent_flow", recipe)


def _export(directory: Path, drawer: Generator | LatentFlow, kind: str, recipe: str) -> Path:
    networks = nn.ModuleDict({"speech_encoder": SpeechEncoder(SPEECH), kind: drawer})
    config: dict[str, Any] = {"speech_encoder": encoder_to_json(SPEECH), kind: asdict(drawer.config), "recipe": recipe}
    with torch.no_grad():
        save_model(directory, json.loads(json.dumps(config)), networks.state_dict())
    return directory
