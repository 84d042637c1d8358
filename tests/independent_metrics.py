"""The metrics of the field written anew from their papers with numpy and scipy, to hold against torch-fidelity's."""

import numpy as np
from scipy import linalg
from scipy.spatial.distance import cdist
from scipy.special import log_softmax


def frechet(generated: np.ndarray, real: np.ndarray) -> float:
    """FID of features (Heusel et al. 2017): |m - w|^2 + tr(C + W - 2 (C W)^(1/2)), the root by Schur's method."""
    means = [x.mean(axis=0) for x in (generated, real)]
    covariances = [np.atleast_2d(np.cov(x.T)) for x in (generated, real)]
    root = linalg.sqrtm(covariances[0] @ covariances[1]).real
    return float(((means[0] - means[1]) ** 2).sum() + sum(map(np.trace, covariances)) - 2 * np.trace(root))


def frechet_of_few(generated: np.ndarray, real: np.ndarray) -> float:
    """The same of fewer images than features: tr (C W)^(1/2) is the sum of the singular values of X Y'; X and Y are the
    centred features over the root of their number less one."""
    x, y = ((part - part.mean(axis=0)) / np.sqrt(len(part) - 1) for part in (generated, real))
    squares = ((generated.mean(axis=0) - real.mean(axis=0)) ** 2).sum() + (x**2).sum() + (y**2).sum()
    return float(squares - 2 * np.linalg.svd(x @ y.T, compute_uv=False).sum())


def squared_mmd(a: np.ndarray, b: np.ndarray) -> float:
    """Unbiased squared MMD with the kernel (x . y / d + 1)^3 (Bińkowski et al. 2018), pair by pair."""

    def kernel(x: np.ndarray, y: np.ndarray) -> float:
        return float((x @ y / len(x) + 1) ** 3)

    def within(x: np.ndarray) -> float:
        n = len(x)
        return sum(kernel(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))

    across = sum(kernel(x, y) for x in a for y in b) / (len(a) * len(b))
    return within(a) + within(b) - 2 * across


def inception_score(logits: np.ndarray, splits: int) -> tuple[float, float]:
    """exp(E KL(p || E p)) (Salimans et al. 2016) of consecutive parts of the rows as they stand."""
    scores = []
    for part in np.array_split(log_softmax(logits.astype(np.float64), axis=1), splits):
        probs = np.exp(part)
        scores.append(np.exp((probs * (part - np.log(probs.mean(axis=0)))).sum(axis=1).mean()))
    return float(np.mean(scores)), float(np.std(scores))


def precision_and_recall(generated: np.ndarray, real: np.ndarray, neighbours: int = 3) -> tuple[float, float]:
    """Improved precision and recall (Kynkäänniemi et al. 2019)."""

    def covered(asked: np.ndarray, reference: np.ndarray) -> float:
        radius = np.sort(cdist(reference, reference), axis=1)[:, neighbours]
        return float((cdist(asked, reference) <= radius).any(axis=1).mean())

    return covered(generated, real), covered(real, generated)


def average_precision(similarity: np.ndarray, relevant: np.ndarray) -> float:
    """Of one query whose similarities all differ."""
    ranked = relevant[np.argsort(-similarity)]
    return float(np.mean([ranked[: rank + 1].mean() for rank in np.flatnonzero(ranked)]))
