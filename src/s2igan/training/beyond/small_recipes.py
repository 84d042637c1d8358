"""What the recipes `demo` and `birds` add to stage 2. Not in the paper, and off by default (docs/method.md, section 9).

Reconstruction warm-up (VAE-GAN), extrapolated embeddings, contrastive terms, late weights and a condition scale. They
share a few rows of the batch, and so one file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from s2igan.data.dataset import SpeechImageData
from s2igan.errors import UserError
from s2igan.losses import MATCHING_SCALE, Negatives, kl_loss, matching_loss
from s2igan.models.discriminator import FEATURE_MULTIPLE, FEATURE_SIDE
from s2igan.models.generator import Generator, GeneratorConfig
from s2igan.models.posterior import Posterior, PosteriorOutput
from s2igan.training.optimisation import backward, optimiser_step, set_learning_rate, weighted_sum
from s2igan.training.rdg import Extra, Fakes, RDGBatch, RDGConfig, RDGState, Terms, draw, speech_embedding

LEAST_OWN = 2
"""Rows of a batch whose embedding is never extrapolated: the relation supervisor's batch norms need two."""
LARGEST_SHIFT = 0.7
"""Most of a difference of two embeddings that is added to a third; the share is uniform from 0."""


@dataclass(frozen=True)
class SmallRecipes:
    """Settings of the additions; the defaults leave all of them off."""

    contrast: float = 0.0
    """Weight in the generator's loss of a matching loss (Eqs. 1-4) between discriminator features and speech:
    discriminators learn to tell the batch's descriptions apart on real images, the generator to be told apart by
    them."""
    discriminator_contrast: float = 1.0
    """Weight of that loss in the discriminators'."""
    contrast_dim: int = 128
    contrast_scale: float = MATCHING_SCALE
    semantic: float = 0.0
    """Weight of the matching loss (Eqs. 1-4) between fakes, through the frozen image encoder, and speech."""
    negatives: int = 0
    """Random training descriptions from which both contrastive terms tell images apart, beside those of the batch.
    Needs a frozen speech encoder."""
    late_steps: int = 0
    """Last steps in which the two weights below stand for `contrast` and `semantic`."""
    late_contrast: float = 0.0
    late_semantic: float = 0.0
    extrapolated: float = 0.0
    """Share of the batch, its last rows, whose fakes are drawn for their embedding plus the difference of two others:
    combinations that no training image shows, after GAN-INT (Reed et al. 2016), which interpolates."""
    reconstruction: float = 0.0
    """Weight of the distance between real images and what the generator makes of their descriptions with z from an
    approximate posterior (VAE-GAN, Larsen et al. 2016); in a share of the batch, while the others take theirs from
    images that they do not describe."""
    reconstruction_share: float = 0.5
    posterior_kl: float = 1.0
    """Weight of the posterior's divergence from standard normal noise."""
    noise_components: int = 256
    """Training images whose posteriors z is a mixture of in use."""
    warmup_steps: int = 0
    """Reconstruction warm-up: first steps in which the generator only reconstructs, on whole batches."""
    warmup_learning_rate: float = 1e-3
    condition_scale: float = 1.0
    """In use, how many times as far from the average training description c lies."""

    @property
    def on(self) -> bool:
        """Whether anything is added to a step."""
        return bool(self.contrast or self.semantic or self.extrapolated or self.reconstruction)

    def check(self, rdg: RDGConfig) -> None:
        """Raises UserError where the settings do not fit each other or stage 2."""
        if self.reconstruction and self.reconstruction_share + self.extrapolated > 1:
            raise UserError(
                f"reconstruction_share {self.reconstruction_share} and extrapolated {self.extrapolated} are more than "
                "the whole batch together; lower one of them."
            )
        rows = rdg.batch_size // rdg.accumulate
        if self.reconstruction and round(self.reconstruction_share * rows) < 1:
            raise UserError(
                f"reconstruction_share {self.reconstruction_share} is no image of {rows}; raise it, or set "
                "reconstruction to 0."
            )
        if self.warmup_steps and not self.reconstruction:
            raise UserError(
                f"warmup_steps {self.warmup_steps} reconstruct nothing; give reconstruction a weight, or set them to 0."
            )
        for name in ("contrast", "semantic"):
            early, late = getattr(self, name), getattr(self, f"late_{name}")
            if self.late_steps and bool(early) != bool(late):
                raise UserError(
                    f"{name} {early:g} and late_{name} {late:g} turn a term on or off within a training; give both a "
                    "weight, or neither, or set late_steps to 0."
                )
        if self.negatives and rdg.speech != "frozen":
            raise UserError(
                f"negatives {self.negatives} needs a speech encoder that stays as it is, and this recipe's is "
                f"{rdg.speech}; set negatives to 0."
            )


