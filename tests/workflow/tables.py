"""Tables that have to be the same, and in what they are not."""

from __future__ import annotations

import numpy as np
import pyarrow as pa


def differences(table: pa.Table, expected: pa.Table) -> list[str]:
    """One line for each column that is not the expected one to the bit, and of its type."""
    if table.column_names != expected.column_names or table.num_rows != expected.num_rows:
        found, wanted = (f"{t.num_rows} rows of {t.column_names}" for t in (table, expected))
        return [f"{found}, not {wanted}"]
    columns = zip(table.column_names, table.columns, expected.columns, strict=True)
    return [_difference(name, *both) for name, *both in columns if not both[0].equals(both[1])]


def _difference(name: str, column: pa.ChunkedArray, expected: pa.ChunkedArray) -> str:
    if column.type != expected.type:
        return f"{name}: {column.type}, not {expected.type}"
    both = list(zip(column.to_pylist(), expected.to_pylist(), strict=True))
    rows = [row for row, (found, wanted) in enumerate(both) if found != wanted]
    line = f"{name}: {len(rows)} of {len(both)} rows, {rows[:3]} among them"
    some = [np.ravel(pair) for pair in (both[row] for row in rows) if None not in pair]
    if not pa.types.is_string(column.type) and some and len({len(pair) for pair in some}) == 1:
        found, wanted = np.array(some, float).reshape(len(some), 2, -1).swapaxes(0, 1)
        line += f", by up to {np.abs(found - wanted).max():.3g} of {np.abs(wanted).max():.3g}"
    return line
