"""Inception score of class probabilities (Salimans et al. 2016), in both split conventions of the reference."""

import itertools
from typing import Literal

import numpy as np
from jaxtyping import Float


def inception_score(
    probs: Float[np.ndarray, "images classes"],
    splits: int = 10,
    *,
    remainder: Literal["drop", "spread"] = "drop",
) -> tuple[float, float]:
    """Mean and population standard deviation over splits of consecutive rows of exp(mean_i KL(p_i || mean p)).

    ``remainder="drop"``: splits of floor(N / splits) rows, and the last N mod splits rows are not used (the
    reference's script). ``remainder="spread"``: split j is rows floor(jN / splits) to floor((j + 1)N / splits) - 1
    (the reference's trainer). The rows must be in random order with respect to their class. Raises ValueError where
    there are fewer rows than splits, or where rows are not probabilities.
    """
    n = len(probs)
    if not 1 <= splits <= n:
        raise ValueError(f"{n} rows cannot be cut into {splits} splits")
    p = probs.astype(np.float64)
    if (p < 0).any() or not np.allclose(p.sum(axis=1), 1.0, atol=1e-3):
        raise ValueError("every row must be of probabilities: not negative, of sum 1")
    if remainder == "drop":
        bounds = [j * (n // splits) for j in range(splits + 1)]
    else:
        bounds = [j * n // splits for j in range(splits + 1)]
    scores = []
    for first, end in itertools.pairwise(bounds):
        part = p[first:end]
        ratio = np.divide(part, part.mean(axis=0, keepdims=True), out=np.ones_like(part), where=part > 0)
        scores.append(np.exp((part * np.log(ratio)).sum(axis=1).mean()))  # 0 log 0 = 0
    return float(np.mean(scores)), float(np.std(scores))
