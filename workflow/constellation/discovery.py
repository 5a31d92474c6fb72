"""The quadrant index: where on the sky each detector quadrant lies, read from headers alone."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
from astropy.io import fits
from lsst import sphgeom

from constellation.survey_files import ExposureFiles, File
from constellation.tables import read_table, write_table
from constellation.tiling import Floats, Integers, unit_vectors
from shine.errors import InputError, explain
from shine.euclid import fits_files
from shine.euclid.wcs import QuadrantWCS
from shine.storage import is_remote

LAYERS = ("SCI", "RMS", "FLG")
CORNERS = pa.list_(pa.float64(), 4)
INDEX_SCHEMA = pa.schema(
    [
        pa.field("OBS_ID", pa.int64()),
        pa.field("DITHER", pa.int16()),
        pa.field("KIND", pa.int8()),
        pa.field("QUADRANT", pa.string()),
        pa.field("FRAME", pa.string(), metadata={"comment": "URI, or path relative to the index"}),
        pa.field(
            "BACKGROUND", pa.string(), metadata={"comment": "URI, or path relative to the index"}
        ),
        pa.field("PSF", pa.string(), metadata={"comment": "URI, or path relative to the index"}),
        pa.field("NX", pa.int32(), metadata={"unit": "px"}),
        pa.field("NY", pa.int32(), metadata={"unit": "px"}),
        pa.field("EXPTIME", pa.float64(), metadata={"unit": "s"}),
        pa.field("MAGZEROP", pa.float64(), metadata={"unit": "mag"}),
        pa.field("MJD", pa.float64(), metadata={"unit": "d"}),
        pa.field("RA_CORNERS", CORNERS, metadata={"unit": "deg", "comment": "full WCS"}),
        pa.field("DEC_CORNERS", CORNERS, metadata={"unit": "deg", "comment": "full WCS"}),
        pa.field("DATASUM", pa.string(), metadata={"comment": "of the science image"}),
        pa.field("STAMP", pa.string(), metadata={"comment": "of all five headers"}),
    ]
)


@dataclass(frozen=True)
class QuadrantIndex:
    """All quadrants of a survey; `table` has INDEX_SCHEMA, `folder` is where paths start."""

    table: pa.Table
    folder: Path

    def locate(self, path: str) -> File:
        """A file that the index names, as seen from here."""
        return path if is_remote(path) else self.folder / path

    @cached_property
    def _corners(self) -> Floats:
        ra, dec = (
            np.array(self.table[name].to_pylist(), dtype=np.float64).reshape(-1, 4)
            for name in ("RA_CORNERS", "DEC_CORNERS")
        )
        return unit_vectors(ra, dec)

    @cached_property
    def _circles(self) -> tuple[Floats, Floats]:
        return _bounding_circles(self._corners)

    def overlapping(self, polygon: Floats) -> Integers:
        """Row numbers, ascending, of the quadrants that overlap a convex spherical polygon.

        `polygon` holds unit vectors (n, 3) of its corners; sides are great circles.
        """
        centre, radius = _bounding_circles(polygon[None])
        centres, radii = self._circles
        distance = 2.0 * np.arcsin(
            np.clip(np.linalg.norm(centres - centre, axis=-1) / 2.0, 0.0, 1.0)
        )
        area = convex_polygon(polygon)
        return np.array(
            [
                row
                for row in np.flatnonzero(distance <= radii + radius)
                if not convex_polygon(self._corners[row]).isDisjointFrom(area)
            ],
            dtype=np.int64,
        )


def convex_polygon(corners: Floats) -> sphgeom.ConvexPolygon:
    """The convex spherical polygon around unit vectors (n, 3)."""
    return sphgeom.ConvexPolygon.convexHull([sphgeom.UnitVector3d(*corner) for corner in corners])


def build_index(exposures: Iterable[ExposureFiles], folder: Path) -> pa.Table:
    """Read the headers of all exposures; relative paths are re-based to `folder`.

    Raises `InputError` naming the file and HDU of what is missing or damaged.
    """
    rows = [row for files in exposures for row in _exposure_rows(files, folder)]
    rows.sort(key=lambda row: (row["OBS_ID"], row["DITHER"], row["KIND"], row["QUADRANT"]))
    return pa.Table.from_pylist(rows, schema=INDEX_SCHEMA)


def write_index(table: pa.Table, path: Path) -> None:
    """Write an index atomically, as Parquet."""
    write_table(table, path)


def read_index(path: Path) -> QuadrantIndex:
    """Read an index; raises `InputError` if it is missing or has another schema."""
    return QuadrantIndex(read_table(path, INDEX_SCHEMA, "Build the index again."), path.parent)


def rebased(path: File, folder: Path) -> str:
    """Return a path as seen from `folder`, so that a moved project works.

    Absolute paths and URIs stay.
    """
    if is_remote(path) or Path(path).is_absolute():
        return str(path)
    return Path(os.path.relpath(path, folder)).as_posix()


def _exposure_rows(files: ExposureFiles, folder: Path) -> list[dict[str, object]]:
    frame, background, psf = (
        fits_files.read_headers(str(path)) for path in (files.frame, files.background, files.psf)
    )
    names = sorted(name[: -len(".SCI")] for name in frame if name.endswith(".SCI"))
    if not names:
        raise InputError(
            explain(files.frame, "no extension r-c.Q.SCI", "at least one", fits_files.FETCH_AGAIN)
        )
    rows = []
    for name in names:
        layers = [_pick(frame, f"{name}.{layer}", files.frame) for layer in LAYERS]
        companions = [_pick(background, name, files.background), _pick(psf, name, files.psf)]
        rows.append(
            {
                "OBS_ID": files.exposure.obs_id,
                "DITHER": files.exposure.dither,
                "KIND": files.exposure.kind,
                "QUADRANT": name,
                "FRAME": rebased(files.frame, folder),
                "BACKGROUND": rebased(files.background, folder),
                "PSF": rebased(files.psf, folder),
                "DATASUM": _datasum(layers[0]),
                "STAMP": _stamp(layers + companions),
                **_header_values(layers[0], frame["PRIMARY"], f"{files.frame}[{name}.SCI]"),
            }
        )
    return rows


def _header_values(header: fits.Header, primary: fits.Header, where: str) -> dict[str, object]:
    # a tile-compressed image keeps its size in ZNAXISn
    nx, ny = (header.get(f"ZNAXIS{axis}", header.get(f"NAXIS{axis}")) for axis in (1, 2))
    if not (isinstance(nx, int) and isinstance(ny, int)):
        raise InputError(explain(where, "no image", "an image", fits_files.FETCH_AGAIN))
    ra, dec = QuadrantWCS.from_header(header, (ny, nx), where).footprint().T
    mjd = header.get("MJD-OBS", primary.get("MJD-OBS"))
    return {
        "NX": nx,
        "NY": ny,
        "EXPTIME": _number(header, "EXPTIME", where),
        "MAGZEROP": _number(header, "MAGZEROP", where),
        "MJD": None if mjd is None else float(mjd),
        "RA_CORNERS": ra.tolist(),
        "DEC_CORNERS": dec.tolist(),
    }


def _number(header: fits.Header, key: str, where: str) -> float:
    try:
        return float(header[key])  # real files hold MAGZEROP as a string
    except (KeyError, TypeError, ValueError) as error:
        found = repr(header[key]) if key in header else "no such key"
        raise InputError(
            explain(f"{where}, key {key}", found, "a number", fits_files.FETCH_AGAIN)
        ) from error


def _pick(headers: dict[str, fits.Header], name: str, path: File) -> fits.Header:
    if name not in headers:
        raise InputError(
            explain(path, f"no extension {name}", f"extension {name}", fits_files.FETCH_AGAIN)
        )
    return headers[name]


def _datasum(header: fits.Header) -> str | None:
    value = str(header.get("DATASUM", "")).strip()
    return value or None


def _stamp(headers: list[fits.Header]) -> str:
    """A stamp that changes when a header does; DATASUM in it stands for the pixels."""
    text = "".join(header.tostring(sep="\n", endcard=False, padding=False) for header in headers)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _bounding_circles(corners: Floats) -> tuple[Floats, Floats]:
    """Centres (n, 3) and radii (n,) in radian of circles around polygons (n, k, 3)."""
    centres = corners.sum(axis=1)
    centres /= np.linalg.norm(centres, axis=-1, keepdims=True)
    chords = np.linalg.norm(corners - centres[:, None], axis=-1).max(axis=1)
    return centres, 2.0 * np.arcsin(np.clip(chords / 2.0, 0.0, 1.0)) + 1e-12
