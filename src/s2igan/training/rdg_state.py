"""What stage 2 trains, what a step of it sees, and the generator that comes out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from s2igan.errors import UserError
from s2igan.losses import Negatives
from s2igan.models.blocks import init_weights
from s2igan.models.discriminator import Discriminator, DiscriminatorConfig
from s2igan.models.encoders import Encoder
from s2igan.models.generator import Generator, GeneratorConfig
from s2igan.models.posterior import Posterior
from s2igan.models.relation import RelationSupervisor
from s2igan.training.adam import Adam
from s2igan.training.rdg_config import RDGConfig
from s2igan.training.trainer import Ema
from s2igan.training.update import WHOLE, MicroBatch

CALIBRATION_BATCHES = 30
"""Batches over which batch-norm statistics are averaged where `calibrate_batch_norm` is on."""


@dataclass
class RDGState:
    """All that stage 2 trains, and what it uses frozen. A step is `step(state, batch, config)`."""

    generator: Generator
    discriminators: dict[int, Discriminator]
    """By resolution, from the lowest."""
    relation: RelationSupervisor | None
    ema: Ema
    generator_optimiser: Adam
    discriminator_optimisers: dict[int, Adam]
    relation_optimiser: Adam | None
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

    def adam(parameters: Iterable[nn.Parameter], rate: float) -> Adam:
        return Adam(parameters, rate, config.betas)

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


def hear(state: RDGState, batch: RDGBatch) -> Float[Tensor, "batch embedding"]:
    """A, from the speech encoder where it trains along."""
    if isinstance(batch.embedding, Tensor):
        return batch.embedding
    assert state.speech is not None
    embedding: Tensor = state.speech(*batch.embedding)
    return embedding


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
    in_use = replace(config.generator, noise_components=components, condition_scale=config.condition_scale)
    averaged = Generator(in_use).to(device)
    averaged.to(memory_format=memory_format(config)).load_state_dict(state.generator.state_dict(), strict=False)
    state.ema.copy_to(averaged)
    if averaged.condition_scale is not None:
        with torch.no_grad():
            averaged.condition_scale.average.copy_(averaged.conditioning(embeddings.to(device)).mu.mean(dim=0))
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
