"""Stage 1: the speech embedding network (SEN; paper section 2.2, docs/method.md section 3).

A speech encoder (SED) and an image encoder (IED) co-embed matched pairs under the matching loss (Eqs. 1-4) and the
distinctive loss (Eq. 5). The baselines train other encoders here, or the same by distillation.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from s2igan.losses import MATCHING_SCALE, distillation_loss, distinctive_loss, matching_loss
from s2igan.models.blocks import seeded
from s2igan.models.encoders import Encoder, EncoderConfig, build_encoder
from s2igan.models.image_encoder import ImageEncoder, ImageEncoderConfig
from s2igan.models.speech_encoder import SpeechEncoderConfig
from s2igan.settings import at_least, shares
from s2igan.training.augment import SpeechAugment
from s2igan.training.distributed import gather
from s2igan.training.optimisation import adam, backward, optimiser_step, weighted_sum
from s2igan.training.trainer import TrainedState, TrainerConfig


@dataclass(frozen=True)
class SENConfig:
    """Stage 1; the defaults are the paper's on CUB."""

    trainer: TrainerConfig
    speech: EncoderConfig = field(default_factory=SpeechEncoderConfig)
    """The speech encoder, or what a baseline has in its place."""
    image: ImageEncoderConfig = field(default_factory=lambda: ImageEncoderConfig(backbone="inception_v3"))
    image_size: int = 256
    """Side of the random crop, in pixels; the store holds 76/64 of it."""
    batch_size: int = 128
    length_window: int = 1
    """Number of consecutive batches that are formed anew, each of utterances of similar length, so that less of it is
    padding; 1, as in the paper, leaves them as they were drawn."""
    learning_rate: float = 1e-3
    betas: tuple[float, float] = (0.95, 0.999)
    weight_decay: float = 1e-3
    schedule: Literal["step", "cosine", "constant"] = "step"
    decay_epochs: int = 50
    """With schedule "step": the learning rate falls tenfold each time this many epochs are over."""
    warmup_steps: int = 0
    objective: Literal["matching", "distillation"] = "matching"
    """"matching": Eqs. 1-6. "distillation" (Li et al. 2020): the image head is fixed, the principal components of the
    training images' frozen features, and the speech encoder learns to meet it; there is no classifier."""
    distinctive: float = 1.0
    """Weight of the distinctive loss (Eq. 5) in the total (Eq. 6); 0 leaves the classifier out."""
    matching_scale: float = MATCHING_SCALE
    """Factor on the cosine in the matching loss."""
    image_views: int = 0
    """0: every image is cropped, flipped and encoded anew in each step, as in the paper. k: k fixed views, encoded
    once."""
    augment: SpeechAugment = field(default_factory=SpeechAugment)
    """Distortions of the log-mel while training; none in the paper."""

    def __post_init__(self) -> None:
        at_least(self, 1, "image_size", "batch_size", "length_window", "decay_epochs")
        at_least(
            self, 0, "learning_rate", "weight_decay", "warmup_steps", "distinctive", "matching_scale", "image_views"
        )
        shares(self, "betas")


@dataclass
class SENState(TrainedState):
    """All that stage 1 trains. A step is `step(state, batch, config)`."""

    speech: Encoder
    image: ImageEncoder
    classifier: nn.Linear | None
    optimiser: torch.optim.Optimizer

    def members(self) -> dict[str, Any]:
        """Weights and optimiser; of the image encoder only the head, since its backbone is frozen."""
        optimiser = self.optimiser
        return {"speech": self.speech, "image": self.image.head, "classifier": self.classifier, "optimiser": optimiser}


@dataclass
class SENBatch:
    """One caption for each image of the batch."""

    mel: Float[Tensor, "batch frames bands"]
    """Log-mels, or what else the encoder reads."""
    lengths: Int[Tensor, " batch"]
    image_features: Float[Tensor, "batch features"]
    """What the frozen backbone gives."""
    class_ids: Int[Tensor, " batch"]


