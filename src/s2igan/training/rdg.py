"""Stage 2: the relation-supervised densely-stacked generative model (RDG; paper section 2.3, docs/method.md section 4).

`step` is the paper's algorithm: the generator draws a fake at each scale, each scale's discriminator is updated, then
the relation supervisor, then the generator on the same fakes, then its moving average.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from s2igan.errors import UserError
from s2igan.losses import KL_WEIGHT, discriminator_loss, generator_loss, relation_loss
from s2igan.models.blocks import init_weights
from s2igan.models.discriminator import Discriminator, DiscriminatorConfig
from s2igan.models.encoders import Encoder
from s2igan.models.generator import Generator, GeneratorConfig, GeneratorOutput
from s2igan.models.relation import Relation, RelationSupervisor
from s2igan.settings import at_least, shares
from s2igan.training.beyond.noise_penalty import NoisePenalty, noise_penalty
from s2igan.training.beyond.translation import translated
from s2igan.training.optimisation import Ema, adam, backward, frozen, optimiser_step, statistics_held, weighted_sum
from s2igan.training.trainer import TrainedState, TrainerConfig


@dataclass(frozen=True)
class RDGConfig:
    """Stage 2; the defaults are the paper's on CUB, with the choices of docs/method.md, section 8."""

    trainer: TrainerConfig
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    discriminator_width: int = 64
    relation_hidden: int = 128
    relation_logits: int = 3
    """Classes of the relation supervisor: positive, negative, identical (section 8, row 9)."""
    batch_size: int = 24
    """Of all processes together."""
    accumulate: int = 1
    """Each process takes its share of the batch in this many parts, one after the other, for less memory. The gradient
    is their mean; batch norms see one part at a time, and the generator draws its fakes twice."""
    learning_rate: float = 2e-4
    """Of the generator and the relation supervisor."""
    discriminator_learning_rate: float = 2e-4
    generator_warmup_steps: int = 0
    """Steps over which the generator's learning rate rises from 0, for the discriminators to get ahead: where the
    generator begins from trained weights, what they say at first would spoil them."""
    betas: tuple[float, float] = (0.5, 0.999)
    schedule: Literal["constant", "cosine"] = "constant"
    ema_decay: float = 0.999
    relation: float = 1.0
    """Weight of the relation supervisor in the generator's loss (Eq. 9); 0 leaves the supervisor out."""
    kl: float = KL_WEIGHT
    """Weight of the KL term (section 8, row 6)."""
    mismatched: bool = True
    """Discriminators also see real images of another class with this mu (section 8, row 7)."""
    condition_on: Literal["mu", "c"] = "mu"
    """What discriminators are conditioned on (section 8, row 8)."""
    speech: Literal["frozen", "finetuned", "scratch"] = "frozen"
    """The speech encoder: frozen after stage 1, trained on with the generator ("end to end"), or never trained by
    stage 1."""
    image_views: int = 0
    """0 encodes real images in each step, as the paper does; k uses k views that are encoded once, as in stage 1."""

    def __post_init__(self) -> None:
        at_least(self, 1, "discriminator_width", "relation_hidden", "batch_size")
        at_least(self, len(Relation), "relation_logits")
        at_least(self, 0, "learning_rate", "discriminator_learning_rate", "relation", "kl", "image_views")
        at_least(self, 0, "generator_warmup_steps")
        shares(self, "betas", "ema_decay")
        if self.accumulate < 1 or self.batch_size % self.accumulate:
            raise UserError(
                f"accumulate {self.accumulate} does not divide the batch size {self.batch_size}; choose a divisor."
            )


