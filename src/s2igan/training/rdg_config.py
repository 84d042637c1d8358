"""The settings of stage 2: the paper's, and the options beyond it (docs/concepts.md)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from s2igan.errors import UserError
from s2igan.losses import KL_WEIGHT
from s2igan.models.generator import GeneratorConfig
from s2igan.training.trainer import LoopConfig


@dataclass(frozen=True)
class RDGConfig:
    """Stage 2; the defaults are the paper's on CUB, with the choices of method.md section 8."""

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
    """Discriminators also see real images of another class with this mu (method.md section 8, row 7)."""
    condition_on: Literal["mu", "c"] = "mu"
    """What discriminators are conditioned on (method.md section 8, row 8)."""
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
    late_steps: int = 0
    """Not in the paper. Last steps in which the two weights below stand for `contrast` and `semantic`: a large
    `contrast` makes new combinations right, and spoils the pictures where it weighs from the start."""
    late_contrast: float = 0.0
    """`contrast` in the last steps."""
    late_semantic: float = 0.0
    """`semantic` in the last steps."""
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
    channels_last: bool = True
    """Memory format of the networks and images of this stage; False is PyTorch's contiguous one."""
    condition_scale: float = 1.0
    """Not in the paper. `GeneratorConfig.condition_scale` of the generator that is exported."""
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

        if self.late_steps and self.late_contrast and not self.contrast:
            raise UserError(
                f"late_contrast {self.late_contrast} needs a contrast before: discriminators without one have nothing "
                "that sees descriptions; give contrast a small weight, or set late_contrast to 0"
            )

    def at(self, step: int) -> RDGConfig:
        """The settings of a step: these, or those of the last steps."""
        if step < self.loop.steps - self.late_steps:
            return self
        return replace(self, contrast=self.late_contrast, semantic=self.late_semantic)

    def scales(self, step: int) -> tuple[int, ...]:
        """Resolutions that train in a step, from the lowest."""
        joined = sum(step >= joins for joins in self.scale_steps) if self.scale_steps else None
        return self.generator.resolutions[: None if joined is None else 1 + joined]
