"""The shear from samples of shapes, against populations and posteriors that are known exactly."""

import jax
import numpy as np
import pytest

from shine.evidence import Evidence
from shine.population import ShapePrior, ShapeSamples, infer_shear, log_population
from shine.prior_utils import unlens
from tests.shine.simulated_shapes import NOISE, SHEAR, SIGMA, intrinsic, lens, measured, samples_of

FIXED = ShapePrior(ellipticity_sigma=SIGMA, infer_sigma=False)


def error(posterior):
    return np.sqrt(np.diag(posterior.covariance))


@pytest.fixture(scope="module")
def many():
    """120 galaxies, 64 samples of each."""
    rng = np.random.default_rng(0)
    return samples_of(measured(120, rng), 64, rng)


@pytest.mark.parametrize("shear", [0.0, 0.1 + 0.05j, -0.4 + 0.5j])
@pytest.mark.parametrize("sigma", [0.1, 0.25, 0.6])
def test_the_population_is_normalised_over_the_disc(shear, sigma):
    radius, weight = np.polynomial.legendre.leggauss(400)
    radius, weight = 0.5 * (radius + 1.0), 0.5 * weight
    angle = 2.0 * np.pi * np.arange(512) / 512
    shape = radius[:, None] * np.exp(1j * angle)
    density = np.exp(log_population(shape, shear, sigma)).mean(axis=1) * 2.0 * np.pi
    assert np.sum(weight * radius * density) == pytest.approx(1.0, abs=1e-6)


def test_there_is_no_shape_outside_the_disc():
    log_p = log_population(np.array([1.0001, -0.8 + 0.7j, 0.999]), 0.3 - 0.2j, 0.25)
    assert list(np.isneginf(log_p)) == [True, True, False]


@pytest.mark.parametrize("shear", [0.03 - 0.02j, -0.3 + 0.4j])
@pytest.mark.parametrize("shape", [0.0, 0.3 + 0.2j, -0.5 - 0.7j])
def test_the_population_is_that_of_the_unlensed_shape_times_the_jacobian(shear, shape):
    step = 1e-5
    points = shape + step * np.array([0, 1, -1, 1j, -1j])
    with jax.enable_x64(True):
        e = unlens(np.column_stack([points.real, points.imag]), np.array([shear.real, shear.imag]))
        e = np.asarray(e, float)
    jacobian = abs(np.linalg.det([e[1] - e[2], e[3] - e[4]])) / (2.0 * step) ** 2
    for sigma in (0.2, 0.5):
        unlensed = log_population(complex(*e[0]), 0.0, sigma)
        expected = unlensed + np.log(jacobian)
        assert log_population(shape, shear, sigma) == pytest.approx(expected, abs=1e-6)


def test_shear_and_dispersion_are_recovered():
    rng = np.random.default_rng(1)
    samples = samples_of(measured(2000, rng), 32, rng)
    posterior = infer_shear(samples, ShapePrior(ellipticity_sigma=0.35))
    away = posterior.shear - [SHEAR.real, SHEAR.imag]
    assert np.all(np.abs(away) < 3.0 * error(posterior))
    expected = np.hypot(SIGMA, NOISE) / np.sqrt(2000)
    np.testing.assert_allclose(error(posterior), expected, rtol=0.1)
    assert abs(posterior.ellipticity_sigma - SIGMA) < 3.0 * posterior.ellipticity_sigma_err
    assert 0.002 < posterior.ellipticity_sigma_err < 0.01
    assert posterior.n_galaxies == 2000


