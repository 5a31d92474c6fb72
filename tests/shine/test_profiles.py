"""The light profiles against GalSim, numerical integrals and closed forms."""

import functools

import galsim
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import gammaincinv, j0

from shine import sersic_table
from shine.profiles import BULGE_OVER_DISC, PROFILES

SERSIC_INDICES = (0.3, 0.37, 0.5, 0.8, 1.0, 2.3, 4.0, 6.2)
CASES = [
    ("gaussian", 0.0),
    ("exponential", 0.0),
    ("de_vaucouleurs", 0.0),
    *(("sersic", n) for n in SERSIC_INDICES),
    *(("spergel", nu) for nu in (-0.85, -0.6, 0.0, 0.5, 2.0, 4.0)),
    *(("bulge_disc", share) for share in (0.0, 0.3, 1.0)),
]
each_case = pytest.mark.parametrize(("name", "index"), CASES)
# At its default accuracy GalSim's table of the transform is 1e-4 off for n = 0.3, more than ours.
GSPARAMS = galsim.GSParams(kvalue_accuracy=1e-8)


@functools.cache
def galsim_profile(name, index):
    """GalSim's profile of unit flux and half-light radius 1 (of the disc, where there is one)."""
    de_vaucouleurs = functools.partial(galsim.DeVaucouleurs, gsparams=GSPARAMS)
    if name == "gaussian":
        return galsim.Gaussian(half_light_radius=1.0, gsparams=GSPARAMS)
    if name == "exponential":
        return galsim.Exponential(half_light_radius=1.0, gsparams=GSPARAMS)
    if name == "de_vaucouleurs":
        return de_vaucouleurs(half_light_radius=1.0)
    if name == "sersic":
        return galsim.Sersic(index, half_light_radius=1.0, gsparams=GSPARAMS)
    if name == "spergel":
        return galsim.Spergel(index, half_light_radius=1.0, gsparams=GSPARAMS)
    disc = galsim.Exponential(half_light_radius=1.0, gsparams=GSPARAMS)
    return disc * (1.0 - index) + de_vaucouleurs(half_light_radius=BULGE_OVER_DISC) * index


def transform(name, index, q, dtype=np.float32):
    """The profile's transform of one source, through jit and with the profile static."""
    coefficients = PROFILES[name].coefficients(np.array([index]))[0]
    evaluate = jax.jit(lambda profile, *args: profile.transform(*args), static_argnums=0)
    return np.asarray(evaluate(PROFILES[name], jnp.asarray(q, dtype), coefficients.astype(dtype)))


@each_case
def test_transform_agrees_with_galsim(name, index):
    k = np.concatenate([[0.0], np.geomspace(1e-3, 300.0, 60), np.linspace(0.5, 20.0, 60)])
    theirs = [galsim_profile(name, index).kValue(one, 0.0).real for one in k]
    mine = transform(name, index, k**2)
    assert mine[0] == pytest.approx(1.0, abs=2e-6)
    np.testing.assert_allclose(mine, theirs, atol=3e-5)


@pytest.mark.parametrize("index", np.geomspace(0.3, 6.2, 23))
def test_sersic_fit_agrees_with_the_exact_transform_in_any_band(index):
    q = np.geomspace(1e-6, 1e6, 1000)
    exact = sersic_table.exact_transform(index, q)
    error = np.abs(transform("sersic", index, q) - exact)
    assert error.max() < 2e-5
    # A stamp's peak is the integral of the transform over the band that the PSF passes.
    within = q < 1e5
    band_error, band = np.cumsum(error * q)[within], np.cumsum(np.abs(exact) * q)[within]
    assert np.all(band_error < 2.5e-4 * band)