def make_state(
    config: SENConfig, n_classes: int, *, seed: int, device: torch.device, image: ImageEncoder | None = None
) -> SENState:
    """Fresh networks and their optimiser.

    Args:
        n_classes: 0 leaves the distinctive loss out (sets without classes).
        image: an image encoder to use in place of building one.
    """
    distilling = config.objective == "distillation"
    with seeded(seed):
        speech = build_encoder(config.speech)
        image = ImageEncoder(config.image) if image is None else image
        classified = n_classes and config.distinctive and not distilling
        classifier = nn.Linear(config.speech.embedding, n_classes) if classified else None
    image.head.requires_grad_(not distilling)
    networks = [network.to(device) for network in (speech, image, classifier) if network is not None]
    parameters = (p for network in networks for p in network.parameters() if p.requires_grad)
    optimiser = adam(parameters, config.learning_rate, config.betas, config.weight_decay)
    return SENState(speech, image, classifier, optimiser)


def step(state: SENState, batch: SENBatch, config: SENConfig) -> dict[str, Tensor]:
    """One optimiser step on the total loss (Eq. 6); returns its terms and the norm of the gradient."""
    state.speech.train()
    state.image.train(config.objective == "matching")
    v = state.image.project(batch.image_features)
    a = state.speech(batch.mel, batch.lengths)
    all_v, all_a, all_ids = gather(v), gather(a), gather(batch.class_ids)  # a pair's negatives are of all processes
    if config.objective == "distillation":
        losses = distillation_loss(a, v)
    else:
        terms = matching_loss(all_v, all_a, all_ids, config.matching_scale)
        losses = {f"matching_{key}": term for key, term in terms.items()}
    if state.classifier is not None:
        terms = distinctive_loss(state.classifier(v), state.classifier(a), batch.class_ids)
        losses |= {f"distinctive_{key}": term for key, term in terms.items()}
    total = weighted_sum(losses, {key: config.distinctive for key in losses if key.startswith("distinctive")})

    backward(total)
    norms = optimiser_step({"sen": state.optimiser})
    values = {"total": total, **losses, "batch_recall": batch_recall(all_v, all_a, all_ids)}
    return {key: value.detach() for key, value in values.items()} | {"gradient_norm": norms["sen/gradient_norm"]}


@torch.no_grad()
def fit_principal_components(image: ImageEncoder, features: Float[Tensor, "n features"]) -> None:
    """Sets the image head to the projection on the features' first principal components, their mean at the origin."""
    *before, linear = image.head.children() if isinstance(image.head, nn.Sequential) else [image.head]
    for norm in before:
        if not isinstance(norm, nn.BatchNorm1d):
            continue
        assert norm.running_mean is not None
        assert norm.running_var is not None
        norm.running_mean.copy_(features.mean(dim=0))
        norm.running_var.copy_(features.var(dim=0))
        features = norm.eval()(features)
    assert isinstance(linear, nn.Linear)
    mean = features.double().mean(dim=0)
    centred = features.double() - mean
    # Not by the eigenvectors of the covariance, which LAPACK does not always find where images are few.
    rows = centred if len(centred) <= centred.shape[1] else torch.linalg.qr(centred, mode="r").R
    kept = torch.linalg.svd(rows, full_matrices=False).Vh[: linear.out_features]  # the largest first
    linear.weight.zero_()
    linear.weight[: len(kept)] = kept.to(linear.weight)
    linear.bias.copy_(-linear.weight.double() @ mean)


def batch_recall(
    v: Float[Tensor, "batch embedding"], a: Float[Tensor, "batch embedding"], class_ids: Int[Tensor, " batch"]
) -> Tensor:
    """Share of utterances whose nearest image of the batch is of their class."""
    return (class_ids[(a @ v.T).argmax(dim=1)] == class_ids).float().mean()
