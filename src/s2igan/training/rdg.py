"""Stage 2: the relation-supervised densely-stacked generative model (RDG; paper section 2.2, method.md section 4).

`step` is the paper's algorithm: one forward pass of the generator, an update of each scale's discriminator, of the
relation supervisor, and of the generator on the same fakes, then the moving average.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from s2igan.losses import discriminator_loss, generator_loss, matching_loss, relation_loss
from s2igan.models.generator import GeneratorOutput
from s2igan.models.posterior import PosteriorOutput
from s2igan.training.adam import Adam
from s2igan.training.batch_norm import statistics_held
from s2igan.training.distributed import gather, gather_together
from s2igan.training.rdg_config import RDGConfig
from s2igan.training.rdg_options import Described, condition_log, contrast, describe, draw_z, moved, reconstruction
from s2igan.training.rdg_state import RDGBatch, RDGState, hear
from s2igan.training.trainer import weighted_sum
from s2igan.training.update import backward, take_steps, update

LEAST_OWN = 2
"""Rows of a batch whose description always stays its own: the relation supervisor's batch norms need two."""


def step(state: RDGState, batch: RDGBatch, config: RDGConfig) -> dict[str, Tensor]:
    """One step of the paper's algorithm on one batch; returns every loss by name."""
    parts = batch.parts(config.accumulate)
    if len(parts) == 1:
        made = generate(state, batch, config)
        log = judges_step(state, batch, made, config) | generator_step(state, batch, made, config)
    else:  # the generator's graph of one part at a time: its fakes are made again when the judges are updated
        logs: list[dict[str, Tensor]] = [{} for _ in parts]
        for log, part in zip(logs, parts, strict=True):
            with torch.no_grad(), statistics_held(state.generator), statistics_held(state.speech or nn.Identity()):
                made = generate(state, part, config)
            log |= judges_step(state, part, made, config)
        for log, part in zip(logs, parts, strict=True):
            log |= generator_step(state, part, generate(state, part, config), config)
        log = {key: torch.stack([one[key].detach() for one in logs]).mean(dim=0) for key in logs[0]}
    state.ema.update(state.generator)
    return {key: value.detach() for key, value in log.items()}


@dataclass
class Made:
    """What the generator made of a batch."""

    out: GeneratorOutput
    fakes: dict[int, Tensor]
    """By resolution."""
    condition: Float[Tensor, "batch condition"]
    """What discriminators are conditioned on."""
    embedding: Float[Tensor, "batch embedding"]
    """The descriptions that the fakes were made for: those of the real images but for the rows that `moved` moves."""
    real_condition: Float[Tensor, "batch condition"]
    """As `condition`, for the real images."""
    own: slice
    """The rows that `moved` leaves as they are."""
    described: Described
    """The descriptions of all processes' rows, for what compares images with them."""
    features: Float[Tensor, "batch features"] | None
    """Image embeddings of the fakes of the highest scale, where a loss looks at them."""
    posterior: PosteriorOutput | None
    """Of the z of the first rows, where real images are reconstructed."""


def generate(state: RDGState, batch: RDGBatch, config: RDGConfig) -> Made:
    """One forward pass of the generator, and of the speech encoder where it trains along."""
    heard = hear(state, batch)
    own = slice(0, max(LEAST_OWN, len(heard) - round(config.arithmetic * len(heard))))
    embedding = moved(heard, batch, own)
    z, posterior = draw_z(state, batch, config.reconstruction_share)
    out = state.generator(embedding, z, batch.eps, len(batch.real))
    fakes = dict(zip(sorted(batch.real), out.images, strict=True))
    condition = real_condition = out.mu if config.condition_on == "mu" else out.c
    if config.arithmetic:
        with torch.no_grad():
            c, mu, _ = state.generator.conditioning(heard, batch.eps)
        real_condition = mu if config.condition_on == "mu" else c
    features = None
    if state.relation is not None or config.semantic:
        assert state.encode is not None
        features = state.encode(fakes[max(fakes)])
    described = describe(heard, embedding, batch.class_ids, own)
    return Made(out, fakes, condition, embedding, real_condition, own, described, features, posterior)


def judges_step(state: RDGState, batch: RDGBatch, made: Made, config: RDGConfig) -> dict[str, Tensor]:
    """Updates the discriminators and the relation supervisor.

    None of them sees another: after the backward pass of each, all take their steps at once.
    """
    log: dict[str, Tensor] = {}
    optimisers: dict[str, Adam] = {}
    for resolution in made.fakes:
        log |= discriminator_pass(state, resolution, batch, made, config)
        optimisers[f"discriminator {resolution}"] = state.discriminator_optimisers[resolution]
    if state.relation_optimiser is not None:
        assert made.features is not None
        log |= relation_pass(state, batch, made.features.detach()[made.own], made.own)
        optimisers["the relation supervisor"] = state.relation_optimiser
    if batch.part.last:
        take_steps(optimisers)
    return log


