"""The renderer against GalSim, an independent code, and against automatic differentiation."""

import functools

import galsim
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from shine import render
from shine.profiles import BULGE_OVER_DISC, PROFILES
from shine.psf import psf_transform
from tests.shine.galsim_scenes import ADU_PER_UJY, jacobian, psf_stamp

SIZE = 160  # holds the largest galaxy of the first test: what lies beyond a stamp wraps around
# Well sampled at 0.1 arcsec, so that the sampled PSF carries all there is.
BROAD_PSF = galsim.Gaussian(fwhm=0.35).shear(g1=0.05, g2=0.02)
# Far from it. At 0.05 arcsec a star's peak is still 1e-3 off, what a galaxy has left of that is
# not; all that a telescope lets through is there for a star, too.
SHARP_PSF = galsim.Moffat(beta=3.5, fwhm=0.12).shear(g1=0.03, g2=-0.02)
AIRY_PSF = galsim.Airy(lam=700, diam=1.2, obscuration=0.3, scale_unit=galsim.arcsec)
AT = (2.0, 0.3, 0.2, -0.3, 0.05, -0.02)
NEIGHBOUR = (0.7, 0.15, -0.4, 0.1, -0.03, 0.06)

draw = jax.jit(render.render, static_argnums=(0, 1))
differentiate = jax.jit(render.render_derivatives, static_argnums=0)
# GalSim's own FFT and tables, an order of magnitude finer than its defaults
GSPARAMS = galsim.GSParams(kvalue_accuracy=1e-7, maxk_threshold=1e-5, maximum_fft_size=16384)


def oversampled_psf(matrix, psf, size, oversampling):
    """The effective PSF at fractions of a pixel: (size, size) samples, in light per pixel."""
    pixel = galsim.JacobianWCS(*matrix.ravel()).toWorld(galsim.Pixel(1.0))
    image = galsim.Convolve(psf, pixel, gsparams=GSPARAMS).drawImage(
        nx=size,
        ny=size,
        wcs=galsim.JacobianWCS(*(matrix / oversampling).ravel()),
        method="no_pixel",
        dtype=float,
    )
    return (image.array * oversampling**2).astype(np.float32)


def frame(matrix, *centres, psf=BROAD_PSF, size=SIZE, oversampling=1):
    """How a detector of the `matrix` sees sources at `centres` (x, y)."""
    if oversampling == 1:
        stamp = psf_stamp(matrix, psf, size=min(43, size - 1))
    else:
        stamp = oversampled_psf(matrix, psf, oversampling * size - 1, oversampling)
    return render.StampFrame(
        inverse_jacobian=jnp.asarray(np.linalg.inv(matrix), jnp.float32),
        centre=jnp.asarray(centres, jnp.float32),
        adu_per_ujy=jnp.float32(ADU_PER_UJY),
        psf_hat=jnp.asarray(psf_transform(stamp, size, oversampling)),
    )


def galaxies(*observed, profile="exponential", index=0.0, present=None):
    """The sources of one stamp, of one profile and index."""
    n = len(observed)
    return render.Galaxies(
        observed=jnp.asarray(observed, jnp.float32),
        coefficients=jnp.asarray(PROFILES[profile].coefficients(np.full(n, index))),
        present=jnp.ones(n, jnp.float32) if present is None else jnp.asarray(present, jnp.float32),
    )


def stamp(frame, galaxies, profile="exponential", size=SIZE):
    return np.asarray(draw(PROFILES[profile], size, frame, galaxies))


