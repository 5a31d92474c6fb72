"""HDUs of FITS files whose data come in parts, with their checksums.

FITS standard 4.0, section 4.4.2.7 and appendix J.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import BinaryIO

import numpy as np
from astropy.io import fits

BLOCK = 2880
_ALL_ONES = 0xFFFFFFFF


def write_hdu(stream: BinaryIO, header: fits.Header, content: Iterable[bytes]) -> None:
    """Write header and data, filled up to whole blocks, and then their sums."""
    header["DATASUM"] = ("0" * 10, "sum of the data")
    header["CHECKSUM"] = ("0" * 16, "makes the sum of the HDU zero")
    start = stream.tell()
    stream.write(header.tostring().encode("ascii"))
    total, size, rest = 0, 0, b""
    for part in content:
        stream.write(part)
        size += len(part)
        rest += part
        whole = len(rest) // 4 * 4
        total, rest = _sum(rest[:whole], total), rest[whole:]
    stream.write(bytes(-size % BLOCK))
    total = _sum(rest.ljust(-(-len(rest) // 4) * 4, b"\0"), total)
    header["DATASUM"] = str(total).zfill(10)
    header["CHECKSUM"] = _encoded(_ALL_ONES - _sum(header.tostring().encode("ascii"), total))
    end = stream.tell()
    stream.seek(start)
    stream.write(header.tostring().encode("ascii"))
    stream.seek(end)


def _sum(content: bytes, start: int) -> int:
    """The ones' complement sum of big-endian 32-bit words, added to `start`."""
    total = start + int(np.frombuffer(content, np.dtype(">u4")).sum(dtype=np.uint64))
    while total >> 32:
        total = (total & _ALL_ONES) + (total >> 32)
    return total


def _encoded(value: int) -> str:
    """A sum as 16 letters and digits, which add up to it and to what "0" adds (appendix J)."""
    columns = []
    for byte in value.to_bytes(4):
        quotient, remainder = divmod(byte, 4)
        four = [quotient + remainder, quotient, quotient, quotient]
        four = [ord("0") + part for part in four]
        # punctuation between digits and letters is avoided in pairs, which keeps the sum
        while any(_is_punctuation(part) for part in four):
            for i in (0, 2):
                if _is_punctuation(four[i]) or _is_punctuation(four[i + 1]):
                    four[i] += 1
                    four[i + 1] -= 1
        columns.append(four)
    text = "".join(chr(columns[byte][place]) for place in range(4) for byte in range(4))
    return text[-1] + text[:-1]  # a header's values begin at its twelfth byte


def _is_punctuation(code: int) -> bool:
    return ord("9") < code < ord("A") or ord("Z") < code < ord("a")
