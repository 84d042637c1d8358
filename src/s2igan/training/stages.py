"""Both stages as a trainer runs them: networks, readers, schedules, scores and samples while training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from rich.console import Console
from torch import Tensor
from torchvision.utils import save_image

from s2igan.data.dataset import SpeechImageData
from s2igan.files import disk_errors
from s2igan.metrics.retrieval import cosine_similarity, mean_average_precision, same_label
from s2igan.models.encoders import Encoder
from s2igan.models.generator import Generator, noise
from s2igan.models.image_encoder import ImageEncoder
from s2igan.training import rdg, sen
from s2igan.training.beyond import Beyond
from s2igan.training.beyond.condition_start import start_condition
from s2igan.training.beyond.in_use import calibrate_batch_norm
from s2igan.training.data import RDGReader, SENReader, crops_of, pyramid
from s2igan.training.distributed import share, synchronise_batch_norms
from s2igan.training.frozen import draw_views, image_features, speech_embeddings
from s2igan.training.optimisation import Ema, set_learning_rate
from s2igan.training.rdg import RDGBatch, RDGConfig
from s2igan.training.sen import SENBatch, SENConfig
from s2igan.training.trainer import Stage

SAMPLE_ROWS = 8
"""Descriptions in the sample sheet written while training."""
SAMPLE_COLUMNS = 4
"""Samples of each."""
SCORED_DESCRIPTIONS = 256
"""Validation descriptions that stage 2 is scored on while training."""
SCORED_QUERIES = 1000
"""Validation utterances that stage 1 is scored on while training."""


class SENStage(Stage):
    """Stage 1 on a corpus as a trainer runs it.

    Args:
        validation: what chooses the best weights; None keeps the last ones.
        cache: folder for image features that are encoded once.
        image: an image encoder to use in place of building one.
    """

    name = "sen"

    def __init__(
        self,
        config: SENConfig,
        train: SpeechImageData,
        validation: SpeechImageData | None,
        *,
        seed: int,
        device: torch.device,
        console: Console,
        cache: Path,
        image: ImageEncoder | None = None,
    ) -> None:
        super().__init__(config, train, seed=seed, device=device)
        config, self.validation = self.config, validation
        n_classes = train.n_classes if train.has_classes else 0
        self.state = sen.make_state(config, n_classes, seed=seed, device=device, image=image)
        features = None
        if config.image_views:
            features = image_features(
                train.store,
                self.state.image,
                config.image_size,
                config.image_views,
                cache=cache,
                console=console,
                device=device,
            )
        rows = share(config.batch_size)
        self.reader = SENReader(config, train, features, self.state.speech.reads, seed, rows)
        if config.objective == "distillation":
            sen.fit_principal_components(self.state.image, self._image_features(train))
        for network in (self.state.speech, self.state.image.head):
            synchronise_batch_norms(network, device)
        self.best: dict[str, Any] = {}
        self._keep(-1.0, 0)

    def keep_start(self) -> None:
        """Takes the weights as they are, and their score, for the best so far: training begins from trained ones."""
        self._keep(-1.0 if self.validation is None else self.validation_map(self.validation), 0)

    def update(self, step: int) -> Callable[..., dict[str, Tensor]]:
        """The paper's step, at the scheduled learning rate."""
        config, decay_every = self.config, self.config.decay_epochs * self.steps_per_epoch
        factor = schedule(step, config.trainer.steps, config.schedule, decay_every, config.warmup_steps)
        set_learning_rate(self.state.optimiser, config.learning_rate * factor)
        return sen.step

    def batch(self, read: dict[str, Any]) -> SENBatch:
        """The batch on the device, its images encoded."""
        features = to(read["features"], self.device) if "features" in read else self._encode(read["crops"])
        return SENBatch(to(read["mel"], self.device), read["lengths"], features, to(read["class_ids"], self.device))

    def _image_features(self, data: SpeechImageData) -> Tensor:
        """Frozen features of all images of a split, as evaluation sees them."""
        if self.reader.features is not None:
            return draw_views(self.reader.features, data.images, None).to(self.device)
        return self._encode(list(crops_of(data, np.arange(len(data)), None)))

    @torch.no_grad()
    def _encode(self, images: list[Tensor]) -> Tensor:
        return torch.cat([self.state.image.features(to(part, self.device)) for part in images])

    def evaluate(self, step: int) -> dict[str, float]:
        """mAP of spoken queries against the images of the validation split; keeps the best weights (docs/method.md,
        section 8, row 10)."""
        if self.validation is None:
            self._keep(float(step), step)
            return {}
        score = self.validation_map(self.validation)
        if score >= self.best["score"]:
            self._keep(score, step)
        return {"validation_map": score}

    def validation_map(self, data: SpeechImageData) -> float:
        """Class mAP of (up to `SCORED_QUERIES`, evenly spaced) spoken queries of a split against all its images."""
        utterances = data.utterances[:: max(1, len(data.utterances) // SCORED_QUERIES)]
        a = speech_embeddings(data.store, self.state.speech, utterances, device=self.device)
        training = self.state.image.training
        self.state.image.eval()  # else the head would drop features, and learn the mean of pictures to choose by
        with torch.no_grad():
            v = self.state.image.project(self._image_features(data)).cpu()
        self.state.image.train(training)
        query_class = data.classes[np.searchsorted(data.images, np.asarray(data.store.image_index)[utterances])]
        similarity = cosine_similarity(a.numpy(), v.numpy())
        return float(mean_average_precision(similarity, same_label(query_class, data.classes)))

    def _keep(self, score: float, step: int) -> None:
        networks = {"speech": self.state.speech, "image": self.state.image.head}
        self.best = {"score": score, "step": step} | {k: deepcopy(v.state_dict()) for k, v in networks.items()}

    def state_dict(self) -> dict[str, Any]:
        """Trained state and the best weights so far."""
        return {"state": self.state.state_dict(), "best": self.best}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes back what `state_dict` gave."""
        self.state.load_state_dict(state["state"])
        self.best = state["best"]


class RDGStage(Stage):
    """Stage 2 on a corpus as a trainer runs it.

    Args:
        validation: whose descriptions are drawn while training; None draws training descriptions.
        speech: the speech encoder of stage 1.
        image: the image encoder of stage 1; stays frozen.
        samples: folder for sample sheets.
        cache: folder for image features that are encoded once.
    """

    name = "rdg"

    def __init__(
        self,
        config: RDGConfig,
        beyond: Beyond,
        train: SpeechImageData,
        validation: SpeechImageData | None,
        *,
        speech: Encoder,
        image: ImageEncoder,
        samples: Path,
        seed: int,
        device: torch.device,
        console: Console,
        cache: Path,
    ) -> None:
        super().__init__(config, train, seed=seed, device=device)
        config, self.validation = self.config, validation
        self.image, self.speech, self.samples, self.beyond = image.requires_grad_(False), speech, samples, beyond
        self.state = rdg.make_state(
            config,
            image_embedding=image.config.embedding,
            encode=self.image,
            speech=speech,
            seed=seed,
            device=device,
            noise_penalty=beyond.noise_penalty,
        )
        start_condition(self.state.generator, beyond.condition_start)
        self.begin_average()
        trained = (self.state.generator, *self.state.discriminators.values(), self.state.relation, self.state.speech)
        for network in trained:
            if network is not None:
                synchronise_batch_norms(network, device)
        embeddings = None
        if config.speech == "frozen":
            embeddings = speech_embeddings(train.store, speech, train.utterances, device=device, console=console)
        views = None
        if config.image_views:
            features = image_features(
                train.store, image, train.image_size, config.image_views, cache=cache, console=console, device=device
            )
            with torch.no_grad():
                flat = features.flatten(0, 1).float()
                projected = torch.cat([image.project(part.to(device)).cpu() for part in flat.split(4096)])
            views = projected.view(*features.shape[:2], -1)
        rows = share(config.batch_size)
        self.reader = RDGReader(config, train, views, embeddings, speech.reads, seed, rows, beyond)

    def begin_from(self, weights: Mapping[str, Tensor]) -> None:
        """Takes the generator's weights, such as those that a warm start left; the moving average begins there."""
        self.state.generator.load_state_dict(weights)
        self.begin_average()

    def begin_average(self) -> None:
        """The moving average begins anew at the generator's present weights."""
        self.state.ema = Ema(self.state.generator, self.config.ema_decay)

    def update(self, step: int) -> Callable[..., dict[str, Tensor]]:
        """The paper's step, at the scheduled learning rates."""
        config = self.config
        factor = schedule(step, config.trainer.steps, config.schedule)
        warmed = schedule(step, config.trainer.steps, config.schedule, warmup=config.generator_warmup_steps)
        set_learning_rate(self.state.generator_optimiser, config.learning_rate * warmed)
        for optimiser in self.state.discriminator_optimisers.values():
            set_learning_rate(optimiser, config.discriminator_learning_rate * factor)
        return rdg.step

    def batch(self, read: dict[str, Any]) -> RDGBatch:
        """The batch on the device, its images encoded."""
        device = self.device
        speech = to(read["mel" if "mel" in read else "embedding"], device)
        embedding = (speech, read["lengths"]) if "mel" in read else speech
        with torch.no_grad():
            relation = {
                name: to(images, device) if images.dim() == 2 else self.image(to(images, device))
                for name, images in read["relation"].items()
            }
        return RDGBatch(
            real=self._scales(read["real"]),
            mismatched=self._scales(read["mismatched"]) if "mismatched" in read else {},
            embedding=embedding,
            z=to(read["z"], device),
            eps=to(read["eps"], device),
            relation_features=relation,
            identical=self.train.has_classes,
            shifts=to(read["shifts"], device) if "shifts" in read else None,
            noise={side: to(drawn, device) for side, drawn in read.get("noise", {}).items()},
        )

    def _scales(self, images: Tensor) -> dict[int, Tensor]:
        """Images at every scale, on the device."""
        return pyramid(to(images, self.device), self.config.generator.resolutions)

    def averaged(self) -> Generator:
        """The generator for use and evaluation: moving-average weights."""
        embeddings = self.reader.speech_embeddings
        if embeddings is None:
            utterances = self.train.utterances[:: max(1, len(self.train.utterances) // 1024)]
            embeddings = speech_embeddings(self.train.store, self.speech, utterances, device=self.device)
        averaged = Generator(self.config.generator).to(self.device).to(memory_format=torch.channels_last)
        averaged.load_state_dict(self.state.generator.state_dict())
        self.state.ema.copy_to(averaged)
        if self.beyond.in_use.calibrate_batch_norm:
            calibrate_batch_norm(averaged, embeddings, 2 * self.config.batch_size, seed=self.seed)
        return averaged.eval()

    def evaluate(self, step: int) -> dict[str, float]:
        """Writes a sample sheet for validation descriptions; how well their images fit, by the frozen encoders."""
        data = self.validation if self.validation is not None else self.train
        generator = self.averaged()
        chosen = data.utterances[:: max(1, len(data.utterances) // SCORED_DESCRIPTIONS)][:SCORED_DESCRIPTIONS]
        embeddings = speech_embeddings(data.store, self.speech, chosen, device=self.device)
        rng = torch.Generator().manual_seed(self.seed)
        with torch.no_grad():
            images, fitting = [], []
            for part in embeddings.split(64):
                images.append(self._draw(generator, part, rng))
                fitting.append((self.image(images[-1]).cpu() * part).sum(dim=1))
            rows = torch.linspace(0, len(chosen) - 1, SAMPLE_ROWS).long()
            sheet = self._draw(generator, embeddings[rows].repeat_interleave(SAMPLE_COLUMNS, 0), rng).cpu()
        positions = np.searchsorted(data.images, np.asarray(data.store.image_index)[chosen[rows.numpy()]])
        # A row for each description: the real image, then the samples.
        sheet = torch.cat([data.crops(positions, None)[:, None], sheet.unflatten(0, (SAMPLE_ROWS, -1))], dim=1)
        write_sheet(sheet.flatten(0, 1), self.samples / f"rdg-{step:08d}.png", columns=1 + SAMPLE_COLUMNS)
        return {
            "validation_cosine": float(torch.cat(fitting).mean()),
            "diversity": float(torch.cat(images).std(dim=0).mean()),
        }

    def _draw(self, generator: Generator, embedding: Tensor, rng: torch.Generator) -> Tensor:
        """The largest images of descriptions."""
        z, eps = noise(self.config.generator, len(embedding), rng)
        images: Tensor = generator(*(tensor.to(self.device) for tensor in (embedding, z, eps))).images[-1]
        return images


def write_sheet(images: Float[Tensor, "pictures 3 side side"], path: Path, *, columns: int) -> None:
    """Pictures side by side as a PNG."""
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        save_image(images.cpu(), path, nrow=columns, padding=0, normalize=True, value_range=(-1, 1))


def schedule(step: int, steps: int, kind: str, decay_every: int = 0, warmup: int = 0) -> float:
    """Factor on the learning rate: "step" falls tenfold every `decay_every` steps, "cosine" falls to 0 at the last
    step, "constant" stays at 1, "trapezoid" stays there until the last quarter and falls linearly to 0. `warmup` steps
    rise linearly before any of them."""
    factor = min(1.0, (step + 1) / warmup) if warmup else 1.0
    if kind == "cosine":
        return float(factor * 0.5 * (1.0 + np.cos(np.pi * min(1.0, step / max(1, steps)))))
    if kind == "step":
        return float(factor * 0.1 ** (step // decay_every))
    if kind == "trapezoid":
        return factor * min(1.0, 4 * (1 - step / max(1, steps)))
    return factor


def to(x: Tensor, device: torch.device) -> Tensor:
    """The tensor on a device, from pinned memory without waiting.

    Images lie channels last, as the networks' weights do. If both lay contiguous, the step of stage 2 would take 2 %
    longer in the sizes of `birds`, 9 % at full size (`benchmarks/tricks.py birds-rdg`, `cub-rdg`).
    """
    if x.dim() == 4:
        return x.to(device, memory_format=torch.channels_last, non_blocking=True)
    return x.to(device, non_blocking=True)