@dataclass
class RDGState(TrainedState):
    """All that stage 2 trains, and what it uses frozen."""

    generator: Generator
    discriminators: dict[int, Discriminator]
    """By resolution, from the lowest."""
    relation: RelationSupervisor | None
    speech: Encoder | None
    """Only where it trains along."""
    ema: Ema
    generator_optimiser: torch.optim.Optimizer
    discriminator_optimisers: dict[int, torch.optim.Optimizer]
    relation_optimiser: torch.optim.Optimizer | None
    encode: Callable[[Tensor], Tensor] | None
    """The frozen image encoder: images (batch, 3, side, side) of the highest scale -> V (batch, embedding)."""
    noise_penalty: NoisePenalty = field(default_factory=NoisePenalty)
    """Not in the paper; it counts in steps whose batch brings the noise."""

    def members(self) -> dict[str, Any]:
        """Weights, moving average and optimisers."""
        return {
            "ema": self.ema,
            "generator": self.generator,
            "generator_optimiser": self.generator_optimiser,
            "relation": self.relation,
            "relation_optimiser": self.relation_optimiser,
            "speech": self.speech,
            **{f"discriminator_{side}": network for side, network in self.discriminators.items()},
            **{f"discriminator_{side}_optimiser": adam for side, adam in self.discriminator_optimisers.items()},
        }


KINDS = ("real", "mismatched", "fake")
"""Images that discriminators see, in the order of a batch's shifts."""


@dataclass
class RDGBatch:
    """One description for each real image, and the noise of the step."""

    real: dict[int, Float[Tensor, "batch 3 _ _"]]
    """Ground truth by resolution, from the lowest."""
    mismatched: dict[int, Float[Tensor, "batch 3 _ _"]]
    """Real images of other classes; empty where the discriminators see none."""
    embedding: Float[Tensor, "batch embedding"] | tuple[Tensor, Tensor]
    """A; where the speech encoder trains along, what it reads and the lengths."""
    z: Float[Tensor, "batch z"]
    eps: Float[Tensor, "batch condition"]
    relation_features: dict[str, Float[Tensor, "batch features"]]
    """V of real, similar and negative images; empty without the relation supervisor."""
    identical: bool = True
    """Whether the relation supervisor has the identical relation (sets with classes)."""
    shifts: Float[Tensor, "batch 3 2"] | None = None
    """How discriminators see real, mismatched and fake images shifted (`beyond.translation`); None is not at all."""
    noise: dict[int, Float[Tensor, "batch 3 _ _"]] = field(default_factory=dict)
    """Standard normal noise at every scale (`beyond.noise_penalty`); empty where the step has no penalty."""

    def shown(self, kind: Literal["real", "mismatched", "fake"], images: Tensor) -> Tensor:
        """Images as discriminators see them."""
        return images if self.shifts is None else translated(images, self.shifts[:, KINDS.index(kind)])

    def parts(self, count: int) -> list[RDGBatch]:
        """The batch in ``count`` equal parts.

        Raises:
            UserError: the rows of this process do not divide.
        """
        if len(self.z) % count:
            raise UserError(f"{len(self.z)} images a process do not divide into {count} parts; change accumulate.")

        def cut(value: Any, rows: slice) -> Any:
            if isinstance(value, Tensor):
                return value[rows]
            if isinstance(value, dict):
                return {key: cut(item, rows) for key, item in value.items()}
            return tuple(cut(item, rows) for item in value) if isinstance(value, tuple) else value

        n = len(self.z) // count
        names = [entry.name for entry in fields(self)]
        return [
            replace(self, **{name: cut(getattr(self, name), slice(i * n, (i + 1) * n)) for name in names})
            for i in range(count)
        ]


@dataclass
class Fakes:
    """What the generator draws for a batch."""

    images: dict[int, Float[Tensor, "batch 3 _ _"]]
    """By resolution, from the lowest."""
    out: GeneratorOutput
    condition: Float[Tensor, "batch condition"]
    """mu (or c) of the descriptions."""
    features: Float[Tensor, "batch features"] | None
    """V of the fakes of the highest scale; None without the relation supervisor."""


