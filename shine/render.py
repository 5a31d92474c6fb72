"""Rendering of stamps in Fourier space: profile x PSF x phase, one inverse real FFT per stamp.

A stamp is an N x N cut-out of a detector quadrant, indexed [y, x]; the centre of its first pixel
is (0, 0). It shows the c sources of one blend (c = 1 for an isolated one), added up before the FFT.
A source is a circular profile, sheared and placed on the sky in the tangent frame (u = west,
v = north, arcsec); the stamp's local Jacobian J = d(u, v)/d(x, y) takes it to pixels. The observed
parameters of a source are, in this order,

    flux (uJy), half-light radius (arcsec), s1, s2, offset u, offset v (arcsec)

where s is the **observed** (lensed) shape. It acts as the area-preserving shear
S = [[1 + s1, s2], [s2, 1 - s1]] / sqrt(1 - |s|^2), GalSim's reduced-shear convention.

On the detector a source is given by its six **pixel parameters**: flux (ADU), the tensor
T = hlr^2 J^-1 S^2 J^-T (pixel^2) of its size and shape, T_xx, T_xy, T_yy, and its position x, y.
Its transform is flux psf(k) F(k^T T k) exp(-i k.x), so that all first and second derivatives by
them are this transform times powers of k. The chain rule does the rest.

The waves k, of which the PSF may pass some that pixels do not resolve, are those of `shine.waves`.
"""

from functools import partial
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import export
from jaxtyping import Array, Complex, Float

from shine.profiles import Profile
from shine.waves import Parts, Waves, folded, stamp_waves, to_pixels

N_PARAMETERS = 6
_EXACT = jax.lax.Precision.HIGHEST  # single precision, which accelerators round to less


class StampFrame(eqx.Module):
    """Where and through what one blend is seen in one quadrant (or a batch, leading axis)."""

    inverse_jacobian: Float[Array, "*m 2 2"]  # d(x, y)/d(u, v), pixel per arcsec
    centre: Float[Array, "*m c 2"]  # catalogue positions (x, y) in the stamp, pixels
    adu_per_ujy: Float[Array, "*m"]
    # of the effective PSF (pixel included), as `shine.psf.psf_transform` makes it
    psf_hat: Complex[Array, "*m rows columns"]


class Galaxies(eqx.Module):
    """The c sources of one blend (or a batch, leading axis)."""

    observed: Float[Array, "*m c 6"]
    coefficients: Float[Array, "*m c p"]  # of their profiles
    present: Float[Array, "*m c"]  # 1, or 0 for padding, which gives no light


class Derivatives(NamedTuple):
    """What pixels say of the c sources of a stamp through its derivatives."""

    curvature: Float[Array, "c 6 c 6"]  # sum of weight x product of two first derivatives
    pull: Float[Array, "c 6"]  # first derivatives of sum(pull x stamp)
    bend: Float[Array, "c 6 6"]  # second ones; those by two different sources are zero


