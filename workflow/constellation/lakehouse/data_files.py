"""Data files of a table: written, cut by its partitions, and removed again if not committed."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import parquet
from pyiceberg.expressions import AlwaysTrue
from pyiceberg.io.pyarrow import ArrowScan, parquet_file_to_data_file, schema_to_pyarrow
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table
from pyiceberg.transforms import IdentityTransform, TruncateTransform

from constellation.lakehouse.contents import HeldFile
from shine.errors import InputError, explain

_LOG = logging.getLogger(__name__)
_ROWS_PER_GROUP = 16_384  # some 10 MB of sources with samples: what a search of the sky reads


@dataclass
class DataFiles:
    """The files that one publisher has written into a table, committed or not."""

    table: Table
    written: dict[str, DataFile] = field(default_factory=dict)

    def write(self, rows: pa.Table, name: str) -> list[DataFile]:
        """Write rows, sorted by HEALPIX; `name` is for the eyes, how the files' names begin.

        Files have at most write.target-file-size-bytes as counted in memory.
        """
        rows = _with_columns_of(self.table, rows)
        size = int(self.table.properties["write.target-file-size-bytes"])
        files = []
        for part in _partitions(self.table, rows):
            per_file = max(1, int(size * part.num_rows / max(part.nbytes, 1)))
            for start in range(0, part.num_rows, per_file):
                files.append(self._write(part.slice(start, per_file), name))
        return files

    def write_rest(self, held: HeldFile, without: set[int]) -> list[DataFile]:
        """Write the rows of a file again, without those of some tiles."""
        scan = ArrowScan(self.table.metadata, self.table.io, self.table.schema(), AlwaysTrue())
        rows = scan.to_table([held.task])
        rest = rows.filter(pc.invert(pc.is_in(rows["TILE_ID"], pa.array(sorted(without)))))
        return self.write(rest, "rest") if rest.num_rows else []

    def remove_all_but(self, kept: set[str]) -> None:
        """Remove what was written and is not of use."""
        remove_files(self.table, [path for path in self.written if path not in kept])

    def _write(self, rows: pa.Table, name: str) -> DataFile:
        path = self.table.location_provider().new_data_location(f"{name}-{uuid.uuid4()}.parquet")
        with self.table.io.new_output(path).create() as stream:
            parquet.write_table(rows, stream, compression="zstd", row_group_size=_ROWS_PER_GROUP)
        written = parquet_file_to_data_file(self.table.io, self.table.metadata, path)
        self.written[path] = written
        return written


def remove_files(table: Table, paths: Iterable[str]) -> int:
    """Remove files that no snapshot has; returns how many went. One that stays does no harm."""
    gone = 0
    for path in paths:
        try:
            table.io.delete(path)
        except FileNotFoundError:
            continue
        except OSError as error:
            _LOG.warning("%s: is of no use, but cannot be removed (%s)", path, error)
        else:
            gone += 1
    return gone


def _with_columns_of(table: Table, rows: pa.Table) -> pa.Table:
    """The rows with the table's columns and types; columns that they lack are null."""
    schema = schema_to_pyarrow(table.schema())
    columns = [
        rows[column.name].cast(column.type)
        if column.name in rows.column_names
        else pa.nulls(rows.num_rows, column.type)
        for column in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema).sort_by("HEALPIX")


def _partitions(table: Table, rows: pa.Table) -> Iterator[pa.Table]:
    """The rows of each partition."""
    spec, schema = table.spec(), table.schema()
    labels = {}
    for part in spec.fields:
        column = rows[schema.find_column_name(part.source_id)].combine_chunks()
        if isinstance(part.transform, TruncateTransform) and pa.types.is_integer(column.type):
            values = np.asarray(column.fill_null(0))
            first = values - values % part.transform.width
            column = pa.array(first, column.type, mask=~np.asarray(pc.is_valid(column)))
        elif not isinstance(part.transform, IdentityTransform):
            where = f"Iceberg table {'.'.join(table.name())}"
            action = "Change it with `constellation release repartition`."
            raise InputError(
                explain(where, f"partitions by {part.transform}", "by tile or HEALPix", action)
            )
        labels[part.name] = column
    if not labels:
        yield rows
        return
    numbers = pa.table(labels | {"row": pa.array(range(rows.num_rows))})
    groups = numbers.group_by(list(labels)).aggregate([("row", "list")])
    for indices in groups["row_list"].combine_chunks():
        yield rows.take(indices.values)
