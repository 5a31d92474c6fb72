"""The renderer's derivatives against finite differences and automatic differentiation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from shine import render
from shine.profiles import PROFILES
from tests.shine.galsim_scenes import jacobian
from tests.shine.render_views import (
    AT,
    BROAD_PSF,
    NEIGHBOUR,
    SHARP_PSF,
    SIZE,
    differentiate,
    double,
    draw,
    frame,
    galaxies,
    stamp,
)


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
