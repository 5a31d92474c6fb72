"""The renderer against GalSim, an independent code."""

import functools

import galsim
import numpy as np
import pytest

from shine.profiles import BULGE_OVER_DISC
from shine.psf import psf_transform
from tests.shine.galsim_scenes import ADU_PER_UJY, jacobian
from tests.shine.render_views import (
    AIRY_PSF,
    AT,
    BROAD_PSF,
    GSPARAMS,
    NEIGHBOUR,
    SHARP_PSF,
    SIZE,
    frame,
    galaxies,
    stamp,
)


def galsim_stamp(observed, matrix, centre, psf=BROAD_PSF, size=SIZE):
    flux, hlr, s1, s2, u, v = observed
    galaxy = galsim.Exponential(half_light_radius=hlr, flux=flux * ADU_PER_UJY)
    galaxy = galaxy.shear(g1=s1, g2=s2).shift(u, v)
    image = galsim.ImageD(size, size, xmin=0, ymin=0)
    galsim.Convolve(galaxy, psf, gsparams=GSPARAMS).drawImage(
        image=image, wcs=galsim.JacobianWCS(*matrix.ravel()), center=galsim.PositionD(*centre)
    )
    return image.array


@pytest.mark.parametrize(("roll", "flip"), [(0, 1), (37, 1), (128, 1), (250, -1)])
@pytest.mark.parametrize(
    "observed",
    [
        (2.0, 0.1, 0.0, 0.0, 0.0, 0.0),
        (2.0, 0.3, 0.3, -0.2, 0.03, -0.04),
        (2.0, 0.5, -0.1, 0.75, -0.05, 0.02),
        (2.0, 0.8, 0.1, 0.1, 0.0, 0.1),
    ],
)
def test_stamp_agrees_with_galsim_for_any_roll_shape_and_phase(roll, flip, observed):
    matrix, centre = jacobian(roll, flip), (80.27, 79.61)
    mine = stamp(frame(matrix, centre), galaxies(observed))
    theirs = galsim_stamp(observed, matrix, centre)
    assert np.abs(mine - theirs).max() < 1e-3 * theirs.max()
    assert np.sum(mine) == pytest.approx(theirs.sum(), rel=2e-3)


@functools.cache
def galsim_profile(name, index):
    """GalSim's profile of unit flux and half-light radius 1 (of the disc, where there is one)."""
    bulge = galsim.DeVaucouleurs(half_light_radius=1.0, gsparams=GSPARAMS)
    disc = galsim.Exponential(half_light_radius=1.0, gsparams=GSPARAMS)
    return {
        "gaussian": lambda: galsim.Gaussian(half_light_radius=1.0, gsparams=GSPARAMS),
        "exponential": lambda: disc,
        "de_vaucouleurs": lambda: bulge,
        "sersic": lambda: galsim.Sersic(index, half_light_radius=1.0, gsparams=GSPARAMS),
        "spergel": lambda: galsim.Spergel(index, half_light_radius=1.0, gsparams=GSPARAMS),
        "bulge_disc": lambda: disc * (1 - index) + bulge.dilate(BULGE_OVER_DISC) * index,
    }[name]()


def folded(profile, size):
    """A profile (in pixels) as a stamp shows it, with all that wraps around: N x N, float64.

    Of GalSim's transform, at the wave numbers that the stamp knows.
    """
    wave = galsim.ImageCD(size, size, scale=2.0 * np.pi / size)
    hat = profile.drawKImage(image=wave, recenter=True).array
    return np.fft.ifft2(np.fft.ifftshift(hat)).real


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("gaussian", 0.0),
        ("exponential", 0.0),
        ("de_vaucouleurs", 0.0),
        ("sersic", 4.0),
        ("sersic", 0.7),
        ("spergel", -0.6),
        ("bulge_disc", 0.3),
    ],
)
def test_lensed_galaxies_of_every_profile_agree_with_galsim(name, index):
    """|g| <= 0.1 on |e| <= 0.8, hlr 0.1 to 1.5 arcsec, any roll, handedness and phase."""
    rng = np.random.default_rng(7)
    size = 128
    for k in range(12):
        hlr = np.geomspace(0.1, 1.5, 12)[k]
        matrix = jacobian(rng.uniform(0, 360), rng.choice([-1, 1]))
        centre = size // 2 + rng.uniform(-0.5, 0.5, 2)
        offset = rng.uniform(-0.1, 0.1, 2)
        e, g = np.array([0.8, 0.1]) * (1.0 if k % 3 == 0 else np.sqrt(rng.uniform(size=2)))
        e, g = np.array([e, g]) * np.exp(2j * np.pi * rng.uniform(size=2))
        s = (e + g) / (1.0 + np.conj(g) * e)
        observed = (2.0, hlr, s.real, s.imag, *offset)
        mine = stamp(
            frame(matrix, centre, size=size),
            galaxies(observed, profile=name, index=index),
            name,
            size,
        )
        wcs = galsim.JacobianWCS(*matrix.ravel())
        galaxy = galsim_profile(name, index).dilate(hlr).withFlux(2.0 * ADU_PER_UJY)
        galaxy = galaxy.shear(g1=e.real, g2=e.imag).shear(g1=g.real, g2=g.imag).shift(*offset)
        seen = wcs.toImage(galsim.Convolve(galaxy, BROAD_PSF, gsparams=GSPARAMS)).shift(*centre)
        theirs = folded(galsim.Convolve(seen, galsim.Pixel(1.0), gsparams=GSPARAMS), size)
        assert np.abs(mine - theirs).max() < 1e-5 * theirs.max()
        assert mine.sum() == pytest.approx(theirs.sum(), rel=1e-6)