def double(tree):
    """In double precision; call it within `jax.enable_x64`."""
    return jax.tree.map(
        lambda a: a.astype(jnp.complex128 if jnp.iscomplexobj(a) else jnp.float64), tree
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


@pytest.mark.parametrize("roll", [0, 128])
def test_derivatives_equal_finite_differences_in_float64(roll):
    with jax.enable_x64(True):
        view = double(frame(jacobian(roll, -1), (80.2, 79.6)))
        at = double(galaxies(AT))
        pulls = np.random.default_rng(1).normal(size=(4, SIZE, SIZE))

        def difference(k):
            step = jnp.zeros((1, 6)).at[0, k].set(1e-5)
            up, down = (
                stamp(view, render.Galaxies(at.observed + sign * step, *_rest(at)))
                for sign in (1.0, -1.0)
            )
            return (up - down) / 2e-5

        slopes = np.stack([difference(k) for k in range(render.N_PARAMETERS)])
        lengths = np.sqrt((slopes**2).sum(axis=(1, 2)))
        weight = jnp.ones((SIZE, SIZE))
        for pull in pulls:
            found = differentiate(PROFILES["exponential"], view, at, jnp.stack([weight, pull]))
            expected = (slopes * pull).sum(axis=(1, 2))
            np.testing.assert_allclose(found.pull[0] / lengths, expected / lengths, atol=1e-7)
        cosine = np.einsum("kyx,lyx->kl", slopes, slopes) / np.outer(lengths, lengths)
        curvature = found.curvature[0, :, 0] / np.outer(lengths, lengths)
        np.testing.assert_allclose(curvature, cosine, atol=1e-7)


def _rest(sources):
    return sources.coefficients, sources.present


def check_derivatives(profile, view, at, pixels, rounding=1e-9):
    """Curvature, pull and bend against automatic differentiation of `render`."""
    weight, pull = pixels
    size = len(weight)

    def image(observed):
        return render.render(profile, size, view, render.Galaxies(observed, *_rest(at)))

    slopes = jax.jit(jax.jacfwd(image))(at.observed)  # (n, n, c, 6)
    hessian = jax.jit(jax.hessian(lambda o: jnp.sum(pull * image(o))))(at.observed)
    found = differentiate(profile, view, at, pixels)
    curvature = jnp.einsum("yx,yxcp,yxdq->cpdq", weight, slopes, slopes)
    # Each parameter has a unit of its own
    unit = np.sqrt(np.einsum("cpcp->cp", curvature))
    unit = np.where(unit > 0, unit, 1.0)
    np.testing.assert_allclose(
        found.curvature / (unit[..., None, None] * unit),
        curvature / (unit[..., None, None] * unit),
        atol=rounding,
    )
    expected = jnp.einsum("yx,yxcp->cp", pull, slopes)
    np.testing.assert_allclose(
        found.pull / unit, expected / unit, atol=rounding * np.abs(expected / unit).max()
    )
    for c in range(len(unit)):
        np.testing.assert_allclose(
            found.bend[c], hessian[c, :, c], atol=rounding * np.abs(hessian).max()
        )
        for other in range(len(unit)):
            if other != c:
                np.testing.assert_allclose(hessian[c, :, other], 0.0, atol=rounding)
    return found


def random_pixels(size, seed=0):
    rng = np.random.default_rng(seed)
    weight = rng.uniform(size=(size, size)) * (rng.uniform(size=(size, size)) > 0.1)
    return jnp.stack([weight, rng.normal(size=(size, size))])


@pytest.mark.parametrize(
    ("name", "index", "shape", "oversampling"),
    [
        ("exponential", 0.0, (0.2, -0.3), 1),
        ("exponential", 0.0, (0.0, 0.0), 1),
        ("exponential", 0.0, (0.2, -0.3), 2),
        ("sersic", 2.3, (0.2, -0.3), 2),
    ],
    ids=["elliptical", "round", "oversampled", "oversampled Sersic"],
)
def test_derivatives_equal_automatic_ones_in_float64(name, index, shape, oversampling):
    size = 32
    with jax.enable_x64(True):
        at = double(galaxies((2.0, 0.3, *shape, 0.05, -0.02), profile=name, index=index))
        psf = SHARP_PSF if oversampling == 2 else BROAD_PSF
        view = double(
            frame(jacobian(128, -1), (16.2, 15.6), psf=psf, size=size, oversampling=oversampling)
        )
        check_derivatives(PROFILES[name], view, at, random_pixels(size))


@pytest.mark.parametrize(
    ("present", "oversampling"),
    [((1.0, 1.0), 1), ((1.0, 1.0), 2), ((1.0, 0.0), 1)],
    ids=["both", "both oversampled", "one absent"],
)
def test_derivatives_of_blends_equal_automatic_ones_in_float64(present, oversampling):
    size = 32
    with jax.enable_x64(True):
        at = double(galaxies(AT, NEIGHBOUR, present=present))
        view = double(
            frame(
                jacobian(37),
                (13.2, 15.6),
                (19.7, 17.1),
                psf=SHARP_PSF,
                size=size,
                oversampling=oversampling,
            )
        )
        found = check_derivatives(PROFILES["exponential"], view, at, random_pixels(size))
        if not present[1]:
            for part in (
                found.curvature[1],
                found.curvature[:, :, 1],
                found.pull[1],
                found.bend[1],
            ):
                np.testing.assert_array_equal(part, 0.0)
        else:
            assert np.abs(found.curvature[0, :, 1]).max() > 0.0


def test_derivatives_in_single_precision_are_those_in_double():
    size, pixels = 48, np.asarray(random_pixels(48), np.float32)
    view = frame(jacobian(37), (20.2, 24.6), (26.7, 25.1), size=size)
    at = galaxies(AT, NEIGHBOUR)
    single = differentiate(PROFILES["exponential"], view, at, pixels)
    with jax.enable_x64(True):
        wide = differentiate(PROFILES["exponential"], *double((view, at, jnp.asarray(pixels))))
    single, wide = jax.device_get((single, wide))
    unit = np.sqrt(np.einsum("cpcp->cp", wide.curvature))
    square = unit[..., None, None] * unit
    np.testing.assert_allclose(single.curvature / square, wide.curvature / square, atol=1e-5)
    np.testing.assert_allclose(single.pull / unit, wide.pull / unit, atol=1e-5)
    np.testing.assert_allclose(single.bend, wide.bend, atol=1e-5 * np.abs(wide.bend).max())


def test_a_star_has_finite_derivatives():
    star = galaxies((2.0, 1e-4, 0.0, 0.0, 0.01, 0.0))
    view = frame(jacobian(37), (16.2, 15.6), size=32)
    found = differentiate(PROFILES["exponential"], view, star, random_pixels(32))
    for part in found:
        assert np.isfinite(part).all()


def test_reverse_mode_gradient_equals_the_derivatives():
    view, at = frame(jacobian(37), (80.0, 80.0)), galaxies(AT)
    ones = jnp.ones((2, SIZE, SIZE))
    found = differentiate(PROFILES["exponential"], view, at, ones)
    total = jax.grad(
        lambda o: draw(PROFILES["exponential"], SIZE, view, render.Galaxies(o, *_rest(at))).sum()
    )(at.observed)
    np.testing.assert_allclose(total, found.pull, rtol=1e-3, atol=0.5)


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
        assert hat.shape == (2, full, full // 2 + 1)
        assert hat.dtype == np.complex64
        kept = min(width, full - 1) // 2
        centre = width // 2
        expected = np.zeros((2, full, full))
        for dy in range(-kept, kept + 1):
            for dx in range(-kept, kept + 1):
                expected[:, dy, dx] = samples[:, centre + dy, centre + dx]
        found = np.fft.irfft2(hat, s=(full, full)) * oversampling**2
        np.testing.assert_allclose(found, expected, atol=1e-5)
