import numpy as np
import pytest

from s2igan.metrics.fid import feature_statistics, fid, frechet_distance, kid, squared_mmd


def _rotation(d: int, seed: int) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(d, d)))[0]


def test_frechet_distance_of_commuting_gaussians():
    """Covariances with common eigenvectors: |m_a - m_b|^2 + sum (sqrt a_i - sqrt b_i)^2."""
    basis = _rotation(6, seed=1)
    a, b = np.array([1.0, 2, 3, 4, 5, 6]), np.array([4.0, 1, 9, 4, 0.25, 2])
    mean_a, mean_b = np.arange(6.0), np.full(6, 2.0)
    expected = ((mean_a - mean_b) ** 2).sum() + ((np.sqrt(a) - np.sqrt(b)) ** 2).sum()
    value = frechet_distance(mean_a, basis * a @ basis.T, mean_b, basis * b @ basis.T)
    assert value == pytest.approx(expected, rel=1e-10)


def test_frechet_distance_of_two_dimensional_gaussians_that_do_not_commute():
    """In two dimensions tr (AB)^(1/2) = sqrt(tr AB + 2 sqrt(det AB))."""
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(2, 2)), rng.normal(size=(2, 2))
    a, b = x @ x.T, y @ y.T
    root = np.sqrt(np.trace(a @ b) + 2 * np.sqrt(np.linalg.det(a @ b)))
    zero = np.zeros(2)
    assert frechet_distance(zero, a, zero, b) == pytest.approx(np.trace(a) + np.trace(b) - 2 * root, rel=1e-9)
    assert frechet_distance(zero, b, zero, a) == pytest.approx(frechet_distance(zero, a, zero, b), rel=1e-9)


def test_a_singular_covariance_is_no_obstacle():
    """Fewer images than features, as with Oxford-102's test set; a shift still costs exactly its squared length."""
    x = np.random.default_rng(3).normal(size=(10, 50))
    shift = np.full(50, 0.3)
    assert fid(x, x) == pytest.approx(0.0, abs=1e-5)
    assert fid(x, x + shift) == pytest.approx(float(shift @ shift), abs=1e-5)


def test_fid_of_samples_approaches_the_closed_form():
    rng = np.random.default_rng(4)
    value = fid(rng.normal(size=(20_000, 3)), 1.0 + 2.0 * rng.normal(size=(20_000, 3)))
    assert value == pytest.approx(3 * (1 + 1), rel=0.05)  # per dimension (0 - 1)^2 + (1 - 2)^2


def test_statistics_are_the_unbiased_ones():
    x = np.random.default_rng(5).normal(size=(7, 3))
    mean, covariance = feature_statistics(x.astype(np.float32))
    np.testing.assert_allclose(covariance, np.cov(x, rowvar=False), atol=1e-6)
    np.testing.assert_allclose(mean, x.mean(axis=0), atol=1e-6)


def test_squared_mmd_equals_its_definition():
    rng = np.random.default_rng(6)
    a, b = rng.normal(size=(5, 4)), rng.normal(size=(5, 4)) + 1

    def kernel(x: np.ndarray, y: np.ndarray) -> float:
        return float((x @ y / 4 + 1) ** 3)

    within = sum(kernel(x[i], x[j]) for x in (a, b) for i in range(5) for j in range(5) if i != j) / 20
    across = sum(kernel(p, q) for p in a for q in b) / 25
    assert squared_mmd(a, b) == pytest.approx(within - 2 * across, rel=1e-12)


def test_kid_is_unbiased_and_sees_a_shift():
    rng = np.random.default_rng(7)
    x, y = rng.normal(size=(400, 8)), rng.normal(size=(400, 8))
    same, spread = kid(x, y, subsets=50, subset_size=100)
    assert abs(same) < 0.01
    assert spread > 0
    # Kernel expectations for N(0, I) against N(m, I), d = 8, by the moments of t = x.y / d: E t = 0, E t^2 =
    # |.|^2-terms.
    shifted, _ = kid(x, y + 1.0, subsets=50, subset_size=100)
    d, m2 = 8, 8.0
    across = 1 + 3 * (d + m2) / d**2
    within_shifted = 1 + 3 * (m2 / d) + 3 * (d + 2 * m2 + m2**2) / d**2 + _third_moment_shifted(d, m2) / d**3
    expected = (1 + 3 / d) + within_shifted - 2 * across
    assert shifted == pytest.approx(expected, rel=0.1)


def _third_moment_shifted(d: int, m2: float) -> float:
    """E (u.v)^3 for independent u, v ~ N(m, I): with g = |u|^2-moments, E[(m.u)^3 + 3 (m.u) |u|^2]."""
    # m.u ~ N(m2, m2); |u|^2 = along m: N(|m|, 1)^2, plus d - 1 free dimensions.
    first = m2**3 + 3 * m2 * m2
    second = 3 * (m2 * (m2 + 3) + m2 * (d - 1))
    return first + second


def test_kid_is_seeded_and_small_sets_shrink_the_subset():
    rng = np.random.default_rng(8)
    x, y = rng.normal(size=(30, 4)), rng.normal(size=(12, 4))
    assert kid(x, y, subsets=5, seed=1) == kid(x, y, subsets=5, seed=1)
    assert kid(x, y, subsets=5, seed=1) != kid(x, y, subsets=5, seed=2)


def test_too_few_rows_are_refused():
    with pytest.raises(ValueError, match="at least two rows"):
        fid(np.zeros((1, 3)), np.zeros((5, 3)))
    with pytest.raises(ValueError, match="at least two rows"):
        kid(np.zeros((1, 3)), np.zeros((5, 3)))
