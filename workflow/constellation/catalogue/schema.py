"""The tables of the merged catalogue: shine's own columns, the place on the sky, and the origin."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from shine.result_schema import SHEAR_SCHEMA, SOURCE_SCHEMA

HEALPIX_ORDER = 29  # pixels of 0.4 mas: an index as exact as a position, as in HATS catalogues
EDITION = "edition"  # in the metadata of each table: a digest that tells catalogues apart
KEY = ("TILE_ID", "SUBTILE_ROW", "SUBTILE_COL")


def _field(name: str, kind: pa.DataType, description: str, nullable: bool = False) -> pa.Field:
    return pa.field(name, kind, nullable, {"unit": "", "description": description})


HEALPIX = _field(
    "HEALPIX",
    pa.int64(),
    f"nested HEALPix index of RA, DEC at order {HEALPIX_ORDER}; rows are sorted by it",
    nullable=True,  # as the positions of sources are
)
# what a row depends on; the file of the sub-tile names each input, package and version
ORIGIN = (
    _field("GIT_COMMIT", pa.string(), "commit that last changed shine"),
    _field("CODE_DIGEST", pa.string(), "SHA-256 of shine's code"),
    _field("CONFIG_HASH", pa.string(), "SHA-256 of the settings of the inference"),
    _field("PACKAGE_VERSIONS", pa.string(), "versions of the numerical packages, as JSON"),
    _field("INPUTS_DIGEST", pa.string(), "SHA-256 over the digests of all inputs"),
    _field("SEED", pa.int64(), "seed of all random numbers"),
)
SHEAR = pa.schema([*SHEAR_SCHEMA, HEALPIX, *ORIGIN])
SOURCES = pa.schema([*SOURCE_SCHEMA, HEALPIX])
FILES = pa.schema(
    [
        _field("PATH", pa.string(), "file of sources, from the folder of the catalogue"),
        _field("TILE_ID", pa.int64(), "the tile whose core sources it holds"),
        _field("N_ROWS", pa.int64(), "its rows"),
        _field("N_BYTES", pa.int64(), "its size, bytes"),
        _field("SHA256", pa.string(), "of its content; begins with the digest in its name"),
        _field("HEALPIX_MIN", pa.int64(), "least HEALPIX in it", nullable=True),
        _field("HEALPIX_MAX", pa.int64(), "greatest HEALPIX in it", nullable=True),
        pa.field("RA", pa.float64(), True, {"unit": "deg", "description": "middle of its sources"}),
        pa.field("DEC", pa.float64(), True, {"unit": "deg", "description": "their middle"}),
        pa.field(
            "RADIUS",
            pa.float64(),
            True,
            {"unit": "deg", "description": "of the circle around the middle that holds them all"},
        ),
    ]
)
FAILURES = pa.schema(
    [
        _field("TILE_ID", pa.int64(), "MER tile"),
        _field("SUBTILE_ROW", pa.int8(), "row of the sub-tile"),
        _field("SUBTILE_COL", pa.int8(), "its column"),
        _field("CLASS", pa.string(), "class of the error, such as `bad or missing input`"),
        _field("MESSAGE", pa.string(), "what the log says before it ends", nullable=True),
        _field("LOG", pa.string(), "the log"),
    ]
)


def healpix(ra_deg: ArrayLike, dec_deg: ArrayLike) -> NDArray[np.int64]:
    """The column HEALPIX of finite positions (n,) in degrees."""
    # astropy's coordinates take most of the time of importing this module, which few need them of
    from astropy import units
    from astropy_healpix import HEALPix

    sky = HEALPix(2**HEALPIX_ORDER, order="nested")
    ra, dec = units.Quantity(ra_deg, units.deg), units.Quantity(dec_deg, units.deg)
    return sky.lonlat_to_healpix(ra, dec).astype(np.int64)
