"""The joint mode on images drawn by GalSim."""

import numpy as np
import pytest

from shine.config import CentredNormal, LogNormal, PositiveUniform, Priors
from shine.fit import Fit
from shine.inference import find_mode
from shine.inference_config import SolverConfig
from shine.laplace import Mode, laplace
from tests.shine.galsim_scenes import Galaxy, build, draw, jacobian, noise_for_snr

SHEAR = (0.04, -0.03)
SPACING = 70


def solve(scene, prior, config=None) -> tuple[Fit, Mode]:
    fit = find_mode(scene, prior, config or SolverConfig())
    return fit, laplace(prior, fit)


def ring_pairs(n: int, seed: int = 3, sigma: float = 0.2) -> list[Galaxy]:
    """Isolated galaxies on a jittered grid; each shape occurs with both signs."""
    rng = np.random.default_rng(seed)
    width = int(np.ceil(np.sqrt(n)))
    galaxies = []
    for k in range(n):
        if k % 2 == 0:
            e = np.clip(sigma * rng.normal(size=2), -0.5, 0.5)
        row, column = divmod(k, width)
        x, y = SPACING * (np.array([column, row]) + 0.5) + rng.uniform(-0.5, 0.5, 2)
        galaxies.append(Galaxy(x, y, 10.0, rng.uniform(0.2, 0.4), *(e if k % 2 == 0 else -e)))
    return galaxies


def observe(galaxies, matrix, snr=100.0, seed=None):
    """(image, weight, Jacobian); noiseless without a seed."""
    width = SPACING * int(np.ceil(np.sqrt(len(galaxies))))
    image = draw(galaxies, SHEAR, matrix, (width, width))
    sigma = noise_for_snr(snr, matrix, galaxies[0])
    if seed is not None:
        image = image + np.random.default_rng(seed).normal(scale=sigma, size=image.shape)
    return image, np.full(image.shape, sigma**-2), matrix


@pytest.mark.parametrize(("roll", "flip"), [(0, 1), (37, 1), (128, 1), (37, -1)])
def test_sky_shear_is_recovered_whatever_the_detector_orientation(roll, flip):
    galaxies = ring_pairs(16)
    scene, prior = build(galaxies, [observe(galaxies, jacobian(roll, flip))])
    fit, mode = solve(scene, prior)
    assert fit.converged
    # 0.0015: the native sampling of the PSF and the pull of the priors
    np.testing.assert_allclose(mode.shear, SHEAR, atol=1.5e-3)
    truth = np.array([(g.flux_ujy, g.hlr_arcsec, g.e1, g.e2) for g in galaxies])
    found = np.asarray(mode.parameters)[: len(galaxies)]
    np.testing.assert_allclose(found[:, :2] / truth[:, :2], 1.0, atol=0.01)
    np.testing.assert_allclose(found[:, 2:4], truth[:, 2:], atol=0.01)
    np.testing.assert_allclose(found[:, 4:], 0.0, atol=2e-3)


def test_exposures_of_different_roll_are_combined():
    galaxies = ring_pairs(16)
    images = [observe(galaxies, jacobian(roll)) for roll in (0, 37, 128)]
    fit, mode = solve(*build(galaxies, images))
    assert fit.converged
    np.testing.assert_allclose(mode.shear, SHEAR, atol=1.5e-3)


def test_masked_pixels_are_ignored_even_if_not_finite():
    galaxies = ring_pairs(16)
    image, weight, matrix = observe(galaxies, jacobian(0))
    _, clean = solve(*build(galaxies, [(image, weight, matrix)]))
    image, weight = image.copy(), weight.copy()
    rng = np.random.default_rng(0)
    bad = rng.uniform(size=image.shape) < 0.02
    image[bad] = np.where(rng.uniform(size=bad.sum()) < 0.5, np.nan, 1e9)
    weight[bad] = 0.0
    fit, masked = solve(*build(galaxies, [(image, weight, matrix)]))
    assert fit.converged
    np.testing.assert_allclose(masked.shear, clean.shear, atol=1.5e-3)
    assert np.all(np.diag(masked.shear_covariance) > np.diag(clean.shear_covariance))


def test_a_blend_recovers_both_fluxes():
    pair = [Galaxy(50.0, 50.2, 20.0, 0.3, 0.1, 0.0), Galaxy(57.3, 53.0, 6.0, 0.2, 0.0, -0.1)]
    image = draw(pair, (0.0, 0.0), jacobian(37), (104, 104))
    sigma = noise_for_snr(80, jacobian(37), pair[0])
    weight = np.full(image.shape, sigma**-2)
    fit, mode = solve(*build(pair, [(image, weight, jacobian(37))]))
    assert fit.converged
    np.testing.assert_allclose(np.asarray(mode.parameters)[:2, 0], [20.0, 6.0], rtol=0.02)


