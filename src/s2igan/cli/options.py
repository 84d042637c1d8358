"""Options that several commands have: what each takes, and what its help says."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import OmitArgPrefixes, Positional, Suppress, UseAppendAction, arg
from tyro.constructors import PrimitiveConstructorSpec

from s2igan import devices
from s2igan.corpora.prepare.options import PrepareOptions
from s2igan.errors import UserError

MAX_SEED = 2**63 - 1
"""What torch's generators take."""
MAX_JOBS = 1024


def whole_number(least: int, most: int) -> PrimitiveConstructorSpec[Any]:
    """An option that is a whole number in a range: what is outside is a wrong command line, not a traceback later."""

    def parse(words: list[str]) -> int:
        number = int(words[0])
        if not least <= number <= most:
            raise ValueError(f"{number} is not from {least} to {most}")
        return number

    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="INT",
        instance_from_str=parse,
        is_instance=lambda value: value is None or isinstance(value, int),
        str_from_instance=lambda value: [str(value)],
    )


Seed = Annotated[int, whole_number(0, MAX_SEED)]
Count = Annotated[int, whole_number(1, MAX_SEED)]
OptionalCount = Annotated[int | None, whole_number(1, MAX_SEED)]
Jobs = Annotated[int | None, whole_number(1, MAX_JOBS)]
Device = Annotated[str | None, arg(help=devices.HELP)]
ImageEncoderWeights = Annotated[
    Path | None,
    arg(help="file with Inception-v3's weights, in place of a download; S2IGAN_IMAGE_ENCODER_WEIGHTS may name it too"),
]

FidWeights = Annotated[
    str | None,
    arg(
        metavar="FILE",
        help="weights of the FID Inception, for FID, KID and IS as published: a file of torch-fidelity or pytorch-fid, "
        "or the word download",
    ),
]

PRETRAINED = "autoencoder"
"""Flag of the option `pretrained`: the name is also that of a group of a recipe's flags."""
Pretrained = Annotated[
    str | None,
    arg(
        name=PRETRAINED,
        metavar="PATH_OR_HUB_ID",
        help="for photographs: a pretrained AutoencoderTiny of diffusers in place of training one; a folder, or a name "
        "on the Hugging Face hub such as madebyollin/taesd",
    ),
]
Recordings = Annotated[Positional[tuple[str, ...]], arg(metavar="AUDIO [AUDIO ...]", help_behavior_hint="(required)")]
InitParts = tuple[Literal["all", "speech", "autoencoder"], ...]

Options = Annotated[PrepareOptions, OmitArgPrefixes, UseAppendAction]
"""Each of them a flag of the command itself."""
Settings = Suppress[Any]
"""The recipe that a command line names, with what its flags change (`flags.with_flags`)."""


@dataclass(frozen=True)
class Drawing:
    """Options of the commands that draw."""

    model: Path
    """run directory, the exported model in it, or the name of a shipped model; s2igan models lists those"""
    samples: Count = 4
    """images of each recording"""
    seed: Seed = 1
    """same seed, same images"""
    out: Path = Path("generated")
    """directory for the images"""
    truncation: float | None = None
    """keep the noise within so many standard deviations: less variety, fewer odd images"""
    guidance: float | None = None
    """latent flow only: how strictly it follows the words; the model's own unless given"""
    device: Device = None


def use_image_encoder_weights(file: Path | None, backbone: str) -> None:
    """Names a file of weights to this process, for all image encoders that it makes.

    Raises:
        UserError: the recipe's image encoder is another network.
    """
    if file is None:
        return
    from s2igan.models.image_encoder import WEIGHTS_VARIABLE

    if backbone != "inception_v3":
        raise UserError(
            f"--image-encoder-weights {file}: is for Inception-v3, and this recipe encodes images by {backbone}, whose "
            "weights are installed; leave it out."
        )
    os.environ[WEIGHTS_VARIABLE] = str(file)
