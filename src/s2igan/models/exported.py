"""An exported model, found and read back: the networks that training writes into a folder of their own."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from s2igan.audio import PadMode, Window
from s2igan.checkpoint import MODEL_FILES, config_from_json, load_model
from s2igan.errors import UserError
from s2igan.models.encoders import Encoder, build_encoder, encoder_from_json
from s2igan.models.generator import Generator, GeneratorConfig
from s2igan.models.image_encoder import ImageEncoder
from s2igan.models.latent_flow import LatentFlow, LatentFlowConfig
from s2igan.run_directory import CONFIG, MODEL_FOLDER

REPOSITORY, INSTALLED = Path(__file__).parents[3] / "models", Path(__file__).parents[1] / "shipped"
SHIPPED = INSTALLED if INSTALLED.is_dir() else REPOSITORY
"""The trained models: a folder of the installed package, or of the repository that the package lies in."""


@dataclass(frozen=True)
class FrontEnd:
    """How the log-mel spectrograms were made that the model learnt from."""

    window: Window = "hann"
    """Analysis window."""
    pad_mode: PadMode = "reflect"
    """What stands before the first and after the last sample."""


@dataclass(frozen=True)
class ExportedModel:
    """The content of the folder. Each network is built, on the CPU, when it is asked for.

    All raise UserError where the config describes no network of this version, or the weights do not fit it.
    """

    directory: Path
    config: Mapping[str, Any]
    weights: Mapping[str, Tensor]

    @classmethod
    def read(cls, directory: Path) -> ExportedModel:
        """Reads both files; UserError as `checkpoint.load_model`, and for a model of s2igan 0.1.0."""
        config, weights = load_model(directory)
        if "candidates" in config:  # what 0.1.0 called re-ranking, and always wrote
            raise UserError(
                f"{directory}: a model of s2igan 0.1.0, which only that version loads; train it anew, or take one of "
                "those that s2igan models lists."
            )
        return cls(directory, config, weights)

    @property
    def recipe(self) -> str:
        """Name of the recipe that trained it."""
        return str(self.config.get("recipe", "unknown"))

    def speech_encoder(self) -> Encoder:
        encoder = build_encoder(encoder_from_json(self.config.get("speech_encoder"), self.config_file))
        self.fill(encoder, "speech_encoder.")
        return encoder

    def image_encoder(self) -> ImageEncoder:
        """That of stage 1; UserError also where its backbone has other weights here than the model was trained with."""
        encoder = ImageEncoder.of_model(self.config, self.config_file)
        self.fill(encoder.head, "image_head.")
        return encoder

    @property
    def image_size(self) -> int:
        """Side in pixels of the images that the image encoder was trained on."""
        return int(self.config["image_size"])

    def generator(self) -> Generator | LatentFlow:
        """What draws: the paper's generator, or latent flow."""
        config = self.generator_config()
        drawer: Generator | LatentFlow
        if isinstance(config, LatentFlowConfig):
            drawer = LatentFlow(config)
            self.fill(drawer, "latent_flow.")
        else:
            drawer = Generator(config)
            self.fill(drawer, "generator.")
        return drawer

    def generator_config(self) -> GeneratorConfig | LatentFlowConfig:
        """Sizes of what draws, and by which method."""
        if "latent_flow" in self.config:
            return LatentFlowConfig.from_json(self.config["latent_flow"], self.config_file)
        return config_from_json(GeneratorConfig, self.config.get("generator"), self.config_file, "a generator")

    @property
    def front_end(self) -> FrontEnd:
        return config_from_json(FrontEnd, self.config.get("front_end", {}), self.config_file, "a front end")

    @property
    def config_file(self) -> Path:
        """What to name where the config is at fault."""
        return self.directory / MODEL_FILES[0]

    def fill(self, module: nn.Module, prefix: str) -> None:
        """Loads the tensors under a prefix into a module, all of them and nothing else."""
        own = {name.removeprefix(prefix): x for name, x in self.weights.items() if name.startswith(prefix)}
        try:
            module.load_state_dict(own)
        except RuntimeError as error:
            json_name, file = MODEL_FILES[0], self.directory / MODEL_FILES[1]
            raise UserError(f"{file} does not fit the sizes in {json_name}; copy both files from one run.") from error


def shipped_models() -> dict[str, Path]:
    """The trained models that come with s2igan, by name."""
    return {file.parent.name: file.parent for file in sorted(SHIPPED.glob(f"*/{MODEL_FILES[1]}"))}


def find_model(path: str | os.PathLike[str]) -> Path:
    """The directory of the exported model: that of a run, or the one given; or a shipped model, by its name, also where
    a folder of this name holds no model (of pictures, say).

    Raises:
        UserError: there is none.
    """
    shipped, path = shipped_models(), Path(path)
    for directory in (path / MODEL_FOLDER, path):
        if (directory / MODEL_FILES[1]).is_file():
            return directory
    if (path / CONFIG).is_file():
        raise UserError(
            f"{path}: training has not finished, so there is no model yet; go on with s2igan train ... --resume."
        )
    if str(path) in shipped:
        return shipped[str(path)]
    if path.is_dir():
        raise UserError(f"{path}: neither a run nor an exported model; name the directory that s2igan train wrote.")
    names = f" (there are {', '.join(shipped)})" if shipped else ""
    raise UserError(
        f"{path}: no such run directory, and no shipped model{names}; train a model with s2igan train, or check the "
        "path."
    )
