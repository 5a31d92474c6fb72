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
        problem = " ".join(str(error).split())
        raise InputError(
            explain(path, f"no readable table ({problem})", "Parquet", action)
        ) from error
    return _checked(table, schema, path, action)


def _checked(table: pa.Table, schema: pa.Schema, path: Path, action: str) -> pa.Table:
    """Return `table` if its columns and types are the schema's; else `InputError` naming one."""
    for field in schema:
        if field.name not in table.column_names:
            found, expected = "no such column", str(field.type)
        elif table.schema.field(field.name).type != field.type:
            found, expected = str(table.schema.field(field.name).type), str(field.type)
        else:
            continue
        raise InputError(explain(f"{path}, column {field.name}", found, expected, action))
    return table
