"""Stage 2: the relation-supervised densely-stacked generative model (RDG; paper section 2.2, SPEC section 4).

`step` is the paper's algorithm: one forward pass of the generator, an update of each scale's discriminator, of the
relation supervisor, and of the generator on the same fakes, then the moving average.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from s2igan.errors import UserError
from s2igan.losses import (
    KL_WEIGHT,
    Negatives,
    discriminator_loss,
    generator_loss,
    kl_loss,
    matching_loss,
    relation_loss,
)
from s2igan.models.blocks import init_weights
from s2igan.models.discriminator import Discriminator, DiscriminatorConfig
from s2igan.models.encoders import Encoder
from s2igan.models.generator import Generator, GeneratorConfig, GeneratorOutput
from s2igan.models.posterior import Posterior, PosteriorOutput
from s2igan.models.relation import RelationSupervisor
from s2igan.training.batch_norm import statistics_held
from s2igan.training.loop import Ema, LoopConfig, weighted_sum
from s2igan.training.processes import gather, rank
from s2igan.training.update import WHOLE, MicroBatch, update

LEAST_OWN = 2
"""Rows of a batch whose description always stays its own: the relation supervisor's batch norms need two."""
LARGEST_SHIFT = 0.7
"""Most of a difference of two descriptions that is added to a third; the share is uniform from 0."""
CALIBRATION_BATCHES = 30
"""Batches over which batch-norm statistics are averaged where `calibrate_batch_norm` is on."""