def discriminator_pass(
    state: RDGState,
    resolution: int,
    batch: RDGBatch,
    made: Made,
    config: RDGConfig,
) -> dict[str, Tensor]:
    """The losses of one scale's discriminator (Eq. 12) and their gradient.

    Real, mismatched and fake images pass together, as groups in this order, which batch norm does not mix.
    """
    network = state.discriminators[resolution]
    condition = made.real_condition.detach()
    seen = [(batch.real[resolution], condition)]
    if config.mismatched:
        seen.append((batch.mismatched[resolution], condition))
    seen.append((made.fakes[resolution].detach(), made.condition.detach()))
    features = network.features(torch.cat([images for images, _ in seen]), groups=len(seen))
    cond = network.conditional(features, torch.cat([given for _, given in seen]), groups=len(seen))
    real, *others, fake = zip(cond.chunk(len(seen)), network.unconditional(features).chunk(len(seen)), strict=True)
    mismatched = others[0] if config.mismatched else None
    terms = discriminator_loss(real, fake, mismatched)
    loss = weighted_sum(terms)
    if config.contrast:
        own = gather(network.match(features[: len(condition)]))
        terms["contrast"] = contrast(network, own, made.described.real, batch.negatives, config)
        loss = loss + config.discriminator_contrast * terms["contrast"]

    backward(state.discriminator_optimisers[resolution], loss, batch.part)
    log = {f"discriminator_{resolution}/{key}": value for key, value in terms.items()}
    log[f"discriminator_{resolution}/total"] = loss
    if mismatched is not None:
        log[f"discriminator_{resolution}/told_apart"] = (real[0] > mismatched[0]).float().mean()
    return log


def relation_pass(
    state: RDGState, batch: RDGBatch, fake: Float[Tensor, "rows features"], rows: slice
) -> dict[str, Tensor]:
    """The relation supervisor's loss (Eq. 8) and its gradient, on pairs with the ground truth: identical, positive,
    fake, negative."""
    assert state.relation is not None
    assert state.relation_optimiser is not None
    real = batch.relation_features["real"]
    identical = state.relation(real, real)
    positive = state.relation(real, batch.relation_features["similar"])
    generated = state.relation(real[rows], fake)
    negative = state.relation(real, batch.relation_features["negative"])
    terms = relation_loss(positive, generated, negative, identical if batch.identical else None)
    loss = weighted_sum(terms)

    backward(state.relation_optimiser, loss, batch.part)
    return {f"relation/{key}": value for key, value in terms.items()} | {"relation/total": loss}


def generator_step(state: RDGState, batch: RDGBatch, made: Made, config: RDGConfig) -> dict[str, Tensor]:
    """Updates the generator (Eqs. 9-10) through the discriminators and the supervisor as they are after their
    updates."""
    judges = [*state.discriminators.values(), *([state.relation] if state.relation is not None else [])]
    for judge in judges:  # their weights' gradients would be thrown away
        judge.requires_grad_(False)
    out = made.out
    logits, matched = {}, {}
    for resolution in made.fakes:
        network = state.discriminators[resolution]
        features = network.features(made.fakes[resolution])
        logits[resolution] = network.conditional(features, made.condition), network.unconditional(features)
        if config.contrast:
            matched[resolution] = network.match(features)
    matched = dict(zip(matched, gather_together(*matched.values()), strict=True))
    features_of_all = gather(made.features) if made.features is not None else None
    relation_logits = None
    if state.relation is not None:
        assert made.features is not None
        relation_logits = state.relation(batch.relation_features["real"][made.own], made.features[made.own])
    terms = generator_loss(logits, relation_logits, (out.mu, out.logvar))
    weights = {"kl": config.kl} | ({"relation": config.relation} if state.relation is not None else {})
    if config.contrast:
        contrasts = [
            contrast(state.discriminators[resolution], seen, made.described.fake, batch.negatives, config)
            for resolution, seen in matched.items()
        ]
        terms["contrast"] = torch.stack(contrasts).mean()
        weights["contrast"] = config.contrast
    if config.semantic:
        assert features_of_all is not None
        spoken, class_ids = made.described.fake
        terms["semantic"] = weighted_sum(matching_loss(features_of_all, spoken, class_ids, negatives=batch.negatives))
        weights["semantic"] = config.semantic
    if made.posterior is not None:
        terms |= reconstruction(made.fakes, batch, made.posterior)
        weights |= {"reconstruction": config.reconstruction, "posterior_kl": config.posterior_kl}
    loss = weighted_sum(terms, weights)

    update(state.generator_optimiser, loss, "the generator", batch.part)
    for judge in judges:
        judge.requires_grad_(True)
    log = {f"generator/{key}": value for key, value in terms.items()} | {"generator/total": loss} | condition_log(out)
    if features_of_all is not None and features_of_all.shape[1] == made.embedding.shape[1]:
        log["generator/batch_recall"] = _batch_recall(features_of_all.detach(), made.described)
    return log


def _batch_recall(fake: Tensor, described: Described) -> Tensor:
    """Share of descriptions whose nearest fake of the batch was made for their class."""
    nearest = (described.fake.embedding @ fake.T).argmax(dim=1)
    ids = described.real.class_ids
    ids = ids if ids is not None else torch.arange(len(nearest), device=nearest.device)
    return (ids[nearest] == ids).float().mean()
