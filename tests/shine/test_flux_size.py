"""The population of fluxes and sizes, from samples of galaxies whose population is known."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import logsumexp

from shine.flux_size import FluxSizePopulation, FluxSizeSamples, infer_population

WIDTH = np.array([1.0, 0.5])  # of the priors around the catalogue's values
SLOPE, SCATTER = 0.2, 0.3  # of ln size with ln flux, and at a given flux
NOISE = np.array([0.12, 0.25])


def survey(n: int, rng: np.random.Generator) -> np.ndarray:
    """ln flux and ln size (n, 2): steep counts between two limits, and brighter ones larger."""
    low, high, steep = -0.5, 2.5, 0.75
    inside = rng.uniform(np.exp(-steep * high), np.exp(-steep * low), n)
    flux = -np.log(inside) / steep
    return np.stack([flux, -1.2 + SLOPE * flux + SCATTER * rng.standard_normal(n)], axis=1)


def samples_of(truth, count: int, rng: np.random.Generator, noise=NOISE) -> FluxSizeSamples:
    """Samples of what noisy pixels say of each galaxy, exactly weighted."""
    seen = truth + noise * rng.standard_normal(truth.shape)
    away = rng.standard_normal((len(truth), count, 2))
    # from a proposal that is wider than the likelihood
    value = seen[:, None] + 1.3 * noise * away
    log_weight = 0.5 * (1.0 - 1.3**2) * np.sum(away**2, axis=2)
    return FluxSizeSamples(value, log_weight, np.arange(len(truth)))


def moments(population: FluxSizePopulation) -> tuple[np.ndarray, np.ndarray]:
    mean = population.share @ population.mean
    away = population.mean - mean
    covariance = population.covariance + away[:, :, None] * away[:, None, :]
    return mean, np.einsum("j,jab->ab", population.share, covariance)


def test_the_population_behind_the_noise_is_found():
    rng = np.random.default_rng(1)
    truth = survey(3000, rng)
    found = infer_population(samples_of(truth, 48, rng), WIDTH)
    mean, covariance = moments(found)
    np.testing.assert_allclose(mean, truth.mean(axis=0), atol=0.01)
    np.testing.assert_allclose(covariance, np.cov(truth.T), atol=0.015)
    # larger ones are brighter, and the scatter about that is not the noise's
    slope = covariance[0, 1] / covariance[0, 0]
    assert slope == pytest.approx(SLOPE, abs=0.02)
    assert np.sqrt(covariance[1, 1] - slope * covariance[0, 1]) == pytest.approx(SCATTER, abs=0.015)


def test_its_density_is_that_of_galaxies_not_of_a_single_gaussian():
    rng = np.random.default_rng(2)
    truth = survey(3000, rng)
    found = infer_population(samples_of(truth, 48, rng), WIDTH)
    assert len(found.share) == 3
    assert found.share.sum() == pytest.approx(1.0)
    one = FluxSizePopulation(np.ones(1), truth.mean(axis=0)[None], np.cov(truth.T)[None])
    fresh = survey(20000, rng)
    assert found.log_density(fresh).mean() > one.log_density(fresh).mean() + 0.05
    # a density: its integral is one
    grid = np.stack(np.meshgrid(np.linspace(-6, 8, 400), np.linspace(-6, 4, 400)), axis=-1)
    cell = 14 / 399 * 10 / 399
    assert np.exp(found.log_density(grid)).sum() * cell == pytest.approx(1.0, abs=1e-3)


def test_a_few_galaxies_keep_the_widths_that_were_believed():
    rng = np.random.default_rng(3)
    found = infer_population(samples_of(np.array([[0.4, -1.0]]), 64, rng), WIDTH)
    mean, covariance = moments(found)
    assert np.all(np.abs(mean - [0.4, -1.0]) < 3.0 * NOISE)
    # two galaxies were believed, one of no scatter was seen
    np.testing.assert_allclose(covariance, np.diag(WIDTH**2) * 2 / 3, atol=0.04)


def test_galaxies_all_alike_have_a_narrow_population():
    rng = np.random.default_rng(4)
    found = infer_population(samples_of(np.tile([0.4, -1.0], (1000, 1)), 64, rng), WIDTH)
    mean, covariance = moments(found)
    np.testing.assert_allclose(mean, [0.4, -1.0], atol=0.02)
    assert np.sqrt(np.diag(covariance)).max() < 0.15


def coupled_pairs(rng: np.random.Generator) -> FluxSizeSamples:
    """Galaxies two by two, whose pixels know the sum of their fluxes better than each."""
    n, count = 40, 50
    given = samples_of(survey(2 * n, rng), count, rng, 4.0 * NOISE)
    blend = np.repeat(np.arange(n), 2)[rng.permutation(2 * n)]
    log_weight, log_flux = np.zeros((n, count)), np.zeros((n, count))
    np.add.at(log_weight, blend, given.log_weight)
    np.add.at(log_flux, blend, given.value[..., 0])
    log_weight -= 0.5 * ((log_flux - 1.0) / 0.1) ** 2
    log_weight[:, -5:] = -np.inf  # padding
    return FluxSizeSamples(given.value, log_weight[blend], blend)


def improved(population: FluxSizePopulation, samples: FluxSizeSamples) -> np.ndarray:
    """Mean and covariance after one step of expectation maximisation, written out."""
    believed, n = 2.0, len(samples.blend)
    parts, first = [], np.zeros(2)
    for number in np.unique(samples.blend):
        members = np.flatnonzero(samples.blend == number)
        own = samples.log_weight[members[0]]
        values = samples.value[members]
        log_p = own + population.log_density(values).sum(axis=0)
        weight = np.exp(log_p - logsumexp(log_p))
        parts += [(weight, value) for value in values]
        first += np.einsum("k,mka->a", np.exp(own - logsumexp(own)), values) / n
    mean = sum(weight @ value for weight, value in parts) + believed * first
    mean /= n + believed
    covariance = believed * (np.diag(WIDTH**2) + np.outer(first - mean, first - mean))
    for weight, value in parts:
        covariance += np.einsum("k,ka,kb->ab", weight, value - mean, value - mean)
    return np.vstack([mean, covariance / (n + believed)])


def test_members_of_a_blend_share_one_weight():
    pairs = coupled_pairs(np.random.default_rng(5))
    found = infer_population(pairs, WIDTH)
    at_rest = np.vstack([found.mean[0], found.covariance[0]])
    np.testing.assert_allclose(at_rest, improved(found, pairs), atol=4e-3)
    apart = infer_population(replace(pairs, blend=np.arange(len(pairs.blend))), WIDTH)
    away = np.vstack([apart.mean[0], apart.covariance[0]]) - improved(apart, pairs)
    assert np.abs(away).max() > 0.03


def test_no_galaxy_has_no_population():
    none = FluxSizeSamples(np.zeros((0, 4, 2)), np.zeros((0, 4)), np.zeros(0, int))
    with pytest.raises(ValueError, match="no galaxy"):
        infer_population(none, WIDTH)
