"""Samples of faint galaxies and of a blend, against a dense reference that shares no code."""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from shine import density, importance
from shine.fit import Fit
from shine.flux_size import FluxSizeSamples, infer_population
from shine.importance import Samples, of_population, sample, shape_samples
from shine.inference import find_mode
from shine.inference_config import MarginalConfig, SolverConfig
from shine.population import ShapePrior, infer_shear, log_population
from shine.prior_utils import INTERIM_WIDENING, SourcePrior
from shine.scene import Scene
from tests.shine.galsim_scenes import Galaxy, build, draw, jacobian, noise_for_snr

SEED = (3, 1)
PAIR, UNLENSED = [8, 9], 10
WIDTH = 240
FEW = MarginalConfig(samples=64)


def galaxies() -> list[Galaxy]:
    """Eight in ring pairs with S/N 15 to 40, two that blend, and one that carries no shear."""
    rng = np.random.default_rng(7)
    found = []
    for k in range(8):
        if k % 2 == 0:
            e = 0.2 * rng.normal(size=2).clip(-2, 2)
        row, column = divmod(k, 4)
        x, y = 60 * (np.array([column, row]) + 0.5) + rng.uniform(-0.5, 0.5, 2)
        shape = e if k % 2 == 0 else -e
        found.append(Galaxy(x, y, 6.0 + 10.0 * k / 7.0, rng.uniform(0.2, 0.4), *shape))
    found += [Galaxy(30.0, 146.0, 12.0, 0.3, 0.1, 0.1), Galaxy(30.3, 154.0, 10.0, 0.25, -0.1, 0.0)]
    return [*found, Galaxy(150.0, 150.0, 12.0, 0.3, 0.0, 0.1)]


@dataclass(frozen=True)
class Case:
    """A scene with its mode, and dense samples of its interim posterior."""

    scene: Scene
    prior: SourcePrior
    fit: Fit
    blend: np.ndarray  # (n,)
    reference: dict[int, tuple]  # per blend: mean, covariance, effective number

    def sample(self, config: MarginalConfig = FEW, fit: Fit | None = None, seed=SEED) -> Samples:
        return sample(self.scene, self.prior, fit or self.fit, config, seed)


@pytest.fixture(scope="module")
def case() -> Case:
    matrix, sources = jacobian(20), galaxies()
    sigma = noise_for_snr(25.0, matrix, Galaxy(0, 0))
    image = draw(sources, (0.04, -0.03), matrix, (WIDTH, WIDTH))
    image = image + np.random.default_rng(1).normal(scale=sigma, size=image.shape)
    images = [(image, np.full(image.shape, sigma**-2), matrix)]
    scene, prior = build(sources, images, stamp_size=48)
    lensed = prior.lensed & (np.arange(len(prior.lensed)) != UNLENSED)
    prior = replace(prior, lensed=lensed).interim()
    fit = find_mode(scene, prior, SolverConfig())
    assert fit.converged
    blend = np.full(len(lensed), -1)
    for number, rows in enumerate(scene.members):
        blend[rows[rows >= 0]] = number
    return Case(scene, prior, fit, blend, dense(scene, prior, fit))


def dense(scene: Scene, prior: SourcePrior, fit: Fit, count: int = 4096) -> dict[int, tuple]:
    """Moments of every blend, from Student's t of four degrees of freedom around the mode."""
    rng = np.random.default_rng(11)
    z = np.broadcast_to(fit.z, (count, *fit.z.shape)).copy()
    log_weight = np.zeros((len(scene.members), count))
    for family in fit.families:
        for blend, source, hessian in zip(family.blend, family.source, family.hessian, strict=True):
            root = np.linalg.cholesky(1.4 * np.linalg.inv(hessian.astype(float)))
            x = rng.standard_t(4, (count, len(root)))  # component by component
            z[:, source] += (x @ root.T).reshape(count, len(source), 6)
            log_weight[blend] = 2.5 * np.log1p(x**2 / 4).sum(axis=1)
    z = z.astype(np.float32)
    log_weight += log_posterior(scene, prior, fit, z)
    result = {}
    for blend, rows in enumerate(scene.members):
        weight = np.exp(log_weight[blend] - log_weight[blend].max())
        weight /= weight.sum()
        flat = z[:, rows[rows >= 0]].reshape(count, -1).astype(float)
        mean = weight @ flat
        away = flat - mean
        result[blend] = mean, (away * weight[:, None]).T @ away, 1.0 / np.sum(weight**2)
    return result


