"""What the headers of one exposure's files tell of its quadrants: rows of the quadrant index."""

from __future__ import annotations

import functools
import hashlib
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
from astropy.io import fits

from constellation.survey_files import ExposureFiles, File
from shine.errors import InputError, explain
from shine.euclid import fits_files
from shine.storage import Version, is_remote

Header = TypeVar("Header", fits.Header, str)
Texts = dict[str, str]  # header by name of the extension

LAYERS = ("SCI", "RMS", "FLG")
CORNERS = pa.list_(pa.float64(), 4)
ROW_SCHEMA = pa.schema(
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
        pa.field(
            "WEIGHT",
            pa.string(),
            metadata={"comment": "URI, or path relative to the index; null: none"},
        ),
        pa.field("NX", pa.int32(), metadata={"unit": "px"}),
        pa.field("NY", pa.int32(), metadata={"unit": "px"}),
        pa.field("EXPTIME", pa.float64(), metadata={"unit": "s"}),
        pa.field("MAGZEROP", pa.float64(), metadata={"unit": "mag"}),
        pa.field("MJD", pa.float64(), metadata={"unit": "d"}),
        pa.field("RA_CORNERS", CORNERS, metadata={"unit": "deg", "comment": "full WCS"}),
        pa.field("DEC_CORNERS", CORNERS, metadata={"unit": "deg", "comment": "full WCS"}),
        pa.field("DATASUM", pa.string(), metadata={"comment": "of the science image"}),
        pa.field("STAMP", pa.string(), metadata={"comment": "of all its headers"}),
    ]
)
PSFS_KEPT = 4  # at a time: exposures that are read together may have PSFs of several versions


class ExposureReader:
    """Reads the headers of exposures, for an index in `folder`; several threads may use it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self._psf: Callable[[_Version], _Once] = functools.lru_cache(PSFS_KEPT)(_Once)

    def read(self, files: ExposureFiles) -> pa.Table:
        """Return the rows of an exposure's quadrants, sorted by quadrant: ROW_SCHEMA.

        Relative paths are re-based to the index's folder. Raises `InputError` naming the file and
        HDU of what is missing or damaged.
        """
        frame = fits_files.read_headers(str(files.frame))
        names = sorted(name[: -len(".SCI")] for name in frame if name.endswith(".SCI"))
        if not names:
            action = fits_files.FETCH_AGAIN
            raise InputError(explain(files.frame, "no extension r-c.Q.SCI", "at least one", action))
        companions = [(_read_texts(files.background), files.background)]
        companions.append((self._psf_texts(files.psf), files.psf))
        if files.weight is not None:
            companions.append((_read_texts(files.weight), files.weight))
        paths = {
            "OBS_ID": files.exposure.obs_id,
            "DITHER": files.exposure.dither,
            "KIND": files.exposure.kind,
            "FRAME": rebased(files.frame, self.folder),
            "BACKGROUND": rebased(files.background, self.folder),
            "PSF": rebased(files.psf, self.folder),
            "WEIGHT": None if files.weight is None else rebased(files.weight, self.folder),
        }
        rows = []
        for name in names:
            layers = [_pick(frame, f"{name}.{layer}", files.frame) for layer in LAYERS]
            texts = [_text(header) for header in layers]
            texts += [_pick(headers, name, path) for headers, path in companions]
            values = _header_values(layers[0], frame["PRIMARY"], f"{files.frame}[{name}.SCI]")
            named = {"QUADRANT": name, "DATASUM": _datasum(layers[0]), "STAMP": _stamp(texts)}
            rows.append(paths | named | values)
        return pa.Table.from_pylist(rows, schema=ROW_SCHEMA)

    def _psf_texts(self, path: File) -> Texts:
        """The headers of a PSF file, read once for all its copies.

        The public archive has one PSF for all exposures, in the folder of each observation; its
        quadrants are so small that it is read as a whole, 20 MB.
        """
        version = _Version(Path(str(path)).name, fits_files.version(str(path)), path)
        with self._lock:
            once = self._psf(version)
        return once.texts()


def rebased(path: File, folder: Path) -> str:
    """Return a path as seen from `folder`, so that a moved project works.

    Absolute paths and URIs stay.
    """
    if is_remote(path) or Path(path).is_absolute():
        return str(path)
    return Path(os.path.relpath(path, folder)).as_posix()


def _header_values(header: fits.Header, primary: fits.Header, where: str) -> dict[str, object]:
    # astropy's coordinates come with it; who reads an index needs neither
    from shine.euclid.wcs import QuadrantWCS

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


def _pick(headers: Mapping[str, Header], name: str, path: File) -> Header:
    if name not in headers:
        raise InputError(
            explain(path, f"no extension {name}", f"extension {name}", fits_files.FETCH_AGAIN)
        )
    return headers[name]


def _datasum(header: fits.Header) -> str | None:
    value = str(header.get("DATASUM", "")).strip()
    return value or None


def _text(header: fits.Header) -> str:
    return header.tostring(sep="\n", endcard=False, padding=False)


def _stamp(texts: list[str]) -> str:
    """A stamp that changes when a header does; DATASUM in it stands for the pixels."""
    return hashlib.sha256("".join(texts).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class _Version:
    """A version of a file, equal to its copies."""

    name: str
    version: Version
    path: File = field(compare=False)


class _Once:
    """Headers that are read by the first who asks, while the others wait."""

    def __init__(self, file: _Version) -> None:
        self._path = file.path
        self._lock = threading.Lock()
        self._texts: Texts | None = None

    def texts(self) -> Texts:
        with self._lock:
            if self._texts is None:
                self._texts = _read_texts(self._path)
            return self._texts


def _read_texts(path: File) -> Texts:
    return {name: _text(header) for name, header in fits_files.read_headers(str(path)).items()}
