"""How far two sets of features are from each other, and how varied one is.

FID (Heusel et al. 2017), KID (Bińkowski et al. 2018), precision and recall (Kynkäänniemi et al. 2019) and the inception
score (Salimans et al. 2016) are torch-fidelity's arithmetic. They are the figures *of papers* only on the features of
the FID Inception; on others they are of the same form, and their values do not compare. What torch-fidelity lacks, the
kernel distances with intervals and the distance to the nearest item, is here.
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_isc import KEY_METRIC_ISC_MEAN, KEY_METRIC_ISC_STD, isc_features_to_metric
from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, KEY_METRIC_KID_STD, kid_features_to_metric
from torch_fidelity.metric_prc import KEY_METRIC_PRECISION, KEY_METRIC_RECALL, prc_features_to_metric

from s2igan.metrics.bootstrap import RESAMPLES, Resamples, interval, resample_clusters

NEIGHBOURS = 3
"""Of an image, the farthest of which bounds what counts as near to it (precision and recall)."""
AT_ONCE = 1000
"""Rows of a matrix of distances in memory at a time."""
AT_MOST = 5000
"""Rows of sets whose kernel of all pairs is held in memory: 200 MB."""
SEEDS = 2**32
"""Below this are the seeds that torch-fidelity takes."""


def frechet_distance(
    generated: Float[np.ndarray, "generated features"], real: Float[np.ndarray, "real features"]
) -> float:
    """Squared Fréchet distance of the Gaussians fitted to two sets: FID. Biased upwards where a set is small, and the
    more so where there are no more images than features. Raises ValueError on fewer than two rows."""
    _check(2, generated, real)
    statistics = [fid_features_to_statistics(_tensor(features)) for features in (generated, real)]
    return float(fid_statistics_to_metric(*statistics, verbose=False)[KEY_METRIC_FID])


def kernel_distance(
    generated: Float[np.ndarray, "generated features"],
    real: Float[np.ndarray, "real features"],
    *,
    subsets: int = 100,
    subset_size: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """Mean and standard deviation, over random subsets, of the unbiased squared MMD with the kernel (x . y / d + 1)^3:
    KID.

    The subset is no larger than the smaller set. Unbiased means that the expectation is 0 where both sets come from one
    distribution, at any size, so single values can be negative. Raises ValueError on fewer than two rows.

    The subsets are torch-fidelity's. It computes the kernel anew for each; where all pairs are fewer than those of the
    subsets, the kernel of all pairs is computed once.
    """
    _check(2, generated, real)
    size = min(subset_size, len(generated), len(real))
    largest = max(len(generated), len(real))
    if largest <= AT_MOST and largest**2 <= subsets * size**2:
        values = _kernel_distances(generated, real, subsets, size, seed % SEEDS)
        return float(values.mean()), float(values.std())
    found = kid_features_to_metric(
        _tensor(generated),
        _tensor(real),
        kid_subsets=subsets,
        kid_subset_size=size,
        rng_seed=seed % SEEDS,
        verbose=False,
    )
    return float(found[KEY_METRIC_KID_MEAN]), float(found[KEY_METRIC_KID_STD])


def _kernel_distances(
    generated: Float[np.ndarray, "generated features"],
    real: Float[np.ndarray, "real features"],
    subsets: int,
    size: int,
    seed: int,
) -> Float[np.ndarray, " subsets"]:
    """Of each subset, drawn as torch-fidelity draws them."""
    x, y = generated.astype(np.float64), real.astype(np.float64)
    rng = np.random.RandomState(seed)
    of_x, of_y = np.zeros((subsets, len(x))), np.zeros((subsets, len(y)))
    for row_x, row_y in zip(of_x, of_y, strict=True):
        row_x[rng.choice(len(x), size, replace=False)] = 1.0
        row_y[rng.choice(len(y), size, replace=False)] = 1.0

    def mean_kernel(a: np.ndarray, b: np.ndarray, of_a: np.ndarray, of_b: np.ndarray) -> np.ndarray:
        """Over the pairs of each subset; no image is compared with itself."""
        kernel = a @ b.T / a.shape[1] + 1
        kernel = kernel * kernel * kernel
        if a is b:
            np.fill_diagonal(kernel, 0.0)
        found: np.ndarray = ((of_a @ kernel) * of_b).sum(axis=1) / (size * (size - 1 if a is b else size))
        return found

    return mean_kernel(x, x, of_x, of_x) + mean_kernel(y, y, of_y, of_y) - 2 * mean_kernel(x, y, of_x, of_y)


def precision_and_recall(
    generated: Float[np.ndarray, "generated features"], real: Float[np.ndarray, "real features"]
) -> tuple[float, float]:
    """Share of generated images that are within the distance of a real one to its third-nearest real neighbour; and
    share of real images that are as near to a generated one. Raises ValueError on fewer than five rows."""
    _check(NEIGHBOURS + 2, generated, real)
    found = prc_features_to_metric(
        _tensor(generated),
        _tensor(real),
        prc_neighborhood=NEIGHBOURS,
        prc_batch_size=AT_ONCE,
        save_cpu_ram=True,
        verbose=False,
    )
    return found[KEY_METRIC_PRECISION], found[KEY_METRIC_RECALL]


def inception_score(
    logits: Float[np.ndarray, "images classes"], *, splits: int = 10, seed: int = 0
) -> tuple[float, float]:
    """Mean and population standard deviation over splits of exp(mean KL(p_i || mean p)); the images are shuffled.

    Raises ValueError on fewer rows than splits.
    """
    _check(splits, logits)
    found = isc_features_to_metric(_tensor(logits), splits, rng_seed=seed % SEEDS)
    return found[KEY_METRIC_ISC_MEAN], found[KEY_METRIC_ISC_STD]


def _tensor(features: Float[np.ndarray, "images features"]) -> torch.Tensor:
    return torch.from_numpy(features.astype(np.float64))


def _check(least: int, *sets: np.ndarray) -> None:
    if (fewest := min(map(len, sets))) < least:
        raise ValueError(f"at least {least} rows are needed in each set, not {fewest}")


class PairedDistances(NamedTuple):
    """Unbiased squared MMD of two sets to the same real images, and 95 % bootstrap intervals."""

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
    g = gallery.astype(np.float64)
    lengths = (g**2).sum(axis=1)
    nearest = []
    for start in range(0, len(queries), AT_ONCE):
        q = queries[start : start + AT_ONCE].astype(np.float64)
        squared = (q**2).sum(axis=1)[:, None] + lengths[None] - 2 * q @ g.T
        nearest.append(np.sqrt(np.clip(squared.min(axis=1), 0.0, None)))
    return np.concatenate(nearest)