@pytest.mark.parametrize(("index", "k"), [(0.3, 4.0), (0.7, 2.0), (2.3, 0.3), (2.3, 5.0), (4, 1.0)])
def test_exact_transform_equals_the_hankel_integral(index, k):
    b = gammaincinv(2.0 * index, 0.5)
    accuracy = {"epsabs": 0.0, "epsrel": 1e-9, "limit": 500}

    def integral(weight):  # over u = r^(1/n), where the integrand is smooth
        return quad(
            lambda u: np.exp(-b * u) * u ** (2 * index - 1) * weight(u**index),
            0,
            36 / b,
            **accuracy,
        )[0]

    expected = integral(lambda r: j0(k * r)) / integral(lambda r: 1.0)
    found = sersic_table.exact_transform(index, np.array([k**2]))[0]
    assert found == pytest.approx(expected, abs=1e-7)


def test_closed_forms_are_met():
    q = np.geomspace(1e-4, 1e4, 50)
    gaussian, disc = transform("gaussian", 0.0, q), transform("exponential", 0.0, q)
    np.testing.assert_allclose(sersic_table.exact_transform(0.5, q), gaussian, atol=1e-6)
    np.testing.assert_allclose(sersic_table.exact_transform(1.0, q), disc, atol=1e-6)
    np.testing.assert_allclose(transform("sersic", 0.5, q), gaussian, atol=5e-6)
    np.testing.assert_allclose(transform("sersic", 1.0, q), disc, atol=5e-6)
    np.testing.assert_allclose(transform("spergel", 0.5, q), disc, atol=2e-6)
    np.testing.assert_allclose(transform("bulge_disc", 0.0, q), disc, atol=1e-7)
    bulge = transform("de_vaucouleurs", 0.0, q * BULGE_OVER_DISC**2)
    np.testing.assert_allclose(transform("bulge_disc", 1.0, q), bulge, atol=1e-6)
    r14 = transform("de_vaucouleurs", 0.0, q)
    np.testing.assert_allclose(transform("sersic", 4.0, q), r14, atol=2e-6)


def value_and_derivatives(name, index, q):
    profile = PROFILES[name]
    coefficients = profile.coefficients(np.array([index]))[0].astype(q.dtype)

    def slope(q):
        return jax.jvp(lambda q: profile.transform(q, coefficients), (q,), (jnp.ones_like(q),))

    (value, first), (_, second) = jax.jvp(slope, (q,), (jnp.ones_like(q),))
    return value, first, second


@each_case
def test_derivatives_equal_finite_differences_in_float64(name, index):
    with jax.enable_x64(True):
        q = jnp.asarray(np.geomspace(1e-3, 1e4, 30))
        step = 1e-4 * q
        _, first, second = value_and_derivatives(name, index, q)
        up, down = (value_and_derivatives(name, index, at) for at in (q + step, q - step))
        np.testing.assert_allclose((up[0] - down[0]) / 2e-4, first * q, rtol=1e-6, atol=1e-8)
        np.testing.assert_allclose(
            (up[1] - down[1]) / 2e-4 * q, second * q**2, rtol=1e-6, atol=1e-8
        )


@each_case
def test_all_is_finite_and_right_in_float32_from_zero_to_the_far_end(name, index):
    q = jnp.asarray([0.0, 1e-30, 1e-6, 1e6, 1e7], jnp.float32)
    value, first, second = (np.asarray(a) for a in value_and_derivatives(name, index, q))
    assert np.all(np.isfinite([value, first, second]))
    assert value[0] == pytest.approx(1.0, abs=2e-6)
    assert first[0] < 0.0 < second[0]
    assert np.all(np.abs(value[3:]) < 0.1)


@pytest.mark.parametrize("index", SERSIC_INDICES)
def test_slope_of_the_sersic_fit_agrees_with_the_exact_one(index):
    q = np.geomspace(1e-4, 1e4, 200)
    exact = [sersic_table.exact_transform(index, q * factor) for factor in (1.0001, 0.9999)]
    _, first, _ = value_and_derivatives("sersic", index, jnp.asarray(q, jnp.float32))
    np.testing.assert_allclose(first * q, (exact[0] - exact[1]) / 2e-4, atol=1e-4)


