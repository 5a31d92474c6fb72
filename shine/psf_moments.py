"""Shape and size of PSF stamps from adaptive moments: an elliptical Gaussian weight of their own
shape (Bernstein & Jarvis 2002, AJ 123, 583; Hirata & Seljak 2003, MNRAS 343, 459).

Unweighted moments of a PSF with wings follow the edge of its stamp and the noise in it; these do
not, and are those of GalSim's `galsim.hsm`.
"""

from __future__ import annotations

from typing import NamedTuple, Self

import numpy as np
import scipy.fft
from numpy.typing import NDArray

Floats = NDArray[np.float64]

FWHM_PER_SIGMA = 2.0 * np.sqrt(2.0 * np.log(2.0))
_ITERATIONS, _PRECISION = 40, 1e-5  # samples²
_FIRST_SIGMA = 1.5  # samples
_LEAST_RATIO = 1e-4  # of the squared axes: below, it is no PSF that the weight follows


class PsfShapes(NamedTuple):
    """Shape and size of the PSF at each of n sources; NaN where it is not known."""

    e1: Floats  # (n,) |e| = (a - b) / (a + b), u = west and v = north
    e2: Floats
    fwhm: Floats  # (n,) arcsec, of the Gaussian of these moments

    def mean(self) -> tuple[float | None, float | None, float | None]:
        """Over the sources whose PSF is known; None without any."""
        known = np.isfinite(self).all(axis=0)
        means = np.mean(np.array(self)[:, known], axis=1) if known.any() else (None,) * 3
        return tuple(None if mean is None else float(mean) for mean in means)

    def padded(self, n: int) -> Self:
        """With n sources behind them whose PSF is not known."""
        return type(self)(*(np.append(values, np.full(n, np.nan)) for values in self))


def adaptive_moments(stamps: NDArray) -> Floats:
    """Second moments (n, 2, 2), in samples², of stamps (n, p, p) indexed [y, x].

    Those of the elliptical Gaussian that, taken as weight, finds moments half its own about its
    own centre. Not the noise: stamps of negative flux, or that no Gaussian follows, give NaN.
    """
    n, size = len(stamps), stamps.shape[-1]
    stamps = np.asarray(stamps, np.float64)
    axis = np.arange(size) - (size - 1) / 2.0
    centre = np.zeros((n, 2))
    moments = np.tile(_FIRST_SIGMA**2 * np.eye(2), (n, 1, 1))
    moving = np.arange(n)
    for _ in range(_ITERATIONS):
        if not len(moving):
            return moments
        shift, seen = _weighted(stamps[moving], axis, centre[moving], moments[moving])
        # a Gaussian's weighted moments M' obey 1/M' = 1/M + 1/W, so this is exact for a Gaussian
        with np.errstate(all="ignore"):
            found = _inverse(_inverse(seen) - _inverse(moments[moving]))
        usable = _is_positive(found) & (np.abs(shift) < size / 2.0).all(axis=-1)
        found[~usable] = np.nan
        change = np.abs(found - moments[moving]).max(axis=(1, 2)) + np.abs(shift).max(axis=1)
        centre[moving] += 2.0 * shift  # the weight holds the centroid back by one half
        moments[moving] = found
        moving = moving[usable & (change > _PRECISION)]
    moments[moving] = np.nan
    return moments


def sampled_twice(stamps: NDArray) -> NDArray:
    """Stamps (n, 2 p - 1, 2 p - 1) with a sample between any two of stamps (n, p, p), p odd.

    By Fourier interpolation. At VIS's own sampling the weight of a narrow PSF shrinks until it
    sees the central pixel alone; here it does not.
    """
    # not by scipy.signal, which takes half a second to import, in every job
    for axis in (1, 2):
        waves = scipy.fft.rfft(stamps, axis=axis)
        stamps = 2.0 * scipy.fft.irfft(waves, 2 * stamps.shape[axis], axis=axis)
    return stamps[:, :-1, :-1]


def psf_shapes(moments: Floats) -> PsfShapes:
    """Shapes and sizes of moments (n, 2, 2) on the sky (u = west, v = north), arcsec²."""
    with np.errstate(invalid="ignore"):
        area = np.sqrt(moments[:, 0, 0] * moments[:, 1, 1] - moments[:, 0, 1] ** 2)
        trace = moments[:, 0, 0] + moments[:, 1, 1] + 2.0 * area
        e1 = (moments[:, 0, 0] - moments[:, 1, 1]) / trace
        return PsfShapes(e1, 2.0 * moments[:, 0, 1] / trace, FWHM_PER_SIGMA * np.sqrt(area))


def _weighted(
    stamps: Floats, axis: Floats, centre: Floats, weight: Floats
) -> tuple[Floats, Floats]:
    """Centroid from the centre (n, 2) and second moments about it (n, 2, 2) under Gaussians."""
    x, y = (axis - centre[:, k, None] for k in range(2))  # (n, p) each
    inverse = _inverse(weight)
    exponent = 0.5 * inverse[:, 0, 0, None, None] * x[:, None, :] ** 2
    exponent = exponent + 0.5 * inverse[:, 1, 1, None, None] * y[:, :, None] ** 2
    exponent += inverse[:, 0, 1, None, None] * x[:, None, :] * y[:, :, None]
    light = stamps * np.exp(-exponent)
    columns, rows = light.sum(axis=1), light.sum(axis=2)  # (n, p) over x, over y
    flux = rows.sum(axis=1)
    with np.errstate(all="ignore"):
        mean = np.stack([(columns * x).sum(axis=1), (rows * y).sum(axis=1)], axis=-1)
        mean /= flux[:, None]
        xx, yy = (columns * x**2).sum(axis=1), (rows * y**2).sum(axis=1)
        xy = np.einsum("nyx,ny,nx->n", light, y, x, optimize=True)
        second = np.stack([xx, xy, xy, yy], axis=-1).reshape(-1, 2, 2) / flux[:, None, None]
    second[~(flux > 0.0)] = np.nan
    return mean, second - mean[:, :, None] * mean[:, None, :]


def _inverse(matrices: Floats) -> Floats:
    """Of symmetric matrices (n, 2, 2); not finite where there is none."""
    a, b, c = matrices[:, 0, 0], matrices[:, 0, 1], matrices[:, 1, 1]
    with np.errstate(all="ignore"):
        return np.stack([c, -b, -b, a], axis=-1).reshape(-1, 2, 2) / (a * c - b * b)[:, None, None]


def _is_positive(matrices: Floats) -> NDArray[np.bool_]:
    with np.errstate(invalid="ignore"):
        trace = matrices[:, 0, 0] + matrices[:, 1, 1]
        determinant = matrices[:, 0, 0] * matrices[:, 1, 1] - matrices[:, 0, 1] ** 2
        return (trace > 0.0) & (determinant > _LEAST_RATIO * trace**2)
