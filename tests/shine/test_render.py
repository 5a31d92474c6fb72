"""The renderer against GalSim, an independent code."""

import galsim
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from shine import render
from tests.shine.galsim_scenes import ADU_PER_UJY, jacobian, psf_stamp

SIZE = 160  # holds the largest galaxy here: what lies beyond a stamp wraps around
# Well sampled at 0.1 arcsec, so that the sampled PSF carries all there is.
BROAD_PSF = galsim.Gaussian(fwhm=0.35).shear(g1=0.05, g2=0.02)


def frame(matrix, centre, psf=BROAD_PSF):
    return render.StampFrame(
        inverse_jacobian=jnp.asarray(np.linalg.inv(matrix), jnp.float32),
        centre=jnp.asarray(centre, jnp.float32),
        adu_per_ujy=jnp.float32(ADU_PER_UJY),
        psf_hat=render.psf_transform(psf_stamp(matrix, psf, size=43), SIZE),
    )


def galsim_stamp(observed, matrix, centre, psf=BROAD_PSF):
    flux, hlr, s1, s2, u, v = observed
    galaxy = galsim.Exponential(half_light_radius=hlr, flux=flux * ADU_PER_UJY)
    galaxy = galaxy.shear(g1=s1, g2=s2).shift(u, v)
    image = galsim.ImageD(SIZE, SIZE, xmin=0, ymin=0)
    galsim.Convolve(galaxy, psf).drawImage(
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
    mine = render.render(render.exponential, frame(matrix, centre), jnp.array(observed))
    theirs = galsim_stamp(observed, matrix, centre)
    assert np.abs(mine - theirs).max() < 1e-3 * theirs.max()
    assert np.sum(mine) == pytest.approx(theirs.sum(), rel=2e-3)


def test_pixel_zero_is_the_centre_of_the_first_pixel():
    matrix = jacobian(0)
    star = jnp.array([1.0, 1e-4, 0.0, 0.0, 0.0, 0.0])
    stamp = np.asarray(render.render(render.exponential, frame(matrix, (30.25, 90.0)), star))
    y, x = np.mgrid[:SIZE, :SIZE]
    assert (stamp * x).sum() / stamp.sum() == pytest.approx(30.25, abs=2e-3)
    assert (stamp * y).sum() / stamp.sum() == pytest.approx(90.0, abs=2e-3)


@pytest.mark.parametrize("roll", [0, 128])
def test_derivatives_equal_finite_differences_in_float64(roll):
    with jax.enable_x64(True):
        matrix = jacobian(roll, -1)
        single = frame(matrix, (80.2, 79.6))
        wide = jax.tree.map(
            lambda a: a.astype(jnp.complex128 if jnp.iscomplexobj(a) else jnp.float64), single
        )
        at = jnp.array([2.0, 0.3, 0.2, -0.3, 0.05, -0.02])
        model, derivatives = render.render_jacobian(render.exponential, wide, at)
        np.testing.assert_allclose(model, render.render(render.exponential, wide, at), rtol=1e-9)
        for k in range(render.N_PARAMETERS):
            step = jnp.zeros(6).at[k].set(1e-5)
            up = render.render(render.exponential, wide, at + step)
            down = render.render(render.exponential, wide, at - step)
            difference = (up - down) / 2e-5
            scale = np.abs(derivatives[k]).max()
            np.testing.assert_allclose(derivatives[k] / scale, difference / scale, atol=1e-7)


def test_reverse_mode_gradient_equals_the_derivatives():
    matrix = jacobian(37)
    at = jnp.array([2.0, 0.3, 0.2, -0.3, 0.05, -0.02])
    _, derivatives = render.render_jacobian(render.exponential, frame(matrix, (80.0, 80.0)), at)
    total = jax.grad(
        lambda o: render.render(render.exponential, frame(matrix, (80.0, 80.0)), o).sum()
    )(at)
    np.testing.assert_allclose(total, derivatives.sum(axis=(1, 2)), rtol=1e-3, atol=0.5)


def test_even_psf_stamps_are_refused():
    with pytest.raises(ValueError, match="odd"):
        render.psf_transform(np.ones((20, 20)), 32)


@pytest.mark.parametrize("shape", [(0.2, -0.3), (0.0, 0.0)], ids=["elliptical", "round"])
def test_second_derivatives_equal_automatic_differentiation_in_float64(shape):
    with jax.enable_x64(True):
        wide = jax.tree.map(
            lambda a: a.astype(jnp.complex128 if jnp.iscomplexobj(a) else jnp.float64),
            frame(jacobian(128, -1), (80.2, 79.6)),
        )
        at = jnp.array([2.0, 0.3, *shape, 0.05, -0.02])
        pull = jnp.asarray(np.random.default_rng(0).normal(size=(SIZE, SIZE)))
        expected = jax.hessian(
            lambda o: jnp.sum(pull * render.render(render.exponential, wide, o))
        )(at)
        found = render.render_bend(render.exponential, wide, at, pull)
        np.testing.assert_allclose(found, expected, atol=1e-9 * np.abs(expected).max())
