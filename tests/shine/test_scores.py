"""Expansions of the log evidence, against differences of it and against the full posterior."""

import numpy as np
import pytest
from scipy.special import logsumexp

from shine.population import ShapePrior, ShapeSamples, infer_shear, log_population
from shine.scores import shape_scores
from tests.shine.simulated_shapes import NOISE, SIGMA, intrinsic, lens, samples_of


def simulated(n, shear, seed, count=64, paired=False):
    """Samples of galaxies with Gaussian noise of shape; in pairs of e and -e where asked."""
    rng = np.random.default_rng(seed)
    e = intrinsic(n // 2 if paired else n, rng)
    e = np.concatenate([e, -e]) if paired else e
    away = NOISE * (rng.standard_normal(len(e)) + 1j * rng.standard_normal(len(e)))
    return samples_of(lens(e, shear) + away, count, rng, NOISE)


def blended(samples):
    """The same galaxies as blends of one, two or three that share samples, out of order."""
    rng = np.random.default_rng(8)
    n = len(samples.shape)
    blend = rng.permutation(np.repeat(np.arange(n), rng.integers(1, 4, n))[:n] * 7)
    log_weight = samples.log_weight[blend % n].copy()
    log_weight[blend % 3 == 0, 40:] = -np.inf
    return ShapeSamples(samples.shape, log_weight, blend)


def corrected_log_evidence(samples, blend, shear):
    """Of one blend, from the population's own density."""
    rows = np.flatnonzero(samples.blend == blend)
    log_w = samples.log_weight[rows[0]]
    log_w = log_w + sum(log_population(samples.shape[row], shear, SIGMA) for row in rows)
    unevenness = np.exp(logsumexp(2.0 * log_w) - 2.0 * logsumexp(log_w))
    count = np.isfinite(samples.log_weight[rows[0]]).sum()
    return logsumexp(log_w) + 0.5 * (unevenness - 1.0 / count)


@pytest.mark.parametrize("shear", [(0.0, 0.0), (0.12, -0.2)])
def test_scores_are_derivatives_of_the_corrected_log_evidence(shear):
    samples = blended(simulated(40, 0.1 - 0.05j, 1))
    scores = shape_scores(samples, SIGMA, shear)
    assert scores.members.sum() == 40 and scores.members.max() == 3
    h, here = 1e-3, complex(*shear)
    for n, blend in enumerate(scores.blend):
        at = np.array(
            [
                [
                    corrected_log_evidence(samples, blend, here + h * (i + 1j * j))
                    for j in (-1, 0, 1)
                ]
                for i in (-1, 0, 1)
            ]
        )
        gradient = np.array([at[2, 1] - at[0, 1], at[1, 2] - at[1, 0]]) / (2 * h)
        mixed = (at[2, 2] + at[0, 0] - at[2, 0] - at[0, 2]) / (4 * h**2)
        straight = np.array([at[2, 1] + at[0, 1], at[1, 2] + at[1, 0]]) - 2 * at[1, 1]
        response = -np.array([[straight[0] / h**2, mixed], [mixed, straight[1] / h**2]])
        np.testing.assert_allclose(scores.gradient[n], gradient, atol=3e-3)
        np.testing.assert_allclose(scores.response[n], response, atol=1e-2, rtol=1e-3)


def test_each_blend_may_have_a_shear_of_its_own():
    samples = blended(simulated(40, 0.1 - 0.05j, 1))
    n = len(np.unique(samples.blend))
    each = np.random.default_rng(3).uniform(-0.3, 0.3, (n, 2))
    found = shape_scores(samples, SIGMA, each)
    for k in range(0, n, 5):
        alone = shape_scores(samples, SIGMA, each[k])
        np.testing.assert_allclose(found.gradient[k], alone.gradient[k], rtol=1e-10)
        np.testing.assert_allclose(found.response[k], alone.response[k], rtol=1e-10, atol=1e-12)


def test_for_a_small_shear_their_sum_is_the_posterior():
    samples = simulated(3000, 0.01 - 0.015j, 2)
    posterior = infer_shear(samples, ShapePrior(SIGMA, infer_sigma=False))
    shear, covariance = shape_scores(samples, SIGMA).shear()
    error = np.sqrt(np.diag(posterior.covariance))
    np.testing.assert_allclose(shear, posterior.shear, atol=0.03 * error.min())
    np.testing.assert_allclose(covariance, posterior.covariance, atol=0.02 * error.min() ** 2)


@pytest.mark.parametrize(("size", "limit"), [(0.02, 0.004), (0.05, 0.006)])
def test_the_bias_is_a_small_share_of_a_small_shear(size, limit):
    """With paired galaxies the noise of m is 1e-3 / size; all is compared with the truth."""
    shear = size * np.exp(0.7j)
    along = []
    for seed in range(4):
        found, _ = shape_scores(simulated(20000, shear, seed, 48, paired=True), SIGMA).shear()
        along.append((complex(*found) / shear).real - 1.0)
    error = np.std(along, ddof=1) / 2.0
    assert error < 0.02
    assert abs(np.mean(along)) < limit + 2.5 * error


def test_a_large_shear_is_found_by_expanding_again_around_the_answer():
    shear = 0.3 * np.exp(-1.1j)
    samples = simulated(20000, shear, 5, 48, paired=True)
    answer, first = np.zeros(2), None
    for _ in range(4):
        step, covariance = shape_scores(samples, SIGMA, answer).shear()
        answer = answer + step
        first = answer if first is None else first
    posterior = infer_shear(samples, ShapePrior(SIGMA, infer_sigma=False))
    error = np.sqrt(np.diag(posterior.covariance))
    np.testing.assert_allclose(answer, posterior.shear, atol=0.03 * error.min())
    np.testing.assert_allclose(covariance, posterior.covariance, atol=0.02 * error.min() ** 2)
    # and the first expansion is not enough
    assert abs(complex(*first) / shear - 1.0) > 0.01
