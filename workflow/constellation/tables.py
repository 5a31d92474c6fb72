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


def checked_table(table: pa.Table, schema: pa.Schema, path: Path) -> pa.Table:
    """Return `table` if its columns and types are the schema's; else `InputError` naming one."""
    for field in schema:
        if field.name not in table.column_names:
            found, expected = "no such column", str(field.type)
        elif table.schema.field(field.name).type != field.type:
            found, expected = str(table.schema.field(field.name).type), str(field.type)
        else:
            continue
        raise InputError(
            explain(f"{path}, column {field.name}", found, expected, "Write the file again.")
        )
    return table
