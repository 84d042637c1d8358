"""Reconstructions: what the autoencoder of a latent flow makes of real images, scored as generated images are.

What it cannot give back no description will make the flow draw: the ceiling of what can be drawn.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from s2igan.evaluation.attributes import AttributeClassifier
from s2igan.evaluation.distance_scores import Compared, FeatureSet, kernel_scores
from s2igan.evaluation.extractors import Seen
from s2igan.evaluation.generated import attribute_scores
from s2igan.evaluation.generation import Evaluation, Fakes, reconstructed
from s2igan.evaluation.scores import Group, Score


def reconstruction_group(
    evaluation: Evaluation,
    fakes: Fakes,
    real: Seen,
    classifier: AttributeClassifier | None,
    compared: Compared | None,
) -> Group | None:
    """Attributes and `kd_lite2` of reconstructions of the images that the captions of the fakes describe.

    None of models without an autoencoder, and where neither the classifier nor the comparison in Lite2 is given.
    """
    split, store, seed = evaluation.split, evaluation.split.store, evaluation.seed
    images, row_of = np.unique(store.image_index[fakes.captions], return_inverse=True)
    asked = (["attributes"] if classifier else []) + ([compared.space.rows] if compared else [])
    batches = reconstructed(evaluation.model, store, images) if asked else None
    if batches is None:
        return None
    made = evaluation.extraction.of(batches, asked)
    protocol: dict[str, Any] = {"image_size": fakes.side, "seed": seed, "reconstructed_images": len(images)}
    scores: list[Score] = []
    evidence = {"numbers": images, **made}
    if classifier is not None:
        shown = Fakes(fakes.captions, {"attributes": made["attributes"][row_of]}, fakes.side, seed)
        scores += attribute_scores("reconstructions", classifier, split, shown, real, protocol)
    if compared is not None:
        # A reconstruction is near to its original: those of one part of the split stand against the other part.
        rng = np.random.default_rng([seed, 0x2EC])
        chosen = rng.permutation(len(images))[: len(split.images) // 2]
        others = np.flatnonzero(~np.isin(split.images, images[chosen]))
        drawn = FeatureSet(made[compared.space.rows][chosen], store.image_class[images[chosen]], images[chosen])
        apart = replace(compared, fakes=drawn, real=compared.real.some(others))
        if apart.comparable:
            kept = {**split.protocol, **protocol, **evaluation.extraction[compared.space.rows].facts}
            found, more = kernel_scores("reconstructions", apart, rng, kept)
            evidence |= more
            # What stands beside the others is of real images; the distance of training images is in the quotient.
            scores += [replace(score, ceiling=None, ceiling_name=None) for score in found]
    words = (
        f"The autoencoder's reconstructions of the {len(images)} real images that the captions describe, scored as the "
        "generated images are: what it cannot give back cannot be drawn."
    )
    if any(score.unit == "distance" for score in scores):
        words += " For kd_lite2, reconstructions of one part of the images stand against the other part."
    return Group("reconstructions", "Reconstructions (the ceiling)", words, scores, evidence) if scores else None