class MatchHead(nn.Module):
    """Embeds images, from a discriminator's last map, beside speech at unit length."""

    def __init__(self, features: int, embedding: int, dimensions: int) -> None:
        super().__init__()
        self.image = nn.Conv2d(features, dimensions, FEATURE_SIDE)
        self.speech = nn.Linear(embedding, dimensions)

    def forward(
        self, feature_map: Float[Tensor, "rows features 4 4"], embedding: Float[Tensor, "n embedding"]
    ) -> tuple[Float[Tensor, "rows match"], Float[Tensor, "n match"]]:
        image = functional.normalize(self.image(feature_map).flatten(1), dim=1)
        return image, functional.normalize(self.speech(embedding), dim=1)


@dataclass
class SmallFakes(Fakes):
    """Fakes, what they were drawn for, and the posterior of z."""

    real_embedding: Tensor = None  # type: ignore[assignment]
    """Embeddings of the real images."""
    embedding: Tensor = None  # type: ignore[assignment]
    """Embeddings that the fakes were drawn for."""
    posterior: PosteriorOutput | None = None


class SmallExtra(Extra):
    """The additions, as `rdg.step` takes them."""

    def __init__(self, config: SmallRecipes, rdg: RDGConfig) -> None:
        super().__init__()
        config.check(rdg)
        self.config, self.rdg = config, rdg
        self.contrast_weight, self.semantic_weight = config.contrast, config.semantic
        if config.contrast:
            features, embedding = FEATURE_MULTIPLE * rdg.discriminator_width, rdg.generator.embedding
            for resolution in rdg.generator.resolutions:
                self.heads[str(resolution)] = MatchHead(features, embedding, config.contrast_dim)
        if config.reconstruction:
            self.helpers["posterior"] = Posterior(rdg.generator.z)

    def at(self, step: int) -> None:
        """Sets the weights of a step."""
        late = step >= self.rdg.trainer.steps - self.config.late_steps
        self.contrast_weight = self.config.late_contrast if late else self.config.contrast
        self.semantic_weight = self.config.late_semantic if late else self.config.semantic

    def draw(self, state: RDGState, batch: RDGBatch, config: RDGConfig) -> SmallFakes:
        """Fakes for descriptions of which the last rows are extrapolated, with z of the posterior for the first."""
        real = speech_embedding(state, batch)
        own = max(LEAST_OWN, len(real) - round(self.config.extrapolated * len(real)))
        embedding = extrapolate(real, batch.extra["shift"], own) if self.config.extrapolated else real
        z, posterior = self.draw_z(batch, self.config.reconstruction_share)
        fakes = draw(state, embedding, z, batch, config)
        if fakes.features is None and self.semantic_weight and state.encode is not None:
            fakes.features = state.encode(fakes.images[max(fakes.images)])
        if self.config.extrapolated:
            with torch.no_grad():
                c, mu, _ = state.generator.conditioning(real, batch.eps)
            fakes.real_condition = mu if config.condition_on == "mu" else c
        given = {name: getattr(fakes, name) for name in ("images", "out", "condition", "real_condition", "features")}
        return SmallFakes(
            **given, matching=own, real_embedding=real.detach(), embedding=embedding.detach(), posterior=posterior
        )

    def draw_z(self, batch: RDGBatch, share: float) -> tuple[Tensor, PosteriorOutput | None]:
        """The noise of a step: in a share of the rows, the first, z of their own real image; in the others z of one of
        those images, without teaching the posterior."""
        if "posterior" not in self.helpers:
            return batch.z, None
        n = round(share * len(batch.z))
        posterior = self.helpers["posterior"](batch.real[max(batch.real)][:n])
        others = torch.arange(n, len(batch.z), device=batch.z.device) % n
        mu = torch.cat((posterior.mu, posterior.mu[others].detach()))
        logvar = torch.cat((posterior.logvar, posterior.logvar[others].detach()))
        return (mu + torch.exp(logvar / 2) * batch.z).to(batch.z.dtype), posterior

    def discriminator_terms(self, resolution: int, real_map: Tensor, fakes: Fakes, batch: RDGBatch) -> Terms:
        """The contrast of real images with their own descriptions."""
        if not self.contrast_weight:
            return {}
        assert isinstance(fakes, SmallFakes)
        term = self._contrast(resolution, real_map, fakes.real_embedding, batch.class_ids, batch)
        return {"contrast": (self.config.discriminator_contrast, term)}

    def generator_terms(self, fake_maps: Mapping[int, Tensor], fakes: Fakes, batch: RDGBatch) -> Terms:
        """Contrast and semantic matching of fakes with what they were drawn for, and reconstruction."""
        assert isinstance(fakes, SmallFakes)
        terms: Terms = {}
        ids = batch.class_ids
        if ids is not None and self.config.extrapolated:
            ids = classes_of_fakes(ids, fakes.matching)
        if self.contrast_weight:
            contrasts = [self._contrast(side, seen, fakes.embedding, ids, batch) for side, seen in fake_maps.items()]
            terms["contrast"] = self.contrast_weight, torch.stack(contrasts).mean()
        if self.semantic_weight:
            assert fakes.features is not None
            loss = matching_loss(fakes.features, fakes.embedding, ids, negatives=negatives_of(batch))
            terms["semantic"] = self.semantic_weight, weighted_sum(loss)
        if fakes.posterior is not None:
            for name, value in reconstruction(fakes.images, batch, fakes.posterior).items():
                terms[name] = getattr(self.config, name), value
        return terms

    def _contrast(
        self, resolution: int, feature_map: Tensor, embedding: Tensor, class_ids: Tensor | None, batch: RDGBatch
    ) -> Tensor:
        """Matching loss (Eqs. 1-4) between what a discriminator sees in images and descriptions."""
        head = self.head(resolution)
        assert isinstance(head, MatchHead)
        negatives = negatives_of(batch)
        image, speech = head(feature_map, embedding)
        if negatives is not None:
            negatives = negatives._replace(speech=functional.normalize(head.speech(negatives.speech), dim=1))
        return weighted_sum(matching_loss(image, speech, class_ids, self.config.contrast_scale, negatives))

    def warmup_step(self, state: RDGState, batch: RDGBatch, config: RDGConfig) -> dict[str, Tensor]:
        """One step of the reconstruction warm-up: the generator reconstructs the whole batch, nothing else trains."""
        set_learning_rate(state.generator_optimiser, self.config.warmup_learning_rate)
        weights = {"kl": config.kl, **{name: getattr(self.config, name) for name in ("reconstruction", "posterior_kl")}}
        logs = []
        for part in batch.parts(config.accumulate):
            z, posterior = self.draw_z(part, 1.0)
            assert posterior is not None
            fakes = draw(replace(state, encode=None), speech_embedding(state, part), z, part, config)
            mu, logvar = fakes.out.mu, fakes.out.logvar
            terms = {"kl": kl_loss(mu, logvar), **reconstruction(fakes.images, part, posterior)}
            terms["total"] = weighted_sum(terms, weights)
            backward(terms["total"], config.accumulate)
            logs.append(terms | {"mu": mu.abs().mean(), "variance": logvar.exp().mean()})
        norms = optimiser_step({"generator": state.generator_optimiser})
        state.ema.update(state.generator)
        return {f"generator/{key}": torch.stack([log[key].detach() for log in logs]).mean() for key in logs[0]} | norms

    def generator_in_use(self, config: GeneratorConfig, components: int) -> GeneratorConfig:
        """The sizes of the generator in use: with a mixture for z and a condition scale, where they are on."""
        components = components if "posterior" in self.helpers else 0
        return replace(config, noise_components=components, condition_scale=self.config.condition_scale)

    @torch.no_grad()
    def finish(self, generator: Generator, embeddings: Tensor, images: Tensor | None) -> None:
        """Sets the average description and the mixture of z of a generator in use.

        Args:
            generator: of `generator_in_use`.
            embeddings: training descriptions.
            images: training images (components, 3, side, side).
        """
        device = next(generator.parameters()).device
        if generator.condition_scale is not None:
            generator.condition_scale.average.copy_(generator.conditioning(embeddings.to(device)).mu.mean(dim=0))
        if generator.mixture is not None:
            assert images is not None
            posterior = self.helpers["posterior"](images.to(device))
            generator.mixture.mu.copy_(posterior.mu)
            generator.mixture.logvar.copy_(posterior.logvar)


