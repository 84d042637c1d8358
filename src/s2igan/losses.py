"""Every loss of both stages, in the paper's letters: V image embedding, A speech embedding, S their scores, y class.

Wang et al., "S2IGAN: Speech-to-Image Generation via Adversarial Learning", Interspeech 2020. Networks hand over logits,
never probabilities, so no logarithm is clamped. All terms are means over the batch where the paper writes sums
(docs/method.md, section 8). Functions return their terms by name, unweighted; training adds them up under those names.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from s2igan.models.relation import Relation

MATCHING_SCALE = 10.0
"""Factor on the cosine in the matching scores (Eq. 1)."""

KL_WEIGHT = 2.0
"""Weight of `kl_loss` in the generator's loss; the paper has no such term, the authors' implementation does."""

NORM_FLOOR = 1e-8
"""Least product of two norms in a cosine: keeps a zero embedding from dividing by zero."""

Scalar = Float[Tensor, ""]
Logits = Float[Tensor, " batch"]
LogitPair = tuple[Logits, Logits]
"""A discriminator's conditional and unconditional logits of the same images."""


# Stage 1: speech embedding network


def matching_scores(
    image: Float[Tensor, "batch embedding"],
    speech: Float[Tensor, "batch embedding"],
    class_ids: Int[Tensor, " batch"] | None = None,
    scale: float = MATCHING_SCALE,
) -> Float[Tensor, "batch batch"]:
    """S_ij = scale * cos(V_i, A_j) (Eqs. 1-4); -inf for other pairs of one class, which are neither right nor wrong."""
    image, speech = _precise(image), _precise(speech)
    norms = image.norm(dim=1)[:, None] * speech.norm(dim=1)[None, :]
    with torch.autocast(image.device.type, enabled=False):  # which would round the product to bfloat16
        products = image @ speech.T
    scores = products / norms.clamp(min=NORM_FLOOR) * scale
    if class_ids is not None:
        same_class = class_ids[:, None] == class_ids[None, :]
        scores = scores.masked_fill(same_class.fill_diagonal_(False), -torch.inf)
    return scores


def matching_loss(
    image: Float[Tensor, "batch embedding"],
    speech: Float[Tensor, "batch embedding"],
    class_ids: Int[Tensor, " batch"] | None = None,
    scale: float = MATCHING_SCALE,
) -> dict[str, Scalar]:
    """Matching loss (Eqs. 1-4): image i must find speech i among all speech (rows of S), and the reverse (columns).

    Args:
        image: V, row i matching row i of ``speech``.
        speech: A.
        class_ids: class of each pair; None where every pair is its own class.
        scale: factor on the cosine.

    Returns:
        rows and cols, the mean cross-entropies of the two directions.
    """
    scores = matching_scores(image, speech, class_ids, scale)
    pairs = torch.arange(len(scores), device=scores.device)
    return {"rows": F.cross_entropy(scores, pairs), "cols": F.cross_entropy(scores.T, pairs)}


def distinctive_loss(
    image_logits: Float[Tensor, "batch classes"],
    speech_logits: Float[Tensor, "batch classes"],
    labels: Int[Tensor, " batch"],
) -> dict[str, Scalar]:
    """Distinctive loss (Eq. 5): image is CE(f(V), y), speech is CE(f(A), y), f being one classifier for both."""
    return {
        "image": F.cross_entropy(_precise(image_logits), labels),
        "speech": F.cross_entropy(_precise(speech_logits), labels),
    }


def distillation_loss(
    student: Float[Tensor, "batch embedding"], teacher: Float[Tensor, "batch embedding"]
) -> dict[str, Scalar]:
    """Squared distance between A and V, V being fixed: the baseline of Li et al. 2020 in place of Eqs. 1-6 (method.md
    section 7).

    With embeddings of unit length it is 2 - 2 cos(V, A).
    """
    return {"distillation": (_precise(student) - _precise(teacher).detach()).square().sum(dim=1).mean()}


