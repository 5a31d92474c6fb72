"""Noiseless images of the sources in a quadrant, drawn by GalSim."""

from __future__ import annotations

from dataclasses import dataclass

import galsim
import numpy as np
from numpy.typing import NDArray

from .config import Exposure, MockSurveyConfig
from .focal_plane import PIXEL_ARCSEC, QuadrantFrame
from .population import Sources
from .psf import GSPARAMS, psf_profiles
from .sky import Array

# Stamps reach to where a source falls below this fraction of the sky noise per pixel.
FAINTEST_TO_NOISE = 0.005
MIN_RADIUS_ARCSEC = 1.2
MAX_RADIUS_ARCSEC = 20.0
HLR_TO_SCALE = 1.6783469900166605


@dataclass(frozen=True)
class Scene:
    """Noiseless light in a quadrant in ADU, without sky: two images (rows, columns)."""

    galaxies_adu: NDArray[np.float32]
    stars_adu: NDArray[np.float32]


def quadrant_wcs(frame: QuadrantFrame) -> galsim.fitswcs.GSFitsWCS:
    """GalSim's reading of the quadrant's FITS header."""
    return galsim.fitswcs.GSFitsWCS(header=galsim.FitsHeader(dict(frame.header())))


def zero_point_text(exposure: Exposure) -> str:
    """MAGZEROP as the real headers write it: text with five decimals."""
    return f"{exposure.zero_point:.5f}"


def adu_per_ujy(exposure: Exposure) -> float:
    """Counts of 1 uJy in an exposure, from the zero point as its header states it."""
    zero_point = float(zero_point_text(exposure))
    return 10 ** (0.4 * (zero_point + 2.5 * np.log10(exposure.exposure_time_s) - 23.9))


def pixel_noise_adu(config: MockSurveyConfig) -> float:
    """RMS of an empty pixel of mean sky."""
    detector = config.detector
    return float(
        np.hypot(np.sqrt(detector.sky_adu * detector.gain), detector.read_noise_e) / detector.gain
    )


def stamp_radii_px(config: MockSurveyConfig, sources: Sources, flux_adu: Array) -> Array:
    """Radius in pixels beyond which each source is negligible."""
    psf = config.psf
    radius = np.linspace(0.3, MAX_RADIUS_ARCSEC, 200)
    core = psf.fwhm_arcsec / (2 * np.sqrt(2 ** (1 / psf.beta) - 1))
    point = (1 - psf.halo_fraction) * (psf.beta - 1) / (np.pi * core**2)
    point = point * (1 + (radius / core) ** 2) ** -psf.beta
    halo = psf.halo_hlr_arcsec / HLR_TO_SCALE
    point = point + psf.halo_fraction / (2 * np.pi * halo**2) * np.exp(-radius / halo)
    # The major axis of intrinsic shape and shear together, and the seeing, stretch the disc.
    shape = np.minimum(np.hypot(sources.e1, sources.e2) + np.hypot(sources.g1, sources.g2), 0.9)
    stretch = np.sqrt((1 + shape) / (1 - shape))
    scale = np.hypot(sources.hlr_arcsec / HLR_TO_SCALE * stretch, 0.05)[:, None]
    disc = np.exp(-radius / scale) / (2 * np.pi * scale**2)
    brightness = flux_adu[:, None] * PIXEL_ARCSEC**2 * np.maximum(point, disc)
    faint = brightness < FAINTEST_TO_NOISE * pixel_noise_adu(config)
    reach = np.where(faint.any(axis=1), radius[np.argmax(faint, axis=1)], MAX_RADIUS_ARCSEC)
    return np.maximum(reach, MIN_RADIUS_ARCSEC) / PIXEL_ARCSEC


def draw_scene(config: MockSurveyConfig, frame: QuadrantFrame, sources: Sources) -> Scene:
    """Draw every source that touches the quadrant at its sub-pixel position.

    A galaxy gets its own shape, then the shear, then the PSF at its position, and is integrated
    over the pixels once; the sky frame becomes pixels by the WCS linearised at its position.
    """
    flux_adu = sources.flux_ujy * adu_per_ujy(config.exposures[frame.exposure])
    radius = stamp_radii_px(config, sources, flux_adu)
    x, y = frame.to_pixel(sources.ra, sources.dec)
    rows, columns = frame.shape
    near = (x > -radius) & (x < columns + radius) & (y > -radius) & (y < rows + radius)
    sources, flux_adu, radius = sources[near], flux_adu[near], radius[near]

    wcs = quadrant_wcs(frame)
    images = [galsim.ImageD(columns, rows) for _ in range(2)]
    if len(sources) == 0:
        return Scene(*(image.array.astype(np.float32) for image in images))
    x, y = wcs.toImage(sources.ra, sources.dec, units=galsim.degrees)
    psfs = psf_profiles(config.psf, frame, x - 1, y - 1)
    for i, psf in enumerate(psfs):
        centre = galsim.PositionD(x[i], y[i])
        profile = psf if sources.is_star[i] else galsim.Convolve(_galaxy(sources, i), psf)
        half = int(np.ceil(radius[i]))
        middle = centre.round()
        bounds = galsim.BoundsI(middle.x - half, middle.x + half, middle.y - half, middle.y + half)
        stamp = galsim.ImageD(bounds)
        profile.withFlux(flux_adu[i]).drawImage(image=stamp, wcs=wcs.local(centre), center=centre)
        image = images[int(sources.is_star[i])]
        overlap = bounds & image.bounds
        if overlap.isDefined():
            image[overlap] += stamp[overlap]
    # The transform leaves residues of either sign far from a source; light is not negative.
    return Scene(*(np.maximum(image.array, 0).astype(np.float32) for image in images))


def _galaxy(sources: Sources, i: int) -> galsim.GSObject:
    disc = galsim.Exponential(half_light_radius=float(sources.hlr_arcsec[i]), gsparams=GSPARAMS)
    intrinsic = disc.shear(g1=float(sources.e1[i]), g2=float(sources.e2[i]))
    return intrinsic.shear(g1=float(sources.g1[i]), g2=float(sources.g2[i]))
