"""The classic route draws what GalSim draws, and climbs towards the truth."""

import dataclasses

import galsim
import jax
import numpy as np
import pytest

from shine.config import Priors
from tests.benchmarks import classic_route
from tests.benchmarks.classic_route import ClassicCost, Pairs

LOG_POSTERIOR = jax.jit(classic_route.log_posterior)
SHEAR = np.array([0.04, -0.03])
TRUTH = np.array(
    [[20.0, 0.30, 0.20, -0.10, 0.03, -0.02], [8.0, 0.45, -0.15, 0.25, -0.05, 0.04]], np.float32
)


def _jacobian(roll_deg: float, flip: int) -> np.ndarray:
    c, s = np.cos(np.radians(roll_deg)), np.sin(np.radians(roll_deg))
    return 0.1 * np.array([[c, -s], [s, c]]) @ np.diag([flip, 1.02])


@pytest.fixture(scope="module")
def pairs() -> Pairs:
    """Two sources in two quadrants, of which one is mirrored, drawn by GalSim without noise.

    GalSim too interpolates the PSF's stamps, and is left to choose the size of its FFT.
    """
    jacobian = np.array([_jacobian(30.0, 1), _jacobian(-75.0, -1)])[[0, 1, 0, 1]]
    centre = np.array([[31.7, 32.3], [32.0, 31.6], [31.5, 31.5], [30.9, 33.1]])
    source = np.array([0, 0, 1, 1])
    psf = galsim.Gaussian(fwhm=0.35).shear(g1=0.05, g2=-0.03)
    adu_per_ujy = np.array([900.0, 1000.0, 900.0, 1000.0])
    data, stamps = [], []
    for i in range(4):
        wcs = galsim.JacobianWCS(*jacobian[i].ravel())
        stamp = psf.drawImage(nx=21, ny=21, wcs=wcs, method="no_pixel", dtype=float)
        flux, hlr, e1, e2, du, dv = (float(value) for value in TRUTH[source[i]])
        profile = galsim.Exponential(half_light_radius=hlr, flux=flux * adu_per_ujy[i])
        profile = profile.shear(g1=e1, g2=e2).shear(g1=SHEAR[0], g2=SHEAR[1]).shift(du, dv)
        # with the lower left pixel at (0, 0), GalSim's positions are ours
        image = galsim.ImageD(64, 64, xmin=0, ymin=0)
        galsim.Convolve(profile, galsim.InterpolatedImage(stamp)).drawImage(
            image=image, wcs=wcs, center=galsim.PositionD(*centre[i]), method="no_pixel"
        )
        data.append(image.array)
        stamps.append(stamp.array)
    start = TRUTH * np.array([1.1, 0.9, 0.0, 0.0, 0.0, 0.0])
    return Pairs(
        data_adu=np.array(data, np.float32),
        weight=np.full((4, 64, 64), 1e-2, np.float32),
        jacobian=jacobian.astype(np.float32),
        centre=centre.astype(np.float32),
        psf=np.array(stamps, np.float32),
        adu_per_ujy=adu_per_ujy.astype(np.float32),
        source=source,
        start=start.astype(np.float32),
    )


def test_stamps_agree_with_galsim(pairs):
    drawn = np.asarray(classic_route.draw(TRUTH[pairs.source], SHEAR, pairs))
    error = np.abs(drawn - pairs.data_adu).max(axis=(1, 2))
    assert (error < 1e-5 * pairs.data_adu.max(axis=(1, 2))).all()


def test_only_the_priors_are_left_at_the_truth(pairs):
    truth = {"sources": TRUTH.copy(), "shear": SHEAR.astype(np.float32)}
    truth["sources"][:, :2] = np.log(TRUTH[:, :2])
    prior = Priors()
    residuals = [
        np.log(TRUTH[:, 0] / pairs.start[:, 0]) / prior.flux.sigma,
        np.log(TRUTH[:, 1] / pairs.start[:, 1]) / prior.half_light_radius.sigma,
        TRUTH[:, 2:4] / prior.ellipticity.sigma,
        TRUTH[:, 4:6] / prior.offset.sigma,
        SHEAR / prior.shear.sigma,
    ]
    expected = -0.5 * sum((residual**2).sum() for residual in residuals)
    assert LOG_POSTERIOR(truth, pairs) == pytest.approx(expected, abs=1e-3)


def test_pixels_without_weight_do_not_count(pairs):
    weight = pairs.weight.copy()
    weight[:, :, 40:] = 0.0
    spoiled = pairs.data_adu.copy()
    spoiled[:, :, 40:] = np.nan
    start = classic_route.start_parameters(pairs)
    clean, dirty = (
        LOG_POSTERIOR(start, dataclasses.replace(pairs, data_adu=data, weight=weight))
        for data in (pairs.data_adu, spoiled)
    )
    assert clean == dirty


def test_adam_climbs_towards_the_truth(pairs):
    shear, trace = classic_route.fit(pairs, steps=40, learning_rate=0.01)
    assert np.isfinite(shear).all()
    assert trace.shape == (41,)
    assert trace[-1] > 0.05 * trace[0]  # both negative: most of the misfit is gone


def test_cost_is_that_of_all_sources_in_all_quadrants(pairs):
    cost = classic_route.gradient_seconds(pairs, repeats=2)
    assert cost.gradient_s_per_pair == pytest.approx(cost.gradient_s / 4)
    assert cost.compile_s > 0
    known = ClassicCost(4, compile_s=7.0, gradient_s=0.04, gradient_s_per_pair=0.01)
    assert classic_route.extrapolated_seconds(known, 100, 12) == pytest.approx(
        7 + 200 * 1200 * 0.01
    )
