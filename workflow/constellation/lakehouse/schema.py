"""The tables' columns: those of the catalogue, and two by which tiles and pixels are found.

Iceberg has neither whole numbers below 32 bits nor lists of fixed length: int8 and int16 become
int, COVARIANCE a list<float>, and `as_catalogue` gives them back as they were. Units are in the
comments of the columns.
"""

from __future__ import annotations

from itertools import count

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.schema import Schema
from pyiceberg.types import (
    BooleanType,
    DoubleType,
    FloatType,
    IcebergType,
    IntegerType,
    ListType,
    LongType,
    NestedField,
    StringType,
)

from constellation.catalogue.schema import HEALPIX_ORDER
from shine.errors import InputError, explain

# Engines in Java read the width of a truncation as a number of 32 bits, which is too short for
# HEALPIX itself: partitions of the sky are cut by this one, that still is below one minute of arc.
CELL_ORDER = 13
DIGEST, CELL = "TILE_DIGEST", f"HEALPIX_{CELL_ORDER}"

EXTRA = pa.schema(
    [
        pa.field(
            DIGEST,
            pa.string(),
            False,
            {
                "unit": "",
                "description": "SHA-256 of all that was published of the tile; the same in shear "
                "and sources",
            },
        ),
        pa.field(
            CELL,
            pa.int32(),
            True,
            {
                "unit": "",
                "description": f"nested HEALPix index at order {CELL_ORDER}, for partitions",
            },
        ),
    ]
)

_PRIMITIVES: dict[pa.DataType, IcebergType] = {
    pa.bool_(): BooleanType(),
    pa.int8(): IntegerType(),
    pa.int16(): IntegerType(),
    pa.int32(): IntegerType(),
    pa.int64(): LongType(),
    pa.float32(): FloatType(),
    pa.float64(): DoubleType(),
    pa.string(): StringType(),
}


def iceberg_schema(columns: pa.Schema, required: bool = True) -> Schema:
    """The columns of a table of the catalogue, and those of its own, as Iceberg has them.

    `required` is False for columns that join a table which has rows already.
    """
    ids = count(1)
    fields = [field for field in [*columns, *EXTRA] if field.name not in EXTRA.names]
    return Schema(*(_field(field, ids, required) for field in [*fields, *EXTRA]))


def _field(field: pa.Field, ids: count, required: bool) -> NestedField:
    metadata = field.metadata or {}
    unit, text = (metadata.get(key, b"").decode() for key in (b"unit", b"description"))
    return NestedField(
        next(ids),
        field.name,
        _type(field, ids),
        required=required and not field.nullable,
        doc=f"{text} [{unit}]" if unit else text or None,
    )


def _type(field: pa.Field, ids: count) -> IcebergType:
    kind = field.type
    if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        element = _PRIMITIVES.get(kind.value_type)
        if element is not None:
            return ListType(next(ids), element, element_required=False)
    elif kind in _PRIMITIVES:
        return _PRIMITIVES[kind]
    action = "Give the column another type, or extend constellation.lakehouse.schema."
    raise InputError(explain(f"column {field.name}", str(kind), "a type that Iceberg has", action))


def with_extra(rows: pa.Table, digests: pa.Array) -> pa.Table:
    """Rows of the catalogue with the columns of EXTRA; one digest per row."""
    cell = pc.shift_right(rows["HEALPIX"], 2 * (HEALPIX_ORDER - CELL_ORDER)).cast(pa.int32())
    return rows.append_column(EXTRA.field(DIGEST), digests).append_column(EXTRA.field(CELL), cell)


def as_catalogue(rows: pa.Table, columns: pa.Schema) -> pa.Table:
    """Rows of a table with the types that the catalogue gives to those columns it has."""
    known = [columns.field(name) for name in rows.column_names if name in columns.names]
    arrays = [_cast(rows[field.name], field.type) for field in known]
    return pa.Table.from_arrays(arrays, schema=pa.schema(known))


def _cast(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    if not pa.types.is_fixed_size_list(kind):
        return column.cast(kind)
    return pa.chunked_array([_fixed(chunk, kind) for chunk in column.chunks], kind)


def _fixed(lists: pa.Array, kind: pa.FixedSizeListType) -> pa.FixedSizeListArray:
    """Lists of one length, some null: these take up no values in a list, but do in a fixed one."""
    valid = np.asarray(pc.is_valid(lists))
    lengths = np.asarray(pc.list_value_length(lists.filter(pa.array(valid))))
    if (lengths != kind.list_size).any():
        found = f"{np.unique(lengths)} values"
        raise InputError(explain("lists", found, f"{kind.list_size}", "Publish the tile again."))
    place = np.repeat(np.cumsum(valid) - 1, kind.list_size) * kind.list_size
    place += np.tile(np.arange(kind.list_size), len(valid))
    values = lists.flatten().cast(kind.value_type)
    values = values.take(pa.array(place, mask=~np.repeat(valid, kind.list_size)))
    return pa.FixedSizeListArray.from_arrays(values, type=kind, mask=pa.array(~valid))