def log_posterior(scene: Scene, prior: SourcePrior, fit: Fit, z: np.ndarray) -> np.ndarray:
    """Of each blend (b, K), by `shine.density`; no stamp overlaps another."""
    pixels = density.Pixels.of(scene, prior.observed(fit.z))
    wide = replace(prior, ellipticity_sigma=prior.ellipticity_sigma * INTERIM_WIDENING)
    owner = np.full(len(pixels.data_adu), -1)
    for tier in scene.tiers:
        owner[np.asarray(tier.pixel)[: len(tier.blend)]] = tier.blend[:, None]
    owner[-1] = -1  # the dump
    owner = jnp.asarray(np.where(owner < 0, len(scene.members), owner))
    members = scene.members

    @jax.jit
    def every(pixels, wide, z):
        def one(z):
            change = density.draw(pixels, wide.observed(z)) - pixels.reference_adu
            residual = pixels.data_adu - pixels.reference_adu
            rise = pixels.weight * change * (residual - 0.5 * change)
            prior = density.log_source_prior(wide, z, jnp.zeros(2))
            own = jnp.sum(jnp.where(members >= 0, prior[members], 0.0), axis=1)
            return jax.ops.segment_sum(rise, owner, len(members) + 1)[:-1] + own

        return jax.lax.map(one, z)

    return np.asarray(every(pixels, wide, z), float).T


def assert_moments_agree(case: Case, samples: Samples, most_members: int = 2) -> None:
    """Means and covariances of every sampled blend, within their Monte Carlo errors."""
    tolerance = 4.5
    for blend, (mean, covariance, effective) in case.reference.items():
        rows = np.flatnonzero(case.blend == blend)
        if len(rows) > most_members or not case.prior.lensed[rows].any():
            continue
        count = samples.n_samples[rows[0]]
        log_weight = samples.log_weight[rows[0], :count]
        weight = np.exp(log_weight - log_weight.max())
        weight /= weight.sum()
        flat = samples.z[rows, :count].swapaxes(0, 1).reshape(count, -1).astype(float)
        found = weight @ flat
        away = flat - found
        # in units in which the reference has unit covariance
        root = np.linalg.inv(np.linalg.cholesky(covariance))
        error = np.sqrt(1.0 / effective + np.sum(weight**2))
        np.testing.assert_allclose(root @ (found - mean), 0.0, atol=tolerance * error)
        unit = root @ ((away * weight[:, None]).T @ away) @ root.T
        # products of two normal variables scatter by 1, squares by the root of 2, tails by more
        atol = 1.5 * tolerance * error
        np.testing.assert_allclose(unit, np.eye(len(unit)), atol=atol)


def test_moments_are_those_of_a_dense_reference(case):
    assert min(effective for _, _, effective in case.reference.values()) > 300
    samples = case.sample(MarginalConfig(samples=1024))
    assert not samples.by_chain.any()
    assert_moments_agree(case, samples)


def test_the_laplace_approximation_is_a_good_proposal(case):
    samples = case.sample()
    lensed = np.flatnonzero(case.prior.lensed)
    assert set(samples.n_samples[lensed]) == {64}
    alone = np.setdiff1d(lensed, PAIR)
    share = samples.effective / 64
    assert share[alone].min() > 0.4
    assert np.median(share[alone]) > 0.6
    assert share[PAIR].min() > 0.25
    assert_moments_agree(case, samples)


def test_the_same_seed_gives_the_same_samples(case):
    first, again, other = case.sample(), case.sample(), case.sample(seed=(3, 2))
    np.testing.assert_array_equal(first.z, again.z)
    np.testing.assert_array_equal(first.log_weight, again.log_weight)
    lensed = case.prior.lensed
    assert not (first.z[lensed] == other.z[lensed]).any(axis=(1, 2)).all()
    assert (first.log_weight[lensed] != other.log_weight[lensed]).all()


def test_sources_without_shear_have_no_samples(case):
    samples = case.sample()
    unlensed = ~case.prior.lensed
    assert unlensed[UNLENSED]
    assert not samples.n_samples[unlensed].any()
    assert np.isnan(samples.z[unlensed]).all()
    assert np.isneginf(samples.log_weight[unlensed]).all()
    assert np.isfinite(samples.log_weight[~unlensed]).all()
    shapes = shape_samples(case.prior, samples, case.blend)
    assert len(shapes.shape) == (~unlensed).sum()


def test_members_of_a_blend_share_their_weights(case):
    samples = case.sample()
    np.testing.assert_array_equal(*samples.log_weight[PAIR])
    shapes = shape_samples(case.prior, samples, case.blend)
    np.testing.assert_array_equal(*shapes.log_weight[PAIR])
    assert shapes.blend[8] == shapes.blend[9]
    assert len(np.unique(shapes.blend)) == 9


