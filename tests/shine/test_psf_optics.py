"""Super-resolved PSF stamps against the continuous PSF drawn by GalSim."""

import galsim
import numpy as np
import pytest

from shine import psf_optics
from shine.psf_optics import annular_mtf
from shine.super_resolution import SuperResolver, super_resolve

PIXEL = 0.1
SIZE, WIDE = 21, 41
CENTRED = np.zeros((1, 2))


def telescope(jitter: float, g1: float = 0.0, g2: float = 0.0, lam: float = 725.0):
    airy = galsim.Airy(lam=lam, diam=1.2, obscuration=0.33)
    return galsim.Convolve(airy, galsim.Gaussian(sigma=jitter).shear(g1=g1, g2=g2))


PSFS = {
    "telescope 0.12": telescope(0.012, 0.1, -0.05),
    "telescope 0.155": telescope(0.043, 0.1, -0.05),
    "telescope 0.2": telescope(0.067, 0.05, -0.02),
    "red telescope": telescope(0.04, lam=760.0),
    "telescope with wings": telescope(0.04) * 0.9 + galsim.Moffat(beta=2.0, fwhm=0.3) * 0.1,
    "Moffat 2 0.12": galsim.Moffat(beta=2.0, fwhm=0.12).shear(g1=0.03, g2=-0.02),
    "Moffat 2 0.2": galsim.Moffat(beta=2.0, fwhm=0.2).shear(g1=0.03, g2=-0.02),
    "Moffat 2.5 0.155": galsim.Moffat(beta=2.5, fwhm=0.155).shear(g1=0.03, g2=-0.02),
    "Moffat 3.5 0.12": galsim.Moffat(beta=3.5, fwhm=0.12).shear(g1=0.03, g2=-0.02),
    "Kolmogorov 0.155": galsim.Kolmogorov(fwhm=0.155).shear(g1=0.03, g2=-0.02),
    "Gaussian 0.155": galsim.Gaussian(fwhm=0.155).shear(g1=0.03, g2=-0.02),
}


def draw(
    psf: galsim.GSObject, offsets: np.ndarray, finer: int = 1, width: int = SIZE
) -> np.ndarray:
    """Effective PSFs (m, k, k), per native pixel, off centre by `offsets` (m, 2) pixels."""
    size = finer * (width - 1) + 1
    effective = galsim.Convolve(psf, galsim.Pixel(PIXEL))
    images = [
        effective.shift(*(PIXEL * offset))
        .drawImage(nx=size, ny=size, scale=PIXEL / finer, method="no_pixel", dtype=float)
        .array
        for offset in offsets
    ]
    return np.array(images) * finer**2


def inner(fine: np.ndarray) -> np.ndarray:
    """What lies within the stamps that the result was made of."""
    margin = WIDE - SIZE
    assert fine.shape[-2:] == (2 * WIDE - 1, 2 * WIDE - 1)
    return fine[..., margin:-margin, margin:-margin]


def offsets(number: int) -> np.ndarray:
    return np.random.default_rng(7).uniform(-0.5, 0.5, (number, 2))


