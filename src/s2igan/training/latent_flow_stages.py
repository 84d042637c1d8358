"""The stages of latent flow as a trainer runs them: autoencoder, decoder, matchmap, flow. Not in the paper.

Each has its reader, its scores on the validation split and its samples, as those of the paper in `training/stages.py`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from rich.console import Console
from torch import Tensor

from s2igan.data.dataset import SpeechImageData, encoder_input
from s2igan.errors import UserError
from s2igan.metrics.retrieval import mean_average_precision, same_label
from s2igan.models.autoencoder import LATENT_SIDE, Autoencoder, AutoencoderConfig
from s2igan.models.latent_flow import LatentFlow, LatentFlowConfig
from s2igan.models.matchmap import Matchmap
from s2igan.models.pretrained_autoencoder import AnyAutoencoder
from s2igan.models.speech_encoder import SpeechEncoder
from s2igan.training import autoencoder, decoder, flow, matchmap
from s2igan.training.autoencoder import AutoencoderBatch, AutoencoderState, AutoencoderTraining, PictureTraining
from s2igan.training.data import recordings
from s2igan.training.decoder import DecoderTraining
from s2igan.training.distributed import share
from s2igan.training.flow import FlowBatch, FlowTraining
from s2igan.training.latents import SpeechFrames, latents_of, local_frames, words_of
from s2igan.training.matchmap import MatchmapBatch, MatchmapTraining
from s2igan.training.optimisation import set_learning_rate
from s2igan.training.precision import choose_precision
from s2igan.training.prefetch import streams
from s2igan.training.stages import SAMPLE_COLUMNS, SAMPLE_ROWS, schedule, to, write_sheet
from s2igan.training.trainer import Stage

COMPARED = 16
"""Validation pictures on the sheet of reconstructions."""
SCORED_PICTURES = 256
"""Validation pictures whose reconstruction is scored while training."""
SCORED_QUERIES = 500
"""Validation utterances that word embeddings are scored on while training."""


@dataclass
class PictureReader:
    """Windows of pictures for the autoencoder or the decoder, and the noise on their latents."""

    name: str
    """Of the stage."""
    config: PictureTraining
    network: AutoencoderConfig
    train: SpeechImageData
    seed: int
    rows: slice

    def read(self, step: int) -> dict[str, Any]:
        """images and noise."""
        size, whole = self.config.batch_size, self.network.size
        rng, torch_rng = streams(self.seed, self.name, step)
        side = min(self.config.window, whole)
        images = self.train.crops(self.train.positions(step, size, self.seed), rng, self.rows, side=side)
        places = LATENT_SIDE * side // whole
        noise = torch.randn(size, self.network.latent_channels, places, places, generator=torch_rng)
        return {"images": images, "noise": noise[self.rows]}

    def items(self, step: int) -> list[str]:
        """The pictures of a step's batch."""
        positions = self.train.positions(step, self.config.batch_size, self.seed)
        return [str(self.train.store.image_path(int(image))) for image in self.train.images[positions]]


class PictureStage(Stage):
    """What the autoencoder's and the decoder's stage share.

    Args:
        validation: whose reconstructions are scored and shown; None takes training pictures.
        samples: folder for the sheets.

    Raises:
        UserError: the window is no part of a picture that latents have.
    """

    state: AutoencoderState

    def __init__(
        self,
        config: PictureTraining,
        train: SpeechImageData,
        validation: SpeechImageData | None,
        *,
        network: AutoencoderConfig,
        samples: Path,
        seed: int,
        device: torch.device,
    ) -> None:
        place = network.size // LATENT_SIDE
        if config.window < network.size and config.window % place:
            raise UserError(f"window {config.window} must be a multiple of {place}, an eighth of a picture's side.")
        super().__init__(config, train, seed=seed, device=device)
        self.shown, self.samples = train if validation is None else validation, samples
        self.reader = PictureReader(self.name, self.config, network, train, seed, share(config.batch_size))
        self.progress = 0.0

    def schedule(self, step: int) -> None:
        """Sets learning rates and progress."""
        config, steps = self.config, self.config.trainer.steps
        factor = schedule(step, steps, "cosine", warmup=config.warmup_steps)
        set_learning_rate(self.state.optimiser, config.learning_rate * factor)
        set_learning_rate(self.state.discriminator_optimiser, config.loss.discriminator_learning_rate)
        self.progress = step / steps

    def batch(self, read: dict[str, Any]) -> AutoencoderBatch:
        """The batch on the device."""
        images, noise = (to(read[name], self.device) for name in ("images", "noise"))
        return AutoencoderBatch(images, noise, self.progress)

    def averaged(self) -> Autoencoder:
        """Moving-average weights."""
        network = Autoencoder(self.state.autoencoder.config).to(self.device)
        network.load_state_dict(self.state.autoencoder.state_dict())
        self.state.ema.copy_to(network)
        return network.to(memory_format=torch.channels_last).eval().requires_grad_(False)

    @torch.no_grad()
    def evaluate(self, step: int) -> dict[str, float]:
        """L1 of the reconstructions of validation pictures; and a sheet of them below the originals."""
        network, sheet = self.averaged(), self.samples / f"{self.name}-{step:08d}.png"

        def compare(positions: np.ndarray) -> tuple[Tensor, Tensor]:
            images = to(self.shown.crops(positions, None), self.device)
            return images, network.decode(network.encode(images))

        return {"validation_l1": score_reconstructions(compare, len(self.shown), sheet)}