def test_weights_of_shapes_are_freed_of_the_interim_prior(case):
    samples = case.sample()
    shapes = shape_samples(case.prior, samples, case.blend)
    t = samples.z[np.flatnonzero(case.prior.lensed), :, 2:4].astype(float)
    expected = t / np.sqrt(1.0 + np.sum(t**2, axis=-1, keepdims=True))
    np.testing.assert_allclose(shapes.shape.real, expected[..., 0], atol=1e-6)
    np.testing.assert_allclose(shapes.shape.imag, expected[..., 1], atol=1e-6)
    interim = log_population(shapes.shape, 0.0, 0.25 * INTERIM_WIDENING)
    interim[PAIR] = interim[PAIR].sum(axis=0)
    change = samples.log_weight[case.prior.lensed] - shapes.log_weight - interim
    np.testing.assert_allclose(change, change[:, :1].repeat(64, axis=1), atol=1e-5)


def test_weights_follow_the_population_instead_of_the_catalogue(case):
    """Of lensed members alone, all of a blend together; written out source by source."""
    samples = case.sample()
    shapes = shape_samples(case.prior, samples, case.blend)
    answer = infer_shear(shapes, ShapePrior(0.25))
    found, population = of_population(case.prior, samples, shapes, answer)
    source = np.flatnonzero(case.prior.lensed & (samples.n_samples > 0))
    of_all = np.nan_to_num(samples.z).swapaxes(0, 1)
    observed = np.array([case.prior.observed(z)[source, :2] for z in of_all])
    value = np.log(observed).swapaxes(0, 1)
    prior = np.zeros((len(source), samples.z.shape[1]))
    own = np.zeros((len(source), samples.z.shape[1]))
    for i in range(len(source)):
        for j in np.flatnonzero(case.blend[source] == case.blend[source[i]]):
            center = np.log([case.prior.flux[source[j], 0], case.prior.hlr[source[j], 0]])
            away = (value[j] - center) / [1.0, 0.5]  # the default priors' widths
            prior[i] -= 0.5 * np.sum(away**2, axis=1)
            own[i] += population.log_density(value[j])
    real = np.isfinite(shapes.log_weight)
    np.testing.assert_array_equal(np.isfinite(found.log_weight), real)
    gained = found.log_weight[real] - shapes.log_weight[real]
    np.testing.assert_allclose(gained, (own - prior)[real], atol=2e-3)
    np.testing.assert_array_equal(found.shape, shapes.shape)
    # fitted with the weights that the shapes have under the answer, and no catalogue in them
    free = replace(shapes, log_weight=shapes.log_weight - prior)
    known = FluxSizeSamples(value, answer.log_weights(free), shapes.blend)
    same = infer_population(known, np.array([1.0, 0.5]))
    np.testing.assert_allclose(population.mean, same.mean, atol=1e-3)
    np.testing.assert_allclose(population.covariance, same.covariance, atol=1e-3)


def widened(fit: Fit, factor: float) -> Fit:
    """As if the curvature had been measured wrong."""
    families = [replace(family, hessian=family.hessian / factor**2) for family in fit.families]
    return replace(fit, families=families)


def test_uneven_weights_are_sampled_again(case):
    """A proposal that is twice too wide is mended by the moments of its own samples."""
    samples = case.sample(fit=widened(case.fit, 2.0))
    alone = np.setdiff1d(np.flatnonzero(case.prior.lensed), PAIR)
    assert (samples.n_samples[alone] == 256).sum() >= 6
    again = samples.n_samples == 256
    assert samples.effective[again].min() >= 0.25 * 64  # of the samples first asked for
    assert not samples.by_chain[again].any()
    assert samples.z.shape[1] == samples.log_weight.shape[1] == 256
    short = case.prior.lensed & ~again
    assert np.isneginf(samples.log_weight[short, 64:]).all()
    assert_moments_agree(case, samples)


def test_what_stays_uneven_ends_in_a_chain(case):
    """One that is 2.5 times too narrow is beyond mending."""
    samples = case.sample(MarginalConfig(samples=128), fit=widened(case.fit, 0.4))
    lensed = case.prior.lensed
    assert samples.by_chain[lensed].mean() > 0.5
    assert set(samples.n_samples[samples.by_chain]) == {128}
    # in twelve dimensions so few steps, of a length so wrong, do not suffice
    assert_moments_agree(case, samples, most_members=1)


def test_a_short_chain_has_the_right_moments(case, monkeypatch):
    monkeypatch.setattr(importance, "_MORE", 1)
    samples = case.sample(MarginalConfig(samples=256, least_effective=0.999))
    lensed = case.prior.lensed
    assert samples.by_chain[lensed].all()
    assert not samples.by_chain[~lensed].any()
    assert set(samples.n_samples[lensed]) == {256}
    assert not samples.log_weight[lensed].any()
    assert_moments_agree(case, samples)
