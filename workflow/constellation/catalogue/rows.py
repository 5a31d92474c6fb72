"""Tables that are read piece by piece, and files of them: Parquet, CSV or FITS, by their names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from pyarrow import csv, parquet

from shine.atomic import open_atomically
from shine.errors import ConfigurationError, explain

SUFFIXES = (".parquet", ".csv", ".fits")


@dataclass(frozen=True)
class Rows:
    """A table in pieces, so that no more than one of them need be in memory.

    `pieces` yields tables with the columns that it is given, and the same ones each time.
    """

    name: str
    schema: pa.Schema
    pieces: Callable[[Sequence[str]], Iterable[pa.Table]]

    @classmethod
    def of(cls, table: pa.Table, name: str) -> Rows:
        """A table that is in memory."""
        return cls(name, table.schema, lambda columns: [table.select(columns)])

    def select(self, columns: Sequence[str]) -> Rows:
        """Some of the columns."""
        return Rows(
            self.name, pa.schema([self.schema.field(name) for name in columns]), self.pieces
        )

    def tables(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """The pieces, with these columns or all of them."""
        yield from self.pieces(self.schema.names if columns is None else columns)


def check_suffix(path: Path) -> None:
    """Raise `ConfigurationError` for a file of no form that is known."""
    if path.suffix not in SUFFIXES:
        action = "Choose one of these by the name of the file."
        found = f"a file ending with {path.suffix!r}" if path.suffix else "a file without suffix"
        raise ConfigurationError(explain(path, found, " or ".join(SUFFIXES), action))


def list_columns(schema: pa.Schema) -> list[str]:
    """The columns whose values are lists, which no CSV can hold."""
    kinds = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return [field.name for field in schema if any(is_kind(field.type) for is_kind in kinds)]


def write_rows(rows: Rows, path: Path) -> int:
    """Write a table, atomically, in the form that the suffix names; returns the number of rows.

    Raises `ConfigurationError` for an unknown suffix and for lists in a CSV.
    """
    check_suffix(path)
    if path.suffix == ".fits":
        from constellation.catalogue.fits_tables import write_fits

        return write_fits(path, [rows])[0]
    if path.suffix == ".csv" and (lists := list_columns(rows.schema)):
        found = f"lists in {', '.join(lists)}"
        action = "Leave these columns out, or write Parquet or FITS."
        raise ConfigurationError(explain(path, found, "single values for CSV", action))
    n_rows = 0
    with open_atomically(path) as stream, _writer(stream, rows.schema, path.suffix) as writer:
        for table in rows.tables():
            writer.write_table(table.cast(rows.schema))
            n_rows += table.num_rows
    return n_rows


def _writer(stream, schema: pa.Schema, suffix: str) -> csv.CSVWriter | parquet.ParquetWriter:
    if suffix == ".csv":
        return csv.CSVWriter(stream, schema)
    return parquet.ParquetWriter(stream, schema, compression="zstd")
