"""Parquet tables: written atomically with the same bytes for the same rows, checked when read."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

from shine.atomic import write_atomically
from shine.errors import InputError, explain


def write_table(table: pa.Table, path: Path) -> None:
    """Write a table as zstd-compressed Parquet, atomically."""
    sink = pa.BufferOutputStream()
    parquet.write_table(table, sink, compression="zstd", write_statistics=True)
    write_atomically(path, sink.getvalue().to_pybytes())


def read_table(path: Path, schema: pa.Schema, action: str) -> pa.Table:
    """Read a Parquet table that has the schema's columns.

    Raises `InputError` naming file and column; `action` tells the user what to do about it.
    """
    try:
        table = parquet.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise unreadable(path, error, action) from error
    check_columns(table.schema, schema, path, action)
    return table


def unreadable(path: Path, error: Exception, action: str) -> InputError:
    """What to raise for a file that is missing or no Parquet."""
    problem = " ".join(str(error).split())
    return InputError(explain(path, f"no readable table ({problem})", "Parquet", action))


def check_columns(found: pa.Schema, expected: pa.Schema, path: Path, action: str) -> None:
    """Raise `InputError`, naming one, if columns are missing or of other types."""
    for field in expected:
        if field.name not in found.names:
            problem = "no such column"
        elif found.field(field.name).type != field.type:
            problem = str(found.field(field.name).type)
        else:
            continue
        raise InputError(explain(f"{path}, column {field.name}", problem, str(field.type), action))
