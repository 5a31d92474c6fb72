"""Ranges of the column HEALPIX that cover a cone: what lets a query engine skip files and rows."""

from __future__ import annotations

import numpy as np
from astropy import units
from astropy_healpix import HEALPix

from constellation.catalogue.schema import HEALPIX_ORDER

_PIXEL_DEG = 58.6  # side of the pixels of order 0


def healpix_ranges(ra_deg: float, dec_deg: float, radius_deg: float) -> list[tuple[int, int]]:
    """First and last HEALPIX of the few ranges that hold all positions within a radius.

    They are of whole pixels about as large as the radius, so a part of what they hold lies outside
    the cone: a query needs the distance as well. Nested pixels of one order are ranges of the next
    ones (Górski et al. 2005, section 5.3).
    """
    order = int(np.clip(np.ceil(np.log2(_PIXEL_DEG / radius_deg)), 0, HEALPIX_ORDER))
    sky = HEALPix(2**order, order="nested")
    place = units.Quantity([ra_deg, dec_deg, radius_deg], units.deg)
    pixels = np.sort(sky.cone_search_lonlat(*place).astype(np.int64))
    gaps = np.flatnonzero(np.diff(pixels) > 1)
    first, last = pixels[np.append(0, gaps + 1)], pixels[np.append(gaps, len(pixels) - 1)]
    shift = 2 * (HEALPIX_ORDER - order)
    return [
        (int(low) << shift, (int(high) + 1 << shift) - 1)
        for low, high in zip(first, last, strict=True)
    ]
