"""Reading chosen rows and columns of a MER catalogue, FITS or Parquet, in either letter case."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from astropy.io import fits
from astropy.utils.exceptions import AstropyWarning
from numpy.typing import NDArray

from shine.errors import InputError, explain
from shine.euclid import fits_files

OBJECT_ID = "OBJECT_ID"
_CHECK = "Check source_catalog in the manifest, or switch off the cut that needs the column."


def read_rows(
    path: str, columns: Sequence[str], wanted_ids: NDArray[np.int64]
) -> dict[str, NDArray]:
    """Read the rows of a catalogue whose OBJECT_ID is wanted, in file order.

    Returns OBJECT_ID as int64 and the other `columns` as float64 (n,), masked values as NaN.
    Raises InputError naming the file and the column if the file is missing, damaged, holds no
    table, or lacks a column.
    """
    with fits_files.open_binary(path) as stream:
        is_parquet = stream.read(4) == b"PAR1"
        stream.seek(0)
        read = _read_parquet if is_parquet else _read_fits
        return read(path, stream, columns, wanted_ids)


def _read_fits(
    path: str, stream: BinaryIO, columns: Sequence[str], wanted_ids: NDArray[np.int64]
) -> dict[str, NDArray]:
    where = f"{path}[1]"
    fits_files.require_sound_table(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AstropyWarning)
            # memory-mapped where it can be: of hundreds of columns a dozen are needed
            with fits.open(stream, memmap=True, lazy_load_hdus=True) as hdus:
                return _fits_rows(hdus[1], columns, wanted_ids, where)
    except fits_files.DAMAGE as error:
        found = f"a damaged table ({' '.join(str(error).split())})"
        action = fits_files.FETCH_AGAIN
        raise InputError(explain(where, found, "a readable one", action)) from error


def _fits_rows(
    table: fits.BinTableHDU, columns: Sequence[str], wanted_ids: NDArray[np.int64], where: str
) -> dict[str, NDArray]:
    if not isinstance(table, fits.BinTableHDU):
        raise InputError(explain(where, "no table", "a binary table", _CHECK))
    names = _match(table.columns.names, (OBJECT_ID, *columns), where)
    ids, known = _fits_ids(table, names[OBJECT_ID], where)
    rows = np.flatnonzero(known & np.isin(ids, wanted_ids))
    values = {key: _fits_floats(table, names[key], rows, where) for key in columns}
    return {OBJECT_ID: ids[rows], **values}


def _fits_ids(
    table: fits.BinTableHDU, name: str, where: str
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The identifiers, and which of them are not masked."""
    values = np.asarray(table.data[name])
    if values.dtype.kind not in "iu" or values.ndim != 1:
        raise _bad_column(where, name, f"type {values.dtype}", "one integer per row")
    known = np.ones(len(values), bool)
    if _null(table, name) is not None:
        known = values != _null(table, name)
    return values.astype(np.int64), known


def _fits_floats(
    table: fits.BinTableHDU, name: str, rows: NDArray[np.intp], where: str
) -> NDArray[np.float64]:
    values = np.asarray(table.data[name])
    if values.dtype.kind not in "biuf" or values.ndim != 1:
        raise _bad_column(where, name, f"type {values.dtype}", "one number per row")
    chosen = values[rows]
    floats = chosen.astype(np.float64)
    if _null(table, name) is not None and chosen.dtype.kind in "iu":
        floats[chosen == _null(table, name)] = np.nan
    return floats


def _null(table: fits.BinTableHDU, name: str) -> int | None:
    """The value that marks a masked integer (TNULL), as it comes out of `table.data`."""
    column = table.columns[name]
    if column.null in (None, ""):
        return None
    return int(column.null) + int(column.bzero or 0)


def _read_parquet(
    path: str, stream: BinaryIO, columns: Sequence[str], wanted_ids: NDArray[np.int64]
) -> dict[str, NDArray]:
    try:
        # pre-buffered: few large reads instead of one per column
        with pq.ParquetFile(stream, pre_buffer=True) as file:
            names = _match(file.schema_arrow.names, (OBJECT_ID, *columns), path)
            table = file.read(columns=list(names.values()))
    except (pa.ArrowException, OSError) as error:
        found = f"a damaged file ({' '.join(str(error).split())})"
        action = fits_files.FETCH_AGAIN
        raise InputError(explain(path, found, "a readable Parquet file", action)) from error
    ids = table[names[OBJECT_ID]]
    if not pa.types.is_integer(ids.type):
        raise _bad_column(path, names[OBJECT_ID], f"type {ids.type}", "integers")
    known = ids.is_valid().to_numpy()
    id_values = ids.fill_null(0).cast(pa.int64()).to_numpy()
    rows = np.flatnonzero(known & np.isin(id_values, wanted_ids))
    chosen = table.take(pa.array(rows))
    values = {key: _parquet_floats(chosen[names[key]], names[key], path) for key in columns}
    return {OBJECT_ID: id_values[rows], **values}


def _parquet_floats(column: pa.ChunkedArray, name: str, where: str) -> NDArray[np.float64]:
    kind = column.type
    if pa.types.is_boolean(kind):
        column = column.cast(pa.int8())
    elif not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_null(kind)):
        raise _bad_column(where, name, f"type {kind}", "one number per row")
    floats = column.cast(pa.float64(), safe=False)
    return floats.to_numpy().astype(np.float64)  # nulls become NaN


def _match(available: Sequence[str], wanted: Sequence[str], where: str) -> dict[str, str]:
    """Find each wanted column by its upper- or lower-case name."""
    by_upper = {name.upper(): name for name in available}
    missing = [name for name in wanted if name not in by_upper]
    if missing:
        found = f"no column {', '.join(missing)} among {fits_files.shorten(list(available))}"
        raise InputError(explain(where, found, "a MER catalogue", _CHECK))
    return {name: by_upper[name] for name in wanted}


def _bad_column(where: str, name: str, found: str, expected: str) -> InputError:
    return InputError(explain(f"{where} column {name}", found, expected, _CHECK))
