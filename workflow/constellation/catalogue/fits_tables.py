"""Arrow tables as FITS binary tables, written piece by piece.

FITS standard 4.0, section 7.3 (binary tables; 7.3.5: lists of any length, in the heap that follows
the rows). Rows are counted and lists measured before anything is
written, so that the header stands first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from astropy import units
from astropy.io import fits
from numpy.typing import NDArray

from constellation.catalogue.fits_hdus import write_hdu
from constellation.catalogue.rows import Rows
from shine.atomic import open_atomically
from shine.errors import InputError, explain

LARGEST_OFFSET = 2**31 - 1  # of descriptors P; beyond, they are Q
# what FITS lacks is widened: signed bytes and unsigned numbers
_CODES = {
    pa.int8(): "I",
    pa.uint8(): "I",
    pa.int16(): "I",
    pa.uint16(): "J",
    pa.int32(): "J",
    pa.uint32(): "K",
    pa.int64(): "K",
    pa.float32(): "E",
    pa.float64(): "D",
    pa.bool_(): "L",
    pa.string(): "A",
    pa.large_string(): "A",
}
_NUMBERS = {"I": ">i2", "J": ">i4", "K": ">i8", "E": ">f4", "D": ">f8", "L": "S1"}


@dataclass(frozen=True)
class _Column:
    """One column: its code, how many values or characters a row has, and what is null."""

    field: pa.Field
    code: str
    n: int  # of lists of any length: of the longest
    any_length: bool = False
    wide: bool = False  # whether the heap needs 64-bit offsets

    @property
    def form(self) -> str:
        """TFORM."""
        if self.any_length:
            return f"{'Q' if self.wide else 'P'}{self.code}({self.n})"
        return f"{self.n}{self.code}" if self.code == "A" or self.n > 1 else self.code

    @property
    def null(self) -> int | None:
        """TNULL: the least number of the type, where numbers may be missing."""
        if self.any_length or self.code not in "IJK" or not self.field.nullable:
            return None
        return int(np.iinfo(_NUMBERS[self.code]).min)

    @property
    def dtype(self) -> np.dtype:
        """Of a row."""
        if self.any_length:
            return np.dtype((">i8" if self.wide else ">i4", (2,)))
        if self.code == "A":
            return np.dtype(f"S{self.n}")
        return np.dtype((_NUMBERS[self.code], (self.n,) if self.n > 1 else ()))

    def describe(self) -> tuple[str | None, str]:
        """TUNIT, if FITS knows the unit, and TCOMM."""
        metadata = self.field.metadata or {}
        unit = metadata.get(b"unit", b"").decode()
        text = metadata.get(b"description", b"").decode()
        if not unit:
            return None, text
        try:
            units.Unit(unit, format="fits")
        except ValueError:
            return None, f"{text} (unit: {unit})"
        return unit, text


def write_fits(
    path: Path, tables: Sequence[Rows], cards: Sequence[fits.Card] = (), comment: str = ""
) -> list[int]:
    """Write a FITS file with one binary table for each of `tables`; returns their numbers of rows.

    `cards` and `comment` go into the primary header. A missing value is NaN, TNULL, an empty text
    or, of a list, no element. Every HDU has a checksum; nothing in the file depends on the time.
    Raises `InputError` for a column that FITS cannot hold.
    """
    with open_atomically(path) as stream:
        primary = fits.Header([("SIMPLE", True), ("BITPIX", 8), ("NAXIS", 0), ("EXTEND", True)])
        primary.extend(cards)
        if comment:
            primary.add_comment(comment)
        write_hdu(stream, primary, ())
        return [_write_table(stream, rows) for rows in tables]


def _write_table(stream: BinaryIO, rows: Rows) -> int:
    columns, n_rows, heap_bytes = _measure(rows)
    header = _header(rows.name, columns, n_rows, heap_bytes)
    row_type = np.dtype([(str(i), column.dtype) for i, column in enumerate(columns)])
    write_hdu(stream, header, _content(rows, columns, row_type))
    return n_rows


def _measure(rows: Rows) -> tuple[list[_Column], int, int]:
    """The columns, the number of rows, and the bytes of the heap."""
    measured = [f.name for f in rows.schema if _is_text(f.type) or _is_list(f.type)]
    n_rows, heap_bytes, widths = 0, 0, dict.fromkeys(measured, 0)
    for table in rows.tables(measured or rows.schema.names[:1]):
        n_rows += table.num_rows
        for name in measured:
            array = table[name]
            lengths = (
                pc.binary_length(array) if _is_text(array.type) else pc.list_value_length(array)
            )
            widths[name] = max(widths[name], pc.max(lengths).as_py() or 0)
            if _is_list(array.type):
                code = _code(rows, rows.schema.field(name), array.type.value_type)
                heap_bytes += (pc.sum(lengths).as_py() or 0) * np.dtype(_NUMBERS[code]).itemsize
    wide = heap_bytes > LARGEST_OFFSET
    columns = []
    for field in rows.schema:
        if _is_list(field.type):
            code = _code(rows, field, field.type.value_type)
            columns.append(_Column(field, code, widths[field.name], True, wide))
        elif pa.types.is_fixed_size_list(field.type):
            code = _code(rows, field, field.type.value_type)
            columns.append(_Column(field, code, field.type.list_size))
        else:
            n = max(1, widths.get(field.name, 1))
            columns.append(_Column(field, _code(rows, field, field.type), n))
    return columns, n_rows, heap_bytes


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind)


def _code(rows: Rows, field: pa.Field, kind: pa.DataType) -> str:
    code = _CODES.get(kind)
    if code is None or (code in "AL" and kind != field.type):
        action = "Leave the column out, or write Parquet."
        expected = "numbers, lists of numbers, or text"
        raise InputError(
            explain(f"{rows.name}, column {field.name}", f"{field.type} for FITS", expected, action)
        )
    return code


def _header(name: str, columns: Sequence[_Column], n_rows: int, heap_bytes: int) -> fits.Header:
    width = sum(column.dtype.itemsize for column in columns)
    header = fits.Header(
        [
            ("XTENSION", "BINTABLE"),
            ("BITPIX", 8),
            ("NAXIS", 2),
            ("NAXIS1", width, "bytes of a row"),
            ("NAXIS2", n_rows, "rows"),
            ("PCOUNT", heap_bytes, "bytes of the lists"),
            ("GCOUNT", 1),
            ("TFIELDS", len(columns)),
            ("EXTNAME", name),
        ]
    )
    for number, column in enumerate(columns, start=1):
        unit, description = column.describe()
        keys = {
            "TTYPE": column.field.name,
            "TFORM": column.form,
            "TUNIT": unit,
            "TNULL": column.null,
            "TCOMM": description or None,
        }
        for key, value in keys.items():
            if value is not None:
                header[f"{key}{number}"] = value
    return header


def _content(rows: Rows, columns: Sequence[_Column], row_type: np.dtype) -> Iterator[bytes]:
    """All rows, and then all lists in the order of the pieces and of the columns in them."""
    lists = [column for column in columns if column.any_length]
    heap_bytes = 0
    for table in rows.tables():
        block = np.empty(table.num_rows, row_type)
        for i, column in enumerate(columns):
            array = table[column.field.name]
            if column.any_length:
                block[str(i)], heap_bytes = _descriptors(array, column, heap_bytes)
            else:
                block[str(i)] = _values(rows, column, array)
        yield block.tobytes()
    if lists:
        for table in rows.tables([column.field.name for column in lists]):
            for column in lists:
                yield _flat(rows, column, table[column.field.name]).tobytes()


def _descriptors(array: pa.ChunkedArray, column: _Column, start: int) -> tuple[NDArray, int]:
    """(n, 2) numbers of elements and places in the heap; and where the next list begins."""
    lengths = np.asarray(pc.fill_null(pc.list_value_length(array), 0), np.int64)
    size = np.dtype(_NUMBERS[column.code]).itemsize
    ends = start + np.cumsum(lengths) * size
    pairs = np.stack([lengths, ends - lengths * size], axis=-1)
    return pairs, int(ends[-1]) if len(ends) else start


def _flat(rows: Rows, column: _Column, array: pa.ChunkedArray) -> NDArray:
    values = pc.list_flatten(array)
    if values.null_count and column.code in "IJK":
        raise _missing(rows, column, "a missing value within a list")
    return np.asarray(pc.fill_null(values, np.nan) if values.null_count else values).astype(
        _NUMBERS[column.code]
    )


def _values(rows: Rows, column: _Column, array: pa.ChunkedArray) -> NDArray:
    """The values (n,) or (n, m) of a column, missing ones replaced."""
    if column.code == "A":
        text = pc.fill_null(array, "").to_pylist()
        return np.array([value.encode("utf-8") for value in text], column.dtype)
    if column.code == "L":
        words = pc.fill_null(pc.if_else(array, "T", "F"), "\0")
        return np.array(words.to_pylist(), "S1")
    if column.n > 1 or pa.types.is_fixed_size_list(array.type):
        return _matrix(rows, column, array)
    return _numbers(rows, column, array)


def _numbers(rows: Rows, column: _Column, array: pa.ChunkedArray) -> NDArray:
    kind = _NUMBERS[column.code]
    if column.code in "ED":
        return np.asarray(array.to_numpy()).astype(kind)  # null becomes NaN
    if array.null_count and column.null is None:
        raise _missing(rows, column, "a missing value in a column that may have none")
    if column.null is not None and pc.any(pc.equal(array, column.null)).as_py():
        raise _missing(rows, column, f"{column.null}, which stands for a missing value")
    wide = array.cast(pa.int64())
    filled = pc.fill_null(wide, column.null) if array.null_count else wide
    return filled.to_numpy().astype(kind)


def _matrix(rows: Rows, column: _Column, array: pa.ChunkedArray) -> NDArray:
    """Lists of one length; a list that is missing is all NaN, or all TNULL."""
    whole = array.combine_chunks()
    chunks = whole.chunks if isinstance(whole, pa.ChunkedArray) else [whole]
    parts = [np.zeros((0, column.n), _NUMBERS[column.code])]
    for chunk in chunks:
        valid = np.asarray(chunk.is_valid())
        values = pa.chunked_array([chunk.flatten()])  # of the lists that are there
        real = _numbers(rows, column, values).reshape(-1, column.n)
        block = np.empty((len(chunk), column.n), _NUMBERS[column.code])
        block[...] = np.nan if column.code in "ED" else (column.null or 0)
        block[valid] = real
        parts.append(block)
    return np.concatenate(parts).reshape(-1, *column.dtype.shape)


def _missing(rows: Rows, column: _Column, found: str) -> InputError:
    where = f"{rows.name}, column {column.field.name}"
    return InputError(explain(where, found, "numbers that FITS can tell apart", "Write Parquet."))
