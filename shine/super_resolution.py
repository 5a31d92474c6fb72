"""Super-resolution of undersampled PSF stamps by a fitted model of the optics (`psf_optics`).

What the model leaves of the native stamp is interpolated smoothly and added, so the samples that
the two grids share are the stamp's own. A factor of two is enough: the telescope passes nothing
beyond D / lambda = 0.80 cycles per 0.1" pixel, and the pixel's transform vanishes at 1.

A stamp of 21 pixels lacks 3 % of a telescope's light, which biases shears by 1e-3 and differently
along the pixels' axes and their diagonals. So beyond the stamp the model goes on.
"""

import threading

import numpy as np
import scipy.fft
from numpy.typing import ArrayLike, NDArray

from shine.psf_optics import (
    CUTOFF_PER_ARCSEC,
    OBSCURATION,
    annular_mtf,
    centroids,
    choose_optics,
    fitted_parameters,
    model_images,
)

Array = NDArray[np.float64]

ROOM = 3  # half widths of a result, for its light to fall in
CHUNK = 16  # stamps worked on at once: a few MB, so that they stay in the cache


class SuperResolver:
    """The stamps (m, k, k) of one PSF grid, each super-resolved once, when it is asked for.

    `stamps` are effective PSFs (pixel response included) at native pixels of `pixel_arcsec`, k odd,
    centred on the middle pixel, where the result is centred too. It is as wide as a stamp of
    K = `wide(k)` pixels, and its values stay per native pixel: the middle of a result's [::2, ::2]
    is the stamp, and around it is what the fitted model says. Each stamp has its own flux, x0 and
    Q; all share the kind of optics, its shape (w, n or c) and h, fitted on that of median
    concentration.

    Raises ValueError for stamps that are not square and odd, not finite or without a positive sum,
    and for pixels too wide for a factor of two.
    """

    def __init__(self, stamps: ArrayLike, pixel_arcsec: float) -> None:
        native = np.asarray(stamps, np.float64)
        _check(native)
        cutoff = CUTOFF_PER_ARCSEC * pixel_arcsec  # cycles per pixel
        if not 0.0 < cutoff < 1.0:
            limit = 1.0 / CUTOFF_PER_ARCSEC
            raise ValueError(
                f'pixels of {pixel_arcsec}": twice as fine serves up to {limit:.3f}" only'
            )
        self._scale = native.max(axis=(1, 2))
        self._flat = native / self._scale[:, None, None]
        reference = np.argsort(self._flat.sum(axis=(1, 2)))[len(native) // 2]
        self._optics, start = choose_optics(self._flat[reference][None], cutoff)
        self._guess = np.repeat(start, len(native), axis=0)
        self._guess[:, :3] = centroids(self._flat)
        size = native.shape[-1]
        self._spread = _interpolation(size, cutoff)
        self._roomy = self._optics.kind(ROOM * wide(size) // 2)
        self._fine = np.full((len(native), *(2 * wide(size) - 1,) * 2), np.nan, np.float32)
        self._done = np.zeros(len(native), bool)
        self._lock = threading.Lock()

    def resolve(self, wanted: NDArray[np.bool_]) -> NDArray[np.float32]:
        """All stamps (m, 2 K - 1, 2 K - 1), sampled twice as finely; NaN where never wanted (m,).

        Raises ValueError where a fit does not converge.
        """
        with self._lock:  # several threads may ask for stamps of one grid
            missing = np.flatnonzero(wanted & ~self._done)
            for first in range(0, len(missing), CHUNK):
                part = missing[first : first + CHUNK]
                size = self._flat.shape[-1]
                fitted = fitted_parameters(self._flat[part], self._guess[part], self._optics)
                fine = model_images(fitted, self._roomy, wide(size))
                margin = wide(size) - size  # of the stamp, in half pixels
                inner = fine[:, margin:-margin, margin:-margin]
                left = self._flat[part] - inner[:, ::2, ::2]
                inner += self._spread @ left @ self._spread.T
                self._fine[part] = fine * self._scale[part, None, None]
                self._done[part] = True
            return self._fine.copy()


def super_resolve(stamps: ArrayLike, pixel_arcsec: float) -> NDArray[np.float32]:
    """All effective PSFs (..., 2 K - 1, 2 K - 1) of stamps (..., k, k); see `SuperResolver`."""
    native = np.asarray(stamps, np.float64)
    _check(native)
    flat = native.reshape(-1, *native.shape[-2:])
    fine = SuperResolver(flat, pixel_arcsec).resolve(np.ones(len(flat), bool))
    return fine.reshape(*native.shape[:-2], *fine.shape[1:])


def wide(size: int) -> int:
    """Width in pixels of what stamps of `size` give: half as much again on either side."""
    return 2 * size - 1


def _interpolation(size: int, cutoff: float) -> Array:
    """Matrix (2 size - 1, size) that interpolates one axis of a residual to half pixels.

    Of all functions through the samples it takes the likeliest one whose power spectrum is that of
    the telescope's effective PSF: each native frequency is split among its aliases in proportion.
    """
    n = 2 * size
    frequency = scipy.fft.fftfreq(2 * n) * 2.0  # cycles per pixel
    mtf = annular_mtf(frequency / cutoff, OBSCURATION)
    power = (np.sinc(frequency) ** 2 * (mtf**2 + 1e-9)).reshape(2, n)  # never 0 in all aliases
    share = (power / power.sum(axis=0)).ravel()
    samples = scipy.fft.fft(np.eye(n, size), axis=0)
    fine = scipy.fft.ifft(np.tile(samples, (2, 1)) * share[:, None], axis=0)
    return 2.0 * fine.real[: 2 * size - 1]


def _check(stamps: Array) -> None:
    shape = stamps.shape
    if len(shape) < 2 or shape[-1] != shape[-2] or shape[-1] % 2 == 0 or shape[-1] < 5:
        raise ValueError(f"PSF stamps must be square, odd and at least 5 px wide, found {shape}")
    broken = ~np.isfinite(stamps).all(axis=(-2, -1))
    if broken.any():
        raise ValueError(f"{broken.sum()} of {broken.size} PSF stamps hold values not finite")
    empty = stamps.sum(axis=(-2, -1)) <= 0.0
    if empty.any():
        raise ValueError(f"{empty.sum()} of {empty.size} PSF stamps have no positive sum")
