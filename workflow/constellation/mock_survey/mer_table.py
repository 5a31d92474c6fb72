"""MER catalogue files: which columns they hold, and the entries that each tile owns."""

from __future__ import annotations

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from .catalogue import NULL_LONG, NULL_SHORT, Columns
from .config import MockSurveyConfig
from .sky import owner_tile

_FLUXES = ("DETECTION_TOTAL", "SEGMENTATION", "VIS_PSF", "VIS_SERSIC")
_APERTURES = tuple(f"VIS_{number}FWHM_APER" for number in (1, 2, 3, 4))

# Name -> (FITS format, unit, value that stands for null).
LAYOUT: dict[str, tuple[str, str | None, int | None]] = {
    "OBJECT_ID": ("K", None, None),
    "RIGHT_ASCENSION": ("D", "deg", None),
    "DECLINATION": ("D", "deg", None),
    "SEGMENTATION_MAP_ID": ("K", None, None),
    "VIS_DET": ("I", None, None),
    **{
        f"{kind}_{name}": ("E", "uJy", None)
        for name in _FLUXES + _APERTURES
        for kind in ("FLUX", "FLUXERR")
    },
    "FLAG_VIS": ("I", None, None),
    "DEBLENDED_FLAG": ("I", None, None),
    "PARENT_ID": ("K", None, NULL_LONG),
    "BLENDED_PROB": ("E", None, None),
    "POINT_LIKE_FLAG": ("I", None, NULL_SHORT),
    "POINT_LIKE_PROB": ("E", None, None),
    "EXTENDED_FLAG": ("I", None, None),
    "EXTENDED_PROB": ("E", None, None),
    "SPURIOUS_FLAG": ("I", None, None),
    "SPURIOUS_PROB": ("E", None, None),
    "MUMAX_MINUS_MAG": ("E", "mag", None),
    "SEMIMAJOR_AXIS": ("E", "pix", None),
    "ELLIPTICITY": ("E", None, None),
    "POSITION_ANGLE": ("E", "deg", None),
    "KRON_RADIUS": ("E", "pix", None),
    "FWHM": ("E", "arcsec", None),
    "DET_QUALITY_FLAG": ("J", None, None),
}


def tile_tables(config: MockSurveyConfig, columns: Columns) -> dict[int, fits.BinTableHDU]:
    """One table per tile, by tile index, with the entries whose measured position it owns."""
    owner = owner_tile(columns["RIGHT_ASCENSION"], columns["DECLINATION"], config.tiles)
    return {
        tile.tile_index: _table(columns, np.flatnonzero(owner == place), tile.tile_index)
        for place, tile in enumerate(config.tiles)
    }


def _table(columns: Columns, chosen: NDArray[np.intp], tile_index: int) -> fits.BinTableHDU:
    values = {name: array[chosen] for name, array in columns.items()}
    number = np.arange(1, len(chosen) + 1, dtype=np.int64)
    values["SEGMENTATION_MAP_ID"] = tile_index * 1_000_000 + number
    table = fits.BinTableHDU.from_columns(
        [
            fits.Column(name=name, format=form, unit=unit, null=null, array=values[name])
            for name, (form, unit, null) in LAYOUT.items()
        ],
        name="MER_FINAL_CATALOG",
    )
    table.header["TILEIDX"] = (tile_index, "MER tile index")
    return table
