"""Reading single HDUs of FITS files by name: no more bytes than needed, and no half files.

A VIS frame of the archive holds 432 images in 7 GB. Here the headers are walked once per file,
which gives each HDU's place in it and shows whether the file is complete; then just the bytes of
the wanted HDUs are read. Plain, gzipped and tile-compressed files are all accepted.
"""

from __future__ import annotations

import functools
import gzip
import io
import math
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from astropy.io import fits
from astropy.utils.exceptions import AstropyWarning

from shine.errors import InputError, explain

BLOCK = 2880
FETCH_AGAIN = "Fetch or copy the file again."
try:
    from astropy.io.fits.hdu.compressed._compression import CfitsioException
except ImportError:  # a private name; without it damaged tiles are still an error, if a bare one
    CfitsioException = OSError

# what astropy raises on a damaged HDU
DAMAGE = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    RuntimeError,
    zlib.error,
    fits.VerifyError,
    CfitsioException,
)


@dataclass(frozen=True)
class Hdu:
    """Place of one HDU in its file, in bytes."""

    name: str  # EXTNAME in upper case; empty if there is none
    start: int
    length: int  # header and data, without the padding after the data


@contextmanager
def open_binary(path: str) -> Iterator[BinaryIO]:
    """Open a file for reading and seeking, gunzipped if need be: the only place that opens files.

    Raises InputError for whatever the operating system refuses and for remote URIs.
    """
    stamp = _stamp(path)
    try:
        with Path(path).open("rb") as stream:
            gzipped = stream.read(2) == b"\x1f\x8b"
            stream.seek(0)
            yield io.BytesIO(_gunzip(path, stamp)) if gzipped else stream
    except OSError as error:
        raise _unreadable(path, error) from error


def list_hdus(path: str) -> tuple[Hdu, ...]:
    """List the HDUs of a FITS file in file order; the list is kept until the file changes.

    Raises InputError if the file is missing, is no FITS file, or ends before its last HDU does.
    """
    return _list_hdus(path, _stamp(path))


def read_header(path: str, name: str) -> fits.Header:
    """Read the header of the HDU called `name` (`PRIMARY`: the first) as it stands in the file."""
    with open_binary(path) as stream:
        return _header_at(stream, path, _find(path, name).start)


def read_images(path: str, names: Sequence[str]) -> list[np.ndarray]:
    """Read two-dimensional images by HDU name, each a new array (ny, nx) as astropy scales it.

    Raises InputError naming the file and HDU if one is missing, ambiguous, damaged or no image.
    """
    images = []
    hdus = [_find(path, name) for name in names]
    with open_binary(path) as stream:
        for hdu, name in zip(hdus, names, strict=True):
            stream.seek(hdu.start)
            content = stream.read(hdu.length)
            images.append(_decode(content, is_first=hdu.start == 0, where=f"{path}[{name}]"))
    return images


def hdu_names(path: str) -> list[str]:
    """Names of the HDUs of a FITS file, in file order, unnamed ones left out."""
    return [hdu.name for hdu in list_hdus(path) if hdu.name]


def _find(path: str, name: str) -> Hdu:
    hdus = list_hdus(path)
    if name.upper() == "PRIMARY":
        return hdus[0]
    matches = [hdu for hdu in hdus if hdu.name == name.upper()]
    if len(matches) == 1:
        return matches[0]
    found = f"{len(matches)} extensions of that name"
    if not matches:
        found = f"no such extension among {shorten(hdu_names(path))}"
    action = "Check the path and the quadrant in the manifest."
    raise InputError(explain(f"{path}[{name}]", found, "exactly one", action))


def shorten(names: Sequence[str]) -> str:
    """A list of names for an error message, cut after a dozen."""
    shown = ", ".join(names[:12]) or "none"
    return shown if len(names) <= 12 else f"{shown} and {len(names) - 12} more"


def _stamp(path: str) -> tuple[int, int, int]:
    """Changes when the file does."""
    if "://" in path:
        action = "Copy the file to a local disk first."
        raise InputError(explain(path, "a remote URI", "a local path", action))
    try:
        status = Path(path).stat()
    except OSError as error:
        raise _unreadable(path, error) from error
    return status.st_size, status.st_mtime_ns, status.st_ino


def _unreadable(path: str, error: OSError) -> InputError:
    action = "Fetch the file, or correct the path in the manifest."
    return InputError(explain(path, error.strerror or str(error), "a readable file", action))


@functools.lru_cache(maxsize=1)
def _gunzip(path: str, stamp: tuple[int, int, int]) -> bytes:
    """The content of a gzipped file (kept: its HDUs are read one after the other)."""
    try:
        return gzip.decompress(Path(path).read_bytes())
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        found = f"a damaged gzip file ({error})"
        raise InputError(explain(path, found, "a complete one", FETCH_AGAIN)) from error


