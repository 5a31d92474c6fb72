"""Reading single HDUs of FITS files by name: no more bytes than needed, and no half files.

A VIS frame of the archive holds 432 images in 7 GB. Here the headers are walked once per file,
which gives each HDU's place in it and shows whether the file is complete; then just the bytes of
the wanted HDUs are read. Plain, gzipped and tile-compressed files are all accepted, on a local disk
or as `s3://bucket/key`.
"""

from __future__ import annotations

import functools
import io
import itertools
import math
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from astropy.io import fits
from astropy.utils.exceptions import AstropyWarning

from shine.errors import InputError, explain
from shine.euclid.fits_sums import require_sound_data, require_sound_header, require_sum
from shine.storage import CHUNK_BYTES, FETCH_AGAIN, StoredFile, Version, open_file, version

__all__ = [
    "DAMAGE",
    "FETCH_AGAIN",
    "Hdu",
    "hdu_names",
    "list_hdus",
    "open_binary",
    "read_header",
    "read_headers",
    "read_images",
    "require_sound_table",
    "shorten",
    "version",
]

BLOCK = 2880
HEADER_BYTES = 8 * BLOCK  # most headers are shorter
MOST_HEADER_BYTES = 4 << 20  # 50,000 cards: text without END must not be read to its end
PERIOD = 3  # SCI, RMS, FLG
MOST_AHEAD = 64  # HDUs whose places are guessed at a time
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
    AttributeError,
    AssertionError,
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
    """Open a file for libraries that read and seek, gunzipped if need be.

    Raises InputError for whatever the operating system or the object store refuses.
    """
    with open_file(path) as file:
        yield file.stream


def list_hdus(path: str) -> tuple[Hdu, ...]:
    """List the HDUs of a FITS file in file order; the list is kept until the file changes.

    Raises InputError if the file is missing, is no FITS file, or ends before its last HDU does.
    """
    with open_file(path) as file:
        return _list_hdus(path, file.version)


def read_header(path: str, name: str) -> fits.Header:
    """Read the header of the HDU called `name` (`PRIMARY`: the first) as it stands in the file."""
    with open_file(path) as file:
        return _header_at(file, _find(file, name).start)[0]


def read_headers(path: str) -> dict[str, fits.Header]:
    """Read the headers of the first HDU (`PRIMARY`) and of all that have a name, in one pass.

    Raises InputError as `list_hdus` does, and if two HDUs share a name.
    """
    headers: dict[str, fits.Header] = {}
    with open_file(path) as file:
        for hdu, header in _walk(file):
            name = hdu.name if headers else "PRIMARY"
            if name in headers:
                action = "Check that it is a product of the archive."
                raise InputError(explain(f"{path}[{name}]", "two of that name", "one", action))
            if name:
                headers[name] = header
    return headers


def read_images(path: str, names: Sequence[str]) -> list[np.ndarray]:
    """Read two-dimensional images by HDU name, each an array (ny, nx) as astropy scales it.

    Raises InputError naming the file and HDU if one is missing, ambiguous, damaged or no image.
    """
    with open_file(path) as file:
        hdus = [_find(file, name) for name in names]
        contents = file.read([(hdu.start, hdu.length) for hdu in hdus])
    return [
        _decode(content, is_first=hdu.start == 0, where=f"{path}[{name}]")
        for content, hdu, name in zip(contents, hdus, names, strict=True)
    ]


def require_sound_table(path: str) -> None:
    """Refuse a file without an extension, or whose first one's data differ from their DATASUM.

    The data are read part by part. Raises InputError.
    """
    with open_file(path) as file:
        hdus = _list_hdus(file.path, file.version)
        if len(hdus) < 2:
            raise InputError(explain(path, "no extension", "a table in HDU 1", FETCH_AGAIN))
        header, start = _header_at(file, hdus[1].start)
        end = hdus[1].start + hdus[1].length
        parts = (
            file.read([(place, min(CHUNK_BYTES, end - place))])[0]
            for place in range(start, end, CHUNK_BYTES)
        )
        require_sum(header, parts, f"{path}[1]")


def hdu_names(path: str) -> list[str]:
    """Names of the HDUs of a FITS file, in file order, unnamed ones left out."""
    return [hdu.name for hdu in list_hdus(path) if hdu.name]


def _find(file: StoredFile, name: str) -> Hdu:
    hdus = _list_hdus(file.path, file.version)
    if name.upper() == "PRIMARY":
        return hdus[0]
    matches = [hdu for hdu in hdus if hdu.name == name.upper()]
    if len(matches) == 1:
        return matches[0]
    found = f"{len(matches)} extensions of that name"
    if not matches:
        found = f"no such extension among {shorten([hdu.name for hdu in hdus if hdu.name])}"
    action = "Check the path and the quadrant in the manifest."
    raise InputError(explain(f"{file.path}[{name}]", found, "exactly one", action))


def shorten(names: Sequence[str]) -> str:
    """A list of names for an error message, cut after a dozen."""
    shown = ", ".join(names[:12]) or "none"
    return shown if len(names) <= 12 else f"{shown} and {len(names) - 12} more"


@functools.lru_cache(maxsize=256)
def _list_hdus(path: str, version: Version) -> tuple[Hdu, ...]:
    with open_file(path) as file:
        return tuple(hdu for hdu, _ in _walk(file))


