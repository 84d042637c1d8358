"""A training that begins from an exported model: what is taken of it, and whether it fits. Not in the paper.

The weights take the place of random ones where each stage begins; the stages then train as their recipe says. Only
networks are taken: optimisers, discriminators and the flow's alignment with regions begin anew.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from s2igan.checkpoint import MODEL_FILES, config_from_json, file_digest
from s2igan.data.store import Store
from s2igan.errors import UserError
from s2igan.models.encoders import encoder_from_json, encoder_to_json
from s2igan.models.exported import ExportedModel, find_model
from s2igan.models.image_encoder import ImageEncoderConfig
from s2igan.models.latent_flow import LatentFlowConfig
from s2igan.models.pretrained_autoencoder import PretrainedAutoencoderConfig
from s2igan.run_directory import SEN_FOLDER, differences, has_stage_1_alone
from s2igan.training.latent_flow_stages import AutoencoderStage, FlowStage, MatchmapStage
from s2igan.training.optimisation import Ema
from s2igan.training.recipe import Recipe
from s2igan.training.stages import SENStage

Part = Literal["all", "speech", "autoencoder"]
"""`speech` is stage 1: the speech encoder and the image head. `all` adds the matchmap and the flow to both."""
ALL: tuple[Part, ...] = ("all",)

OTHERWISE = {
    "speech encoder": "autoencoder",
    "image encoder": "autoencoder",
    "autoencoder": "speech",
    "matchmap": "speech autoencoder",
    "flow": "speech autoencoder",
}
"""What to take where one of these does not fit."""


@dataclass(frozen=True)
class InitialWeights:
    """Weights of an exported model that a recipe's stages begin with."""

    model: ExportedModel
    parts: frozenset[Part]

    @classmethod
    def read(cls, model: str | Path, parts: Sequence[Part], recipe: Recipe) -> InitialWeights:
        """Reads a model and compares its sizes with the recipe's.

        Args:
            model: as `exported.find_model` takes it; or, where stage 1 alone is taken, a run with no more than that.

        Raises:
            UserError: there is no model; it or the recipe lacks a part; or a size differs, of which the first is named.
        """
        if not parts:
            raise UserError("--init-parts names no part; choose all, speech or autoencoder, or leave it out.")
        alone = tuple(parts) == ("speech",) and has_stage_1_alone(Path(model))
        folder = Path(model) / SEN_FOLDER if alone else find_model(model)
        initial = cls(ExportedModel.read(folder), frozenset(parts))
        initial._check(recipe)
        return initial

    def takes(self, part: Part) -> bool:
        """Whether a part is taken."""
        return part in self.parts or "all" in self.parts

    @property
    def facts(self) -> dict[str, Any]:
        """What a run records of it: the recipe of the model, the SHA-256 of its weights, and what is taken."""
        digest = file_digest(self.source / MODEL_FILES[1])
        recipe = self.model.config.get("trained", {}).get("recipe", self.model.recipe)
        return {"recipe": recipe, "sha256": digest, "parts": sorted(self.parts)}

    # ------------------------------------------------------------------------------------------------- does it fit?

    def _check(self, recipe: Recipe) -> None:
        if self.parts != {"speech"}:
            for owner, known in (
                (str(self.source), "latent_flow" in self.model.config),
                (recipe.name, recipe.latent_flow),
            ):
                if not known:
                    raise UserError(
                        f"{owner}: its stage 2 is the RDG and has no autoencoder; choose --init-parts speech."
                    )
        if self.takes("speech"):
            self._check_speech(recipe)
        if recipe.latent_flow is None or self.parts == {"speech"}:
            return
        flow, asked = recipe.latent_flow, self.model.generator_config()
        assert isinstance(asked, LatentFlowConfig)
        both = asked.autoencoder, flow.latents
        sources = {of.source for of in both if isinstance(of, PretrainedAutoencoderConfig)}
        if sources and asked.autoencoder != flow.latents:
            raise UserError(
                f"{self.source}: its autoencoder is not that of the recipe {recipe.name} (pretrained: "
                f"{' and '.join(sorted(sources))}); name the same one by --autoencoder, or choose --init-parts speech."
            )
        self._compare("autoencoder", asked.autoencoder, flow.latents, "autoencoder.network")
        if "all" in self.parts:
            if not any(name.startswith("matchmap.") for name in self.model.weights):
                raise UserError(
                    f"{self.source}: holds no matchmap, since it was exported by an earlier version; choose "
                    "--init-parts speech autoencoder."
                )
            self._compare("matchmap", asked.matchmap, flow.matchmap.network, "matchmap.network")
            self._compare("flow", asked.network, flow.flow.network, "flow.network")

    def _check_speech(self, recipe: Recipe) -> None:
        known, asked = (
            encoder_from_json(self.model.config.get("speech_encoder"), self.model.config_file),
            recipe.sen.speech,
        )
        if type(known) is not type(asked):
            raise UserError(
                f"{self.source}: its speech encoder is of the kind {encoder_to_json(known)['kind']}, and that of the "
                f"recipe {recipe.name} {encoder_to_json(asked)['kind']}; choose another model or recipe."
            )
        self._compare("speech encoder", known, asked, "sen.speech")
        sizes, file = self.model.config.get("image_encoder"), self.model.config_file
        both = config_from_json(ImageEncoderConfig, sizes, file, "an image encoder"), recipe.sen.image
        image, wanted = (replace(of, feature_dropout=0.0) for of in both)  # which no weight depends on
        self._compare("image encoder", image, wanted, "sen.image")

    def _compare(self, what: str, known: Any, asked: Any, flags: str) -> None:
        """UserError that names the first size that differs, and the flag that mends it."""
        known, asked = (json.loads(json.dumps(asdict(of))) for of in (known, asked))
        for name, was, now in differences(known, asked):
            flag = f"--{flags}.{name}".replace("_", "-")
            value = " ".join(map(str, was)) if isinstance(was, list) else was
            raise UserError(
                f"{self.source}: the {name} of its {what} is {json.dumps(was)} and the recipe's {json.dumps(now)}; "
                f"train with {flag} {value}, or take less by --init-parts {OTHERWISE[what]}."
            )

    def check_store(self, store: Store) -> None:
        """Whether its speech encoder can listen to a store.

        Raises:
            UserError: it learnt from spectrograms of another window.
        """
        window = self.model.front_end.window
        if self.takes("speech") and window != store.window:
            raise UserError(
                f"{self.source}: its speech encoder learnt from spectrograms through a {window} window, and those of "
                f"{store.directory} are through a {store.window} one; prepare it with --window {window}, or choose "
                "--init-parts autoencoder."
            )

    @property
    def source(self) -> Path:
        """Where the model is."""
        return self.model.directory

    # -------------------------------------------------------------------------------------------- where stages begin

    def begin_sen(self, stage: SENStage) -> None:
        """Speech encoder and image head; they are also the best weights until training finds better ones.

        Raises:
            UserError: the image head reads features of other weights of the frozen network.
        """
        if not self.takes("speech"):
            return
        image = stage.state.image
        if self.model.config.get("image_encoder_weights") != image.weights_digest:
            raise UserError(
                f"{self.source}: the model was trained with other weights of {image.config.backbone} than those found "
                "here; name their file with --image-encoder-weights."
            )
        self.model.fill(stage.state.speech, "speech_encoder.")
        self.model.fill(image.head, "image_head.")
        stage.keep_start()

    def begin_autoencoder(self, stage: AutoencoderStage) -> None:
        """The autoencoder with its average.

        It trains on unnormalised latents, as one from random weights does, and is normalised when it is done. Where the
        flow is taken too, its latents keep the mean and deviation that the flow learnt.
        """
        if not self.takes("autoencoder"):
            return
        network = stage.state.autoencoder
        self.model.fill(network, "latent_flow.autoencoder.")
        stage.normalised_as = self.normalisation
        with torch.no_grad():
            network.mean.zero_()
            network.deviation.fill_(1.0)
        stage.state.ema = Ema(network, stage.config.ema_decay)

    @property
    def normalisation(self) -> tuple[Tensor, Tensor] | None:
        """Mean and deviation of the latents that the flow learnt, where it is taken."""
        if "all" not in self.parts:
            return None
        mean, deviation = (
            self.model.weights[f"latent_flow.autoencoder.{name}"].float() for name in ("mean", "deviation")
        )
        return mean, deviation

    def begin_matchmap(self, stage: MatchmapStage) -> None:
        """Word encoder and region encoder."""
        if "all" in self.parts:
            self.model.fill(stage.state.matchmap, "matchmap.")

    def begin_flow(self, stage: FlowStage) -> None:
        """The velocity network with its average."""
        if "all" in self.parts:
            self.model.fill(stage.state.network, "latent_flow.network.")
            stage.state.ema = Ema(stage.state.network, stage.config.ema_decay)


def read_initial(
    model: str | Path | None, parts: Sequence[Part], recipe: Recipe, *, with_sen_from: bool = False
) -> InitialWeights | None:
    """The weights that a training begins with, where a model is named.

    Raises:
        UserError: as `InitialWeights.read` does; parts of no model are named; or stage 1 would be from two places.
    """
    if model is None:
        if tuple(parts) != ALL:
            raise UserError(
                f"--init-parts {' '.join(parts)}: no model is named to take it from; add --init-from MODEL."
            )
        return None
    initial = InitialWeights.read(model, parts, recipe)
    if with_sen_from and initial.takes("speech"):
        raise UserError("--sen-from and --init-from both bring a stage 1; choose --init-parts autoencoder.")
    return initial