@dataclass(frozen=True)
class RDGConfig:
    """Stage 2; the defaults are the paper's on CUB, with the choices of SPEC section 8."""

    loop: LoopConfig
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    discriminator_width: int = 64
    relation_hidden: int = 128
    relation_logits: int = 3
    batch_size: int = 24
    """Of all processes together."""
    accumulate: int = 1
    """Parts in which each process takes its share of the batch, one after the other, for less memory; the gradient is
    their mean. Batch norms and contrastive terms see one part at a time, and the generator makes its fakes twice."""
    learning_rate: float = 2e-4
    discriminator_learning_rate: float = 2e-4
    betas: tuple[float, float] = (0.5, 0.999)
    schedule: Literal["constant", "cosine"] = "constant"
    ema_decay: float = 0.999
    scale_steps: tuple[int, ...] = ()
    """Steps at which the scales after the lowest join the training, one number for each; empty trains all from the
    first step, as the paper does. What has not joined costs nothing."""
    relation: float = 1.0
    """Weight of the relation supervisor in the generator's loss; 0 leaves the supervisor out."""
    kl: float = KL_WEIGHT
    """Weight of the KL term."""
    initial_condition_gain: float = 1.0
    """Factor on the initial weights that give mu. Of a unit-length embedding they make a mu of about 0.03 beside noise
    of deviation 1: twice the square root of the embedding's dimensions starts with a mu of about 1, so that neither
    generator nor discriminators have to find the description first."""
    initial_logvar: float = 0.0
    """Where logvar begins; the paper's initialisation begins at 0, a deviation of 1."""
    mismatched: bool = True
    """Discriminators also see real images of another class with this mu (SPEC section 8, row 7)."""
    condition_on: Literal["mu", "c"] = "mu"
    """What discriminators are conditioned on (SPEC section 8, row 8)."""
    contrast: float = 0.0
    """Not in the paper. Weight in the generator's loss of a matching loss (Eqs. 1-4) between discriminator features and
    speech: discriminators learn to tell the batch's descriptions apart on real images, the generator to be told apart
    by them."""
    discriminator_contrast: float = 1.0
    """Weight of that loss in the discriminators'."""
    contrast_dim: int = 128
    contrast_scale: float = 10.0
    negatives: int = 0
    """Random training descriptions from which the two contrastive terms tell the images of each step apart, beside
    those of the batch: a batch has few that differ only in something small. Needs a frozen speech encoder."""
    arithmetic: float = 0.0
    """Not in the paper. Share of the batch, its last rows, for which the generator hears its description moved by the
    difference of two others: combinations that no training image shows, after GAN-INT (Reed et al. 2016), which goes
    between two descriptions. The relation supervisor, which compares fakes with the image of their description, leaves
    these out."""
    semantic: float = 0.0
    """Not in the paper. Weight of the SEN's matching loss (Eqs. 1-4) between fakes, through the frozen image encoder,
    and speech."""
    reconstruction: float = 0.0
    """Not in the paper. Weight of the distance between real images and what the generator makes of their descriptions
    with z from an approximate posterior (VAE-GAN, Larsen et al. 2016); in a share of the batch, while the others take
    theirs from images that they do not describe, so that the description decides where the two disagree."""
    reconstruction_share: float = 0.5
    noise_components: int = 256
    """Where real images are reconstructed: training images whose posteriors z is a mixture of in use."""
    practice_steps: int = 0
    """First steps in which the generator does nothing but reconstruct, on whole batches, and the judges wait."""
    practice_learning_rate: float = 1e-3
    posterior_kl: float = 1.0
    """Weight of the posterior's divergence from the noise that stands in for it in use."""
    speech: Literal["frozen", "finetuned", "scratch"] = "frozen"
    """The speech encoder: frozen after stage 1, trained on with the generator ("end to end"), or never trained by
    stage 1."""
    image_views: int = 0
    """As in stage 1: 0 encodes real images in each step, k uses the k views that were encoded once."""
    channels_last: bool = False
    """Memory format of the networks of this stage: channels last is for GPUs. On a CPU without AVX-512 the contiguous
    format was a quarter faster, and its batch norm agrees with the reference more closely."""
    emphasis: float = 1.0
    """Not in the paper. In use, how many times as far from the average training description c lies."""
    candidates: int = 1
    """Not in the paper. In use, each image is chosen among so many, as the one that the encoders of stage 1 find
    nearest to the speech."""
    calibrate_batch_norm: bool = False
    """Before use, re-estimate the averaged generator's batch-norm statistics; the reference takes those of the live
    one."""

    def __post_init__(self) -> None:
        if self.reconstruction and self.reconstruction_share + self.arithmetic > 1:
            raise UserError(
                f"reconstruction_share {self.reconstruction_share} and arithmetic {self.arithmetic} are more than the "
                "whole batch together: an image cannot be reconstructed from a description that was moved away from it"
            )

    def scales(self, step: int) -> tuple[int, ...]:
        """Resolutions that train in a step, from the lowest."""
        joined = sum(step >= joins for joins in self.scale_steps) if self.scale_steps else None
        return self.generator.resolutions[: None if joined is None else 1 + joined]


