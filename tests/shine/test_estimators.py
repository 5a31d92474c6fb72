"""The two estimators of the shear of one scene, side by side."""

import json
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from shine.config import CentredNormal, LogNormal, Priors
from shine.estimators import Estimate, Problem, estimate
from shine.inference_config import InferenceSettings, MarginalConfig, SolverConfig
from shine.prior_utils import SourcePrior
from shine.scene import Scene
from tests.shine.galsim_scenes import Galaxy, build, draw, jacobian, noise_for_snr

SHEAR = (0.04, -0.03)
SIGMA = 0.2
PRIORS = Priors(ellipticity=CentredNormal(sigma=SIGMA))
N, SIDE = 16, 240


def galaxies() -> list[Galaxy]:
    """Isolated ring pairs, whose shapes scatter by exactly SIGMA in each component."""
    rng = np.random.default_rng(3)
    angle = np.pi * (np.arange(N // 2) + rng.uniform()) / (N // 2)
    e = SIGMA * np.sqrt(2.0) * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    found = []
    for k in range(N):
        row, column = divmod(k, 4)
        x, y = 60 * (np.array([column, row]) + 0.5) + rng.uniform(-0.5, 0.5, 2)
        shape = e[k // 2] * (-1) ** k
        found.append(Galaxy(x, y, 10.0, rng.uniform(0.2, 0.4), *shape))
    return found


@cache
def scene(snr: float = 200.0, priors: Priors = PRIORS) -> tuple[Scene, SourcePrior]:
    matrix, sources = jacobian(20), galaxies()
    sigma = noise_for_snr(snr, matrix, sources[0])
    image = draw(sources, SHEAR, matrix, (SIDE, SIDE))
    image = image + np.random.default_rng(2).normal(scale=sigma, size=image.shape)
    images = [(image, np.full(image.shape, sigma**-2), matrix)]
    return build(sources, images, stamp_size=48, priors=priors)


@cache
def answer(method: str, infer_dispersion: bool = False, snr: float = 200.0) -> Estimate:
    return run(*scene(snr), method, infer_dispersion=infer_dispersion)


def run(scene, prior, method, solver=None, **marginal: bool) -> Estimate:
    settings = InferenceSettings(
        method=method,
        marginal=MarginalConfig(**{"infer_dispersion": False} | marginal),
        solver=solver or SolverConfig(),
    )
    blend = np.full(len(prior.lensed), -1)
    for number, rows in enumerate(scene.members):
        blend[rows[rows >= 0]] = number
    return estimate(Problem(scene, prior, blend, (0, 1)), settings)


def error(estimate: Estimate) -> np.ndarray:
    return np.sqrt(np.diag(estimate.shear_covariance))


def test_bright_galaxies_give_both_methods_the_same_shear():
    mode, marginal = answer("map"), answer("marginal")
    assert mode.converged
    assert marginal.converged
    np.testing.assert_allclose(marginal.shear, mode.shear, atol=0.15 * error(mode).min())
    np.testing.assert_allclose(error(marginal), error(mode), rtol=0.1)
    # shape noise cancels in ring pairs: what is left is far below the error
    np.testing.assert_allclose(marginal.shear, SHEAR, atol=0.15 * error(marginal).min())
    np.testing.assert_allclose(error(marginal), SIGMA / np.sqrt(N), rtol=0.1)


def test_bright_galaxies_give_both_methods_the_same_parameters():
    mode, marginal = answer("map"), answer("marginal")
    width = np.sqrt(np.diagonal(mode.covariance[:N], axis1=1, axis2=2))
    # not the shapes, which in the samples are those of the mean shear
    own = [0, 1, 4, 5]
    away = (marginal.parameters[:N] - mode.parameters[:N]) / width
    assert np.abs(away[:, own]).max() < 0.6
    found = np.sqrt(np.diagonal(marginal.covariance[:N], axis1=1, axis2=2))
    np.testing.assert_allclose((found / width)[:, own], 1.0, atol=0.4)
    np.testing.assert_allclose(np.mean((found / width)[:, own], axis=0), 1.0, atol=0.12)
    truth = np.array([(g.e1, g.e2) for g in galaxies()])
    np.testing.assert_allclose(marginal.parameters[:N, 2:4], truth, atol=0.02)


def test_residuals_of_both_methods_are_noise():
    for method in ("map", "marginal"):
        found, weight = answer(method), np.asarray(scene()[0].weight)
        chi2 = np.sum(weight * found.residual_adu.astype(float) ** 2)
        assert chi2 / np.sum(weight > 0) == pytest.approx(1.0, abs=0.03)


def test_the_dispersion_is_inferred_with_the_shear():
    fixed, free = answer("marginal"), answer("marginal", infer_dispersion=True)
    assert fixed.ellipticity_sigma is None
    assert fixed.ellipticity_sigma_err is None
    assert free.ellipticity_sigma == pytest.approx(SIGMA, abs=2.0 * free.ellipticity_sigma_err)
    # 2 N numbers tell of it
    assert free.ellipticity_sigma_err == pytest.approx(SIGMA / np.sqrt(4 * N), rel=0.3)
    np.testing.assert_allclose(free.shear, fixed.shear, atol=0.1 * error(fixed).min())


def test_samples_are_handed_on_for_every_galaxy():
    found, mode = answer("marginal"), answer("map")
    assert mode.samples is None
    samples = found.samples
    np.testing.assert_array_equal(samples.source, np.arange(N))
    assert samples.shapes.shape.shape[0] == N
    assert not samples.by_chain.any()
    assert samples.effective.min() > 16
    # two halves of them agree, but not by being the same
    assert 1e-6 < found.convergence < 0.1


@pytest.mark.parametrize("method", ["map", "marginal"])
def test_too_few_iterations_are_reported(method):
    found = run(*scene(), method, solver=SolverConfig(max_iterations=2))
    assert not found.converged
    assert found.unsettled[:N].any()
    assert not answer(method).unsettled.any()


def catalogue_sizes_off(factor: float) -> SourcePrior:
    """The scene's priors as if the catalogue had all sizes wrong by the same factor."""
    prior = scene(40.0)[1]
    return replace(prior, hlr=prior.hlr * np.array([factor, 1.0], np.float32))


def test_sizes_follow_the_population_and_not_the_catalogue():
    image = scene(40.0)[0]
    truth = np.array([g.hlr_arcsec for g in galaxies()])
    off = {}
    for factor in (0.8, 1.2):
        for infer in (False, True):
            found = run(image, catalogue_sizes_off(factor), "marginal", infer_population=infer)
            off[factor, infer] = np.mean(np.log(found.parameters[:N, 1] / truth))
    # sixteen galaxies, known to 5 % each
    assert abs(off[0.8, True]) < 0.03
    assert abs(off[1.2, True]) < 0.03
    assert off[1.2, False] - off[0.8, False] > 3.0 * abs(off[1.2, True] - off[0.8, True])


def test_a_population_that_was_given_is_not_inferred():
    sizes = LogNormal(center=0.3, sigma=0.2)
    for priors in (Priors(half_light_radius=sizes), Priors(flux=LogNormal(center=10, sigma=0.1))):
        image, prior = scene(40.0, priors)
        found = run(image, prior, "marginal", infer_population=True)
        same = run(image, prior, "marginal", infer_population=False)
        np.testing.assert_array_equal(found.shear, same.shear)
        assert "flux_size_population" not in found.diagnostics


def test_the_population_is_put_on_record():
    found = run(*scene(40.0), "marginal", infer_population=True)
    typical = np.exp(np.mean(np.log([g.hlr_arcsec for g in galaxies()])))
    record = json.loads(json.dumps(found.diagnostics["flux_size_population"]))
    [[log_flux, log_size]] = record["mean"]
    assert np.exp(log_flux) == pytest.approx(10.0, rel=0.1)
    assert np.exp(log_size) == pytest.approx(typical, rel=0.05)
    assert record["share"] == [1.0]
