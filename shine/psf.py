"""Transforms of PSF stamps, computed once when a scene is loaded."""

import numpy as np
import scipy.fft

from shine import waves


def psf_transform(stamps: np.ndarray, size: int, oversampling: int) -> np.ndarray:
    """Transform (..., f n, f (n / 2 + 1)) of odd-sized PSF stamps (..., p, p), complex64.

    n is the `size` of the galaxy stamp and f = `oversampling` the PSF samples per pixel: every
    f-th sample from the central one on is the PSF at a pixel. Stamps are zero-padded, or cropped
    where they are wider than the galaxy's, and centred on pixel (0, 0). Laid out as `shine.waves`
    says. Runs on the host: each quadrant has another number of stamps, and JAX would compile for
    each.
    """
    width, wide = stamps.shape[-1], oversampling * size
    if width % 2 == 0:
        raise ValueError(f"PSF stamps must be odd, found {width} px")
    if oversampling not in (1, 2):
        raise ValueError(f"PSF stamps must have 1 or 2 samples per pixel, found {oversampling}")
    surplus = max(0, (width - wide + 1) // 2)
    stamps = stamps[..., surplus : width - surplus, surplus : width - surplus]
    width = stamps.shape[-1]
    padded = np.zeros((*stamps.shape[:-2], wide, wide), np.float32)
    padded[..., :width, :width] = stamps
    half = width // 2
    rolled = np.roll(padded, (-half, -half), axis=(-2, -1))
    return waves.transform(rolled, oversampling) / np.float32(oversampling**2)


def convolve_pixel(stamps: np.ndarray, oversampling: int) -> np.ndarray:
    """PSF stamps (..., p, p) of the optics alone, convolved with a square pixel; same shape.

    Exact for stamps whose light has ended at their edge and that are well sampled.
    """
    width = stamps.shape[-1]
    wide = 2 * width
    frequency = oversampling * np.fft.fftfreq(wide)[:, None], oversampling * np.fft.rfftfreq(wide)
    pixel = np.sinc(frequency[0]) * np.sinc(frequency[1])
    padded = np.zeros((*stamps.shape[:-2], wide, wide), np.float32)
    padded[..., :width, :width] = stamps
    blurred = scipy.fft.irfft2(scipy.fft.rfft2(padded) * pixel, s=(wide, wide))
    return blurred[..., :width, :width].astype(np.float32)