@dataclass
class RDGState:
    """All that stage 2 trains, and what it uses frozen. A step is `step(state, batch, config)`."""

    generator: Generator
    discriminators: dict[int, Discriminator]
    """By resolution, from the lowest."""
    relation: RelationSupervisor | None
    ema: Ema
    generator_optimiser: torch.optim.Optimizer
    discriminator_optimisers: dict[int, torch.optim.Optimizer]
    relation_optimiser: torch.optim.Optimizer | None
    posterior: Posterior | None
    """Only where real images are reconstructed; the generator's optimiser trains it."""
    encode: Callable[[Tensor], Tensor] | None
    """The frozen image encoder: images (batch, 3, side, side) of the highest scale -> features (batch, embedding),
    unit length."""
    speech: Encoder | None = None
    """Only where it trains along."""

    def state_dict(self) -> dict[str, Any]:
        """Weights, moving average and optimisers."""
        return {
            "generator": self.generator.state_dict(),
            "ema": self.ema.parameters,
            "discriminators": {str(key): value.state_dict() for key, value in self.discriminators.items()},
            "relation": _state_of(self.relation),
            "posterior": _state_of(self.posterior),
            "speech": _state_of(self.speech),
            "generator_optimiser": self.generator_optimiser.state_dict(),
            "discriminator_optimisers": {
                str(key): value.state_dict() for key, value in self.discriminator_optimisers.items()
            },
            "relation_optimiser": _state_of(self.relation_optimiser),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes back what `state_dict` gave."""
        self.generator.load_state_dict(state["generator"])
        for name, average in self.ema.parameters.items():
            average.copy_(state["ema"][name])
        for key in self.discriminators:
            self.discriminators[key].load_state_dict(state["discriminators"][str(key)])
            self.discriminator_optimisers[key].load_state_dict(state["discriminator_optimisers"][str(key)])
        for part, saved in (
            (self.relation, "relation"),
            (self.posterior, "posterior"),
            (self.speech, "speech"),
            (self.relation_optimiser, "relation_optimiser"),
        ):
            if part is not None:
                part.load_state_dict(state[saved])
        self.generator_optimiser.load_state_dict(state["generator_optimiser"])


def _state_of(part: nn.Module | torch.optim.Optimizer | None) -> dict[str, Any] | None:
    return part.state_dict() if part is not None else None


@dataclass
class RDGBatch:
    """One description for each real image, and the noise of the step."""

    real: dict[int, Float[Tensor, "batch 3 _ _"]]
    """Ground truth by resolution, at the scales that train."""
    mismatched: dict[int, Float[Tensor, "batch 3 _ _"]]
    """Real images of other classes; empty where the discriminators do not see any."""
    embedding: Float[Tensor, "batch embedding"] | tuple[Tensor, Tensor]
    """A; or what the speech encoder reads, and the lengths, where it trains along."""
    z: Float[Tensor, "batch z"]
    eps: Float[Tensor, "batch condition"]
    class_ids: Int[Tensor, " batch"] | None
    """Classes for the two contrastive options; None treats every image as its own class."""
    relation_features: dict[str, Float[Tensor, "batch features"]]
    """Image embeddings of real, similar and negative images; empty without the relation supervisor."""
    shift: Float[Tensor, " batch"] | None = None
    """How much of the difference is added to each description where `RDGConfig.arithmetic` asks for it."""
    negatives: Negatives | None = None
    """Other descriptions, the same for every part and process, for the two contrastive options."""
    identical: bool = True
    """Whether the relation supervisor has the identical relation (sets with classes)."""
    part: MicroBatch = WHOLE
    """Which part of the step's batch this is, where gradients are accumulated."""

    def parts(self, count: int) -> list[RDGBatch]:
        """The batch in so many parts.

        Raises:
            UserError: they would differ in size.
        """
        if count == 1:
            return [self]
        if len(self.z) % count:
            raise UserError(f"{len(self.z)} images a process do not divide into {count} parts; change accumulate.")
        rows = [slice(i * len(self.z) // count, (i + 1) * len(self.z) // count) for i in range(count)]

        def cut(value: Any, chosen: slice) -> Any:
            if isinstance(value, Tensor):
                return value[chosen]
            if isinstance(value, dict):
                return {key: cut(item, chosen) for key, item in value.items()}
            return tuple(cut(item, chosen) for item in value) if isinstance(value, tuple) else value

        names = ("real", "mismatched", "embedding", "z", "eps", "class_ids", "relation_features", "shift")
        return [
            replace(self, part=MicroBatch(i, count), **{name: cut(getattr(self, name), chosen) for name in names})
            for i, chosen in enumerate(rows)
        ]


def build_networks(
    config: RDGConfig, image_embedding: int
) -> tuple[Generator, dict[int, Discriminator], RelationSupervisor | None, Posterior | None]:
    """The generator, the discriminators by resolution, the relation supervisor and the posterior where there are such;
    uninitialised."""
    generator = Generator(config.generator)
    discriminators = {
        resolution: Discriminator(
            DiscriminatorConfig(
                resolution,
                width=config.discriminator_width,
                condition=config.generator.condition,
                match_dim=config.contrast_dim if config.contrast else None,
                embedding=config.generator.embedding,
            )
        )
        for resolution in config.generator.resolutions
    }
    relation = RelationSupervisor(image_embedding, config.relation_hidden, config.relation_logits)
    posterior = Posterior(config.generator.z) if config.reconstruction else None
    return generator, discriminators, relation if config.relation else None, posterior


def make_state(
    config: RDGConfig,
    *,
    image_embedding: int,
    encode: Callable[[Tensor], Tensor] | None,
    speech: Encoder | None,
    seed: int,
    device: torch.device,
) -> RDGState:
    """Fresh networks, initialised orthogonally, and their optimisers."""
    rng = torch.Generator().manual_seed(seed)
    generator, discriminators, relation, posterior = build_networks(config, image_embedding)
    for network in (generator, *discriminators.values(), relation, posterior):
        if network is not None:
            init_weights(network, rng)
            network.to(device).to(memory_format=memory_format(config))

    start_condition(generator, config)

    def adam(parameters: Any, rate: float) -> torch.optim.Optimizer:
        return torch.optim.Adam(parameters, lr=rate, betas=config.betas, fused=True)

    trained_posterior = list(posterior.parameters()) if posterior is not None else []
    trained_speech = list(speech.train().parameters()) if speech is not None and config.speech != "frozen" else []
    return RDGState(
        generator=generator,
        discriminators=discriminators,
        relation=relation,
        ema=Ema(generator, config.ema_decay),
        generator_optimiser=adam([*generator.parameters(), *trained_speech, *trained_posterior], config.learning_rate),
        discriminator_optimisers={
            key: adam(network.parameters(), config.discriminator_learning_rate)
            for key, network in discriminators.items()
        },
        relation_optimiser=adam(relation.parameters(), config.learning_rate) if relation is not None else None,
        posterior=posterior,
        encode=encode,
        speech=speech if trained_speech else None,
    )


def memory_format(config: RDGConfig) -> torch.memory_format:
    """The layout of images and weights."""
    return torch.channels_last if config.channels_last else torch.contiguous_format


@torch.no_grad()
def start_condition(generator: Generator, config: RDGConfig) -> None:
    """Applies `initial_condition_gain` and `initial_logvar` to the conditioning augmentation.

    Its linear layer has rows for mu and logvar, and as many again for the gates of the GLU, which begin at one half.
    """
    fc, n = generator.conditioning.fc, config.generator.condition
    fc.weight[:n] *= config.initial_condition_gain
    fc.bias[n : 2 * n] += 2 * config.initial_logvar


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
    """The descriptions that the fakes were made for."""
    real_condition: Float[Tensor, "batch condition"]
    """As `condition`, for the real images."""
    real_embedding: Float[Tensor, "batch embedding"]
    """The descriptions of the real images: the same but for the rows that `moved` moves."""
    own: slice
    """The other rows."""
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
    return Made(out, fakes, condition, embedding, real_condition, heard, own, features, posterior)


def judges_step(state: RDGState, batch: RDGBatch, made: Made, config: RDGConfig) -> dict[str, Tensor]:
    """Updates the discriminators and the relation supervisor."""
    log: dict[str, Tensor] = {}
    for resolution in made.fakes:
        log |= discriminator_step(state, resolution, batch, made, config)
    if state.relation is not None:
        assert made.features is not None
        log |= relation_step(state, batch, made.features.detach()[made.own], made.own)
    return log


def discriminator_step(
    state: RDGState,
    resolution: int,
    batch: RDGBatch,
    made: Made,
    config: RDGConfig,
) -> dict[str, Tensor]:
    """Updates one scale's discriminator (Eq. 12).

    Real, mismatched and fake images pass together, as groups in this order, which batch norm does not mix.
    """
    network, optimiser = state.discriminators[resolution], state.discriminator_optimisers[resolution]
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
        own = features[: len(condition)]
        terms["contrast"] = contrast(
            network, own, made.real_embedding.detach(), batch.class_ids, batch.negatives, config
        )
        loss = loss + config.discriminator_contrast * terms["contrast"]

    update(optimiser, loss, f"discriminator {resolution}", batch.part)
    log = {f"discriminator_{resolution}/{key}": value for key, value in terms.items()}
    log[f"discriminator_{resolution}/total"] = loss
    if mismatched is not None:
        log[f"discriminator_{resolution}/told_apart"] = (real[0] > mismatched[0]).float().mean()
    return log


def relation_step(
    state: RDGState, batch: RDGBatch, fake: Float[Tensor, "rows features"], rows: slice
) -> dict[str, Tensor]:
    """Updates the relation supervisor (Eq. 8) on pairs with the ground truth: identical, positive, fake, negative."""
    assert state.relation is not None
    assert state.relation_optimiser is not None
    real = batch.relation_features["real"]
    identical = state.relation(real, real)
    positive = state.relation(real, batch.relation_features["similar"])
    generated = state.relation(real[rows], fake)
    negative = state.relation(real, batch.relation_features["negative"])
    terms = relation_loss(positive, generated, negative, identical if batch.identical else None)
    loss = weighted_sum(terms)

    update(state.relation_optimiser, loss, "the relation supervisor", batch.part)
    return {f"relation/{key}": value for key, value in terms.items()} | {"relation/total": loss}


def generator_step(state: RDGState, batch: RDGBatch, made: Made, config: RDGConfig) -> dict[str, Tensor]:
    """Updates the generator (Eqs. 9-10) through the discriminators and the supervisor as they are after their
    updates."""
    judges = [*state.discriminators.values(), *([state.relation] if state.relation is not None else [])]
    for judge in judges:  # their weights' gradients would be thrown away
        judge.requires_grad_(False)
    out, embedding = made.out, made.embedding
    classes = moved_classes(batch.class_ids, made.own)
    logits, contrasts = {}, []
    for resolution in made.fakes:
        network = state.discriminators[resolution]
        features = network.features(made.fakes[resolution])
        logits[resolution] = network.conditional(features, made.condition), network.unconditional(features)
        if config.contrast:
            contrasts.append(contrast(network, features, embedding.detach(), classes, batch.negatives, config))
    relation_logits = None
    if state.relation is not None:
        assert made.features is not None
        relation_logits = state.relation(batch.relation_features["real"][made.own], made.features[made.own])
    terms = generator_loss(logits, relation_logits, (out.mu, out.logvar))
    weights = {"kl": config.kl} | ({"relation": config.relation} if state.relation is not None else {})
    if contrasts:
        terms["contrast"] = torch.stack(contrasts).mean()
        weights["contrast"] = config.contrast
    if config.semantic:
        assert made.features is not None
        terms["semantic"] = weighted_sum(
            matching_loss(
                gather(made.features),
                gather(embedding.detach()),
                _gathered(classes),
                negatives=batch.negatives,
            )
        )
        weights["semantic"] = config.semantic
    if made.posterior is not None:
        terms |= reconstruction(made.fakes, batch, made.posterior)
        weights |= {"reconstruction": config.reconstruction, "posterior_kl": config.posterior_kl}
    loss = weighted_sum(terms, weights)

    update(state.generator_optimiser, loss, "the generator", batch.part)
    for judge in judges:
        judge.requires_grad_(True)
    log = {f"generator/{key}": value for key, value in terms.items()} | {"generator/total": loss} | condition_log(out)
    if made.features is not None and made.features.shape[1] == embedding.shape[1]:
        log["generator/batch_recall"] = _batch_recall(
            gather(made.features.detach()), gather(embedding.detach()), _gathered(batch.class_ids)
        )
    return log


def condition_log(out: GeneratorOutput) -> dict[str, Tensor]:
    """What tells whether the generator listens: the mean of |mu|, and of the variance."""
    return {"mu": out.mu.abs().mean(), "variance": out.logvar.exp().mean()}


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


def hear(state: RDGState, batch: RDGBatch) -> Float[Tensor, "batch embedding"]:
    """A, from the speech encoder where it trains along."""
    if isinstance(batch.embedding, Tensor):
        return batch.embedding
    assert state.speech is not None
    embedding: Tensor = state.speech(*batch.embedding)
    return embedding


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


def moved_classes(class_ids: Int[Tensor, " batch"] | None, own: slice) -> Int[Tensor, " batch"] | None:
    """Classes of the descriptions that the fakes were made for: a moved one is of no class, so that the descriptions of
    the class that it comes from are among those that its fake is told apart from."""
    if class_ids is None:
        return None
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


def contrast(
    network: Discriminator,
    features: Tensor,
    embedding: Tensor,
    class_ids: Tensor | None,
    negatives: Negatives | None,
    config: RDGConfig,
) -> Tensor:
    """Matching loss (Eqs. 1-4) between what a discriminator sees in images and their descriptions."""
    if negatives is not None:
        negatives = negatives._replace(speech=network.match_speech(negatives.speech))
    return weighted_sum(
        matching_loss(
            gather(network.match(features)),
            gather(network.match_speech(embedding)),
            _gathered(class_ids),
            config.contrast_scale,
            negatives,
        )
    )


def _gathered(class_ids: Tensor | None) -> Tensor | None:
    return None if class_ids is None else gather(class_ids)


def _batch_recall(fake: Tensor, embedding: Tensor, class_ids: Tensor | None) -> Tensor:
    """Share of descriptions whose nearest fake of the batch was made for their class."""
    nearest = (embedding @ fake.T).argmax(dim=1)
    ids = class_ids if class_ids is not None else torch.arange(len(nearest), device=nearest.device)
    return (ids[nearest] == ids).float().mean()


def averaged_generator(
    state: RDGState,
    config: RDGConfig,
    embeddings: Float[Tensor, "n embedding"],
    images: Float[Tensor, "components 3 side side"] | None = None,
    *,
    seed: int,
) -> Generator:
    """The generator that evaluation uses: moving-average weights, and batch-norm statistics by `calibrate_batch_norm`.

    `embeddings` are training descriptions, for the calibration and the average description. `images` are training
    images whose posteriors z is a mixture of, where there is a posterior.
    """
    device = next(state.generator.parameters()).device
    components = len(images) if images is not None and state.posterior is not None else 0
    in_use = replace(config.generator, noise_components=components, emphasis=config.emphasis)
    averaged = Generator(in_use).to(device)
    averaged.to(memory_format=memory_format(config)).load_state_dict(state.generator.state_dict(), strict=False)
    state.ema.copy_to(averaged)
    if averaged.emphasis is not None:
        with torch.no_grad():
            averaged.emphasis.average.copy_(averaged.conditioning(embeddings.to(device)).mu.mean(dim=0))
    if components:
        assert averaged.mixture is not None
        assert state.posterior is not None
        with torch.no_grad():
            posterior = state.posterior(images.to(device))  # type: ignore[union-attr]
        averaged.mixture.mu.copy_(posterior.mu)
        averaged.mixture.logvar.copy_(posterior.logvar)
    if config.calibrate_batch_norm:
        rng = torch.Generator().manual_seed(seed)
        norms = [part for part in averaged.modules() if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d)]
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # a plain average over the batches
        averaged.train()
        with torch.no_grad():
            for _ in range(CALIBRATION_BATCHES):
                rows = torch.randint(len(embeddings), (2 * config.batch_size,), generator=rng)
                z, eps = noise(config.generator, len(rows), rng)
                averaged(embeddings[rows].to(device), z.to(device), eps.to(device))
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
    return averaged.eval()


def noise(
    config: GeneratorConfig, n: int, rng: torch.Generator
) -> tuple[Float[Tensor, "n z"], Float[Tensor, "n condition"]]:
    """Standard normal z and eps."""
    return torch.randn(n, config.z, generator=rng), torch.randn(n, config.condition, generator=rng)


def pyramid(images: Float[Tensor, "batch 3 side side"], resolutions: tuple[int, ...]) -> dict[int, Tensor]:
    """Images at every scale, from those of the highest, by averaging 2x2 pixels."""
    scales = {resolutions[-1]: images}
    for resolution in reversed(resolutions[:-1]):
        images = functional.avg_pool2d(images, 2)
        scales[resolution] = images
    return scales
