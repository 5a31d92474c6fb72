"""The mock MER catalogue: noisy columns of the listed sources, and spurious entries."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .config import MockSurveyConfig
from .focal_plane import PIXEL_ARCSEC, QuadrantFrame
from .measurement import (
    KRON_FACTOR,
    MIN_KRON_PX,
    detections,
    exposures_covering,
    measurable,
    neighbours,
    psf_rms_arcsec,
)
from .population import AB_ZERO_POINT_UJY, Sources
from .scene import adu_per_ujy
from .seeds import Stream, generator
from .sky import Array, area_corners, deproject, object_ids, same_anywhere, unit_vectors

Columns = dict[str, NDArray]

# Detections nearer than this share one parent; within the second limit they disturb each other.
DEBLENDED_ARCSEC = 1.5
DISTURBED_ARCSEC = 3.0
# Width that gives stars the MUMAX_MINUS_MAG of about -2.8 that real catalogues show.
STAR_PEAK_RMS_ARCSEC = 0.11
# A star's light in its brightest pixel.
STAR_PEAK_FRACTION = 0.25
BRIGHT_STAR_MAGNITUDE = 17.5
SATURATED, BRIGHT_STAR_MASK, BLENDED, NEIGHBOUR = 4, 128, 2, 1


def build_catalogue(
    config: MockSurveyConfig, sources: Sources, frames: list[QuadrantFrame]
) -> tuple[Columns, NDArray[np.int64], NDArray[np.bool_]]:
    """Measure the survey: MER columns of all tiles together, then the truth's ids and detections.

    OBJECT_ID follows the measured position where there is one, else the true position.
    """
    rng = generator(config.seed, Stream.CATALOGUE)
    seen = measurable(config, sources, exposures_covering(frames, sources))
    listed, vis = detections(config, sources, seen, rng)
    chosen = np.flatnonzero(listed)
    scatter = rng.standard_normal((len(sources), 16))[chosen]
    relative = 1 / np.maximum(seen.snr[chosen], 1.0)

    shift = seen.major_arcsec[chosen, None] * relative[:, None] * scatter[:, :2] / 3600
    dec = sources.dec[chosen] + shift[:, 1]
    ra = (sources.ra[chosen] + shift[:, 0] / np.cos(np.deg2rad(dec))) % 360
    columns: Columns = {"RIGHT_ASCENSION": ra, "DECLINATION": dec}
    columns["VIS_DET"] = vis[chosen].astype(np.int16)

    noisy_size = np.exp(np.clip(0.5 * relative[:, None] * scatter[:, 2:4], -1, 1))
    axes = np.stack([seen.major_arcsec[chosen], seen.minor_arcsec[chosen]], axis=1) * noisy_size
    angle = seen.angle_rad[chosen] + np.minimum(relative, 0.5) * scatter[:, 4]
    turned = axes[:, 1] > axes[:, 0]
    angle = np.where(turned, angle + np.pi / 2, angle)
    columns |= _shape_columns(np.sort(axes, axis=1)[:, ::-1], angle)

    flux = sources.flux_ujy[chosen]
    errors = seen.pixel_noise_ujy[chosen], seen.kron_error_ujy[chosen]
    gain_per_ujy = config.detector.gain * adu_per_ujy(config.exposures[0])
    photon = np.sqrt(flux / (gain_per_ujy * np.maximum(seen.n_exposures[chosen], 1)))
    columns |= _flux_columns(config, (flux, axes, photon), errors, scatter[:, 5:13])
    columns |= _point_like_columns(
        sources.is_star[chosen], np.sqrt(axes[:, 0] * axes[:, 1]), relative, scatter[:, 13:15]
    )
    n_spurious = int(rng.binomial(len(chosen), config.catalogue.spurious_fraction))
    columns |= _prior_spurious(len(chosen), np.abs(scatter[:, 15]))
    columns = _append_spurious(config, columns, n_spurious)
    columns["RIGHT_ASCENSION"] = same_anywhere(columns["RIGHT_ASCENSION"]) % 360
    columns["DECLINATION"] = same_anywhere(columns["DECLINATION"])
    columns["OBJECT_ID"] = object_ids(columns["RIGHT_ASCENSION"], columns["DECLINATION"])
    columns |= _blend_columns(columns)
    is_star = np.concatenate([sources.is_star[chosen], np.zeros(n_spurious, dtype=bool)])
    columns["DET_QUALITY_FLAG"] = _quality(config, columns, is_star)
    good = (columns["DET_QUALITY_FLAG"] == 0) & (columns["POINT_LIKE_PROB"] > 0.96)
    columns["POINT_LIKE_FLAG"] = np.where(good, 1, NULL_SHORT).astype(np.int16)
    columns["FLAG_VIS"] = ((columns["DET_QUALITY_FLAG"] & SATURATED) > 0).astype(np.int16)

    ids = object_ids(sources.ra, sources.dec)
    ids[chosen] = columns["OBJECT_ID"][: len(chosen)]
    return columns, ids, listed


NULL_SHORT = -32768
NULL_LONG = -(2**63)


def _shape_columns(axes_arcsec: Array, angle_rad: Array) -> Columns:
    major, minor = axes_arcsec[:, 0], axes_arcsec[:, 1]
    angle = (np.rad2deg(angle_rad) + 90) % 180 - 90
    return {
        "SEMIMAJOR_AXIS": major / PIXEL_ARCSEC,
        "ELLIPTICITY": 1 - minor / major,
        "POSITION_ANGLE": angle,
        "KRON_RADIUS": np.maximum(KRON_FACTOR * major / PIXEL_ARCSEC, MIN_KRON_PX),
        "FWHM": 2.3548 * np.sqrt(major * minor),
    }


def _flux_columns(
    config: MockSurveyConfig,
    light: tuple[Array, Array, Array],
    errors: tuple[Array, Array],
    scatter: Array,
) -> Columns:
    """Fluxes in uJy from (true flux, rms axes, photon noise) and (pixel, Kron) noise."""
    flux, axes, photon = light
    pixel_noise, kron_error = (np.minimum(error, 1e3) for error in errors)
    variance = axes[:, 0] * axes[:, 1]
    psf = psf_rms_arcsec(config)
    fwhm = 2.3548 * psf
    fractions = {"DETECTION_TOTAL": np.full_like(flux, 0.96), "SEGMENTATION": 0.9 + 0 * flux}
    fractions["VIS_SERSIC"] = np.ones_like(flux)
    noises = {"DETECTION_TOTAL": kron_error, "SEGMENTATION": 0.8 * kron_error}
    noises["VIS_SERSIC"] = 1.1 * kron_error
    fractions["VIS_PSF"] = 2 * psf**2 / (psf**2 + variance)
    fractions["VIS_PSF"] = np.minimum(fractions["VIS_PSF"], 1.0)
    noises["VIS_PSF"] = np.hypot(pixel_noise * np.sqrt(4 * np.pi) * psf / PIXEL_ARCSEC, photon)
    for number in (1, 2, 3, 4):
        radius = number * fwhm / 2
        name = f"VIS_{number}FWHM_APER"
        fractions[name] = -np.expm1(-0.5 * radius**2 / variance)
        area_px = np.pi * (radius / PIXEL_ARCSEC) ** 2
        noises[name] = np.hypot(pixel_noise * np.sqrt(area_px), photon * np.sqrt(fractions[name]))
    columns: Columns = {}
    for place, (name, fraction) in enumerate(fractions.items()):
        columns[f"FLUX_{name}"] = fraction * flux + noises[name] * scatter[:, place]
        columns[f"FLUXERR_{name}"] = noises[name]
    return columns


def _point_like_columns(
    is_star: NDArray[np.bool_], rms_arcsec: Array, relative: Array, scatter: Array
) -> Columns:
    # Peaks are sharper than the Gaussian of a disc's moments: half of its variance is in the core.
    core = STAR_PEAK_RMS_ARCSEC**2 + 0.5 * np.where(is_star, 0, np.maximum(rms_arcsec**2, 0))
    mumax = -2.5 * np.log10(1 / (2 * np.pi * core)) + np.hypot(0.03, relative) * scatter[:, 0]
    # Compactness in units of its error decides, as for any classifier.
    score = (-2.5 - mumax) / np.hypot(0.07, relative) + 0.5 * scatter[:, 1]
    probability = 1 / (1 + np.exp(-np.clip(2 * score, -30, 30)))
    extended = 1 - probability
    return {
        "MUMAX_MINUS_MAG": mumax,
        "POINT_LIKE_PROB": probability,
        "EXTENDED_PROB": extended,
        "EXTENDED_FLAG": (extended > 0.5).astype(np.int16),
    }


def _prior_spurious(n: int, scatter: Array) -> Columns:
    return {
        "SPURIOUS_FLAG": np.zeros(n, dtype=np.int16),
        "SPURIOUS_PROB": np.minimum(0.02 * scatter, 0.4),
    }


def _append_spurious(config: MockSurveyConfig, columns: Columns, n: int) -> Columns:
    """Add entries at empty positions, with the other columns of random faint entries."""
    rng = generator(config.seed, Stream.SPURIOUS)
    n_real = len(columns["VIS_DET"])
    if n == 0:
        return columns
    half = area_corners(config.area)[2]
    xi, eta = (half * rng.uniform(-1, 1, size=(n, 2))).T
    faint = np.argsort(columns["FLUX_DETECTION_TOTAL"], kind="stable")[: max(n_real // 4, 1)]
    copied = rng.choice(faint, size=n)
    extra = {name: values[copied] for name, values in columns.items()}
    ra, dec = deproject(xi, eta, config.area.ra, config.area.dec)
    extra |= {"RIGHT_ASCENSION": ra, "DECLINATION": dec}
    extra |= {
        "SPURIOUS_FLAG": np.ones(n, dtype=np.int16),
        "SPURIOUS_PROB": rng.uniform(0.7, 1.0, n),
    }
    return {name: np.concatenate([values, extra[name]]) for name, values in columns.items()}


def _blend_columns(columns: Columns) -> Columns:
    separation, place = neighbours(columns["RIGHT_ASCENSION"], columns["DECLINATION"])
    ids, flux = columns["OBJECT_ID"], columns["FLUX_DETECTION_TOTAL"]
    deblended = separation < DEBLENDED_ARCSEC
    parent = np.where(flux[place] > flux, ids[place], ids)
    return {
        "DEBLENDED_FLAG": deblended.astype(np.int16),
        "PARENT_ID": np.where(deblended, parent, NULL_LONG),
        "BLENDED_PROB": np.exp(-separation),
    }


def _quality(
    config: MockSurveyConfig, columns: Columns, is_star: NDArray[np.bool_]
) -> NDArray[np.int32]:
    """DET_QUALITY_FLAG: neighbours, blends, saturation and the masks of bright stars."""
    flux = columns["FLUX_DETECTION_TOTAL"]
    separation, place = neighbours(columns["RIGHT_ASCENSION"], columns["DECLINATION"])
    flag = np.where(columns["DEBLENDED_FLAG"] == 1, BLENDED, 0)
    flag |= np.where((separation < DISTURBED_ARCSEC) & (flux[place] > flux), NEIGHBOUR, 0)
    brightest_adu = max(adu_per_ujy(exposure) for exposure in config.exposures)
    peak_adu = STAR_PEAK_FRACTION * flux * brightest_adu
    flag |= np.where(is_star & (peak_adu > config.detector.saturation_adu), SATURATED, 0)
    vectors = unit_vectors(columns["RIGHT_ASCENSION"], columns["DECLINATION"])
    magnitude = AB_ZERO_POINT_UJY - 2.5 * np.log10(np.maximum(flux, 1e-3))
    for star in np.flatnonzero(is_star & (magnitude < BRIGHT_STAR_MAGNITUDE)):
        radius = 3.0 * 10 ** (0.2 * (BRIGHT_STAR_MAGNITUDE - magnitude[star]))
        chord = np.linalg.norm(vectors - vectors[star], axis=1)
        flag |= np.where(chord < np.deg2rad(radius / 3600), BRIGHT_STAR_MASK, 0)
    return flag.astype(np.int32)
