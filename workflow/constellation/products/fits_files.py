"""Maps as FITS: HEALPix cells as a table of explicit pixels, images with the sky's coordinates."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa
from astropy.io import fits
from astropy.wcs import WCS

from constellation.sphere import Floats
from shine.atomic import write_atomically

_FRAME = "u = west, v = north: g1 > 0 stretches east-west, g2 > 0 along u = v"


def write_healpix(table: pa.Table, path: Path) -> None:
    """Write a shear map of HEALPix cells, atomically; its metadata say the order."""
    names = [name for name in table.column_names if name != "HEALPIX"]
    columns = [fits.Column("PIXEL", "K", array=np.asarray(table["HEALPIX"]))]
    for name in names:
        values = table[name].to_numpy()
        kind = "J" if values.dtype.kind == "i" else "D"
        unit = table.schema.field(name).metadata[b"unit"].decode() or None
        columns.append(fits.Column(name, kind, unit=unit, array=values))
    hdu = fits.BinTableHDU.from_columns(columns, name="SHEAR")
    order = int(table.schema.metadata[b"order"])
    cards = {
        "PIXTYPE": ("HEALPIX", "HEALPix pixelisation"),
        "ORDERING": ("NESTED", "order of the pixel numbers"),
        "NSIDE": (2**order, "resolution"),
        "ORDER": (order, "log2 of NSIDE"),
        "INDXSCHM": ("EXPLICIT", "pixels are listed in the first column"),
        "OBJECT": ("PARTIAL", "pixels without galaxies are absent"),
        "COORDSYS": ("C", "equatorial"),
        "RADESYS": ("ICRS", "reference system"),
    }
    for key, card in cards.items():
        hdu.header[key] = card
    hdu.header["COMMENT"] = _FRAME
    _write([fits.PrimaryHDU(), hdu], path)


def write_images(images: dict[str, tuple[Floats, str]], wcs: WCS, path: Path) -> None:
    """Write images (rows, columns) with what they show, by their names, atomically.

    Missing pixels are NaN, as FITS has it for floating-point images.
    """
    hdus: list = [fits.PrimaryHDU()]
    for name, (image, meaning) in images.items():
        hdu = fits.ImageHDU(image, wcs.to_header(), name=name)
        hdu.header["COMMENT"] = meaning
        hdus.append(hdu)
    _write(hdus, path)


def _write(hdus: list, path: Path) -> None:
    stream = BytesIO()
    fits.HDUList(hdus).writeto(stream)
    write_atomically(path, stream.getvalue())
