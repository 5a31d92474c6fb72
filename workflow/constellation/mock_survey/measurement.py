"""What the mock MER pipeline measures: detection, noisy fluxes, sizes and neighbours.

The light of a convolved galaxy is taken as a Gaussian of the same second moments here: good enough
for catalogue columns, and nothing is drawn from them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from .config import MockSurveyConfig
from .focal_plane import PIXEL_ARCSEC, QuadrantFrame
from .population import Sources
from .scene import HLR_TO_SCALE, adu_per_ujy, pixel_noise_adu
from .sky import Array, unit_vectors

# Rms of an exponential disc along an axis, in scale lengths.
DISC_RMS = np.sqrt(3.0)
# Kron radius in units of the rms: 2.5 first moments of a disc, each 2 scale lengths.
KRON_FACTOR = 2.5 * 2 / DISC_RMS
MIN_KRON_PX = 3.5


@dataclass(frozen=True)
class Measurable:
    """Noise-free measurable properties, one entry per true source."""

    n_exposures: NDArray[np.int64]
    major_arcsec: Array  # convolved rms axes
    minor_arcsec: Array
    angle_rad: Array  # of the major axis, from west to north
    kron_px: Array
    pixel_noise_ujy: Array  # per pixel, exposures combined; inf where there is none
    kron_error_ujy: Array
    snr: Array


def exposures_covering(frames: list[QuadrantFrame], sources: Sources) -> NDArray[np.int64]:
    """In how many exposures each source's centre falls on a written quadrant."""
    count = np.zeros(len(sources), dtype=np.int64)
    for frame in frames:
        x, y = frame.to_pixel(sources.ra, sources.dec)
        rows, columns = frame.shape
        count += (x > -0.5) & (x < columns - 0.5) & (y > -0.5) & (y < rows - 0.5)
    return count


def measurable(config: MockSurveyConfig, sources: Sources, n_exposures: NDArray) -> Measurable:
    """Second moments and Kron S/N that the combined exposures would give."""
    intrinsic, shear = sources.e1 + 1j * sources.e2, sources.g1 + 1j * sources.g2
    shape = (intrinsic + shear) / (1 + np.conj(shear) * intrinsic)
    stretch = np.sqrt((1 + np.abs(shape)) / (1 - np.abs(shape)))
    rms = DISC_RMS * sources.hlr_arcsec / HLR_TO_SCALE
    psf = psf_rms_arcsec(config)
    major, minor = np.hypot(rms * stretch, psf), np.hypot(rms / stretch, psf)
    kron_px = np.maximum(KRON_FACTOR * major / PIXEL_ARCSEC, MIN_KRON_PX)

    counts = np.mean([adu_per_ujy(exposure) for exposure in config.exposures])
    seen = np.where(n_exposures > 0, n_exposures, np.nan)
    pixel_noise = pixel_noise_adu(config) / counts / np.sqrt(seen)
    photon_variance = sources.flux_ujy / (counts * config.detector.gain * seen)
    area_px = np.pi * kron_px**2 * minor / major
    error = np.sqrt(area_px * pixel_noise**2 + photon_variance)
    snr = np.nan_to_num(sources.flux_ujy / error, nan=0.0)
    return Measurable(
        n_exposures=n_exposures,
        major_arcsec=major,
        minor_arcsec=minor,
        angle_rad=np.angle(shape) / 2,
        kron_px=kron_px,
        pixel_noise_ujy=np.nan_to_num(pixel_noise, nan=np.inf),
        kron_error_ujy=np.nan_to_num(error, nan=np.inf),
        snr=snr,
    )


def psf_rms_arcsec(config: MockSurveyConfig) -> float:
    """Gaussian width of the PSF's core with the pixel."""
    return float(np.hypot(config.psf.fwhm_arcsec / 2.3548, PIXEL_ARCSEC / np.sqrt(12)))


def detections(
    config: MockSurveyConfig, sources: Sources, seen: Measurable, rng: np.random.Generator
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which sources the catalogue lists, and which of these VIS detects.

    Of sources nearer than the deblending limit only the brighter is listed.
    """
    settings = config.catalogue
    vis = seen.snr > settings.detection_snr
    lucky = rng.random(len(sources)) < settings.nir_only_fraction
    listed = vis | (lucky & ~sources.is_star & (seen.n_exposures > 0))
    if len(sources) > 1 and settings.deblend_arcsec > 0:
        tree = cKDTree(unit_vectors(sources.ra, sources.dec))
        pairs = tree.query_pairs(np.deg2rad(settings.deblend_arcsec / 3600), output_type="ndarray")
        flux = sources.flux_ujy[pairs]
        fainter = pairs[np.arange(len(pairs)), np.argmin(flux, axis=1)]
        listed[fainter] = False
    return listed, vis & listed


def neighbours(ra: Array, dec: Array) -> tuple[Array, NDArray[np.intp]]:
    """Separation in arcsec and place of the nearest other entry; inf and itself if alone."""
    if len(ra) < 2:
        return np.full(len(ra), np.inf), np.arange(len(ra))
    vectors = unit_vectors(ra, dec)
    chord, place = cKDTree(vectors).query(vectors, k=2)
    return 3600 * np.rad2deg(chord[:, 1]), place[:, 1]