@pytest.mark.parametrize("n_rings", [4, 16, 100])
def test_few_galaxies_give_the_shear_of_many(n_rings):
    """Rings of four have no shape noise, so that what is left is the estimator's bias."""
    e = intrinsic(n_rings, np.random.default_rng(8))
    s = lens(np.concatenate([e, -e, 1j * e, -1j * e]), SHEAR)
    exact = ShapeSamples(s[:, None], np.zeros((len(s), 1)), np.arange(len(s)))
    posterior = infer_shear(exact, ShapePrior(SIGMA, infer_sigma=False, shear_sigma=30.0))
    # a prior that is flat in g would give 1.6, 0.4 and 0.06 % too little
    np.testing.assert_allclose(posterior.shear, [SHEAR.real, SHEAR.imag], rtol=2e-4)


def test_errors_equal_the_scatter_over_shapes_and_noise():
    rng = np.random.default_rng(2)
    n, away, covariance = 120, [], []
    for _ in range(n):
        posterior = infer_shear(samples_of(measured(50, rng), 48, rng), FIXED)
        away.append(posterior.shear - [SHEAR.real, SHEAR.imag])
        covariance.append(posterior.covariance)
    away, covariance = np.array(away), np.array(covariance)
    distance2 = np.einsum("ki,kij,kj->k", away, np.linalg.inv(covariance), away)
    # chi-square of 240 degrees of freedom: its mean has an error of 9 % of the expected one
    assert distance2.sum() / (2 * n) == pytest.approx(1.0, abs=0.28)
    # 68 and 95 % of the shears lie within their ellipses, to three binomial errors
    for share in (0.68, 0.95):
        inside = np.mean(distance2 < -2.0 * np.log(1.0 - share))
        assert inside == pytest.approx(share, abs=3.0 * np.sqrt(share * (1 - share) / n))
    assert np.all(np.abs(away.mean(axis=0)) < 3.5 * away.std(axis=0) / np.sqrt(n))


@pytest.mark.parametrize(("sigma", "shear_sigma"), [(0.1, 3.0), (0.25, 0.2)])
def test_a_round_galaxy_known_exactly_has_the_analytic_posterior(sigma, shear_sigma):
    """p(g) ~ exp(-|g|^2 (1 / sigma_e^2 + 1 / sigma_g^2) / 2): the Jacobian cancels the area's."""
    one = ShapeSamples(np.zeros((1, 1), complex), np.zeros((1, 1)), np.zeros(1, int))
    posterior = infer_shear(one, ShapePrior(sigma, infer_sigma=False, shear_sigma=shear_sigma))
    radius = np.linspace(0.0, 1.0, 4001)
    inverse = sigma**-2 + shear_sigma**-2
    p = radius * np.exp(-0.5 * inverse * radius**2)
    variance = 0.5 * np.sum(p * radius**2) / np.sum(p)
    np.testing.assert_allclose(posterior.covariance, variance * np.eye(2), atol=2e-3 * variance)
    np.testing.assert_allclose(posterior.shear, 0.0, atol=1e-6)
    assert posterior.ellipticity_sigma == sigma
    assert posterior.ellipticity_sigma_err == 0.0