def extrapolate(
    embedding: Float[Tensor, "batch embedding"], shift: Float[Tensor, " batch"], own: int
) -> Float[Tensor, "batch embedding"]:
    """Each row after the first ``own`` plus a share of the next row less the one after it, at its own length."""
    if own >= len(embedding):
        return embedding
    mine = embedding[own:]
    difference = (embedding.roll(-1, 0) - embedding.roll(-2, 0))[own:]
    there = mine + shift[own:, None] * difference
    there = functional.normalize(there, dim=1) * mine.norm(dim=1, keepdim=True)
    return torch.cat((embedding[:own], there.to(embedding.dtype)))


def classes_of_fakes(class_ids: Int[Tensor, " batch"], own: int | None) -> Int[Tensor, " batch"]:
    """Classes of the descriptions that fakes were drawn for: an extrapolated one is of no class."""
    none = -1 - torch.arange(len(class_ids), device=class_ids.device)
    return class_ids if own is None else torch.cat((class_ids[:own], none[own:]))


def reconstruction(images: Mapping[int, Tensor], batch: RDGBatch, posterior: PosteriorOutput) -> dict[str, Tensor]:
    """Mean absolute difference between real images and their reconstructions, the mean over the scales; and the
    divergence of the posterior from the noise."""
    n = len(posterior.mu)
    distances = [(image[:n].float() - batch.real[side][:n]).abs().mean() for side, image in images.items()]
    return {"reconstruction": torch.stack(distances).mean(), "posterior_kl": kl_loss(posterior.mu, posterior.logvar)}


def negatives_of(batch: RDGBatch) -> Negatives | None:
    """The further descriptions of a batch, where there are any."""
    if "negatives" not in batch.shared:
        return None
    return Negatives(batch.shared["negatives"], batch.shared["negative_classes"])


def read(
    config: SmallRecipes,
    step: int,
    n: int,
    data: SpeechImageData,
    embedding_of: Any,
    rng: np.random.Generator,
    torch_rng: torch.Generator,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What a step takes beyond the paper's batch: for each of ``n`` rows, and for all of them together.

    Args:
        embedding_of: utterances (numbers in the store) -> their embeddings.
    """
    rows = {"shift": LARGEST_SHIFT * torch.rand(n, generator=torch_rng)} if config.extrapolated else {}
    shared = {}
    if config.negatives and step >= config.warmup_steps:
        drawn = rng.integers(len(data), size=config.negatives)
        shared["negatives"] = embedding_of(data.caption(drawn, rng))
        shared["negative_classes"] = torch.from_numpy(data.classes[drawn])
    return rows, shared
