"""Keeping the tables in shape: other partitions, and an end to old snapshots and their files."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.transforms import IdentityTransform, TruncateTransform

from constellation.lakehouse.commits import repeat
from constellation.lakehouse.data_files import remove_files
from constellation.lakehouse.schema import CELL, CELL_ORDER
from constellation.lakehouse.tables import Lakehouse


def repartition(lakehouse: Lakehouse, order: int | None) -> str:
    """Let new files of sources be cut by HEALPix pixels of an order (or by tile: None).

    Files that are there stay as they are, and are found by their own partitions. Returns how the
    table is cut from now on.
    """
    table = lakehouse.table("sources")
    width = None if order is None else 4 ** (CELL_ORDER - order)

    def change() -> None:
        wanted = (
            ("TILE_ID", IdentityTransform(), "TILE_ID")
            if width is None
            else (CELL, TruncateTransform(width), f"HEALPIX_ORDER_{order}")
        )
        if [field.name for field in table.spec().fields] == [wanted[2]]:
            return
        with table.update_spec() as update:
            for field in table.spec().fields:
                update.remove_field(field.name)
            update.add_field(*wanted)

    repeat(table, change)
    [field] = table.spec().fields
    column = table.schema().find_column_name(field.source_id)
    return f"{field.transform}({column})" if width else str(column)


@dataclass(frozen=True)
class Expired:
    """What was removed of a table."""

    snapshots: int
    files: int


def expire(lakehouse: Lakehouse, before: datetime) -> dict[str, Expired]:
    """Remove snapshots that are older, and the files that no other snapshot needs.

    Those that a tag or a branch points at stay, with all their files. Files that no snapshot ever
    had are left alone: they may be those of a publication on its way.
    """
    return {name: _expire(table, before) for name, table in lakehouse.both.items()}


def _expire(table: Table, before: datetime) -> Expired:
    doomed: list[Snapshot] = []

    def drop() -> None:
        named = {ref.snapshot_id for ref in table.refs().values()}
        limit = before.timestamp() * 1000
        doomed[:] = [
            snapshot
            for snapshot in table.snapshots()
            if snapshot.timestamp_ms < limit and snapshot.snapshot_id not in named
        ]
        if doomed:
            ids = [snapshot.snapshot_id for snapshot in doomed]
            table.maintenance.expire_snapshots().by_ids(ids).commit()

    repeat(table, drop)
    if not doomed:
        return Expired(0, 0)
    table.refresh()
    kept = {snapshot.snapshot_id: snapshot for snapshot in table.snapshots()}
    gone = [snapshot for snapshot in doomed if snapshot.snapshot_id not in kept]
    unused = _files_of(table, gone) - _files_of(table, kept.values())
    return Expired(len(gone), remove_files(table, sorted(unused)))


def _files_of(table: Table, snapshots: Iterable[Snapshot]) -> set[str]:
    """Paths of the manifests and data files that snapshots consist of."""
    found: set[str] = set()
    for snapshot in snapshots:
        found.add(snapshot.manifest_list)
        for manifest in snapshot.manifests(table.io):
            if manifest.manifest_path not in found:
                found.add(manifest.manifest_path)
                entries = manifest.fetch_manifest_entry(table.io, discard_deleted=True)
                found.update(entry.data_file.file_path for entry in entries)
    return found