def test_pixel_zero_is_the_centre_of_the_first_pixel():
    star = galaxies((1.0, 1e-4, 0.0, 0.0, 0.0, 0.0))
    image = stamp(frame(jacobian(0), (30.25, 90.0)), star)
    y, x = np.mgrid[:SIZE, :SIZE]
    assert (image * x).sum() / image.sum() == pytest.approx(30.25, abs=2e-3)
    assert (image * y).sum() / image.sum() == pytest.approx(90.0, abs=2e-3)


@pytest.mark.parametrize("oversampling", [1, 2])
def test_a_blend_is_the_sum_of_its_sources(oversampling):
    matrix, size = jacobian(37, -1), 48
    centres = [(20.3, 24.1), (27.8, 22.6), (18.0, 30.5), (1.0, 1.0)]
    sources = [AT, NEIGHBOUR, (1.0, 0.1, 0.0, 0.0, 0.0, 0.0), (9.0, 0.5, 0.9, 0.0, 0.0, 0.0)]

    def view(*centres):
        return frame(matrix, *centres, size=size, oversampling=oversampling)

    together = galaxies(*sources, present=[1.0, 1.0, 1.0, 0.0])
    blend = stamp(view(*centres), together, size=size)
    alone = [
        stamp(view(centre), galaxies(source), size=size)
        for centre, source in zip(centres[:3], sources[:3], strict=True)
    ]
    np.testing.assert_allclose(blend, np.sum(alone, axis=0), atol=1e-6 * blend.max())


@pytest.mark.parametrize(("roll", "flip"), [(0, 1), (128, -1)])
@pytest.mark.parametrize(
    ("psf", "hlr"),
    [(SHARP_PSF, 0.1), (SHARP_PSF, 0.3), (AIRY_PSF, 1e-4), (AIRY_PSF, 0.1)],
    ids=["small", "large", "star by Airy", "small by Airy"],
)
def test_an_oversampled_psf_gives_the_continuous_one(roll, flip, psf, hlr):
    size, matrix = 64, jacobian(roll, flip)
    observed = (2.0, hlr, 0.1, -0.2, 0.02, 0.03)
    for centre in ((32.0, 32.0), (32.5, 31.5), (32.27, 31.61)):
        theirs = galsim_stamp(observed, matrix, centre, psf, size)
        native, fine = (
            stamp(
                frame(matrix, centre, psf=psf, size=size, oversampling=f),
                galaxies(observed),
                size=size,
            )
            for f in (1, 2)
        )
        assert np.abs(fine - theirs).max() < 1e-4 * theirs.max()
        assert np.abs(native - theirs).max() > 1e-3 * theirs.max()


def test_every_other_sample_of_a_well_sampled_psf_is_enough():
    """Native and double sampling agree where both carry all there is."""
    matrix, centre = jacobian(37, -1), (32.27, 31.61)
    native, fine = (
        stamp(frame(matrix, centre, size=64, oversampling=f), galaxies(AT), size=64) for f in (1, 2)
    )
    np.testing.assert_allclose(fine, native, atol=1e-4 * native.max())


def test_even_psf_stamps_are_refused():
    with pytest.raises(ValueError, match="odd"):
        psf_transform(np.ones((20, 20)), 32, 1)


@pytest.mark.parametrize("oversampling", [1, 2])
def test_psf_stamps_are_centred_padded_and_cropped(oversampling):
    """Narrow or wide, the transform is that of the samples about the central one."""
    rng = np.random.default_rng(2)
    wide, size = rng.uniform(size=(2, 71, 71)).astype(np.float32), 32
    full = oversampling * size
    for width in (9, 31, 33, 63, 65, 71):
        cut = (71 - width) // 2
        samples = wide[:, cut : 71 - cut, cut : 71 - cut]
        hat = psf_transform(samples, size, oversampling)
        # columns: all waves that pixels resolve, and those by 2 pi beyond
        columns = np.add.outer(size * np.arange(oversampling), np.arange(size // 2 + 1)).ravel()
        assert hat.shape == (2, full, len(columns))
        assert hat.dtype == np.complex64
        kept = min(width, full - 1) // 2
        centre = width // 2
        expected = np.zeros((2, full, full))
        for dy in range(-kept, kept + 1):
            for dx in range(-kept, kept + 1):
                expected[:, dy, dx] = samples[:, centre + dy, centre + dx]
        expected = np.fft.fft2(expected)[..., columns] / oversampling**2
        np.testing.assert_allclose(hat, expected, atol=2e-7 * np.abs(expected).max())
