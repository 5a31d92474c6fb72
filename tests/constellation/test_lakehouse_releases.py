"""Releases of both tables: tags, branches, time travel, the way back, partitions and expiry."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from pyarrow import parquet

from constellation.lakehouse.maintenance import expire, repartition
from constellation.lakehouse.publication import Publication, publish
from constellation.lakehouse.releases import branch, history, remove, rollback, tag
from constellation.lakehouse.tables import Lakehouse
from shine.errors import InputError

from .lake import N_SOURCES, assemble, configuration, makers, publish_tiles
from .test_lakehouse import data_files

OLD, NEW = {1: 5, 2: 6}, {1: 5, 2: 7, 3: 8}


def now() -> datetime:
    """A time after all that has been done."""
    return datetime.now(UTC) + timedelta(seconds=1)


@pytest.fixture
def lakehouse(tmp_path) -> Lakehouse:
    """The tables after the publication OLD, which is tagged v1, and NEW."""
    lakehouse = Lakehouse.of(configuration(tmp_path))
    publish_tiles(tmp_path, lakehouse, OLD)
    tag(lakehouse, "v1")
    publish_tiles(tmp_path, lakehouse, NEW)
    return lakehouse


def published(results: Path, made_by: dict[int, int]) -> str:
    """The id of a publication."""
    return Publication.of(assemble(results, made_by)).id


def test_a_release_stays_what_it_was(tmp_path, lakehouse):
    assert makers(lakehouse) == NEW and makers(lakehouse, "v1") == OLD
    tag(lakehouse, "v1", at="v1")  # again
    with pytest.raises(InputError, match=r"found v1 for another state.*release remove v1"):
        tag(lakehouse, "v1")
    assert makers(lakehouse, "v1") == OLD


def test_snapshots_are_read_by_id_and_by_time(lakehouse):
    first, second = history(lakehouse)
    for entry, expected in ((first, OLD), (second, NEW)):
        for name, snapshot in entry.snapshots.items():
            tiles = lakehouse.read(name, snapshot, ["TILE_ID"])["TILE_ID"].to_pylist()
            assert set(tiles) == set(expected)
        assert makers(lakehouse, entry.time) == expected
    with pytest.raises(InputError, match="no snapshot 2000-01-01"):
        lakehouse.read("shear", datetime(2000, 1, 1, tzinfo=UTC))
    with pytest.raises(InputError, match="no snapshot v2"):
        lakehouse.read("shear", "v2")


def test_the_history_names_publications_snapshots_and_tags(tmp_path, lakehouse):
    first, second = history(lakehouse)
    assert first.publication == published(tmp_path, OLD) and first.names == ("v1",)
    assert second.publication == published(tmp_path, NEW) and second.names == ("main",)
    for name, table in lakehouse.both.items():
        assert second.snapshots[name] == table.current_snapshot().snapshot_id
        assert first.snapshots[name] == table.current_snapshot().parent_snapshot_id
    assert first.properties["constellation.git-commit"] == "c0ffee"


def test_both_tables_go_back_together_and_forward_again(tmp_path, lakehouse):
    rollback(lakehouse, "v1")
    assert makers(lakehouse) == OLD
    rollback(lakehouse, published(tmp_path, NEW))
    assert makers(lakehouse) == NEW
    rollback(lakehouse, "v1")
    assert publish_tiles(tmp_path, lakehouse, NEW)
    assert makers(lakehouse) == NEW
    with pytest.raises(InputError, match="release v7: found none"):
        rollback(lakehouse, "v7")


def test_a_branch_is_published_to_without_touching_main(tmp_path, lakehouse):
    branch(lakehouse, "candidate", at="v1")
    publish_tiles(tmp_path, lakehouse, {2: 9}, branch="candidate")
    assert makers(lakehouse, "candidate") == OLD | {2: 9}
    assert makers(lakehouse) == NEW
    rollback(lakehouse, "candidate")
    assert makers(lakehouse) == OLD | {2: 9}
    with pytest.raises(InputError, match=r"no branch other.*release branch other"):
        publish_tiles(tmp_path, lakehouse, {2: 9}, branch="other")
    remove(lakehouse, "candidate")
    assert all("candidate" not in table.refs() for table in lakehouse.both.values())
    for name in ("candidate", "main"):
        with pytest.raises(InputError, match="a tag or branch but main"):
            remove(lakehouse, name)


def test_no_release_has_shear_and_sources_of_different_publications(tmp_path, lakehouse):
    shear = lakehouse.table("shear")
    head, old = shear.current_snapshot(), shear.refs()["v1"].snapshot_id
    publish_tiles(tmp_path, lakehouse, {1: 9})
    for snapshot in (old, head.snapshot_id):
        lakehouse.table("shear").manage_snapshots().set_current_snapshot(snapshot).commit()
        pair = tag(lakehouse, f"at-{snapshot}")  # found by what is in it
        assert pair["shear"] not in (old, head.snapshot_id)
    last = pair["shear"]
    table = lakehouse.table("shear")
    for name in [name for name in table.refs() if name.startswith("at-")]:
        table.manage_snapshots().remove_tag(name).commit()
    table.maintenance.expire_snapshots().by_id(last).commit()
    with pytest.raises(InputError, match="different publications"):
        tag(lakehouse, "v2")
    assert publish_tiles(tmp_path, lakehouse, {1: 9})
    tag(lakehouse, "v2")
    assert makers(lakehouse, "v2") == NEW | {1: 9}


def test_partitions_change_and_old_files_stay(tmp_path, lakehouse):
    old = data_files(lakehouse)
    repartition(lakehouse, 5)
    assert data_files(lakehouse) == old and makers(lakehouse) == NEW
    publish_tiles(tmp_path, lakehouse, {2: 9, 4: 9})
    assert makers(lakehouse) == NEW | {2: 9, 4: 9}
    kept = {path: content for path, content in old.items() if "/2-" not in path}
    assert len(kept) == 2 and kept.items() < data_files(lakehouse).items()

    table = lakehouse.table("sources")
    rows = lakehouse.read("sources", columns=["HEALPIX", "TILE_ID"])
    pairs = set(zip(rows["HEALPIX"].to_numpy() // 4**24, rows["TILE_ID"].to_numpy(), strict=True))
    indices = rows["HEALPIX"].to_numpy()[np.isin(rows["TILE_ID"].to_numpy(), [2, 4])]
    cells = np.unique(indices // 4**24)
    new = [task.file for task in table.scan().plan_files() if task.file.spec_id != 0]
    width = 4**8  # of an order-5 cell at order 13
    assert sorted({file.partition[0] for file in new}) == [cell * width for cell in cells]

    assert len(new) == sum(tile in (2, 4) for _, tile in pairs)

    # a search of the sky opens what it needs, old files and new ones
    for cell in (*cells, *np.unique(rows["HEALPIX"].to_numpy() // 4**24)):
        first, last = cell * 4**24, (cell + 1) * 4**24 - 1
        inside = (rows["HEALPIX"].to_numpy() >= first) & (rows["HEALPIX"].to_numpy() <= last)
        for where in (
            f"HEALPIX >= {first} and HEALPIX <= {last}",
            f"HEALPIX_13 >= {cell * width} and HEALPIX_13 < {(cell + 1) * width}",
        ):
            scan = table.scan(where)
            assert scan.to_arrow().num_rows == inside.sum() > 0
            assert len(list(scan.plan_files())) < len(data_files(lakehouse))

    assert repartition(lakehouse, 5) == "truncate[65536](HEALPIX_13)"
    assert repartition(lakehouse, None) == "TILE_ID"
    publish_tiles(tmp_path, lakehouse, {1: 3, 4: 3})
    repartition(lakehouse, 7)
    publish_tiles(tmp_path, lakehouse, {1: 2})
    assert makers(lakehouse) == NEW | {2: 9, 4: 3, 1: 2}


def test_old_snapshots_expire_with_the_files_that_only_they_need(tmp_path, lakehouse):
    publish_tiles(tmp_path, lakehouse, {2: 9})
    publish_tiles(tmp_path, lakehouse, {2: 10})
    warehouse = tmp_path / "iceberg" / "warehouse"
    stray = warehouse / "shine" / "sources" / "data" / "of-a-publication-on-its-way.parquet"
    stray.write_bytes(b"")
    gone = expire(lakehouse, now())
    assert (gone["sources"].snapshots, gone["shear"].snapshots) == (2, 2)
    assert makers(lakehouse) == NEW | {2: 10} and makers(lakehouse, "v1") == OLD
    used = data_files(lakehouse) | data_files(lakehouse, "shear")
    for name, table in lakehouse.both.items():
        tasks = table.scan(snapshot_id=table.refs()["v1"].snapshot_id).plan_files()
        used |= {task.file.file_path.removeprefix("file://"): name for task in tasks}
    assert {str(path) for path in warehouse.rglob("data/*.parquet")} == {*used, str(stray)}
    assert len(list(warehouse.rglob("snap-*.avro"))) == 4  # v1 and main of both tables
    assert stray.exists()

    remove(lakehouse, "v1")
    assert expire(lakehouse, now())["sources"].snapshots == 1
    assert lakehouse.read("sources").num_rows == 3 * N_SOURCES
    assert not list(warehouse.rglob("data/2-*")) or makers(lakehouse) == NEW | {2: 10}
    assert {path.name for path in warehouse.rglob("data/*.parquet")} == {
        Path(path).name for path in data_files(lakehouse) | data_files(lakehouse, "shear")
    } | {stray.name}


def test_what_is_newer_does_not_expire(lakehouse):
    first, _ = history(lakehouse)
    remove(lakehouse, "v1")
    assert expire(lakehouse, first.time - timedelta(seconds=5))["sources"].snapshots == 0
    assert makers(lakehouse) == NEW
    assert len(history(lakehouse)) == 2


def test_sources_without_a_position_have_a_partition_of_their_own(tmp_path, lakehouse):
    folder = assemble(tmp_path, {4: 9})
    [row] = parquet.read_table(folder / "files.parquet").to_pylist()
    path = folder / row["PATH"]
    rows = parquet.read_table(path)
    lost = pa.array([n < N_SOURCES - 3 for n in range(N_SOURCES)])
    for name in ("RA", "DEC", "HEALPIX"):
        column = pc.if_else(lost, rows[name], pa.scalar(None, rows[name].type))
        place = rows.schema.get_field_index(name)
        rows = rows.set_column(place, rows.schema.field(name), column)
    parquet.write_table(rows, path)
    row |= {"SHA256": hashlib.sha256(path.read_bytes()).hexdigest()}
    schema = parquet.read_schema(folder / "files.parquet")
    parquet.write_table(pa.Table.from_pylist([row], schema), folder / "files.parquet")
    repartition(lakehouse, 5)
    assert publish(lakehouse, Publication.of(folder))
    assert makers(lakehouse) == NEW | {4: 9}
    table = lakehouse.table("sources")
    assert lakehouse.read("sources", where="HEALPIX IS NULL").num_rows == 3
    files = [task.file for task in table.scan("HEALPIX_13 IS NULL").plan_files()]
    assert [(file.partition[0], file.record_count) for file in files] == [(None, 3)]
    assert publish_tiles(tmp_path, lakehouse, {4: 10})
    assert makers(lakehouse) == NEW | {4: 10}
