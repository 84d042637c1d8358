"""Distances between two sets of features: FID (Heusel et al. 2017) and KID (Bińkowski et al. 2018).

Pure functions of feature arrays. They are FID and KID *as published* only where the features are Inception's pool3
activations with the pytorch-fid weights; on any other features they are distances of the same form whose values do
not compare.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from s2igan.metrics.bootstrap import RESAMPLES, Resamples, interval, resample_clusters


def feature_statistics(
    features: Float[np.ndarray, "images features"],
) -> tuple[Float[np.ndarray, " features"], Float[np.ndarray, "features features"]]:
    """Mean and unbiased covariance in float64. Raises ValueError on fewer than two rows."""
    if len(features) < 2:
        raise ValueError(f"a covariance needs at least two rows, not {len(features)}")
    x = features.astype(np.float64)
    mean = x.mean(axis=0)
    centred = x - mean
    return mean, centred.T @ centred / (len(x) - 1)


def frechet_distance(
    mean_a: Float[np.ndarray, " features"],
    covariance_a: Float[np.ndarray, "features features"],
    mean_b: Float[np.ndarray, " features"],
    covariance_b: Float[np.ndarray, "features features"],
) -> float:
    """Squared Fréchet distance of two Gaussians: |m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)).

    C_a C_b has the eigenvalues of the symmetric R C_b R with R = C_a^(1/2), so two symmetric eigen-decompositions
    give the trace of its root. Nothing is inverted and no imaginary part can arise, also where a covariance is
    singular because there are fewer images than features.
    """
    values, vectors = np.linalg.eigh(covariance_a)
    root_a = (vectors * np.sqrt(np.clip(values, 0.0, None))) @ vectors.T
    eigenvalues = np.linalg.eigvalsh(root_a @ covariance_b @ root_a)
    trace_root = np.sqrt(np.clip(eigenvalues, 0.0, None)).sum()
    difference = mean_a - mean_b
    return float(difference @ difference + np.trace(covariance_a) + np.trace(covariance_b) - 2 * trace_root)


def fid(
    features_a: Float[np.ndarray, "images_a features"], features_b: Float[np.ndarray, "images_b features"]
) -> float:
    """Fréchet distance of the Gaussians fitted to two sets of features. Biased upwards where a set is small."""
    return frechet_distance(*feature_statistics(features_a), *feature_statistics(features_b))


def kid(
    features_a: Float[np.ndarray, "images_a features"],
    features_b: Float[np.ndarray, "images_b features"],
    *,
    subsets: int = 100,
    subset_size: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """Mean and standard deviation, over random subsets, of the unbiased squared MMD with the kernel (x . y / d + 1)^3.

    The subset is no larger than the smaller set. Unbiased means that the expectation is 0 where both sets come from one
    distribution, at any size, so single values can be negative. Raises ValueError on fewer than two rows.
    """
    size = min(subset_size, len(features_a), len(features_b))
    if size < 2:
        raise ValueError(f"the kernel distance needs at least two rows in each set, not {size}")
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(subsets):
        a = features_a[rng.choice(len(features_a), size, replace=False)].astype(np.float64)
        b = features_b[rng.choice(len(features_b), size, replace=False)].astype(np.float64)
        values.append(squared_mmd(a, b))
    return float(np.mean(values)), float(np.std(values))


def squared_mmd(a: Float[np.ndarray, "images features"], b: Float[np.ndarray, "images features"]) -> float:
    """Unbiased squared MMD of two sets of one size, kernel (x . y / d + 1)^3: within a set, no item meets itself."""
    n, d = a.shape
    within = 0.0
    for x in (a, b):
        kernel = (x @ x.T / d + 1) ** 3
        within += (kernel.sum() - np.trace(kernel)) / (n * (n - 1))
    return float(within - 2 * ((a @ b.T / d + 1) ** 3).mean())


class PairedDistances(NamedTuple):
    """`squared_mmd` of two sets to the same real images, and 95 % bootstrap intervals."""

    fake: float
    fake_interval: tuple[float, float]
    training: float
    training_interval: tuple[float, float]
    ratio_interval: tuple[float, float]
    """Of fake / training; infinite at the top where resampled training distances reach 0."""


def paired_kernel_distances(
    fake: Float[np.ndarray, "images features"],
    training: Float[np.ndarray, "images features"],
    real: Float[np.ndarray, "images features"],
    *,
    classes: tuple[Int[np.ndarray, " images"], Int[np.ndarray, " images"], Int[np.ndarray, " images"]],
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> PairedDistances:
    """Unbiased kernel distances of fakes and of training images to the same real images, with intervals.

    The bootstrap draws classes again, those of fakes and real images alike, then images of each drawn class. An image
    that is drawn twice is not compared with itself, nor are two draws of one class with each other (their pairs count
    as many times less as the class was drawn): both would bias a distance.

    Args:
        classes: of fakes (of what each describes), of training images and of real ones.

    Raises:
        ValueError: counts differ or are below two.
    """
    n, d = real.shape
    if not len(fake) == len(training) == n or n < 2:
        raise ValueError(f"counts must be equal and at least two, not {len(fake)}, {len(training)} and {n}")
    fakes, trained, reals = (x.astype(np.float64) for x in (fake, training, real))
    fake_class, training_class, real_class = classes
    rng = np.random.default_rng(seed)
    of_fakes, of_real = resample_clusters(fake_class, real_class, resamples=resamples, rng=rng)
    (of_training,) = resample_clusters(training_class, resamples=resamples, rng=rng)
    even = Resamples(np.ones((1, n)), np.ones((1, n)))

    def mean_kernel(
        x: np.ndarray, y: np.ndarray, same_class: np.ndarray, of_x: Resamples, of_y: Resamples
    ) -> Float[np.ndarray, " resamples"]:
        """Mean of the kernel over the pairs that count; no image is compared with itself. NaN where no pair counts."""
        kernel = (x @ y.T / d + 1) ** 3
        counted = np.ones_like(kernel)
        if x is y:
            np.fill_diagonal(kernel, 0.0)
            np.fill_diagonal(counted, 0.0)
        sums = []
        for values in (kernel, counted):
            within = of_x.weights @ (values * same_class)
            beyond = of_x.weights @ values - within
            sums.append(((beyond + within / np.maximum(of_y.copies, 1.0)) * of_y.weights).sum(axis=1))
        mean: np.ndarray = np.divide(sums[0], sums[1], out=np.full(len(sums[0]), np.nan), where=sums[1] > 0)
        return mean

    def distances(draws: tuple[Resamples, Resamples, Resamples]) -> tuple[np.ndarray, np.ndarray]:
        """Of fakes and of training images."""
        drawn_fakes, drawn_training, drawn_real = draws
        of_reals = mean_kernel(reals, reals, real_class[:, None] == real_class, drawn_real, drawn_real)
        found = []
        for x, labels, drawn, shared in (
            (fakes, fake_class, drawn_fakes, True),
            (trained, training_class, drawn_training, False),
        ):
            own = mean_kernel(x, x, labels[:, None] == labels, drawn, drawn)
            across_class = (labels[:, None] == real_class) if shared else np.zeros((n, n), dtype=bool)
            found.append(own + of_reals - 2 * mean_kernel(x, reals, across_class, drawn, drawn_real))
        return found[0], found[1]

    values = np.stack(distances((of_fakes, of_training, of_real)))
    fake_values, training_values = values[:, np.isfinite(values).all(axis=0)]  # of a few images one may be drawn alone
    above = training_values > 0
    ratios = np.divide(fake_values, training_values, out=np.full(len(above), np.inf), where=above)
    (of_fake,), (of_trained,) = distances((even, even, even))
    return PairedDistances(
        float(of_fake), interval(fake_values), float(of_trained), interval(training_values), interval(ratios)
    )


def nearest_distances(
    queries: Float[np.ndarray, "queries features"], gallery: Float[np.ndarray, "gallery features"]
) -> Float[np.ndarray, " queries"]:
    """Euclidean distance of every query to the nearest item of the gallery, in float64."""
    q, g = queries.astype(np.float64), gallery.astype(np.float64)
    squared = (q**2).sum(axis=1)[:, None] + (g**2).sum(axis=1)[None] - 2 * q @ g.T
    nearest: np.ndarray = np.sqrt(np.clip(squared.min(axis=1), 0.0, None))
    return nearest