def step(state: RDGState, batch: RDGBatch, config: RDGConfig) -> dict[str, Tensor]:
    """One step of the paper's algorithm on one batch; returns every loss by name, and the norms of the gradients."""
    parts = batch.parts(config.accumulate)
    redraw = len(parts) > 1  # the generator's graph of one part at a time
    logs: list[dict[str, Tensor]] = [{} for _ in parts]

    for part, log in zip(parts, logs, strict=True):
        with _without_trace(state) if redraw else nullcontext():
            fakes = draw(state, part, config)

        # Eqs. 11, 12: each scale's discriminator tells real, mismatched and fake images apart.
        condition = fakes.condition.detach()
        for side, network in state.discriminators.items():
            seen = {"real": part.shown("real", part.real[side])}
            if config.mismatched:
                seen["mismatched"] = part.shown("mismatched", part.mismatched[side])
            seen["fake"] = part.shown("fake", fakes.images[side].detach())
            if part.noise:
                seen["noisy"] = seen["real"] + state.noise_penalty.deviation * part.noise[side]
            pairs = network.each(*((images, condition) for images in seen.values()))
            found = dict(zip(seen, pairs, strict=True))
            real, mismatched = found["real"], found.get("mismatched")
            terms, weights = discriminator_loss(real, found["fake"], mismatched), {}
            if part.noise:
                terms["noise_penalty"] = noise_penalty(real, found["noisy"], state.noise_penalty.deviation)
                weights["noise_penalty"] = state.noise_penalty.weight * state.noise_penalty.every
            log |= _backward(f"discriminator_{side}", terms, weights, config.accumulate)
            if mismatched is not None:
                log[f"discriminator_{side}/told_apart"] = (real[0] > mismatched[0]).float().mean()

        # Eq. 8: the relation supervisor tells how an image relates to the ground truth.
        if state.relation is not None:
            assert fakes.features is not None
            ground_truth, drawn = part.relation_features["real"], fakes.features.detach()
            identical = state.relation(ground_truth, ground_truth)
            positive = state.relation(ground_truth, part.relation_features["similar"])
            generated = state.relation(ground_truth, drawn)
            negative = state.relation(ground_truth, part.relation_features["negative"])
            terms = relation_loss(positive, generated, negative, identical if part.identical else None)
            log |= _backward("relation", terms, {}, config.accumulate)

    optimisers = {f"discriminator_{side}": optimiser for side, optimiser in state.discriminator_optimisers.items()}
    if state.relation_optimiser is not None:
        optimisers["relation"] = state.relation_optimiser
    norms = optimiser_step(optimisers)

    # Eqs. 9, 10: the generator, through the discriminators and the supervisor as they are after their updates.
    for part, log in zip(parts, logs, strict=True):
        if redraw:
            fakes = draw(state, part, config)
        mu, logvar = fakes.out.mu, fakes.out.logvar
        weights = {"kl": config.kl}
        with frozen([*state.discriminators.values(), *([state.relation] if state.relation else [])]):
            shown = {side: part.shown("fake", image) for side, image in fakes.images.items()}
            logits = {side: state.discriminators[side](image, fakes.condition) for side, image in shown.items()}
            relation = None
            if state.relation is not None:
                assert fakes.features is not None
                relation = state.relation(part.relation_features["real"], fakes.features)
                weights["relation"] = config.relation
            log |= _backward("generator", generator_loss(logits, relation, (mu, logvar)), weights, config.accumulate)
        log |= {"generator/mu": mu.abs().mean(), "generator/variance": logvar.exp().mean()}
    norms |= optimiser_step({"generator": state.generator_optimiser})

    state.ema.update(state.generator)
    return {key: torch.stack([log[key].detach() for log in logs]).mean(dim=0) for key in logs[0]} | norms