@functools.lru_cache(maxsize=256)
def _list_hdus(path: str, stamp: tuple[int, int, int]) -> tuple[Hdu, ...]:
    hdus = []
    with open_binary(path) as stream:
        size = stream.seek(0, io.SEEK_END)
        start = 0
        while start < size:
            stream.seek(start)
            opening = stream.read(8)
            if opening.rstrip() not in (b"SIMPLE", b"XTENSION"):
                if start == 0:
                    found = f"{opening!r} at its start"
                    raise InputError(explain(path, found, "a FITS file", FETCH_AGAIN))
                break  # the standard allows anything after the last HDU
            header = _header_at(stream, path, start)
            name, n_bytes = str(header.get("EXTNAME", "")).strip().upper(), _data_bytes(header)
            data_start = stream.tell()
            if data_start + n_bytes > size:
                found = f"a truncated file, {size} bytes"
                expected = f"at least {data_start + n_bytes} for HDU {len(hdus)} ({name})"
                raise InputError(explain(path, found, expected, FETCH_AGAIN))
            hdus.append(Hdu(name, start, data_start + n_bytes - start))
            start = data_start + -(-n_bytes // BLOCK) * BLOCK
    if not hdus:
        raise InputError(explain(path, "an empty file", "a FITS file", FETCH_AGAIN))
    return tuple(hdus)


def _header_at(stream: BinaryIO, path: str, start: int) -> fits.Header:
    """Read the header at `start`; leaves the stream at the first byte after it."""
    stream.seek(start)
    text = b""
    while True:
        block = stream.read(BLOCK)
        if len(block) < BLOCK:
            found = f"a truncated file: it ends in the header that starts at byte {start}"
            raise InputError(explain(path, found, "a complete FITS file", FETCH_AGAIN))
        text += block
        if any(block[i : i + 8] == b"END     " for i in range(0, BLOCK, 80)):
            break
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AstropyWarning)  # harmless oddities of cards
            header = fits.Header.fromstring(text)
            _data_bytes(header)  # the keys that say how long the HDU is must make sense
    except DAMAGE as error:
        found = f"an unreadable header at byte {start} ({error})"
        raise InputError(explain(path, found, "a FITS header", FETCH_AGAIN)) from error
    return header


def _data_bytes(header: fits.Header) -> int:
    n_axes = int(header["NAXIS"])
    if n_axes == 0:
        return 0
    n_values = math.prod(int(header[f"NAXIS{axis}"]) for axis in range(1, n_axes + 1))
    groups = int(header.get("GCOUNT", 1)) * (int(header.get("PCOUNT", 0)) + n_values)
    return abs(int(header["BITPIX"])) // 8 * groups


def _decode(content: bytes, is_first: bool, where: str) -> np.ndarray:
    """Let astropy decode one HDU: as a file of its own, behind an empty primary HDU."""
    padding = b"\0" * (-len(content) % BLOCK)
    _check_compressed(content, where)
    opening = b"" if is_first else _EMPTY_PRIMARY
    try:
        with warnings.catch_warnings():
            # harmless oddities of headers; that the bytes are all there has been checked
            warnings.simplefilter("ignore", AstropyWarning)
            with fits.open(io.BytesIO(opening + content + padding), memmap=False) as hdus:
                image = hdus[0 if is_first else 1].data
    except DAMAGE as error:
        problem = " ".join(str(error).split())
        raise InputError(
            explain(where, f"damaged data ({problem})", "a readable image", FETCH_AGAIN)
        ) from error
    if not isinstance(image, np.ndarray) or image.ndim != 2 or image.dtype.kind not in "iuf":
        found = "no image" if image is None else f"data of shape {np.shape(image)}, {image.dtype}"
        action = "Check that the path names the right kind of product."
        raise InputError(explain(where, found, "a two-dimensional image", action))
    return image


def _check_compressed(content: bytes, where: str) -> None:
    """Refuse a tile-compressed HDU whose bytes differ from its DATASUM.

    The decoders trust their input: damaged Rice tiles crash the process.
    """
    stream = io.BytesIO(content)
    header = fits.Header.fromfile(stream)
    expected = header.get("DATASUM")
    if not header.get("ZIMAGE") or expected is None:
        return
    # ones' complement sum of big-endian 32-bit words (FITS standard 4.0, appendix J)
    data = content[stream.tell() :]
    words = np.frombuffer(data + b"\0" * (-len(data) % 4), ">u4")
    total = int(words.sum(dtype=np.uint64))
    while total >> 32:
        total = (total & 0xFFFFFFFF) + (total >> 32)
    if str(expected).strip() != str(total):
        found = f"damaged data (DATASUM {total})"
        raise InputError(explain(where, found, f"DATASUM {expected}", FETCH_AGAIN))


def _empty_primary() -> bytes:
    cards = (
        "SIMPLE  =                    T",
        "BITPIX  =                    8",
        "NAXIS   =                    0",
        "EXTEND  =                    T",
        "END",
    )
    return "".join(f"{card:80s}" for card in cards).ljust(BLOCK).encode("ascii")


_EMPTY_PRIMARY = _empty_primary()
