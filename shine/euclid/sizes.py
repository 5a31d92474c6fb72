"""The half-light radius that a galaxy's fit starts from, from what the MER catalogues measured."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from shine.errors import SourceFlag
from shine.euclid.selection_config import SelectionConfig

Floats = NDArray[np.float64]

# An exponential disc of scale r_s has an rms of sqrt(3) r_s per axis and holds half its light
# within 1.67835 r_s.
HLR_PER_RMS = 1.67835 / np.sqrt(3.0)
# of the morphology catalogue: effective radius along the major axis (arcsec), and minor / major
SERSIC_COLUMNS = SERSIC_RADIUS, SERSIC_AXIS_RATIO = (
    "SERSIC_SERSIC_VIS_RADIUS",
    "SERSIC_SERSIC_VIS_AXIS_RATIO",
)


def half_light_radius(
    rows: Mapping[str, Floats], selection: SelectionConfig
) -> tuple[Floats, NDArray[np.int32]]:
    """Circularised half-light radius in arcsec (n,), and flags (n,) on how it is known.

    That of the Sersic fit where `rows` has SERSIC_COLUMNS and the source has a fit, which is
    deconvolved already; that of the moments (SEMIMAJOR_AXIS, ELLIPTICITY) elsewhere. At least
    `selection.min_hlr_arcsec`.
    """
    hlr_arcsec, flags = _from_moments(rows, selection)
    if SERSIC_RADIUS not in rows:
        return hlr_arcsec, flags
    radius, axis_ratio = rows[SERSIC_RADIUS], rows[SERSIC_AXIS_RATIO]
    fitted = np.isfinite(radius) & (radius > 0.0) & (axis_ratio > 0.0) & (axis_ratio <= 1.0)
    circular = np.sqrt(axis_ratio, where=fitted, out=np.ones_like(radius))
    circular *= np.where(fitted, radius, 1.0)
    floored = fitted & (circular < selection.min_hlr_arcsec)
    hlr_arcsec = np.where(fitted, np.maximum(circular, selection.min_hlr_arcsec), hlr_arcsec)
    flags = np.where(fitted, 0, flags | SourceFlag.NO_SERSIC_FIT)
    flags[floored] = SourceFlag.SIZE_FLOORED
    return hlr_arcsec, flags.astype(np.int32)


def _from_moments(
    rows: Mapping[str, Floats], selection: SelectionConfig
) -> tuple[Floats, NDArray[np.int32]]:
    """Half-light radius of the exponential disc with the catalogue's second moments.

    Its rms axes a and b = a (1 - ELLIPTICITY) are PSF-convolved; the PSF's variance is taken out of
    each, and sqrt of their product circularises.
    """
    semimajor = rows["SEMIMAJOR_AXIS"]
    unknown = ~(np.isfinite(semimajor) & (semimajor > 0.0))
    semimajor = np.where(unknown, 0.0, semimajor)
    axis_ratio = 1.0 - np.clip(np.nan_to_num(rows["ELLIPTICITY"], nan=0.0), 0.0, 1.0)
    hlr_per_px = HLR_PER_RMS * selection.mer_pixel_arcsec
    smallest_variance = (selection.min_hlr_arcsec / hlr_per_px) ** 2
    variances = [
        np.maximum(axis**2 - selection.psf_rms_px**2, smallest_variance)
        for axis in (semimajor, semimajor * axis_ratio)
    ]
    floored = ~unknown & (variances[0] == smallest_variance)
    hlr_arcsec = hlr_per_px * (variances[0] * variances[1]) ** 0.25
    hlr_arcsec = np.where(unknown, selection.fallback_hlr_arcsec, hlr_arcsec)
    flags = unknown * np.int32(SourceFlag.SIZE_UNKNOWN)
    flags |= floored * np.int32(SourceFlag.SIZE_FLOORED)
    return hlr_arcsec, flags