def draw(state: RDGState, batch: RDGBatch, config: RDGConfig) -> Fakes:
    """One forward pass of the generator (Eq. 7), and V of its largest images."""
    out = state.generator(speech_embedding(state, batch), batch.z, batch.eps)
    images = dict(zip(sorted(batch.real), out.images, strict=True))
    condition = out.mu if config.condition_on == "mu" else out.c
    features = state.encode(out.images[-1]) if state.relation is not None and state.encode is not None else None
    return Fakes(images, out, condition, features)


def _backward(name: str, terms: Mapping[str, Tensor], weights: Mapping[str, float], parts: int) -> dict[str, Tensor]:
    """Adds the gradient of a loss; its terms and their weighted sum, by name."""
    loss = weighted_sum(terms, weights)
    backward(loss, parts)
    return {f"{name}/{key}": value for key, value in terms.items()} | {f"{name}/total": loss}


@contextmanager
def _without_trace(state: RDGState) -> Iterator[None]:
    """Inside, fakes are drawn without gradients and leave running statistics as they are."""
    with torch.no_grad(), statistics_held(state.generator), statistics_held(state.speech or nn.Identity()):
        yield


def speech_embedding(state: RDGState, batch: RDGBatch) -> Float[Tensor, "batch embedding"]:
    """A of a batch, from the speech encoder where it trains along."""
    if isinstance(batch.embedding, Tensor):
        return batch.embedding
    assert state.speech is not None
    embedding: Tensor = state.speech(*batch.embedding)
    return embedding


def build_networks(
    config: RDGConfig, image_embedding: int
) -> tuple[Generator, dict[int, Discriminator], RelationSupervisor | None]:
    """The generator, the discriminators by resolution, and the relation supervisor where there is one; uninitialised.

    Args:
        image_embedding: dimensions of V.
    """
    discriminators = {
        resolution: Discriminator(
            DiscriminatorConfig(resolution, width=config.discriminator_width, condition=config.generator.condition)
        )
        for resolution in config.generator.resolutions
    }
    relation = RelationSupervisor(image_embedding, config.relation_hidden, config.relation_logits)
    return Generator(config.generator), discriminators, relation if config.relation else None


def make_state(
    config: RDGConfig,
    *,
    image_embedding: int,
    encode: Callable[[Tensor], Tensor] | None,
    speech: Encoder | None,
    seed: int,
    device: torch.device,
    noise_penalty: NoisePenalty | None = None,
) -> RDGState:
    """Fresh networks, initialised orthogonally and channels last in memory, and their optimisers.

    Args:
        image_embedding: dimensions of V.
        encode: the frozen image encoder, as `RDGState.encode`.
        speech: the speech encoder; it trains along unless ``config.speech`` is "frozen".
        seed: of the initial weights.
        device: where the networks lie.
        noise_penalty: its settings; none unless given.
    """
    rng = torch.Generator().manual_seed(seed)
    generator, discriminators, relation = build_networks(config, image_embedding)
    for network in (generator, *discriminators.values(), relation):
        if network is not None:
            init_weights(network, rng)
            network.to(device).to(memory_format=torch.channels_last)
    trained_speech = speech.train() if speech is not None and config.speech != "frozen" else None

    def optimiser(rate: float, *networks: nn.Module | None) -> torch.optim.Optimizer:
        trained = [network for network in networks if network is not None]
        return adam((p for network in trained for p in network.parameters()), rate, config.betas)

    return RDGState(
        generator=generator,
        discriminators=discriminators,
        relation=relation,
        speech=trained_speech,
        ema=Ema(generator, config.ema_decay),
        generator_optimiser=optimiser(config.learning_rate, generator, trained_speech),
        discriminator_optimisers={
            resolution: optimiser(config.discriminator_learning_rate, network)
            for resolution, network in discriminators.items()
        },
        relation_optimiser=optimiser(config.learning_rate, relation) if relation is not None else None,
        encode=encode,
        noise_penalty=noise_penalty or NoisePenalty(),
    )
