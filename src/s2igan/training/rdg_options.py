"""What the small recipes add to stage 2 and the paper does not have (docs/concepts.md says why).

Practice and reconstruction (VAE-GAN), descriptions that no image shows, and contrastive terms: all off by default.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from s2igan.losses import Negatives, kl_loss, matching_loss
from s2igan.models.discriminator import Discriminator
from s2igan.models.generator import GeneratorOutput
from s2igan.models.posterior import PosteriorOutput
from s2igan.training.distributed import gather_together, rank
from s2igan.training.rdg_config import RDGConfig
from s2igan.training.rdg_state import RDGBatch, RDGState, hear
from s2igan.training.trainer import weighted_sum
from s2igan.training.update import update

LARGEST_SHIFT = 0.7
"""Most of a difference of two descriptions that is added to a third; the share is uniform from 0."""


def practise(state: RDGState, batch: RDGBatch, config: RDGConfig) -> dict[str, Tensor]:
    """One step without judges: the generator reconstructs the whole batch (see `RDGConfig.practice_steps`)."""
    logs = []
    weights = {"kl": config.kl, "reconstruction": config.reconstruction, "posterior_kl": config.posterior_kl}
    for part in batch.parts(config.accumulate):
        z, posterior = draw_z(state, part, 1.0)
        assert posterior is not None
        out = state.generator(hear(state, part), z, part.eps, len(part.real))
        fakes = dict(zip(sorted(part.real), out.images, strict=True))
        terms = {"kl": kl_loss(out.mu, out.logvar), **reconstruction(fakes, part, posterior)}
        loss = weighted_sum(terms, weights)
        update(state.generator_optimiser, loss, "the generator", part.part)
        named = {f"generator/{key}": value for key, value in terms.items()} | {"generator/total": loss}
        logs.append(named | condition_log(out))
    state.ema.update(state.generator)
    return {key: torch.stack([log[key].detach() for log in logs]).mean(dim=0) for key in logs[0]}


def condition_log(out: GeneratorOutput) -> dict[str, Tensor]:
    """What tells whether the generator listens: the mean of |mu|, and of the variance."""
    return {"mu": out.mu.abs().mean(), "variance": out.logvar.exp().mean()}


def moved(embedding: Float[Tensor, "batch embedding"], batch: RDGBatch, own: slice) -> Float[Tensor, "batch embedding"]:
    """Each of the rows after `own` plus a share of the next row less the one after it, at its own length; the others as
    they are."""
    if own.stop >= len(embedding):
        return embedding
    assert batch.shift is not None
    mine = embedding[own.stop :]
    difference = (embedding.roll(-1, 0) - embedding.roll(-2, 0))[own.stop :]
    there = mine + batch.shift[own.stop :, None] * difference
    there = functional.normalize(there, dim=1) * mine.norm(dim=1, keepdim=True)
    return torch.cat((embedding[own], there.to(embedding.dtype)))


def moved_classes(class_ids: Int[Tensor, " batch"], own: slice) -> Int[Tensor, " batch"]:
    """Classes of the descriptions that the fakes were made for: a moved one is of no class, so that the descriptions of
    the class that it comes from are among those that its fake is told apart from."""
    none = -1 - torch.arange(len(class_ids), device=class_ids.device) - len(class_ids) * rank()
    return torch.cat((class_ids[own], none[own.stop :]))


def draw_z(state: RDGState, batch: RDGBatch, share: float) -> tuple[Tensor, PosteriorOutput | None]:
    """The noise of the step.

    Where there is a posterior, a share of the rows, the first, have z of their own real image; the others have z of one
    of those images, which somebody else's description is about, and do not teach the posterior.
    """
    if state.posterior is None:
        return batch.z, None
    n = round(share * len(batch.z))
    posterior = state.posterior(batch.real[max(batch.real)][:n])
    others = torch.arange(n, len(batch.z), device=batch.z.device) % n
    mu = torch.cat((posterior.mu, posterior.mu[others].detach()))
    logvar = torch.cat((posterior.logvar, posterior.logvar[others].detach()))
    return (mu + torch.exp(logvar / 2) * batch.z).to(batch.z.dtype), posterior


def reconstruction(fakes: dict[int, Tensor], batch: RDGBatch, posterior: PosteriorOutput) -> dict[str, Tensor]:
    """Mean absolute difference between real images and their reconstructions, the mean over the scales; and the
    divergence of the posterior from the noise."""
    n = len(posterior.mu)
    distances = [(fake[:n].float() - batch.real[resolution][:n]).abs().mean() for resolution, fake in fakes.items()]
    return {"reconstruction": torch.stack(distances).mean(), "posterior_kl": kl_loss(posterior.mu, posterior.logvar)}


class Descriptions(NamedTuple):
    """What the rows of all processes say, without gradients."""

    embedding: Float[Tensor, "rows embedding"]
    class_ids: Int[Tensor, " rows"] | None


class Described(NamedTuple):
    """The descriptions that real images have, and those that fakes were made for."""

    real: Descriptions
    fake: Descriptions


def describe(
    heard: Float[Tensor, "batch embedding"],
    embedding: Float[Tensor, "batch embedding"],
    class_ids: Int[Tensor, " batch"] | None,
    own: slice,
) -> Described:
    """What `moved` was given and made of it, and `moved_classes`."""
    real, fake = gather_together(heard.detach(), embedding.detach())
    if class_ids is None:
        return Described(Descriptions(real, None), Descriptions(fake, None))
    real_ids, fake_ids = gather_together(class_ids[:, None], moved_classes(class_ids, own)[:, None])
    return Described(Descriptions(real, real_ids[:, 0]), Descriptions(fake, fake_ids[:, 0]))


def contrast(
    network: Discriminator,
    matched: Float[Tensor, "rows match"],
    described: Descriptions,
    negatives: Negatives | None,
    config: RDGConfig,
) -> Tensor:
    """Matching loss (Eqs. 1-4) between what a discriminator sees in the images of all processes and their
    descriptions."""
    if negatives is not None:
        negatives = negatives._replace(speech=network.match_speech(negatives.speech))
    speech = network.match_speech(described.embedding)
    return weighted_sum(matching_loss(matched, speech, described.class_ids, config.contrast_scale, negatives))
