"""Rendering of single stamps in Fourier space: profile x PSF x phase, one inverse real FFT.

A stamp is an N x N cut-out of a detector quadrant, indexed [y, x]; the centre of its first pixel
is (0, 0). A galaxy is a circular profile, sheared and placed on the sky in the tangent frame
(u = west, v = north, arcsec); the source's local Jacobian J = d(u, v)/d(x, y) takes it to pixels.
The observed parameters of a source are, in this order,

    flux (uJy), half-light radius (arcsec), s1, s2, offset u, offset v (arcsec)

where s is the **observed** (lensed) shape. It acts as the area-preserving shear
S = [[1 + s1, s2], [s2, 1 - s1]] / sqrt(1 - |s|^2), GalSim's reduced-shear convention.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.fft
from jaxtyping import Array, Complex, Float

N_PARAMETERS = 6
HLR_OVER_SCALE = 1.6783469900166605  # exponential disc: half-light radius / scale radius
# A profile maps q = (|k| half-light radius)^2 to its Fourier transform at unit flux.
Profile = Callable[[Array], Array]


def exponential(q: Array) -> Array:
    """Transform of the exponential disc, (1 + k^2 r_scale^2)^(-3/2) (Freeman 1970 profile)."""
    t = 1.0 + q / HLR_OVER_SCALE**2
    return jax.lax.rsqrt(t) / t


PROFILES: dict[str, Profile] = {"exponential": exponential}


class StampFrame(eqx.Module):
    """Where and through what one source is seen in one quadrant (or a batch, leading axis)."""

    inverse_jacobian: Float[Array, "*m 2 2"]  # d(x, y)/d(u, v), pixel per arcsec
    centre: Float[Array, "*m 2"]  # catalogue position (x, y) in the stamp, pixels
    adu_per_ujy: Float[Array, "*m"]
    psf_hat: Complex[
        Array, "*m n half"
    ]  # rfft2 of the effective PSF (pixel included), centred on 0


def render(profile: Profile, frame: StampFrame, observed: Float[Array, "6"]) -> Float[Array, "n n"]:
    """One stamp in ADU."""
    unit_hat, _ = _transform(profile, frame, observed)
    size = frame.psf_hat.shape[0]
    return jnp.fft.irfft2(unit_hat * observed[0], s=(size, size))


def render_jacobian(
    profile: Profile, frame: StampFrame, observed: Float[Array, "6"]
) -> tuple[Float[Array, "n n"], Float[Array, "6 n n"]]:
    """One stamp in ADU and its derivatives by the six observed parameters.

    The derivatives are products in Fourier space, so they cost one inverse FFT each.
    """
    unit_hat, parts = _transform(profile, frame, observed)
    ku, kv, k_squared, stretched, _, slope_hat = parts
    flux, hlr, s1, s2 = observed[0], observed[1], observed[2], observed[3]
    flux_hat = unit_hat * flux
    by_shape = 2.0 * hlr**2 / (1.0 - s1**2 - s2**2)
    slope = slope_hat * flux
    hats = jnp.stack(
        [
            unit_hat,
            slope * (2.0 * hlr * stretched),
            slope * (by_shape * (s1 * (k_squared + stretched) + ku**2 - kv**2)),
            slope * (by_shape * (s2 * (k_squared + stretched) + 2.0 * ku * kv)),
            flux_hat * (-1j * ku),
            flux_hat * (-1j * kv),
        ]
    )
    size = frame.psf_hat.shape[0]
    stamps = jnp.fft.irfft2(hats, s=(size, size))
    return stamps[0] * flux, stamps


def render_bend(
    profile: Profile, frame: StampFrame, observed: Float[Array, "6"], pull: Float[Array, "n n"]
) -> Float[Array, "6 6"]:
    """Second derivatives by the observed parameters of sum(pull x stamp).

    Evaluated in Fourier space by Parseval's theorem: one FFT, of `pull`.
    """
    size = pull.shape[0]
    _, (ku, kv, k_squared, stretched, base, _) = _transform(profile, frame, observed)
    flux, hlr, s = observed[0], observed[1], observed[2:4]
    q = hlr**2 * stretched
    # a column of the half plane stands for its mirror image too, but for the first and the last
    twice = jnp.full(base.shape[1], 2.0).at[0].set(1.0).at[-1].set(1.0)
    weight = jnp.conj(jnp.fft.rfft2(pull)) * base * twice / size**2

    def slope(q: Array) -> Array:
        return jax.jvp(profile, (q,), (jnp.ones_like(q),))[1]

    value = weight * profile(q)
    first, second = (weight * f for f in jax.jvp(slope, (q,), (jnp.ones_like(q),)))
    k = jnp.stack([ku, kv])
    # derivatives of |S k|^2 by s
    turned = jnp.stack([ku**2 - kv**2, 2.0 * ku * kv])
    norm = 1.0 - jnp.sum(s**2)
    by_s = 2.0 * (s[:, None, None] * (k_squared + stretched) + turned) / norm
    mixed = s[:, None, None, None] * by_s
    by_ss = 2.0 * (mixed + mixed.swapaxes(0, 1)) / norm
    by_ss += 2.0 * (k_squared + stretched) / norm * jnp.eye(2)[:, :, None, None]
    # ... and of q = hlr^2 |S k|^2 by (hlr, s1, s2)
    by_a = jnp.concatenate([2.0 * hlr * stretched[None], hlr**2 * by_s])
    by_ab = jnp.zeros((3, 3, *q.shape)).at[0, 0].set(2.0 * stretched)
    by_ab = by_ab.at[0, 1:].set(2.0 * hlr * by_s).at[1:, 0].set(2.0 * hlr * by_s)
    by_ab = by_ab.at[1:, 1:].set(hlr**2 * by_ss)

    def total(terms: Array) -> Array:
        return jnp.sum(terms, axis=(-2, -1))

    flux_a, flux_k = total(first.real * by_a), total(value.imag * k)
    a_b = flux * total(second.real * by_a[:, None] * by_a[None] + first.real * by_ab)
    a_k = flux * total(first.imag * by_a[:, None] * k[None])
    k_k = -flux * total(value.real * k[:, None] * k[None])
    return jnp.block(
        [
            [jnp.zeros((1, 1)), flux_a[None], flux_k[None]],
            [flux_a[:, None], a_b, a_k],
            [flux_k[:, None], a_k.T, k_k],
        ]
    )


def _transform(profile: Profile, frame: StampFrame, observed: Float[Array, "6"]):
    """The stamp's transform at unit flux, and what its derivatives share with it."""
    hlr, s1, s2 = observed[1], observed[2], observed[3]
    size = frame.psf_hat.shape[0]
    kx = 2.0 * jnp.pi * jnp.fft.rfftfreq(size)[None, :]
    ky = 2.0 * jnp.pi * jnp.fft.fftfreq(size)[:, None]
    inverse = frame.inverse_jacobian
    # k is a covector: k_sky = J^-T k_pixel.
    ku = inverse[0, 0] * kx + inverse[1, 0] * ky
    kv = inverse[0, 1] * kx + inverse[1, 1] * ky
    k_squared = ku**2 + kv**2
    # |S k|^2, multiplied out
    stretched = (
        k_squared * (1.0 + s1**2 + s2**2) + 2.0 * (s1 * (ku**2 - kv**2) + 2.0 * s2 * ku * kv)
    ) / (1.0 - s1**2 - s2**2)
    q = hlr**2 * stretched
    value, slope = jax.jvp(profile, (q,), (jnp.ones_like(q),))
    position = frame.centre + inverse @ observed[4:6]
    phase = jnp.exp(-1j * kx * position[0]) * jnp.exp(-1j * ky * position[1])
    base = frame.psf_hat * phase * frame.adu_per_ujy
    return base * value, (ku, kv, k_squared, stretched, base, base * slope)


def psf_transform(stamps: np.ndarray, size: int) -> np.ndarray:
    """Transform (..., n, n // 2 + 1) of odd-sized PSF stamps (..., p, p), complex64.

    They are zero-padded to n = `size` and centred on pixel (0, 0). Runs on the host: each quadrant
    has another number of stamps, and JAX would compile for each.
    """
    width = stamps.shape[-1]
    if width % 2 == 0 or width > size:
        raise ValueError(f"PSF stamps must be odd and at most {size} px wide, found {width}")
    padded = np.zeros((*stamps.shape[:-2], size, size), np.float32)
    padded[..., :width, :width] = stamps
    half = width // 2
    return scipy.fft.rfft2(np.roll(padded, (-half, -half), axis=(-2, -1)))