@partial(jax.jit, static_argnames=("profile", "size"))
def render(
    profile: Profile, size: int, frame: StampFrame, galaxies: Galaxies
) -> Float[Array, "n n"]:
    """One stamp of `size` n in ADU."""
    waves = _waves(frame, size)

    def one(total: Parts, source) -> tuple[Parts, None]:
        pixel, coefficients = source
        value = pixel[0] * profile.transform(_argument(waves, pixel), coefficients)
        base = _base(frame, waves, pixel)
        own = folded(Parts(base.real * value, base.imag * value), size)
        return jax.tree.map(jnp.add, total, own), None

    sources = (_pixel_parameters(frame, galaxies), galaxies.coefficients)
    nothing = jnp.zeros((size, size // 2 + 1), frame.adu_per_ujy.dtype)
    total, _ = _for_each(one, Parts(nothing, nothing), sources)
    return to_pixels(total, size)


def render_derivatives(
    profile: Profile, frame: StampFrame, galaxies: Galaxies, pixels: Float[Array, "2 n n"]
) -> Derivatives:
    """First and second derivatives of a stamp by the observed parameters, summed over its pixels.

    `pixels` are the weight of each pixel and the pull on it (weight times misfit). First
    derivatives cost one inverse FFT each, all second ones a single FFT, that of the pull
    (Parseval's theorem).
    """
    weight, pull = pixels
    size = weight.shape[0]
    waves = _waves(frame, size)
    # a column of the half plane stands for its mirror image too, but for the first and the last
    twice = jnp.full(size // 2 + 1, 2.0).at[0].set(1.0).at[-1].set(1.0)
    pull_hat = jnp.fft.rfft2(pull) * twice / size**2
    pull_hat = jnp.tile(pull_hat, (len(waves.y) // size,) * 2)  # what pixels see of any alias

    def one(_, source) -> tuple[None, tuple[Array, Array]]:
        pixel, coefficients = source
        base = _base(frame, waves, pixel)
        profiles = _profile_derivatives(profile, coefficients, _argument(waves, pixel))
        unit, place, tensor = (
            to_pixels(folded(hat, size), size) for hat in _first(waves, base, pixel[0], profiles)
        )
        first = jnp.concatenate([unit, tensor, place])
        pulled = Parts(
            pull_hat.real * base.real + pull_hat.imag * base.imag,
            pull_hat.real * base.imag - pull_hat.imag * base.real,
        )
        return None, (first, _second(waves, pulled, pixel[0], profiles))

    pixel = _pixel_parameters(frame, galaxies)
    _, (stamps, bend) = _for_each(one, None, (pixel, galaxies.coefficients))
    rows = stamps.reshape(-1, size**2)
    curvature = jnp.matmul(rows * weight.ravel(), rows.T, precision=_EXACT)
    curvature = curvature.reshape(-1, 6, len(pixel), 6)
    pull_pixel = jnp.matmul(rows, pull.ravel(), precision=_EXACT).reshape(-1, 6)
    chain, chain_2 = _chain_rule(_detector(frame), frame.centre, galaxies)
    return Derivatives(
        curvature=jnp.einsum("cpo,cpdq,dqr->codr", chain, curvature, chain, precision=_EXACT),
        pull=jnp.einsum("cpo,cp->co", chain, pull_pixel, precision=_EXACT),
        bend=jnp.einsum("cpo,cpq,cqr->cor", chain, bend, chain, precision=_EXACT)
        + jnp.einsum("cp,cpor->cor", pull_pixel, chain_2, precision=_EXACT),
    )


export.register_namedtuple_serialization(Derivatives, serialized_name="shine.Derivatives")


class _ProfileDerivatives(NamedTuple):
    """A profile's transform F(q) and its derivatives at every wave."""

    zeroth: Array
    first: Array
    second: Array


def _for_each(function, carry, sources):
    """Scan over the sources of a stamp; a single one needs no loop."""
    if len(sources[0]) == 1:
        carry, result = function(carry, jax.tree.map(lambda a: a[0], sources))
        return carry, jax.tree.map(lambda a: a[None], result)
    return jax.lax.scan(function, carry, sources)


def _waves(frame: StampFrame, size: int) -> Waves:
    return stamp_waves(size, frame.psf_hat.shape[0] // size, frame.adu_per_ujy.dtype)


def _to_pixel_parameters(
    detector: tuple[Array, Array], observed: Float[Array, "6"], centre: Float[Array, "2"]
) -> Float[Array, "6"]:
    inverse, adu_per_ujy = detector
    flux, hlr, s1, s2 = observed[:4]
    squared = 1.0 + s1**2 + s2**2
    stretch = jnp.array([[squared + 2.0 * s1, 2.0 * s2], [2.0 * s2, squared - 2.0 * s1]])
    tensor = inverse @ (stretch * (hlr**2 / (1.0 - s1**2 - s2**2))) @ inverse.T
    x, y = centre + inverse @ observed[4:6]
    return jnp.stack([flux * adu_per_ujy, tensor[0, 0], tensor[0, 1], tensor[1, 1], x, y])


def _pixel_parameters(frame: StampFrame, galaxies: Galaxies) -> Float[Array, "c 6"]:
    lit = galaxies.observed.at[:, 0].multiply(galaxies.present)
    return jax.vmap(_to_pixel_parameters, (None, 0, 0))(_detector(frame), lit, frame.centre)


def _detector(frame: StampFrame) -> tuple[Array, Array]:
    return frame.inverse_jacobian, frame.adu_per_ujy


@jax.jit  # a program of its own, so that it is traced once for all stamp sizes
def _chain_rule(
    detector: tuple[Array, Array], centre: Float[Array, "c 2"], galaxies: Galaxies
) -> tuple[Array, Array]:
    """First (c, 6, 6) and second (c, 6, 6, 6) derivatives of the pixel parameters."""

    def own(observed: Array, centre: Array, present: Array) -> Array:
        return _to_pixel_parameters(detector, observed, centre) * present

    arguments = (galaxies.observed, centre, galaxies.present)
    return jax.vmap(jax.jacfwd(own))(*arguments), jax.vmap(jax.hessian(own))(*arguments)


def _argument(waves: Waves, pixel: Float[Array, "6"]) -> Float[Array, "rows columns"]:
    """q = k^T T k."""
    xx, xy, yy = pixel[1:4]
    return xx * waves.x**2 + (2.0 * xy * waves.x + yy * waves.y) * waves.y


def _base(frame: StampFrame, waves: Waves, pixel: Float[Array, "6"]) -> Parts:
    """The transform without the profile."""
    angle_x, angle_y = waves.x * pixel[4], waves.y * pixel[5]
    cos_x, sin_x = jnp.cos(angle_x), jnp.sin(angle_x)
    # exp(-i k.x) as a product of matrices, for compilers do not fuse these: they would work the
    # sines and cosines out anew for every wave, and most of the time would go there.
    of_rows = jnp.concatenate([jnp.cos(angle_y), jnp.sin(angle_y)], axis=1)
    of_columns = jnp.block([[cos_x, -sin_x], [-sin_x, -cos_x]])
    phase = Parts(*jnp.split(jnp.matmul(of_rows, of_columns, precision=_EXACT), 2, axis=1))
    psf = frame.psf_hat
    return Parts(
        psf.real * phase.real - psf.imag * phase.imag,
        psf.real * phase.imag + psf.imag * phase.real,
    )


def _profile_derivatives(profile: Profile, coefficients: Array, q: Array) -> _ProfileDerivatives:
    def value(q: Array) -> Array:
        return profile.transform(q, coefficients)

    def with_slope(q: Array) -> tuple[Array, Array]:
        return jax.jvp(value, (q,), (jnp.ones_like(q),))

    (zeroth, first), (_, second) = jax.jvp(with_slope, (q,), (jnp.ones_like(q),))
    return _ProfileDerivatives(zeroth, first, second)


def _first(
    waves: Waves, base: Parts, flux: Array, profiles: _ProfileDerivatives
) -> tuple[Parts, Parts, Parts]:
    """Transforms of the stamp's derivatives: by flux (1, ...), position (2, ...) and T (3, ...)."""
    one = np.ones_like(waves.x * waves.y)
    place = np.stack([waves.x * one, waves.y * one])
    tensor = np.stack([waves.x**2 * one, 2.0 * waves.x * waves.y, waves.y**2 * one])
    slope = profiles.first * flux
    # worked out once, not again for each product
    unit, slope = jax.lax.optimization_barrier(
        (
            Parts(base.real * profiles.zeroth, base.imag * profiles.zeroth),
            Parts(base.real * slope, base.imag * slope),
        )
    )
    return (
        Parts(unit.real[None], unit.imag[None]),
        Parts(unit.imag * flux * place, -unit.real * flux * place),  # -i k
        Parts(slope.real * tensor, slope.imag * tensor),
    )


# T_xx, T_xy, T_yy stand with k_x^2, 2 k_x k_y, k_y^2 in q: their factors, and the powers of k_y in
# the products of any two of them (or of x and y, which stand with k_x and k_y)
_FACTOR = np.array([1.0, 2.0, 1.0], np.float32)
_ORDER = np.add.outer(np.arange(3), np.arange(3)).astype(np.int32)


def _second(
    waves: Waves, pulled: Parts, flux: Array, profiles: _ProfileDerivatives
) -> Float[Array, "6 6"]:
    """Second derivatives by the pixel parameters: moments of the pulled transform over k."""
    even, odd = pulled
    zeroth, first, second = profiles
    fields = (even * second, odd * first, even * first, odd * zeroth, even * zeroth)
    # Products of matrices, since a CPU's plain sum takes number after number. The barrier keeps
    # the compiler from working the fields out anew in each.
    power = np.arange(5, dtype=waves.x.dtype)
    columns, rows = waves.x.T**power, waves.y**power
    along_x = [
        jnp.matmul(field, columns, precision=_EXACT)
        for field in jax.lax.optimization_barrier(fields)
    ]
    # sums over k of each field x k_x^a k_y^b, of which a degree a + b is wanted
    sums = jnp.einsum("fya,yb->fab", jnp.stack(along_x), rows, precision=_EXACT)
    quartic, mixed, flux_tensor, flux_place, places = (
        sums[field, np.arange(degree, -1, -1), np.arange(degree + 1)]
        for field, degree in enumerate((4, 3, 2, 1, 2))
    )
    flux_tensor, places = flux_tensor * _FACTOR, -places[_ORDER[:2, :2]]
    tensors = quartic[_ORDER] * (_FACTOR[:, None] * _FACTOR)
    tensor_place = mixed[_ORDER[:, :2]] * _FACTOR[:, None]
    return jnp.block(
        [
            [jnp.zeros((1, 1)), flux_tensor[None], flux_place[None]],
            [flux_tensor[:, None], flux * tensors, flux * tensor_place],
            [flux_place[:, None], flux * tensor_place.T, flux * places],
        ]
    )