def weighted_moments(image: np.ndarray) -> np.ndarray:
    """Qxx, Qyy, Qxy in native pixels under a round Gaussian weight of 2 native pixels."""
    place = (np.arange(image.shape[0]) - image.shape[0] // 2) / 2.0
    x, y = np.meshgrid(place, place)
    weighted = image * np.exp(-(x**2 + y**2) / 8.0)
    return np.array([(weighted * q).sum() for q in (x**2, y**2, x * y)]) / weighted.sum()


@pytest.mark.parametrize("name", PSFS)
def test_the_fine_psf_is_the_continuous_one(name):
    native, truth = (draw(PSFS[name], offsets(5), finer) for finer in (1, 2))
    fine = inner(super_resolve(native, PIXEL))
    peak = native.max(axis=(1, 2))
    error = np.abs(fine - truth)
    assert fine.shape == (5, 41, 41)
    assert (error.max(axis=(1, 2)) < 2e-3 * peak).all()
    assert (np.sqrt((error**2).mean(axis=(1, 2))) < 1e-4 * peak).all()


@pytest.mark.parametrize("name", PSFS)
def test_every_second_sample_is_the_native_stamp_and_flux_is_kept(name):
    native, truth = (draw(PSFS[name], offsets(2), finer) for finer in (1, 2))
    fine = inner(super_resolve(native, PIXEL))
    np.testing.assert_allclose(fine[:, ::2, ::2], native, atol=1e-6 * native.max())
    flux = fine.sum(axis=(1, 2), dtype=float) / 4.0
    np.testing.assert_allclose(flux, truth.sum(axis=(1, 2)) / 4.0, rtol=2e-4)
    np.testing.assert_allclose(flux, native.sum(axis=(1, 2)), rtol=1.5e-3)  # light at the edge


@pytest.mark.parametrize("name", [*PSFS])
def test_beyond_the_stamp_is_what_the_optics_send_there(name):
    """21 pixels lack 3 % of a telescope's light; half of that lies within the next 10."""
    native, truth = draw(PSFS[name], offsets(2)), draw(PSFS[name], offsets(2), 2, WIDE)
    fine = super_resolve(native, PIXEL)
    found, expected = (
        (wide.sum(axis=(1, 2)) - inner(wide).sum(axis=(1, 2))) / 4.0 for wide in (fine, truth)
    )
    if name == "telescope with wings":  # of two kinds, of which one is assumed
        assert (0.5 * expected < found).all() and (found < 1.2 * expected).all()
    else:
        np.testing.assert_allclose(found, expected, rtol=0.08, atol=3e-4)
    if "telescope" in name:
        assert (expected > 0.01).all()


def test_light_that_no_optics_explain_is_interpolated():
    ghost = galsim.Gaussian(sigma=0.08, flux=0.04).shift(0.31, -0.17)
    psf = telescope(0.043) + ghost
    native, truth = (draw(psf, CENTRED, finer)[0] for finer in (1, 2))
    fine = inner(super_resolve(native, PIXEL))
    np.testing.assert_allclose(fine[::2, ::2], native, atol=1e-6 * native.max())
    assert np.abs(fine - truth).max() < 1e-2 * native.max()


def test_second_moments_of_an_elliptical_psf():
    psf = telescope(0.05, 0.2, 0.1)
    native, truth = (draw(psf, CENTRED, finer)[0] for finer in (1, 2))
    moments = weighted_moments(inner(super_resolve(native, PIXEL)))
    np.testing.assert_allclose(moments, weighted_moments(truth), atol=2e-4)
    assert moments[0] - moments[1] > 0.02
    assert moments[2] > 0.005


def test_a_grid_of_unlike_stamps_keeps_its_shape():
    nodes = np.linspace(-1.0, 1.0, 9)

    def grid(finer: int) -> np.ndarray:
        return np.array(
            [
                [
                    draw(telescope(0.045 + 0.004 * x, 0.1 * x, 0.1 * y), CENTRED + 0.1 * y, finer)[
                        0
                    ]
                    for x in nodes
                ]
                for y in nodes
            ]
        )

    native, truth = grid(1), grid(2)
    fine = inner(super_resolve(native.astype(np.float32), PIXEL))
    assert fine.shape == (9, 9, 41, 41)
    assert fine.dtype == np.float32
    assert np.abs(fine - truth).max() < 2e-3 * native.max()


def test_the_result_scales_with_the_stamp():
    native = draw(PSFS["telescope 0.155"], CENTRED)[0]
    one, many = super_resolve(native, PIXEL), super_resolve(3e4 * native, PIXEL)
    np.testing.assert_allclose(many, 3e4 * one, rtol=1e-5, atol=1e-2 * one.max())


def test_the_aperture_transfers_what_galsims_does():
    cutoff = 1.2 / 725e-9 / (180.0 * 3600.0 / np.pi)  # cycles per arcsec
    frequency = np.linspace(0.0, 1.1, 45)
    airy = galsim.Airy(lam=725.0, diam=1.2, obscuration=0.33)
    expected = [airy.kValue(2.0 * np.pi * cutoff * f, 0.0).real for f in frequency]
    np.testing.assert_allclose(annular_mtf(frequency, 0.33), expected, atol=1e-4)


def test_bad_stamps_are_named():
    good = np.repeat(draw(PSFS["telescope 0.155"], CENTRED), 3, axis=0)
    broken, empty = good.copy(), good.copy()
    broken[1, 4, 5] = np.nan
    empty[:2] = -1.0
    for stamps, message in (
        (broken, "1 of 3 PSF stamps hold values not finite"),
        (empty, "2 of 3 PSF stamps have no positive sum"),
        (good[:, :20, :20], r"odd .* found \(3, 20, 20\)"),
        (good[:, :20, :], r"square.* found \(3, 20, 21\)"),
    ):
        with pytest.raises(ValueError, match=message):
            super_resolve(stamps, PIXEL)
    with pytest.raises(ValueError, match="twice as fine"):
        super_resolve(good, 0.2)


def test_a_fit_that_does_not_converge_is_an_error(monkeypatch):
    monkeypatch.setattr(psf_optics, "MAX_STEPS", 1)
    stamps = draw(PSFS["telescope 0.155"], offsets(3))
    with pytest.raises(ValueError, match="3 in 3 PSF stamps did not converge in 1 steps"):
        super_resolve(stamps, PIXEL)


def test_some_stamps_of_a_grid_are_what_they_are_among_all():
    native = draw(PSFS["telescope 0.155"], offsets(20))
    every = super_resolve(native, PIXEL)
    resolver = SuperResolver(native, PIXEL)
    first, later = np.zeros((2, 20), bool)
    first[[3, 11]] = later[[0, 11, 19]] = True
    some = resolver.resolve(first)
    np.testing.assert_array_equal(some[first], every[first])
    assert np.isnan(some[~first]).all()
    np.testing.assert_array_equal(resolver.resolve(later)[first | later], every[first | later])
