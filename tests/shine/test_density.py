"""The log posterior of a whole scene."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from shine import density as shine_density
from shine.config import CentredNormal, PositiveUniform, Priors
from shine.density import Pixels, log_likelihood, log_shear_prior, log_source_prior
from shine.inference import find_mode
from shine.inference_config import SolverConfig
from shine.numpyro_model import Target
from shine.prior_utils import CatalogueValues, SourcePrior
from tests.shine import galsim_scenes
from tests.shine.galsim_scenes import Galaxy, build, jacobian

NOISE_ADU = 100.0
draw = jax.jit(shine_density.draw)
ROOT_2_PI = np.sqrt(2.0 * np.pi)


def priors_of(lensed=True, point=False, **priors) -> SourcePrior:
    one = np.ones(1)
    values = CatalogueValues(10.0 * one, 0.3 * one, np.array([lensed]), np.array([point]))
    return SourcePrior.build(Priors(**priors), values)


def density(prior: SourcePrior, z: np.ndarray, shear_t) -> np.ndarray:
    """Prior density of one source at many points z (k, 6)."""
    at = jax.vmap(lambda row: log_source_prior(prior, row[None], jnp.array(shear_t))[0])
    return np.exp(np.asarray(at(jnp.asarray(z, jnp.float32)), float))


def plane() -> tuple[np.ndarray, np.ndarray]:
    """Points t (k, 2) all over the plane, and their areas: a polar grid of the disc s(t)."""
    radius, angle = (np.arange(800) + 0.5) / 800, 2.0 * np.pi * (np.arange(180) + 0.5) / 180
    r, a = (grid.ravel() for grid in np.meshgrid(radius, angle))
    t = (r / np.sqrt(1.0 - r**2))[:, None] * np.column_stack([np.cos(a), np.sin(a)])
    return t, r * (1.0 - r**2) ** -2 * (2.0 * np.pi / 180) / 800


@pytest.mark.parametrize("lensed", [True, False])
@pytest.mark.parametrize("sigma", [0.25, 0.6])
@pytest.mark.parametrize("shear_t", [(0.0, 0.0), (0.05, -0.03), (0.4, 0.3)])
def test_the_density_of_a_shape_integrates_to_one_at_any_shear(shear_t, sigma, lensed):
    prior = priors_of(lensed, ellipticity=CentredNormal(sigma=sigma))
    t, area = plane()
    z = np.zeros((len(t), 6))
    z[:, 2:4] = t
    total = (density(prior, z, shear_t) * area).sum() * ROOT_2_PI**4
    assert total == pytest.approx(1.0, abs=1e-3)


def test_the_density_of_the_shear_is_a_gaussian_by_invariant_area():
    prior = priors_of(shear=CentredNormal(sigma=0.2))
    t, area = plane()
    value = jax.vmap(lambda t: log_shear_prior(prior, t))(jnp.asarray(t, jnp.float32))
    g2 = np.sum(t**2, axis=1) / (1.0 + np.sum(t**2, axis=1))
    # per area of g the Gaussian over (1 - |g|^2)^2; d^2g = (1 - |g|^2)^2 d^2t
    expected = np.exp(-0.5 * g2 / 0.2**2) / (1.0 - g2) ** 2 * (area * (1.0 - g2) ** 2)
    np.testing.assert_allclose(np.exp(np.asarray(value, float)) * area, expected, rtol=1e-4)


@pytest.mark.parametrize("column", [0, 1, 4])
@pytest.mark.parametrize("flat", [True, False])
def test_the_density_of_flux_size_and_offset_integrates_to_one(column, flat):
    kinds = {"flux": PositiveUniform(low=1, high=20)} if flat else {}
    kinds |= {"half_light_radius": PositiveUniform(low=0.1, high=1)} if flat else {}
    prior = priors_of(**kinds)
    z = np.zeros((4001, 6))
    z[:, column] = np.linspace(-20.0, 20.0, 4001)
    # relative to the other coordinates' density where they are zero
    others = density(prior, np.zeros((1, 6)), (0.0, 0.0))[0]
    others /= 0.25 if flat and column < 2 else 1.0 / ROOT_2_PI
    total = density(prior, z, (0.0, 0.0)).sum() * 0.01 / others
    assert total == pytest.approx(1.0, abs=1e-4)


def test_the_coordinates_of_a_star_without_meaning_are_standard_normal():
    prior = priors_of(lensed=False, point=True)
    z = np.random.default_rng(0).normal(size=(5, 6))
    expected = np.exp(-0.5 * (z**2).sum(axis=1)) / ROOT_2_PI**6
    np.testing.assert_allclose(density(prior, z, (0.1, 0.0)), expected, rtol=1e-5)


@pytest.fixture(scope="module")
def crowded():
    """Two exposures of a blend, a neighbour that shares its pixels, and one over the edge."""
    sources = [Galaxy(50, 50), Galaxy(57, 52, 6.0), Galaxy(50, 85, 8.0), Galaxy(98, 20)]
    rng, images = np.random.default_rng(2), []
    for roll in (0, 60):
        image = galsim_scenes.draw(sources, (0.0, 0.0), jacobian(roll), (120, 104))
        weight = np.where(rng.uniform(size=image.shape) < 0.02, 0.0, NOISE_ADU**-2)
        image = np.where(weight > 0, image + rng.normal(scale=NOISE_ADU, size=image.shape), np.nan)
        images.append((image, weight, jacobian(roll)))
    scene, prior = build(sources, images)
    return scene, prior, find_mode(scene, prior, SolverConfig())


def test_the_model_is_that_of_the_mode(crowded):
    """Drawn all at once, it leaves the residual that blend by blend the search has left."""
    scene, prior, fit = crowded
    observed = prior.observed(jnp.asarray(fit.z))
    pixels = Pixels.of(scene, observed)
    model = np.asarray(draw(pixels, observed))
    seen = np.asarray(scene.weight) > 0
    residual = np.asarray(scene.data_adu) - model
    np.testing.assert_allclose(
        residual[seen], np.asarray(fit.residual_adu)[seen], atol=0.01 * NOISE_ADU
    )


def test_the_log_likelihood_and_its_slope_are_those_of_chi_square(crowded):
    scene, prior, fit = crowded
    pixels = Pixels.of(scene, prior.observed(jnp.asarray(fit.z)))
    step = 0.05 * np.random.default_rng(3).normal(size=fit.z.shape).astype(np.float32)

    def chi2(z) -> float:
        model = np.asarray(draw(pixels, prior.observed(jnp.asarray(z))), float)
        weight = np.asarray(scene.weight, float)
        return (weight * (np.asarray(scene.data_adu) - model) ** 2)[weight > 0].sum()

    at = jax.jit(jax.value_and_grad(lambda z: log_likelihood(pixels, prior.observed(z))))
    value, slope = at(jnp.asarray(fit.z + step))
    assert float(value) == pytest.approx(-0.5 * (chi2(fit.z + step) - chi2(fit.z)), rel=1e-3)
    numeric = -0.5 * (chi2(fit.z + 1.1 * step) - chi2(fit.z + 0.9 * step)) / 0.2
    assert float(jnp.sum(slope * step)) == pytest.approx(numeric, rel=0.02)


def test_the_whitened_posterior_is_about_a_unit_gaussian(crowded):
    scene, prior, fit = crowded
    target = Target.near(scene, prior, fit)
    slope = jax.jit(jax.grad(lambda at, target: target.log_density(*at)))
    start = (jnp.zeros((scene.n_sources, 6)), jnp.zeros(2))
    rng = np.random.default_rng(4)
    pull = slope(start, target)
    for _ in range(4):
        at = tuple(jnp.asarray(0.3 * rng.normal(size=a.shape), jnp.float32) for a in start)
        changed = jax.tree.map(lambda a, b: a - b, slope(at, target), pull)
        difference = [np.asarray(a + b) for a, b in zip(changed, at, strict=True)]
        distance = np.sqrt(sum((d**2).sum() for d in difference))
        assert distance < 0.4 * np.sqrt(sum(float((a**2).sum()) for a in at))