def test_a_source_over_the_edge_keeps_its_place():
    # 3 px inside the frame: a third of the stamp is beyond it and must be clipped, not shifted.
    source = Galaxy(3.3, 40.4, 10.0, 0.25, 0.1, -0.1)
    image = draw([source], (0.0, 0.0), jacobian(0), (80, 80))
    weight = np.full(image.shape, noise_for_snr(200, jacobian(0), source) ** -2)
    fit, mode = solve(*build([source], [(image, weight, jacobian(0))]))
    assert fit.converged
    flux, hlr, e1, e2, u, v = np.asarray(mode.parameters)[0]
    assert flux == pytest.approx(10.0, rel=0.01)
    assert hlr == pytest.approx(0.25, rel=0.02)
    assert np.hypot(u, v) < 2e-3
    # The prior shares a lone galaxy's shape between it and the shear; their sum is what is seen.
    np.testing.assert_allclose(np.array([e1, e2]) + mode.shear, [0.1, -0.1], atol=0.01)


def test_laplace_errors_equal_the_scatter_over_noise():
    """With shapes and scene fixed, the scatter over noise is the part of the error from noise."""
    galaxies = ring_pairs(16, sigma=0.1)
    matrix = jacobian(37)
    width = SPACING * 4
    clean = draw(galaxies, (0.0, 0.0), matrix, (width, width))
    sigma = noise_for_snr(25, matrix, galaxies[0])
    # A dispersion far above the shapes' makes the noise, not the population, set the error.
    priors = Priors(shear=CentredNormal(sigma=0.5), ellipticity=CentredNormal(sigma=0.4))
    shears, pulls = [], []
    for seed in range(50):
        noise = np.random.default_rng(seed).normal(scale=sigma, size=clean.shape)
        images = [(clean + noise, np.full(clean.shape, sigma**-2), matrix)]
        fit, mode = solve(*build(galaxies, images, priors=priors))
        assert fit.converged
        shears.append(np.asarray(mode.shear))
        error = np.sqrt(np.diagonal(np.asarray(mode.covariance)[:16], axis1=1, axis2=2))
        found = np.asarray(mode.parameters)[:16]
        truth = np.array([g.flux_ujy for g in galaxies])
        pulls.append((found[:, 0] - truth) / error[:, 0])
    # 50 x 16 independent fluxes: the rms pull has an error of 2.5 %
    assert np.std(pulls) == pytest.approx(1.0, abs=0.08)
    # Mean shape noise cancels in ring pairs: g scatters less than its full error, never more.
    expected = 0.4 / np.sqrt(16)
    assert np.std(shears, axis=0).max() < np.sqrt(np.diag(mode.shear_covariance)).max()
    assert np.sqrt(np.diag(mode.shear_covariance)).mean() == pytest.approx(expected, rel=0.15)


def test_a_lone_round_galaxy_has_the_error_that_the_priors_leave():
    """Shape known exactly: var(g) = 1 / (1 / sigma_e^2 + 1 / sigma_g^2) by hand."""
    source = Galaxy(40.0, 40.0)
    image = draw([source], (0.0, 0.0), jacobian(0), (80, 80))
    weight = np.full(image.shape, noise_for_snr(1000, jacobian(0), source) ** -2)
    fit, mode = solve(*build([source], [(image, weight, jacobian(0))]))
    assert fit.converged
    expected = (0.25**-2 + 3.0**-2) ** -0.5
    np.testing.assert_allclose(np.sqrt(np.diag(mode.shear_covariance)), expected, rtol=0.01)


@pytest.mark.parametrize(
    "priors",
    [
        Priors(flux=PositiveUniform(low=0.1, high=100.0)),
        Priors(half_light_radius=PositiveUniform(low=0.05, high=1.0)),
        Priors(flux=LogNormal(center=5.0, sigma=2.0)),
    ],
    ids=["flat flux", "flat size", "flux without a catalogue"],
)
def test_every_kind_of_prior_finds_the_same_bright_galaxies(priors):
    galaxies = ring_pairs(16)
    fit, mode = solve(*build(galaxies, [observe(galaxies, jacobian(0))], priors=priors))
    assert fit.converged
    truth = [(g.flux_ujy, g.hlr_arcsec) for g in galaxies]
    np.testing.assert_allclose(np.asarray(mode.parameters)[:16, :2], truth, rtol=0.03)


