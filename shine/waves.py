"""The waves of a stamp and how their aliases fold onto them.

A stamp of n x n pixels resolves waves |k| <= pi per pixel: as the transform of a real image has
k and -k in common, (n, n / 2 + 1) of them. A transform may cover f times as much. What lies beyond
looks to the pixels like a wave they resolve (aliasing), so the waves are laid out as f x f blocks
(n, n / 2 + 1), each of one order of aliases, which fold by addition. The rows are those of an FFT
of f n rows, the columns k_x = 0 to pi and, for f = 2, the same minus 2 pi.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.fft
from jaxtyping import Array, Complex, Float


class Waves(NamedTuple):
    """Wave vectors, rad per pixel."""

    x: Float[np.ndarray, "1 columns"]
    y: Float[np.ndarray, "rows 1"]


class Parts(NamedTuple):
    """A transform, or several, in real numbers: compilers vectorise no others."""

    real: Float[Array, "*b rows columns"]
    imag: Float[Array, "*b rows columns"]


def stamp_waves(size: int, factor: int, kind: np.dtype) -> Waves:
    """Those of a stamp of `size` n, to `factor` f times the resolved ones, in the precision `kind`.

    Of NumPy: they and their powers are constants of the compiled program.
    """
    resolved = 2.0 * np.pi * np.fft.rfftfreq(size)
    x = np.concatenate([resolved - 2.0 * np.pi * order for order in range(factor)])
    y = 2.0 * np.pi * factor * np.fft.fftfreq(factor * size)
    return Waves(x[None, :].astype(kind), y[:, None].astype(kind))


def transform(
    samples: Float[np.ndarray, "*b fn fn"], factor: int
) -> Complex[np.ndarray, "*b rows columns"]:
    """Of f x f samples per pixel, the first of them at the origin; complex64, on the host."""
    hat = scipy.fft.rfft2(samples)
    if factor == 1:
        return hat
    half = samples.shape[-1] // 4 + 1
    laid_out = np.empty((*hat.shape[:-1], 2 * half), hat.dtype)
    laid_out[..., :half] = hat[..., :half]
    # the samples are real: what lies at -k is the conjugate of what lies at k
    at_minus_k = hat[..., : -half - 1 : -1]
    np.conj(at_minus_k[..., :1, :], out=laid_out[..., :1, half:])
    np.conj(at_minus_k[..., :0:-1, :], out=laid_out[..., 1:, half:])
    return laid_out


def folded(hat: Parts, size: int) -> Parts:
    """The resolved waves (..., n, n / 2 + 1), with their aliases."""
    half = size // 2 + 1

    def fold(part: Array) -> Array:
        blocks = [
            part[..., row : row + size, column : column + half]
            for row in range(0, part.shape[-2], size)
            for column in range(0, part.shape[-1], half)
        ]
        return functools.reduce(jnp.add, blocks)

    return Parts(fold(hat.real), fold(hat.imag))


def to_pixels(hat: Parts, size: int) -> Float[Array, "*b n n"]:
    """The image at the pixels' centres, from the resolved waves."""
    return jnp.fft.irfft2(jax.lax.complex(*hat), s=(size, size))