@each_case
@pytest.mark.parametrize("outside", [0.5, 0.1, 0.01])
def test_light_radius_leaves_the_fraction_outside(name, index, outside):
    radius = PROFILES[name].light_radius(outside, np.array([index, index]))
    assert radius.shape == (2,)
    galaxy = galsim_profile(name, index)

    def ring(log_r):
        return 2.0 * np.pi * np.exp(2.0 * log_r) * galaxy.xValue(np.exp(log_r), 0.0)

    start = np.log(radius[0])
    beyond = sum(quad(ring, start + a, start + a + 2.0)[0] for a in (0.0, 2.0, 4.0, 6.0, 8.0))
    assert beyond == pytest.approx(outside, rel=1e-4)


def test_light_radius_of_a_mixture_lies_between_bulge_and_disc():
    radius = PROFILES["bulge_disc"].light_radius(0.02, np.linspace(0.0, 1.0, 11))
    assert np.all(np.diff(radius) > 0.0)
    assert radius[0] == pytest.approx(PROFILES["exponential"].light_radius(0.02, radius[:1])[0])


# -- Stamps. 0.1 arcsec pixels; the PSF, pixel included, is well sampled there.
SIZE, SCALE = 192, 0.1
PSF = galsim.Gaussian(fwhm=0.35)


@pytest.mark.parametrize(
    ("hlr", "g1", "g2"), [(0.1, 0.0, 0.0), (0.4, 0.3, -0.4), (1.5, 0.0, 0.2), (1.5, -0.64, 0.48)]
)
@pytest.mark.parametrize(
    ("name", "index"), [case for case in CASES if case not in [("sersic", 0.37), ("spergel", 0.5)]]
)
def test_stamp_agrees_with_galsim(name, index, hlr, g1, g2):
    kx = 2.0 * np.pi * np.fft.rfftfreq(SIZE, SCALE)[None, :]
    ky = 2.0 * np.pi * np.fft.fftfreq(SIZE, SCALE)[:, None]
    norm = 1.0 - g1**2 - g2**2
    sheared = ((1 + g1) * kx + g2 * ky) ** 2 + (g2 * kx + (1 - g1) * ky) ** 2
    psf_hat = np.exp(-0.5 * PSF.sigma**2 * (kx**2 + ky**2))
    mine = np.fft.irfft2(transform(name, index, hlr**2 * sheared / norm) * psf_hat)

    galaxy = galsim_profile(name, index).dilate(hlr).shear(g1=g1, g2=g2)
    image = galsim.ImageD(3 * SIZE, 3 * SIZE, xmin=0, ymin=0)
    middle = galsim.PositionD(1.5 * SIZE, 1.5 * SIZE)
    galsim.Convolve(galaxy, PSF).drawImage(
        image=image, scale=SCALE, method="no_pixel", center=middle
    )
    # What leaves a stamp enters again on the other side, so theirs is wrapped likewise.
    theirs = np.fft.ifftshift(image.array.reshape(3, SIZE, 3, SIZE).sum(axis=(0, 2)))
    assert np.abs(mine - theirs).max() < 1e-3 * theirs.max()
    assert mine.sum() == pytest.approx(1.0, abs=1e-5)


# -- The interface
def test_profiles_are_named_and_hashable():
    assert list(PROFILES) == [
        "gaussian",
        "exponential",
        "de_vaucouleurs",
        "sersic",
        "spergel",
        "bulge_disc",
    ]
    for name, profile in PROFILES.items():
        assert profile.name == name
        assert hash(profile) == hash(type(profile)())
        assert [other for other in PROFILES.values() if other == type(profile)()] == [profile]
        coefficients = profile.coefficients(np.full(3, profile.default_index))
        assert coefficients.shape == (3, profile.n_coefficients)
        assert coefficients.dtype == np.float32


def test_a_bound_in_single_precision_is_accepted():
    for profile in PROFILES.values():
        assert np.all(np.isfinite(profile.coefficients(np.float32(profile.index_range))))


@pytest.mark.parametrize(
    ("name", "index"), [("sersic", 0.29), ("sersic", np.nan), ("spergel", 4.1), ("bulge_disc", 1.1)]
)
def test_an_index_out_of_range_is_refused(name, index):
    with pytest.raises(ValueError, match=name):
        PROFILES[name].coefficients(np.array([index]))