@pytest.mark.parametrize("seed", range(4))
def test_a_few_faint_galaxies_converge(seed):
    """Noise makes their posteriors indefinite on the way, but not the shear's own curvature."""
    galaxies = ring_pairs(4, seed=seed)
    fit, mode = solve(*build(galaxies, [observe(galaxies, jacobian(0), snr=5, seed=seed)]))
    assert fit.converged
    assert np.linalg.eigvalsh(mode.shear_covariance).min() > 0


def test_too_few_iterations_are_reported():
    galaxies = ring_pairs(16)
    scene, prior = build(galaxies, [observe(galaxies, jacobian(0))])
    fit, _ = solve(scene, prior, SolverConfig(max_iterations=2))
    assert not fit.converged
    assert fit.shear_move > SolverConfig().shear_tolerance


def test_no_pixel_at_all_gives_back_the_prior():
    galaxies = ring_pairs(16)
    image, weight, matrix = observe(galaxies, jacobian(0))
    scene, prior = build(galaxies, [(image, 0.0 * weight, matrix)])
    fit, mode = solve(scene, prior)
    assert fit.converged
    np.testing.assert_allclose(mode.shear, 0.0, atol=1e-6)
    np.testing.assert_allclose(np.sqrt(np.diag(mode.shear_covariance)), 3.0, rtol=1e-3)
    np.testing.assert_array_equal(fit.z, prior.start)


def test_unseen_sources_keep_their_start_values_and_say_nothing():
    galaxies = ring_pairs(16)
    image, weight, matrix = observe(galaxies, jacobian(0))
    lit, _ = solve(*build(galaxies, [(image, weight, matrix)]))
    beyond = [Galaxy(1000.0 + SPACING * k, 40.0) for k in range(16)]
    scene, prior = build([*galaxies, *beyond], [(image, weight, matrix)])
    fit, mode = solve(scene, prior)
    assert fit.converged
    np.testing.assert_array_equal(fit.z[16:], prior.start[16:])
    np.testing.assert_allclose(fit.z[:16], lit.z[:16], atol=1e-3)
    np.testing.assert_allclose(mode.shear, SHEAR, atol=1.5e-3)


def test_errors_of_a_blend_are_marginal_over_the_neighbour():
    """0.6 arcsec apart: the fluxes scatter over noise by what `laplace` says."""
    pair = [Galaxy(50.0, 50.2, 10.0, 0.5, 0.1, 0.0), Galaxy(54.8, 53.8, 10.0, 0.4, 0.0, -0.1)]
    matrix = jacobian(37)
    clean = draw(pair, (0.0, 0.0), matrix, (104, 104))
    sigma = noise_for_snr(80, matrix, pair[0])
    fluxes, errors, conditional = [], [], []
    for seed in range(50):
        noise = np.random.default_rng(seed).normal(scale=sigma, size=clean.shape)
        scene, prior = build(pair, [(clean + noise, np.full(clean.shape, sigma**-2), matrix)])
        fit, mode = solve(scene, prior)
        assert fit.converged
        fluxes.append(mode.parameters[:2, 0])
        errors.append(np.sqrt(mode.covariance[:2, 0, 0]))
        # as if the neighbour were known; the coordinate is the logarithm of the flux
        (family,) = fit.families
        own = [np.linalg.inv(family.gauss_newton[0, k : k + 6, k : k + 6]) for k in (0, 6)]
        conditional.append(fluxes[-1] * [np.sqrt(block[0, 0]) for block in own])
    error = np.mean(errors, axis=0)
    np.testing.assert_allclose(np.std(fluxes, axis=0, ddof=1) / error, 1.0, atol=0.25)
    assert np.all(error > 1.5 * np.mean(conditional, axis=0))


def test_a_source_exactly_on_another_has_finite_values_and_errors():
    pair = [Galaxy(40.0, 40.0), Galaxy(40.0, 40.0)]
    image = draw(pair, (0.0, 0.0), jacobian(37), (80, 80))
    weight = np.full(image.shape, noise_for_snr(80, jacobian(37), pair[0]) ** -2)
    fit, mode = solve(*build(pair, [(image, weight, jacobian(37))]))
    assert np.isfinite(fit.z).all()
    assert np.isfinite(fit.residual_adu).all()
    for values in (mode.shear, mode.shear_covariance, mode.parameters[:2], mode.covariance[:2]):
        assert np.isfinite(values).all()
    # what the two have in common is well known
    assert mode.parameters[:2, 0].sum() == pytest.approx(20.0, rel=0.05)
    assert np.linalg.eigvalsh(mode.covariance[:2].astype(float)).min() > 0
