"""Ids and positions of MER catalogues: all that partitioning the sky needs of them."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import pyarrow as pa
from astropy.io import fits
from astropy.utils.exceptions import AstropyWarning
from numpy.typing import NDArray
from pyarrow import parquet

from constellation.survey_files import File
from constellation.tiling import Floats, Integers, unit_vectors
from shine.errors import InputError, explain
from shine.euclid import fits_files

COLUMNS = ("OBJECT_ID", "RIGHT_ASCENSION", "DECLINATION")


@dataclass(frozen=True)
class Sources:
    """Sources of several catalogues, each once, sorted by id.

    `object_id` int64 (n,), `vectors` unit vectors (n, 3), `catalogue` number of the catalogue (n,).
    """

    object_id: Integers
    vectors: Floats
    catalogue: Integers


def read_sources(catalogues: Iterable[File]) -> Sources:
    """Read ids and positions of catalogues (FITS or Parquet, column names in either letter case).

    A source in two catalogues counts for the first; sources without a finite position are left
    out. Raises `InputError` naming the file and the column.
    """
    tables = [_read_columns(path) for path in catalogues]
    numbers = np.concatenate([np.full(len(table[0]), n) for n, table in enumerate(tables)])
    object_id, ra, dec = (np.concatenate(column) for column in zip(*tables, strict=True))
    usable = np.isfinite(ra) & np.isfinite(dec)
    object_id, vectors = object_id[usable], unit_vectors(ra[usable], dec[usable])
    object_id, first = np.unique(object_id, return_index=True)
    return Sources(object_id, vectors[first], numbers[usable][first])


def _read_columns(path: File) -> list[NDArray]:
    """OBJECT_ID int64, right ascension and declination float64 deg, each (n,)."""
    with fits_files.open_binary(str(path)) as stream:
        is_parquet = stream.read(4) == b"PAR1"
        stream.seek(0)
        columns = _parquet_columns(path, stream) if is_parquet else _fits_columns(path, stream)
    if columns[0].dtype.kind not in "iu":
        raise InputError(
            explain(f"{path}, column {COLUMNS[0]}", str(columns[0].dtype), "integers", "Repair it.")
        )
    # a copy in native byte order, so that the file can be closed
    return [np.array(c, dtype=t) for c, t in zip(columns, ("i8", "f8", "f8"), strict=True)]


def _fits_columns(path: File, stream: BinaryIO) -> list[NDArray]:
    if len(fits_files.list_hdus(str(path))) < 2:  # also refuses a truncated file
        raise InputError(explain(path, "no extension", "a table in HDU 1", fits_files.FETCH_AGAIN))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AstropyWarning)
        # memory-mapped where it can be: of hundreds of columns three are needed
        with fits.open(stream, memmap=True) as hdus:
            table = hdus[1]
            if not isinstance(table, fits.BinTableHDU):
                raise InputError(
                    explain(f"{path}[1]", "no table", "a binary table", fits_files.FETCH_AGAIN)
                )
            names = _match(table.columns.names, f"{path}[1]")
            return [np.array(table.data[name]) for name in names]


def _parquet_columns(path: File, stream: BinaryIO) -> list[NDArray]:
    try:
        with parquet.ParquetFile(stream, pre_buffer=True) as file:
            names = _match(file.schema_arrow.names, str(path))
            table = file.read(columns=names)
    except (OSError, pa.ArrowInvalid) as error:
        problem = " ".join(str(error).split())
        raise InputError(
            explain(path, f"a damaged Parquet file ({problem})", "a table", fits_files.FETCH_AGAIN)
        ) from error
    return [table[name].to_numpy() for name in names]


def _match(available: Iterable[str], where: str) -> list[str]:
    by_upper = {name.upper(): name for name in available}
    missing = [name for name in COLUMNS if name not in by_upper]
    if missing:
        found = f"no column {', '.join(missing)} among {fits_files.shorten(sorted(by_upper))}"
        raise InputError(explain(where, found, "a MER catalogue", "Check the file."))
    return [by_upper[name] for name in COLUMNS]