class AutoencoderStage(PictureStage):
    """Trains the autoencoder on the pictures of the training split."""

    name = "autoencoder"
    config: AutoencoderTraining

    def __init__(
        self, config: AutoencoderTraining, train: SpeechImageData, validation: SpeechImageData | None, **given: Any
    ) -> None:
        super().__init__(config, train, validation, network=config.network, **given)
        self.state = autoencoder.make_state(self.config, seed=self.seed, device=self.device)
        self.normalised_as: tuple[Tensor, Tensor] | None = None
        """Mean and deviation of the latents for use; those of the training pictures unless given."""

    def update(self, step: int) -> Callable[..., dict[str, Tensor]]:
        """The step, at the scheduled learning rates."""
        self.schedule(step)
        return autoencoder.step

    def normalised(self) -> Autoencoder:
        """The network for use, its latents normalised over the training pictures."""
        network = self.averaged()
        if self.normalised_as is None:
            normalise_over(network, self.train, self.device)
        else:
            network.normalise_as(*self.normalised_as)
        return network


class DecoderStage(PictureStage):
    """Trains the decoder on, the latents as they are.

    Args:
        autoencoder: trained and normalised; a copy of it trains on.
    """

    name = "decoder"
    config: DecoderTraining

    def __init__(
        self,
        config: DecoderTraining,
        train: SpeechImageData,
        validation: SpeechImageData | None,
        *,
        autoencoder: Autoencoder,
        **given: Any,
    ) -> None:
        super().__init__(config, train, validation, network=autoencoder.config, **given)
        self.state = decoder.make_state(self.config, autoencoder, seed=self.seed, device=self.device)

    def update(self, step: int) -> Callable[..., dict[str, Tensor]]:
        """The step, at the scheduled learning rates."""
        self.schedule(step)
        return decoder.step