def test_members_of_a_blend_with_independent_samples_count_as_alone():
    """All pairs of two galaxies' samples, with the products of their weights."""
    rng = np.random.default_rng(3)
    alone = samples_of(measured(24, rng), 48, rng)
    first, second = np.meshgrid(np.arange(48), np.arange(48), indexing="ij")
    first, second = first.ravel(), second.ravel()
    shape, log_weight = np.empty((2, 24, 48**2), complex)
    shape[0::2], shape[1::2] = alone.shape[0::2][:, first], alone.shape[1::2][:, second]
    log_weight = alone.log_weight[0::2][:, first] + alone.log_weight[1::2][:, second]
    # the members of a blend need not stand together, nor blends be numbered without gaps
    order = rng.permutation(24)
    paired = ShapeSamples(
        shape[order], np.repeat(log_weight, 2, axis=0)[order], 3 * (np.arange(24) // 2)[order]
    )
    expected, found = infer_shear(alone, FIXED), infer_shear(paired, FIXED)
    # they differ by the corrections for finite samples alone
    np.testing.assert_allclose(found.shear, expected.shear, atol=0.05 * error(expected)[0])
    np.testing.assert_allclose(found.covariance, expected.covariance, atol=1e-4)
    assert found.n_galaxies == 24


def test_weights_of_a_blend_multiply_its_members_populations(many):
    paired = ShapeSamples(many.shape, np.repeat(many.log_weight[::2], 2, axis=0), many.blend // 2)
    posterior = infer_shear(paired, FIXED)
    log_p = log_population(many.shape, complex(*posterior.shear), SIGMA)
    both = np.repeat(log_p[0::2] + log_p[1::2], 2, axis=0)
    np.testing.assert_allclose(posterior.log_weights(paired), paired.log_weight + both)


def test_the_correction_for_finite_samples_reduces_the_shift(monkeypatch):
    rng = np.random.default_rng(0)
    shear, noise = 0.15 + 0.1j, 0.3
    plenty = samples_of(measured(300, rng, shear, noise), 2048, rng, noise)
    direction = np.array([shear.real, shear.imag]) / abs(shear) ** 2

    def shear_of_parts():
        parts = [slice(16 * k, 16 * k + 16) for k in range(64)]
        found = [
            infer_shear(
                ShapeSamples(plenty.shape[:, k], plenty.log_weight[:, k], plenty.blend), FIXED
            ).shear
            for k in parts
        ]
        return np.mean(found, axis=0) @ direction

    reference = infer_shear(plenty, FIXED).shear @ direction
    corrected = shear_of_parts()
    terms = Evidence.terms
    monkeypatch.setattr(Evidence, "terms", lambda *arguments: (terms(*arguments)[0], 0.0))
    plain = shear_of_parts()
    assert plain - reference < -0.02
    assert abs(corrected - reference) < 0.4 * abs(plain - reference)


def test_padding_says_nothing(many):
    wide = ((0, 0), (0, 40))
    padded = ShapeSamples(
        np.pad(many.shape, wide),
        np.pad(many.log_weight, wide, constant_values=-np.inf),
        many.blend,
    )
    prior = ShapePrior(ellipticity_sigma=0.3)
    expected, found = infer_shear(many, prior), infer_shear(padded, prior)
    np.testing.assert_allclose(found.shear, expected.shear, rtol=1e-9)
    np.testing.assert_allclose(found.covariance, expected.covariance, rtol=1e-9)
    assert found.ellipticity_sigma == pytest.approx(expected.ellipticity_sigma, rel=1e-9)


def test_the_scale_of_a_galaxys_weights_means_nothing(many):
    scale = np.linspace(-2000.0, 2000.0, len(many.shape))[:, None]
    scaled = ShapeSamples(many.shape, many.log_weight + scale, many.blend)
    np.testing.assert_allclose(infer_shear(scaled, FIXED).shear, infer_shear(many, FIXED).shear)


def test_no_galaxy_has_no_shear(many):
    with pytest.raises(ValueError, match="no galaxy"):
        infer_shear(many.select(np.zeros(120, bool)), FIXED)


def test_the_log_density_has_the_moments_of_the_posterior(many):
    posterior = infer_shear(many, FIXED)
    width = error(posterior)
    axis = np.linspace(-6.0, 6.0, 49)
    offset = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1) * width
    log_p = posterior.log_density(posterior.shear + offset)
    assert log_p.shape == (49, 49)
    top = np.unravel_index(log_p.argmax(), log_p.shape)
    assert np.abs(np.array(top) - 24).max() <= 1  # a quarter of the error
    p = np.exp(log_p - log_p.max()).reshape(-1)
    p /= p.sum()
    away = offset.reshape(-1, 2)
    np.testing.assert_allclose(p @ away, 0.0, atol=5e-3 * width.min())
    covariance = (away * p[:, None]).T @ away
    np.testing.assert_allclose(covariance, posterior.covariance, atol=0.01 * width.prod())