# Stage 2: relation-supervised densely-stacked generative model


def discriminator_loss(real: LogitPair, fake: LogitPair, mismatched: LogitPair | None = None) -> dict[str, Scalar]:
    """Loss of one scale's discriminator (Eq. 12): real -> 1, fake -> 0, both with and without condition.

    The authors' implementation adds the mismatched pair, a real image of another class with this mu: it does not fit
    (0) but it is real (1). Without ``mismatched`` the paper's four terms are left.
    """
    terms = {
        "real_cond": _bce(real[0], 1.0),
        "fake_cond": _bce(fake[0], 0.0),
        "real_uncond": _bce(real[1], 1.0),
        "fake_uncond": _bce(fake[1], 0.0),
    }
    if mismatched is not None:
        terms |= {"mismatched_cond": _bce(mismatched[0], 0.0), "mismatched_uncond": _bce(mismatched[1], 1.0)}
    return terms


def relation_loss(
    positive: Float[Tensor, "batch relations"],
    fake: Float[Tensor, "rows relations"],
    negative: Float[Tensor, "batch relations"],
    identical: Float[Tensor, "batch relations"] | None = None,
) -> dict[str, Scalar]:
    """Loss of the relation supervisor (Eq. 8): the real pairs by their relation, and (ground truth, fake) as positive.

    Every argument holds the logits of the pair (ground truth, that image); sets without classes have no ``identical``.
    """
    terms = {
        "positive": relation_term(positive, Relation.POSITIVE),
        "fake": relation_term(fake, Relation.POSITIVE),
        "negative": relation_term(negative, Relation.NEGATIVE),
    }
    if identical is not None:
        terms["identical"] = relation_term(identical, Relation.IDENTICAL)
    return terms


def relation_term(logits: Float[Tensor, "batch relations"], relation: Relation) -> Scalar:
    """Mean cross-entropy of relation logits towards one relation for the whole batch."""
    return F.cross_entropy(_precise(logits), logits.new_full((len(logits),), relation, dtype=torch.long))


def generator_loss(
    fakes: Mapping[int, LogitPair],
    fake_relation: Float[Tensor, "rows relations"] | None = None,
    condition: tuple[Float[Tensor, "batch condition"], Float[Tensor, "batch condition"]] | None = None,
) -> dict[str, Scalar]:
    """Loss of the generator (Eqs. 9-10; the plus sign between Eq. 10's logarithms is a misprint).

    Args:
        fakes: logits that each scale's discriminator gives the fakes, by resolution in pixels.
        fake_relation: logits of the pair (ground truth, fake); None leaves the relation supervisor out.
        condition: mu and logvar; None leaves the KL term out.

    Returns:
        cond_<resolution> and uncond_<resolution>, relation (the generator's share of Eq. 8), kl (see `KL_WEIGHT`).
    """
    terms = {f"cond_{resolution}": _bce(cond, 1.0) for resolution, (cond, _) in fakes.items()}
    terms |= {f"uncond_{resolution}": _bce(uncond, 1.0) for resolution, (_, uncond) in fakes.items()}
    if fake_relation is not None:
        terms["relation"] = relation_term(fake_relation, Relation.POSITIVE)
    if condition is not None:
        terms["kl"] = kl_loss(*condition)
    return terms


def kl_loss(mu: Float[Tensor, "batch condition"], logvar: Float[Tensor, "batch condition"]) -> Scalar:
    """Divergence of N(mu, exp(logvar)) from N(0, 1), mean over batch and dimensions."""
    mu, logvar = _precise(mu), _precise(logvar)
    return -0.5 * (1 + logvar - mu**2 - logvar.exp()).mean()


def _bce(logits: Logits, target: float) -> Scalar:
    logits = _precise(logits)
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, target))


def _precise(x: Tensor) -> Tensor:
    """At least float32: under autocast the networks hand over bfloat16, whose 8 bits are too few for a loss."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