@torch.no_grad()
def normalise_over(network: AnyAutoencoder, data: SpeechImageData, device: torch.device) -> None:
    """Normalises an autoencoder's latents over the pictures of a split."""
    chosen = np.arange(len(data))[:: max(1, len(data) // 4096)]
    parts = np.array_split(chosen, -(-len(chosen) // 64))
    network.normalise(torch.cat([network.encode(to(data.crops(part, None), device)) for part in parts]))


def score_reconstructions(compare: Callable[[np.ndarray], tuple[Tensor, Tensor]], pictures: int, path: Path) -> float:
    """Mean L1 of reconstructions; writes a sheet of some of them below the originals.

    Args:
        compare: of positions, the pictures and what becomes of them.
        pictures: positions that there are.
    """
    chosen = np.arange(pictures)[:: max(1, pictures // SCORED_PICTURES)]
    errors = []
    for part in np.array_split(chosen, -(-len(chosen) // 64)):
        images, drawn = compare(part)
        errors.append((drawn - images).abs().mean((1, 2, 3)))
    originals, drawn = compare(chosen[:: max(1, len(chosen) // COMPARED)][:COMPARED])
    sheet = torch.cat([part for pair in zip(originals.split(8), drawn.split(8), strict=True) for part in pair])
    write_sheet(sheet, path, columns=8)
    return float(torch.cat(errors).mean())


@dataclass
class PairReader:
    """Pictures of a step with a description and a view of each: what the readers of matchmap and flow share."""

    name: ClassVar[str]
    """Of the stage."""
    config: Any
    train: SpeechImageData
    latents: Float[np.ndarray, "pictures views channels 8 8"]
    speech: SpeechFrames
    """Frames of the descriptions, or their words."""
    seed: int
    rows: slice

    def items(self, step: int) -> list[str]:
        """The recordings of a step's batch."""
        _, utterances, _, _ = self._pairs(step)
        return recordings(self.train, utterances)

    def _pairs(self, step: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, torch.Generator]:
        """Positions of the pictures, numbers of their utterances and of their views; and a stream for other draws."""
        rng, torch_rng = streams(self.seed, self.name, step)
        positions = self.train.positions(step, self.config.batch_size, self.seed)
        utterances = self.train.caption(positions, rng)
        return positions, utterances, rng.integers(0, self.latents.shape[1], len(positions)), torch_rng

    def _latents(self, positions: np.ndarray, views: np.ndarray) -> Float[Tensor, "rows channels 8 8"]:
        """Those of this process's rows."""
        return torch.from_numpy(np.asarray(self.latents[positions[self.rows], views[self.rows]], dtype=np.float32))


@dataclass
class MatchmapReader(PairReader):
    """Frames and latents for the matchmap."""

    name = "matchmap"
    config: MatchmapTraining

    def read(self, step: int) -> dict[str, Any]:
        """frames, inside, latents and class_ids."""
        positions, utterances, views, _ = self._pairs(step)
        frames, inside = self.speech.of(utterances[self.rows])
        ids = torch.from_numpy(self.train.classes[positions[self.rows]])
        return {"frames": frames, "inside": inside, "latents": self._latents(positions, views), "class_ids": ids}


class MatchmapStage(Stage):
    """Trains word embeddings on the autoencoder's latents and the frames of the frozen speech encoder.

    Args:
        validation: whose utterances look for their pictures while training; None scores nothing.
    """

    name = "matchmap"

    def __init__(
        self,
        config: MatchmapTraining,
        train: SpeechImageData,
        validation: SpeechImageData | None,
        *,
        speech: SpeechEncoder,
        autoencoder: AnyAutoencoder,
        views: int,
        reach: float,
        seed: int,
        device: torch.device,
        cache: Path,
        console: Console,
    ) -> None:
        super().__init__(config, train, seed=seed, device=device)
        self.validation, self.autoencoder, self.speech = validation, autoencoder, speech
        config = self.config
        channels = autoencoder.config.latent_channels
        self.state = matchmap.make_state(config, speech.config.embedding, channels, seed=seed, device=device)
        given: dict[str, Any] = {"cache": cache, "console": console}
        precision = choose_precision(config.trainer.precision, device)
        self.latents = latents_of(train, autoencoder, views=views, reach=reach, seed=seed, precision=precision, **given)
        self.frames = local_frames(train.store, speech, config.network, train.utterances, **given)
        self.reader = MatchmapReader(config, train, self.latents, self.frames, seed, share(config.batch_size))

    def update(self, step: int) -> Callable[..., dict[str, Tensor]]:
        """The step, at the scheduled learning rate."""
        config = self.config
        factor = schedule(step, config.trainer.steps, "cosine", warmup=config.warmup_steps)
        set_learning_rate(self.state.optimiser, config.learning_rate * factor)
        return matchmap.step

    def batch(self, read: dict[str, Any]) -> MatchmapBatch:
        """The batch on the device."""
        on = {name: to(tensor, self.device) for name, tensor in read.items()}
        classes = on["class_ids"] if self.train.has_classes else None
        return MatchmapBatch(on["frames"], on["inside"], on["latents"], classes)

    @torch.no_grad()
    def evaluate(self, step: int) -> dict[str, float]:
        """mAP of validation utterances that look for pictures of their class, as stage 1 is scored."""
        data = self.validation
        if data is None:
            return {}
        network = self.state.matchmap
        utterances = data.utterances[:: max(1, len(data.utterances) // SCORED_QUERIES)]
        regions = torch.cat(
            [
                network.regions(self.autoencoder.encode(to(data.crops(part, None), self.device)))
                for part in np.array_split(np.arange(len(data)), -(-len(data) // 64))
            ]
        )
        store, window, hop = data.store, self.config.network.window, self.config.network.hop
        scores = []
        for part in np.array_split(utterances, -(-len(utterances) // 16)):
            mel, lengths = encoder_input(store, part, "speech")
            frames, lengths = self.speech.local_frames(mel.to(self.device), lengths, window, hop)
            inside = (torch.arange(frames.shape[1]) < lengths[:, None]).to(self.device)
            scores.append(network.similarity(network.words(frames), inside, regions).cpu())
        query_class = data.classes[np.searchsorted(data.images, np.asarray(store.image_index)[utterances])]
        found = mean_average_precision(torch.cat(scores).numpy(), same_label(query_class, data.classes))
        return {"validation_map": float(found)}

    def trained(self) -> Matchmap:
        """A frozen copy, for use."""
        return copy.deepcopy(self.state.matchmap).eval().requires_grad_(False)


@dataclass
class FlowReader(PairReader):
    """Latents, words and the draws of a step."""

    name = "flow"
    config: FlowTraining

    def read(self, step: int) -> dict[str, Any]:
        """What `FlowBatch` holds."""
        config, size, rows = self.config, self.config.batch_size, self.rows
        positions, utterances, views, torch_rng = self._pairs(step)
        keep = torch.rand(size, generator=torch_rng) >= config.condition_dropout
        t = torch.sigmoid(config.time_mean + config.time_deviation * torch.randn(size, generator=torch_rng))
        noise = torch.randn(size, *self.latents.shape[2:], generator=torch_rng)
        words, inside = self.speech.of(utterances[rows])
        return {
            "latents": self._latents(positions, views),
            "noise": noise[rows],
            "t": t[rows],
            "words": words,
            "inside": inside & keep[rows, None],
        }


class FlowStage(Stage):
    """Trains the velocity network on cached latents and words.

    Args:
        validation: whose descriptions are drawn while training; None draws training descriptions.
        matched: the trained matchmap; stays frozen.
        samples: folder for sample sheets.
    """

    name = "flow"

    def __init__(
        self,
        config: FlowTraining,
        train: SpeechImageData,
        validation: SpeechImageData | None,
        *,
        speech: SpeechEncoder,
        autoencoder: AnyAutoencoder,
        matched: Matchmap,
        samples: Path,
        seed: int,
        device: torch.device,
        cache: Path,
        console: Console,
    ) -> None:
        super().__init__(config, train, seed=seed, device=device)
        self.shown, self.samples = train if validation is None else validation, samples
        self.speech, self.autoencoder, self.words = speech, autoencoder, matched.words
        config = self.config
        channels = autoencoder.config.latent_channels
        self.state = flow.make_state(config, channels, matched.regions, seed=seed, device=device)
        given: dict[str, Any] = {"cache": cache, "console": console}
        precision = choose_precision(config.trainer.precision, device)
        latents = latents_of(
            train, autoencoder, views=config.views, reach=config.reach, seed=seed, precision=precision, **given
        )
        frames = local_frames(train.store, speech, matched.config, train.utterances, **given)
        told = words_of(frames, self.words, device)
        self.reader = FlowReader(config, train, latents, told, seed, share(config.batch_size))

    def update(self, step: int) -> Callable[..., dict[str, Tensor]]:
        """The step, at the scheduled learning rate."""
        config = self.config
        factor = schedule(step, config.trainer.steps, "trapezoid", warmup=config.warmup_steps)
        set_learning_rate(self.state.optimiser, config.learning_rate * factor)
        return flow.step

    def batch(self, read: dict[str, Any]) -> FlowBatch:
        """The batch on the device."""
        return FlowBatch(**{name: to(tensor, self.device) for name, tensor in read.items()})

    def averaged(self) -> LatentFlow:
        """The model for use: moving-average weights, with word encoder and autoencoder."""
        config, network = self.config, self.state.network
        sizes = LatentFlowConfig(
            self.autoencoder.config,
            self.words.config,
            network.config,
            frames=self.speech.config.embedding,
            steps=config.steps,
            guidance=config.guidance,
            shift=config.shift,
        )
        model = LatentFlow(sizes).to(self.device)
        self.state.ema.copy_to(model.network)
        model.words.load_state_dict(self.words.state_dict())
        model.autoencoder.load_state_dict(self.autoencoder.state_dict())
        return model.eval().requires_grad_(False)

    @torch.no_grad()
    def evaluate(self, step: int) -> dict[str, float]:
        """Writes a sample sheet for validation descriptions: a row for each, the real picture, then samples."""
        data, model = self.shown, self.averaged()
        every = data.utterances[:: max(1, len(data.utterances) // SAMPLE_ROWS)][:SAMPLE_ROWS]
        mel, lengths = encoder_input(data.store, every, "speech")
        words, inside = model.listen(self.speech, mel.to(self.device), lengths)
        stream = torch.Generator().manual_seed(self.seed)
        count = len(every) * SAMPLE_COLUMNS
        noise = torch.randn(count, int(np.prod(self.autoencoder.config.latent_shape)), generator=stream)
        rows = torch.arange(len(every), device=self.device).repeat_interleave(SAMPLE_COLUMNS)
        drawn = model(words[rows], inside[rows], noise.to(self.device)).cpu()
        positions = np.searchsorted(data.images, np.asarray(data.store.image_index)[every])
        sheet = torch.cat([data.crops(positions, None)[:, None], drawn.unflatten(0, (len(every), -1))], dim=1)
        write_sheet(sheet.flatten(0, 1), self.samples / f"flow-{step:08d}.png", columns=1 + SAMPLE_COLUMNS)
        return {"diversity": float(drawn.unflatten(0, (len(every), -1)).std(dim=1).mean())}
