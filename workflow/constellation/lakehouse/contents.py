"""Which tiles a snapshot of a table holds, and in which of its data files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa
from pyiceberg.conversions import from_bytes
from pyiceberg.expressions import AlwaysTrue
from pyiceberg.io.pyarrow import ArrowScan
from pyiceberg.manifest import DataFile
from pyiceberg.table import FileScanTask, Table
from pyiceberg.table.snapshots import Snapshot

from constellation.lakehouse.schema import DIGEST

Digests = Mapping[int, str]  # of the content of each tile
MIXED = "mixed"  # instead of a digest, where the rows of a tile have several


@dataclass(frozen=True)
class HeldFile:
    """A data file, what to subtract from it, and the digests of the tiles in it."""

    task: FileScanTask
    digests: Digests

    @property
    def file(self) -> DataFile:
        """The file itself."""
        return self.task.file


@dataclass(frozen=True)
class Contents:
    """The data files of one snapshot."""

    files: tuple[HeldFile, ...] = ()

    @classmethod
    def of(cls, table: Table, snapshot: Snapshot | None) -> Contents:
        """Read from the manifests; only files with the rows of several tiles are opened."""
        if snapshot is None:
            return cls()
        tasks = table.scan(snapshot_id=snapshot.snapshot_id).plan_files()
        return cls(tuple(HeldFile(task, _digests_in(table, task)) for task in tasks))

    @cached_property
    def digests(self) -> Digests:
        """The digest of each tile."""
        return _joined(
            (tile, digest) for held in self.files for tile, digest in held.digests.items()
        )

    def with_any(self, tiles: Iterable[int]) -> list[HeldFile]:
        """The files that hold rows of any of these tiles."""
        wanted = set(tiles)
        return [held for held in self.files if wanted.intersection(held.digests)]


def _joined(pairs: Iterable[tuple[int, str]]) -> dict[int, str]:
    found: dict[int, str] = {}
    for tile, digest in pairs:
        found[tile] = digest if found.setdefault(tile, digest) == digest else MIXED
    return found


def _digests_in(table: Table, task: FileScanTask) -> Digests:
    tile, digest = (_only_value(table, task.file, name) for name in ("TILE_ID", DIGEST))
    if tile is not None and digest is not None:
        return {tile: digest}
    columns = table.schema().select("TILE_ID", DIGEST)
    scan = ArrowScan(table.metadata, table.io, columns, AlwaysTrue())
    pairs: set[tuple[int, str]] = set()
    for batch in scan.to_record_batches([task]):
        rows = pa.Table.from_batches([batch]).group_by(["TILE_ID", DIGEST]).aggregate([])
        pairs.update(zip(rows["TILE_ID"].to_pylist(), rows[DIGEST].to_pylist(), strict=True))
    return _joined(sorted(pairs))


def _only_value(table: Table, file: DataFile, name: str):
    """The one value of a column in a file, if its statistics tell that there is only one."""
    field = table.schema().find_field(name)
    least, greatest = (
        (bounds or {}).get(field.field_id) for bounds in (file.lower_bounds, file.upper_bounds)
    )
    if least is None or least != greatest or (file.null_value_counts or {}).get(field.field_id):
        return None
    value = from_bytes(field.field_type, least)
    return None if name == DIGEST and len(value) != 64 else value  # cut short