def _walk(file: StoredFile) -> Iterator[tuple[Hdu, fits.Header]]:
    """All HDUs in file order with their headers; see `list_hdus` for what it refuses."""
    lengths: list[int] = []  # of the HDUs so far, with the padding after the data
    ahead: dict[int, bytes] = {}
    start = 0
    while start < file.size:
        if start not in ahead:
            starts = [start, *_guess(start, lengths, file.size)]
            ahead = dict(zip(starts, file.read([(s, HEADER_BYTES) for s in starts]), strict=True))
        opening = ahead[start][:8]
        if opening.rstrip() not in (b"SIMPLE", b"XTENSION"):
            if start == 0:
                found = f"{opening!r} at its start"
                raise InputError(explain(file.path, found, "a FITS file", FETCH_AGAIN))
            break  # the standard allows anything after the last HDU
        header, data_start = _header_at(file, start, ahead[start])
        name, n_bytes = str(header.get("EXTNAME", "")).strip().upper(), _data_bytes(header)
        if data_start + n_bytes > file.size:
            found = f"a truncated file, {file.size} bytes"
            expected = f"at least {data_start + n_bytes} for HDU {len(lengths)} ({name})"
            raise InputError(explain(file.path, found, expected, FETCH_AGAIN))
        yield Hdu(name, start, data_start + n_bytes - start), header
        lengths.append(data_start - start + -(-n_bytes // BLOCK) * BLOCK)
        start += lengths[-1]
    if not lengths:
        raise InputError(explain(file.path, "an empty file", "a FITS file", FETCH_AGAIN))


def _guess(start: int, lengths: Sequence[int], size: int) -> list[int]:
    """Where the HDUs after the one at `start` may lie, so that none need wait for the one before.

    Each quadrant adds three HDUs to a file, or one: their lengths repeat. A wrong guess is unused.
    """
    if len(lengths) < 2 * PERIOD or lengths[-PERIOD:] != lengths[-2 * PERIOD : -PERIOD]:
        return []
    repeated = itertools.islice(itertools.cycle(lengths[-PERIOD:]), MOST_AHEAD)
    places = itertools.accumulate(repeated, initial=start)
    return [place for place in itertools.islice(places, 1, None) if place < size]


def _header_at(file: StoredFile, start: int, text: bytes = b"") -> tuple[fits.Header, int]:
    """Read the header at `start`, whose first bytes may be known; returns where its data start."""
    n_blocks = 0
    while (end := _end_card(text, n_blocks)) is None:
        n_blocks = len(text) // BLOCK
        if len(text) > MOST_HEADER_BYTES:
            found = f"a header of more than {len(text)} bytes that starts at byte {start}"
            raise InputError(explain(file.path, found, "a FITS header", FETCH_AGAIN))
        [more] = file.read([(start + len(text), max(len(text), HEADER_BYTES))])
        if len(text + more) // BLOCK == n_blocks:
            found = f"a truncated file: it ends in the header that starts at byte {start}"
            raise InputError(explain(file.path, found, "a complete FITS file", FETCH_AGAIN))
        text += more
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AstropyWarning)  # harmless oddities of cards
            header = fits.Header.fromstring(text[:end])
            _data_bytes(header)  # the keys that say how long the HDU is must make sense
    except DAMAGE as error:
        found = f"an unreadable header at byte {start} ({error})"
        raise InputError(explain(file.path, found, "a FITS header", FETCH_AGAIN)) from error
    require_sound_header(text[:end], header, f"{file.path} at byte {start}")
    return header, start + end


def _end_card(text: bytes, n_seen: int) -> int | None:
    """Where the block with the END card ends, in bytes; the first `n_seen` blocks lack it."""
    for block in range(n_seen * BLOCK, len(text) - BLOCK + 1, BLOCK):
        if any(text[i : i + 8] == b"END     " for i in range(block, block + BLOCK, 80)):
            return block + BLOCK
    return None


def _data_bytes(header: fits.Header) -> int:
    n_axes = int(header["NAXIS"])
    if n_axes == 0:
        return 0
    sides = [int(header[f"NAXIS{axis}"]) for axis in range(1, n_axes + 1)]
    n_groups, n_parameters = int(header.get("GCOUNT", 1)), int(header.get("PCOUNT", 0))
    if min(*sides, n_groups, n_parameters, n_axes) < 0:
        raise ValueError("a negative NAXISn, GCOUNT or PCOUNT")
    return abs(int(header["BITPIX"])) // 8 * n_groups * (n_parameters + math.prod(sides))


def _decode(content: bytes, is_first: bool, where: str) -> np.ndarray:
    """Let astropy decode one HDU; what is no plain image as a file, behind an empty primary HDU."""
    require_sound_data(content, where)
    try:
        with warnings.catch_warnings():
            # harmless oddities of headers; that the bytes are all there has been checked
            warnings.simplefilter("ignore", AstropyWarning)
            if content.startswith(b"XTENSION= 'IMAGE   '"):
                image = fits.ImageHDU.fromstring(content).data  # without a copy
            else:
                opening = b"" if is_first else _EMPTY_PRIMARY
                padding = b"\0" * (-len(content) % BLOCK)
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
