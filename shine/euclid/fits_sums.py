"""The checksums of FITS HDUs: what has them and differs from them is refused.

Files without the keys CHECKSUM and DATASUM are taken as they are. FITS standard 4.0, section
4.4.2.7 and appendix J.
"""

from __future__ import annotations

import io
from collections.abc import Iterable

import numpy as np
from astropy.io import fits

from shine.errors import InputError, explain

ALL_ONES = 0xFFFFFFFF
_ACTION = (
    "Fetch or copy the file again; if it was changed on purpose, renew its sums with astropy's "
    "`fitscheck --write`."
)


def require_sound_header(text: bytes, header: fits.Header, where: str) -> None:
    """Refuse a header that differs from its CHECKSUM, which is of header and data together.

    The data count as what DATASUM says of them. Raises `InputError`.
    """
    if "CHECKSUM" not in header or "DATASUM" not in header:
        return
    total = _folded(_sum(text) + _number(header["DATASUM"], where))
    if total != ALL_ONES:
        found = f"a header that differs from its CHECKSUM (by {ALL_ONES - total})"
        raise InputError(explain(where, found, "an intact one", _ACTION))


def require_sound_data(content: bytes, where: str) -> None:
    """Refuse an HDU, header and data, whose data differ from its DATASUM; raises `InputError`.

    The decoders of compressed tiles trust their input: damaged Rice tiles crash the process.
    """
    stream = io.BytesIO(content)
    header = fits.Header.fromfile(stream)
    require_sum(header, [memoryview(content)[stream.tell() :]], where)


def require_sum(header: fits.Header, parts: Iterable[bytes | memoryview], where: str) -> None:
    """Refuse data that differ from the header's DATASUM; raises `InputError`.

    The data come in parts, each but the last of a multiple of four bytes; they are not looked at
    if the header has no sum.
    """
    if "DATASUM" not in header:
        return
    total = _folded(sum(map(_sum, parts)))
    # two ways to write zero
    if (total or ALL_ONES) != (_number(header["DATASUM"], where) or ALL_ONES):
        found = f"damaged data (DATASUM {total})"
        raise InputError(explain(where, found, f"DATASUM {header['DATASUM']}", _ACTION))


def _number(value: object, where: str) -> int:
    text = str(value).strip()
    if not (text.isascii() and text.isdigit() and int(text) <= ALL_ONES):
        raise InputError(explain(f"{where} DATASUM", repr(value), "a 32-bit number", _ACTION))
    return int(text)


def _sum(content: bytes | memoryview) -> int:
    """The ones' complement sum of big-endian 32-bit words, the last one filled up with zeros."""
    whole = len(content) // 4 * 4
    total = int(np.frombuffer(content[:whole], np.dtype(">u4")).sum(dtype=np.uint64))
    return _folded(total + int.from_bytes(bytes(content[whole:]).ljust(4, b"\0")))


def _folded(total: int) -> int:
    while total >> 32:
        total = (total & ALL_ONES) + (total >> 32)
    return total
