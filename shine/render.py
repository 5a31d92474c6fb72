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

The PSF's transform may cover a plane f times wider than the stamp's own (|k| up to f pi per
pixel): what lies beyond is folded back, as sampling the image by pixels does (aliasing).
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float

from shine.profiles import Profile

N_PARAMETERS = 6
_EXACT = jax.lax.Precision.HIGHEST  # single precision, which accelerators round to less


class StampFrame(eqx.Module):
    """Where and through what one blend is seen in one quadrant (or a batch, leading axis)."""

    inverse_jacobian: Float[Array, "*m 2 2"]  # d(x, y)/d(u, v), pixel per arcsec
    centre: Float[Array, "*m c 2"]  # catalogue positions (x, y) in the stamp, pixels
    adu_per_ujy: Float[Array, "*m"]
    # rfft2 of the effective PSF (pixel included), centred on 0; f n rows, f n / 2 + 1 columns
    psf_hat: Complex[Array, "*m fn half"]


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


def render(
    profile: Profile, size: int, frame: StampFrame, galaxies: Galaxies
) -> Float[Array, "n n"]:
    """One stamp of `size` n in ADU."""
    waves = _waves(frame, size)

    def one(total: Array, source) -> tuple[Array, None]:
        pixel, coefficients = source
        value = pixel[0] * profile.transform(_argument(waves, pixel), coefficients)
        return total + _base(frame, waves, pixel) * value, None

    sources = (_pixel_parameters(frame, galaxies), galaxies.coefficients)
    total, _ = _for_each(one, jnp.zeros_like(frame.psf_hat), sources)
    return _to_pixels(total, size)


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
    columns = frame.psf_hat.shape[1]
    # a column of the half plane stands for its mirror image too, but for the first and the last
    twice = jnp.full(columns, 2.0).at[0].set(1.0).at[-1].set(1.0)
    pull_hat = jnp.conj(_unfolded(jnp.fft.rfft2(pull), columns)) * twice / size**2

    def one(_, source) -> tuple[None, tuple[Array, Array]]:
        pixel, coefficients = source
        base = _base(frame, waves, pixel)
        profiles = _profile_derivatives(profile, coefficients, _argument(waves, pixel))
        unit, place, tensor = (
            _to_pixels(hat, size) for hat in _first(waves, base, pixel[0], profiles)
        )
        first = jnp.concatenate([unit, tensor, place])
        return None, (first, _second(waves, pull_hat * base, pixel[0], profiles))

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


class _Waves(NamedTuple):
    """The wave vectors of a stamp's half plane, rad per pixel."""

    x: Float[np.ndarray, "1 columns"]
    y: Float[np.ndarray, "rows 1"]


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


def _waves(frame: StampFrame, size: int) -> _Waves:
    # NumPy's: they and their powers are constants of the compiled program
    rows = frame.psf_hat.shape[0]
    unit = 2.0 * np.pi * (rows // size)
    kind = frame.adu_per_ujy.dtype
    x, y = unit * np.fft.rfftfreq(rows)[None, :], unit * np.fft.fftfreq(rows)[:, None]
    return _Waves(x.astype(kind), y.astype(kind))


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


def _argument(waves: _Waves, pixel: Float[Array, "6"]) -> Float[Array, "rows columns"]:
    """q = k^T T k."""
    xx, xy, yy = pixel[1:4]
    return xx * waves.x**2 + (2.0 * xy * waves.x + yy * waves.y) * waves.y


def _base(
    frame: StampFrame, waves: _Waves, pixel: Float[Array, "6"]
) -> Complex[Array, "rows columns"]:
    """The transform without the profile."""
    phase_y = jnp.exp(-1j * waves.y * pixel[5])
    return frame.psf_hat * (jnp.exp(-1j * waves.x * pixel[4]) * phase_y)


def _profile_derivatives(profile: Profile, coefficients: Array, q: Array) -> _ProfileDerivatives:
    def value(q: Array) -> Array:
        return profile.transform(q, coefficients)

    def with_slope(q: Array) -> tuple[Array, Array]:
        return jax.jvp(value, (q,), (jnp.ones_like(q),))

    (zeroth, first), (_, second) = jax.jvp(with_slope, (q,), (jnp.ones_like(q),))
    return _ProfileDerivatives(zeroth, first, second)


def _first(
    waves: _Waves, base: Array, flux: Array, profiles: _ProfileDerivatives
) -> tuple[Array, Array, Array]:
    """Transforms of the stamp's derivatives: by flux (1, ...), position (2, ...) and T (3, ...)."""
    one = np.ones_like(waves.x * waves.y)
    place = np.stack([waves.x * one, waves.y * one])
    tensor = np.stack([waves.x**2 * one, 2.0 * waves.x * waves.y, waves.y**2 * one])
    slope = profiles.first * flux
    # In real numbers, which compilers vectorise, and worked out once, not again for each product
    unit_re, unit_im, slope_re, slope_im = jax.lax.optimization_barrier(
        (
            base.real * profiles.zeroth,
            base.imag * profiles.zeroth,
            base.real * slope,
            base.imag * slope,
        )
    )
    return (
        jax.lax.complex(unit_re, unit_im)[None],
        jax.lax.complex(unit_im * flux * place, -unit_re * flux * place),  # -i k
        jax.lax.complex(slope_re * tensor, slope_im * tensor),
    )


# T_xx, T_xy, T_yy stand with k_x^2, 2 k_x k_y, k_y^2 in q: their factors, and the powers of k_y in
# the products of any two of them (or of x and y, which stand with k_x and k_y)
_FACTOR = np.array([1.0, 2.0, 1.0], np.float32)
_ORDER = np.add.outer(np.arange(3), np.arange(3)).astype(np.int32)


def _second(
    waves: _Waves, pulled: Array, flux: Array, profiles: _ProfileDerivatives
) -> Float[Array, "6 6"]:
    """Second derivatives by the pixel parameters: moments of the pulled transform over k."""

    even, odd = pulled.real, pulled.imag
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


def _to_pixels(hat: Complex[Array, "*b fn half"], size: int) -> Float[Array, "*b n n"]:
    """Image at the pixels' centres: fold the aliases, then transform back."""
    if hat.shape[-2] == 2 * size:
        half = size // 2
        hat = hat[..., :size, :] + hat[..., size:, :]
        mirrored = jnp.conj(jnp.roll(hat[..., ::-1, : half - 1 : -1], 1, axis=-2))
        hat = hat[..., : half + 1] + mirrored
    return jnp.fft.irfft2(hat, s=(size, size))


def _unfolded(hat: Complex[Array, "n half"], columns: int) -> Complex[Array, "fn columns"]:
    """A stamp's transform continued periodically over the wide half plane."""
    if columns == hat.shape[1]:
        return hat
    mirrored = jnp.conj(jnp.roll(hat[::-1, -2::-1], 1, axis=0))
    return jnp.tile(jnp.concatenate([hat, mirrored], axis=1), (2, 1))
