"""Adaptive moments of PSF stamps against GalSim's own, `galsim.hsm`."""

from __future__ import annotations

import galsim
import numpy as np
import pytest
import scipy.signal

from shine.euclid.psf import PsfGrid
from shine.psf_moments import FWHM_PER_SIGMA, adaptive_moments, psf_shapes, sampled_twice

from .galsim_scenes import jacobian, psf_stamp

SHAPES = ((0.0, 0.0), (0.06, 0.0), (0.0, 0.06), (-0.05, 0.03), (0.2, -0.3))
GEOMETRIES = ((0.0, 1), (37.0, 1), (128.0, 1), (25.0, -1))


def drawn(profile: galsim.GSObject, matrix: np.ndarray, size: int = 61):
    """A stamp, and the HSM moments of it on the sky: e1, e2, fwhm."""
    stamp = psf_stamp(matrix, profile, size)
    image = galsim.ImageD(stamp.astype(float), wcs=galsim.JacobianWCS(*matrix.ravel()))
    found = galsim.hsm.FindAdaptiveMom(image, use_sky_coords=True)
    fwhm = FWHM_PER_SIGMA * found.moments_sigma
    return stamp, (found.observed_shape.g1, found.observed_shape.g2, fwhm)


def on_sky(moments: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    return np.array(psf_shapes(matrix @ moments @ matrix.T))


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize(
    "round_psf",
    [
        galsim.Moffat(beta=2.0, fwhm=0.16),
        galsim.Moffat(beta=3.5, fwhm=0.3),
        galsim.Airy(lam=725.0, diam=1.2, obscuration=0.33),
    ],
    ids=["narrow", "wide", "airy"],
)
def test_shapes_and_sizes_are_those_of_hsm_whatever_the_roll(round_psf, geometry):
    matrix = jacobian(*geometry, scale=0.05) @ np.array([[1.0, 0.02], [0.02, 0.97]])
    cases = [drawn(round_psf.shear(g1=g1, g2=g2), matrix) for g1, g2 in SHAPES]
    moments = adaptive_moments(np.stack([stamp for stamp, _ in cases]))
    expected = np.array([hsm for _, hsm in cases]).T
    np.testing.assert_allclose(on_sky(moments, matrix), expected, atol=2e-5)


def test_a_sampled_gaussian_has_its_own_moments_wherever_its_centre_is():
    matrix = jacobian(50.0, scale=0.05)
    for offset in ((0.0, 0.0), (1.3, -0.8)):
        psf = galsim.Gaussian(sigma=0.12).shear(g1=0.1, g2=0.2)
        wcs = galsim.JacobianWCS(*matrix.ravel())
        image = psf.drawImage(nx=41, ny=41, wcs=wcs, method="no_pixel", offset=offset)
        found = on_sky(adaptive_moments(image.array[None]), matrix)[:, 0]
        np.testing.assert_allclose(found, [0.1, 0.2, FWHM_PER_SIGMA * 0.12], atol=1e-5)


def test_what_has_no_moments_is_nan_and_spoils_no_other():
    stamp = psf_stamp(jacobian(0.0))
    noise = np.random.default_rng(1).normal(size=stamp.shape)
    hopeless = [np.zeros_like(stamp), -stamp, noise, np.full_like(stamp, np.nan)]
    moments = adaptive_moments(np.stack([stamp, *hopeless, stamp]))
    np.testing.assert_array_equal(moments[0], moments[-1])
    np.testing.assert_allclose(moments[:1], adaptive_moments(stamp[None]), rtol=1e-12)
    assert np.isnan(moments[[1, 2, 4]]).all()
    assert np.isfinite(moments[0]).all()


def test_the_mean_is_over_the_known_ones():
    shapes = psf_shapes(np.array([np.eye(2), np.full((2, 2), np.nan), np.diag([4.0, 1.0])]))
    third = 1.0 / 3.0
    np.testing.assert_allclose(shapes.e1, [0.0, np.nan, third])
    expected = (third / 2.0, 0.0, FWHM_PER_SIGMA * (1.0 + np.sqrt(2.0)) / 2.0)
    np.testing.assert_allclose(shapes.mean(), expected)
    assert psf_shapes(np.full((2, 2, 2), np.nan)).mean() == (None, None, None)
    assert shapes.padded(2).e1.shape == (5,) and np.isnan(shapes.padded(2).fwhm[3:]).all()


def test_between_the_nodes_of_a_grid_they_are_those_of_the_stamp_there():
    matrix = jacobian(20.0)
    nodes = [
        psf_stamp(
            matrix, galsim.Moffat(beta=3.0, fwhm=0.16 + 0.001 * i).shear(g1=0.01 * j, g2=0.02)
        )
        for i in range(9)
        for j in range(9)
    ]
    image = np.stack(nodes).reshape(9, 9, 21, 21).swapaxes(1, 2).reshape(189, 189)
    grid = PsfGrid.from_image(image, (900, 1800), "psf.fits")
    x, y = np.array([0.0, 250.0, 1111.0, 1799.0]), np.array([0.0, 333.0, 500.0, 450.0])
    found = grid.moments_at(x, y)
    expected = adaptive_moments(sampled_twice(grid.at(x, y))) / 4.0
    np.testing.assert_allclose(found, expected, atol=2e-4)
    assert np.ptp(expected[:, 0, 0]) > 0.05


def test_samples_between_samples_are_those_of_scipy():
    stamps = np.random.default_rng(3).normal(size=(2, 21, 21)).astype(np.float32)
    expected = stamps
    for axis in (1, 2):
        expected = scipy.signal.resample(expected, 42, axis=axis)
    found = sampled_twice(stamps)
    np.testing.assert_allclose(found, expected[:, :-1, :-1], atol=1e-5)
    np.testing.assert_allclose(found[:, ::2, ::2], stamps, atol=1e-5)
