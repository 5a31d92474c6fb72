"""Releases: names for a state of both tables, the way back to it, and what was published when."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import pyarrow.compute as pc
from pyiceberg.table import Table
from pyiceberg.table.refs import SnapshotRefType
from pyiceberg.table.snapshots import Snapshot

from constellation.lakehouse.commits import ID, repeat
from constellation.lakehouse.contents import Contents
from constellation.lakehouse.tables import MAIN, Lakehouse
from shine.errors import InputError, explain

_SEE = "`constellation release list` shows what there is."


@dataclass(frozen=True)
class Entry:
    """One publication: its snapshot of each table, and what it says of its origin."""

    publication: str | None  # None: a snapshot of another program, such as a compaction
    time: datetime
    snapshots: Mapping[str, int]  # by the name of the table
    names: tuple[str, ...]  # tags and branches that point there
    properties: Mapping[str, str]  # constellation.git-commit, constellation.config-hash, ...


def history(lakehouse: Lakehouse) -> list[Entry]:
    """All publications whose snapshots are still there, oldest first."""
    found: dict[tuple[str | int, int], dict[str, Snapshot]] = {}
    tables = lakehouse.both
    for name, table in tables.items():
        seen: Counter[str | int] = Counter()
        for snapshot in sorted(table.snapshots(), key=lambda one: one.sequence_number or 0):
            label = publication_of(snapshot) or snapshot.snapshot_id
            found.setdefault((label, seen[label]), {})[name] = snapshot
            seen[label] += 1
    entries = [_entry(tables, snapshots) for snapshots in found.values()]
    return sorted(entries, key=lambda entry: entry.time)


def publication_of(snapshot: Snapshot) -> str | None:
    """The id of the publication that made a snapshot; None for that of another program."""
    return None if snapshot.summary is None else snapshot.summary.get(ID)


def _entry(tables: Mapping[str, Table], snapshots: Mapping[str, Snapshot]) -> Entry:
    newest = max(snapshots.values(), key=lambda snapshot: snapshot.timestamp_ms)
    names = {
        ref
        for name, snapshot in snapshots.items()
        for ref, where in tables[name].refs().items()
        if where.snapshot_id == snapshot.snapshot_id
    }
    about = {} if newest.summary is None else newest.summary.additional_properties
    return Entry(
        publication_of(newest),
        datetime.fromtimestamp(newest.timestamp_ms / 1000, UTC),
        {name: snapshot.snapshot_id for name, snapshot in snapshots.items()},
        tuple(sorted(names)),
        {key: text for key, text in about.items() if key.startswith("constellation.")},
    )


def tag(lakehouse: Lakehouse, name: str, at: str = MAIN) -> Mapping[str, int]:
    """Name a state of both tables for good; returns the snapshot of each.

    `at` is a tag, a branch or a publication. Raises `InputError` if the name stands for another
    state, or shear and sources are not of the same publications.
    """
    return _point(lakehouse, name, at, SnapshotRefType.TAG)


def branch(lakehouse: Lakehouse, name: str, at: str = MAIN) -> Mapping[str, int]:
    """Start a branch of both tables, to be published to; as `tag`."""
    return _point(lakehouse, name, at, SnapshotRefType.BRANCH)


def rollback(lakehouse: Lakehouse, at: str) -> Mapping[str, int]:
    """Let the branch main of both tables be what a tag, a branch or a publication is."""
    pair = consistent_pair(lakehouse, at)
    for name, table in lakehouse.both.items():

        def go(table: Table = table, snapshot: int = pair[name]) -> None:
            if table.refs()[MAIN].snapshot_id != snapshot:
                table.manage_snapshots().set_current_snapshot(snapshot_id=snapshot).commit()

        repeat(table, go)
    return pair


def remove(lakehouse: Lakehouse, name: str) -> None:
    """Remove a tag or a branch from both tables; what it alone kept can then expire."""
    tables = lakehouse.both
    if name == MAIN or not any(name in table.refs() for table in tables.values()):
        raise InputError(explain(f"release {name}", "none", "a tag or branch but main", _SEE))
    for table in tables.values():

        def go(table: Table = table) -> None:
            if name in table.refs():
                table.manage_snapshots().remove_tag(name).commit()

        repeat(table, go)


def consistent_pair(lakehouse: Lakehouse, at: str) -> dict[str, int]:
    """Snapshots of sources and shear, each tile of the same publication in both.

    Publishers that work at once may end in another order in the two tables: so the shear's is
    found by what is in it. Raises `InputError` if there is none.
    """
    tables = lakehouse.both
    sources, shear = tables["sources"], tables["shear"]
    of_sources = next(_candidates(sources, at), None)
    if of_sources is None:
        raise InputError(explain(f"release {at}", "none", "a tag, branch or publication", _SEE))
    held = Contents.of(sources, of_sources)
    newest_first = sorted(shear.snapshots(), key=lambda one: -(one.sequence_number or 0))
    tried: set[int] = set()
    for of_shear in [*_candidates(shear, at), *newest_first]:
        if of_shear.snapshot_id in tried:
            continue
        tried.add(of_shear.snapshot_id)
        if _fits(lakehouse, held, Contents.of(shear, of_shear), of_shear):
            return {"sources": of_sources.snapshot_id, "shear": of_shear.snapshot_id}
    found = "shear and sources of different publications"
    action = "Somebody is publishing, or was interrupted: publish again, then repeat this."
    raise InputError(explain(f"release {at}", found, "those of the same", action))


def _candidates(table: Table, at: str) -> Iterator[Snapshot]:
    """The snapshot of a name, or those of a publication, the newest first."""
    if (named := table.snapshot_by_name(at)) is not None:
        yield named
        if (publication := publication_of(named)) is None:
            return
        at = publication
    newest_first = sorted(table.snapshots(), key=lambda one: -(one.sequence_number or 0))
    yield from (snapshot for snapshot in newest_first if publication_of(snapshot) == at)


def _fits(lakehouse: Lakehouse, sources: Contents, shear: Contents, snapshot: Snapshot) -> bool:
    """Whether each tile has one digest in both; one without any source is in the shear alone."""
    if any(shear.digests.get(tile) != of for tile, of in sources.digests.items()):
        return False
    only_shear = set(shear.digests) - set(sources.digests)
    if not only_shear:
        return True
    rows = lakehouse.read("shear", snapshot.snapshot_id, ["TILE_ID", "N_SOURCES"])
    rows = rows.filter(pc.greater(rows["N_SOURCES"], 0))
    return not only_shear.intersection(rows["TILE_ID"].to_pylist())


def _point(lakehouse: Lakehouse, name: str, at: str, kind: SnapshotRefType) -> Mapping[str, int]:
    tables = lakehouse.both
    pair = consistent_pair(lakehouse, at)
    for table_name, table in tables.items():
        found = table.refs().get(name)
        if found is not None and (found.snapshot_id, found.snapshot_ref_type) != (
            pair[table_name],
            kind,
        ):
            where = f"Iceberg table {'.'.join(table.name())}"
            action = f"Take another name, or remove it with `constellation release remove {name}`."
            raise InputError(explain(where, f"{name} for another state", "a new name", action))
    for table_name, table in tables.items():

        def go(table: Table = table, snapshot: int = pair[table_name]) -> None:
            manage = table.manage_snapshots()
            if name not in table.refs():
                create = manage.create_tag if kind is SnapshotRefType.TAG else manage.create_branch
                create(snapshot, name).commit()

        repeat(table, go)
    return pair
