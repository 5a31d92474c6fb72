"""One catalogue from many results: complete, each sub-tile and source once, made anew in part."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from constellation.catalogue.schema import KEY, SHEAR, SOURCES, healpix
from constellation.catalogue.subtile_results import PlannedTile
from constellation.catalogue.tile import make_tile, sorted_by_place
from constellation.plan import SubTile
from shine.errors import InputError, Kind, Status
from shine.provenance import digest
from shine.results import read_shear, read_sources

from .fake_results import Result
from .fake_run import FakeRun

FIRST, SECOND = SubTile(11, 0, 0), SubTile(11, 0, 1)


@pytest.fixture
def run(tmp_path) -> FakeRun:
    return FakeRun.create(tmp_path)


def tile_of(run: FakeRun, tile: int = 11):
    made = make_tile(PlannedTile.of(run.run.plan, tile), run.subtiles(tile))
    tables = (parquet.read_table(pa.BufferReader(data)) for data in (made.shear, made.sources))
    return (*tables, made)


def keys(table: pa.Table) -> list[tuple[int, ...]]:
    return list(zip(*(table[name].to_pylist() for name in KEY), strict=True))


def test_a_tile_holds_the_rows_of_its_sub_tiles_by_their_place(run):
    shear, sources, made = tile_of(run)
    assert shear.schema.equals(SHEAR) and sources.schema.equals(SOURCES)
    assert sorted(keys(shear)) == [(11, 0, 0), (11, 0, 1)]
    assert sorted(sources["OBJECT_ID"].to_pylist()) == [1101, 1102, 1111, 1112]
    for table in (shear, sources):
        expected = healpix(table["RA"].to_numpy(), table["DEC"].to_numpy())
        assert table["HEALPIX"].to_pylist() == sorted(expected.tolist())
        for field in table.schema:
            described = SHEAR if table is shear else SOURCES
            assert field.metadata == described.field(field.name).metadata
    for path in run.subtiles(11).glob("*_0_?.parquet"):
        row = read_shear(path)
        same = shear.filter(pa.compute.equal(shear["SUBTILE_COL"], row["SUBTILE_COL"][0]))
        assert same.select(row.column_names).to_pylist() == row.to_pylist()
        own = read_sources(path.with_name(f"{path.stem}_sources.parquet"))
        found = sources.filter(pa.compute.is_in(sources["OBJECT_ID"], own["OBJECT_ID"]))
        by_id = [("OBJECT_ID", "ascending")]
        assert found.select(own.column_names).sort_by(by_id).equals(own.sort_by(by_id))
    assert made.without_shear == ()


def test_each_row_says_what_it_depends_on(run):
    own = {"git_commit": "beef", "seed": 3, "input_hashes": {"manifest": "2"}}
    run.write(SECOND, Result(SECOND, {1: Kind.GALAXY}, provenance=own))
    rows = {row["SUBTILE_COL"]: row for row in tile_of(run)[0].to_pylist()}
    assert [rows[n]["GIT_COMMIT"] for n in (0, 1)] == ["c0ffee", "beef"]
    assert [rows[n]["SEED"] for n in (0, 1)] == [0, 3]
    assert [rows[n]["CODE_DIGEST"] for n in (0, 1)] == ["b" * 64] * 2
    assert [rows[n]["CONFIG_HASH"] for n in (0, 1)] == ["a" * 64] * 2
    assert json.loads(rows[1]["PACKAGE_VERSIONS"]) == {"numpy": "2.0"}
    assert rows[1]["INPUTS_DIGEST"] == digest(['{"manifest": "2"}'])
    assert rows[0]["INPUTS_DIGEST"] == digest(['{"manifest": "1"}'])


def test_sources_without_a_position_come_last(run):
    lost = Result(SECOND, {7: Kind.GALAXY, 6: Kind.GALAXY}, radec=(np.nan, np.nan))
    run.write(SECOND, lost)
    sources = tile_of(run)[1]
    assert sources["OBJECT_ID"].to_pylist() == [1101, 1102, 6, 7]
    assert sources["HEALPIX"].null_count == sources["RA"].null_count == 2


@given(st.lists(st.tuples(st.one_of(st.none(), st.integers(0, 9)), st.integers(0, 9))))
def test_rows_have_one_order_whatever_order_they_come_in(rows):
    index, ids = ([row[n] for row in rows] for n in (0, 1))
    table = pa.table(
        {"HEALPIX": pa.array(index, pa.int64()), "OBJECT_ID": pa.array(ids, pa.int64())}
    )
    for name in KEY:
        table = table.append_column(name, pa.array([0] * len(rows), pa.int64()))
    expected = sorted(rows, key=lambda row: (row[0] is None, row[0] or 0, row[1]))
    found = sorted_by_place(table)
    assert found["HEALPIX"].to_pylist() == [row[0] for row in expected]
    assert found["OBJECT_ID"].to_pylist() == [row[1] for row in expected]


def test_sub_tiles_without_shear_are_rows_with_nulls_and_listed(run):
    run.write(FIRST, Result.without_shear(FIRST, Status.NO_SOURCES))
    lost = {"g1": 0.1, "g2": 0.2, "status": Status.NOT_CONVERGED}
    run.write(SECOND, Result(SECOND, shear=lost))
    shear, sources, _ = tile_of(run)
    without, unsure = sorted(shear.to_pylist(), key=lambda row: row["SUBTILE_COL"])
    assert without["STATUS"] == Status.NO_SOURCES and sources.num_rows == 0
    assert {without[name] for name in ("G1", "G2", "G1_ERR", "G2_ERR", "CHI2")} == {None}
    assert (unsure["G1"], unsure["G1_ERR"]) == (pytest.approx(0.1), None)
    told = run.assemble()
    assert told[:2] == [
        "11_0_0: NO_SOURCES, no usable galaxy in the core area",
        f"11_0_1: NOT_CONVERGED, {Status.NOT_CONVERGED.meaning}",
    ]
    assert run.assemble()[:2] == told[:2]  # also when nothing is made anew


def test_common_metadata_stays_and_what_differs_becomes_a_list(run):
    run.write(SECOND, Result(SECOND, provenance={"git_commit": "beef", "seed": 1}))
    third = SubTile(12, 0, 0)
    run.write(third, Result(third, provenance={"git_commit": "cafe"}))
    run.assemble()
    of_tile = parquet.read_schema(run.results / "tiles/11.parquet").metadata
    merged = run.published.shear.schema.metadata
    receipt = json.loads((run.results / "catalogue.json").read_text())
    assert json.loads(of_tile[b"git_commit"]) == ["beef", "c0ffee"]
    assert json.loads(merged[b"git_commit"]) == receipt["git_commit"] == ["beef", "c0ffee", "cafe"]
    assert json.loads(merged[b"seed"]) == ["0", "1"]
    assert merged[b"config_hash"].decode() == receipt["config_hash"] == "a" * 64
    assert b"stretches along east-west" in merged[b"conventions"]
    [(what, known)] = json.loads(merged[b"input_hashes"]).items()
    assert what == "4 results" and len(known) == 64
    counts = {"tiles": 2, "sub_tiles": 4, "sources": 4, "failures": 0}
    assert {name: receipt[name] for name in counts} == counts


def test_what_was_left_out_is_added_up(run):
    run.assemble()
    expected = {"sources": {"spurious": 8, "low_snr": 0}, "pixels": {"flagged": 120}}
    for name in ("shear.parquet", "files.parquet"):
        metadata = parquet.read_schema(run.results / "catalogue" / name).metadata
        assert json.loads(metadata[b"left_out"]) == expected


def test_the_catalogue_is_the_rows_of_all_results(run):
    run.assemble()
    found = run.published
    assert found.shear.schema.equals(SHEAR) and found.failures.num_rows == 0
    assert sorted(keys(found.shear)) == [(s.tile_id, s.row, s.col) for s in run.run.plan.subtiles]
    index = found.shear["HEALPIX"].to_pylist()
    assert index == sorted(index)
    assert sorted(found.sources()["OBJECT_ID"].to_pylist()) == [
        10 * (10 * tile + col) + n for tile in (11, 12) for col in (0, 1) for n in (1, 2)
    ]
    for row in found.files.to_pylist():
        content = (found.folder / row["PATH"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == row["SHA256"]
        assert row["PATH"] == f"sources/{row['TILE_ID']}-{row['SHA256'][:12]}.parquet"
        table = parquet.read_table(pa.BufferReader(content))
        assert (row["N_ROWS"], row["N_BYTES"]) == (table.num_rows, len(content))
        assert row["HEALPIX_MIN"] == table["HEALPIX"].to_pylist()[0]
        assert row["HEALPIX_MAX"] == table["HEALPIX"].to_pylist()[-1]
    names = sorted(path.name for path in run.results.iterdir())
    hidden = [name for name in names if name.startswith(".")]
    assert hidden == []  # nothing is left beside it


def test_the_same_results_give_the_same_bytes(run, tmp_path):
    run.assemble()
    again = FakeRun.create(tmp_path / "again")
    again.assemble()
    for folder in ("tiles", "catalogue"):
        assert run.files(folder) == again.files(folder) != {}
    one, other = ((each.results / "catalogue.json").read_bytes() for each in (run, again))
    assert one == other


def test_the_sources_have_statistics_that_let_a_search_skip(run):
    run.assemble()
    [row, _] = run.published.files.to_pylist()
    group = parquet.ParquetFile(run.published.folder / row["PATH"]).metadata.row_group(0)
    columns = {group.column(n).path_in_schema: group.column(n) for n in range(group.num_columns)}
    for name in ("HEALPIX", "RA", "DEC", "OBJECT_ID"):
        assert columns[name].statistics.has_min_max
    assert {column.compression for column in columns.values()} == {"ZSTD"}


def test_only_the_tile_of_a_changed_result_is_made_anew(run):
    assert "2 tiles, 2 of them made anew" in run.assemble()[0]
    before, linked = run.inodes("kept/tiles"), run.inodes("catalogue/sources")
    run.write(SECOND, Result(SECOND, {5: Kind.GALAXY}))
    assert "2 tiles, 1 of them made anew" in run.assemble()[0]
    after = run.inodes("kept/tiles")
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {"11.parquet", "11_sources.parquet", "11.json"}
    now = run.inodes("catalogue/sources")
    assert sum(name in linked and linked[name] == inode for name, inode in now.items()) == 1
    assert 5 in run.published.sources()["OBJECT_ID"].to_pylist()  # and replaced
    assert 1112 not in run.published.sources()["OBJECT_ID"].to_pylist()


def test_a_result_of_the_same_size_is_a_change_too(run):
    paths = run.write(SECOND, Result(SECOND)), run.subtiles(11) / f"{SECOND.stem}_sources.parquet"
    run.assemble()
    before = [path.stat().st_size for path in paths]
    run.write(SECOND, Result(SECOND, provenance={"git_commit": "facade"}))
    assert [path.stat().st_size for path in paths] == before
    assert "1 of them made anew" in run.assemble()[0]
    assert "facade" in run.published.shear["GIT_COMMIT"].to_pylist()


def test_tiles_are_added_and_left_out_with_the_plan(run):
    run.assemble()
    before = run.inodes("catalogue/sources")
    run.plan([11, 12, 13])
    for subtile in run.run.plan.by_tile[13]:
        run.write(subtile)
    assert "3 tiles, 1 of them made anew" in run.assemble()[0]
    now = run.inodes("catalogue/sources")
    assert before.items() < now.items() and len(now) == 3
    run.plan([12, 13])
    assert "2 tiles, 0 of them made anew" in run.assemble()[0]
    found = run.published
    assert found.files["TILE_ID"].to_pylist() == [12, 13]
    assert {tile for tile, _, _ in keys(found.shear)} == {12, 13}


def test_another_grid_or_code_makes_the_tiles_anew(run, monkeypatch):
    from constellation.catalogue import kept_tiles

    run.assemble()
    monkeypatch.setattr(kept_tiles, "code_of", lambda module: "other code")
    assert "2 of them made anew" in run.assemble()[0]
    run.plan([11, 12], sub_tile_grid=[1, 1])
    with pytest.raises(InputError, match=r"11_0_0\.parquet: found the middle at RA, DEC"):
        run.assemble()


def test_a_kept_tile_that_is_damaged_is_found(run):
    run.assemble()
    (run.results / "kept/tiles/11.parquet").unlink()
    assert "1 of them made anew" in run.assemble()[0]
    path = run.results / "tiles/12_sources.parquet"
    content = bytearray(path.read_bytes())
    content[50] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(InputError, match=r"12_sources.parquet: found (other sources|no readable)"):
        run.assemble()


def test_the_tiles_of_a_shard_are_assembled_alone(run):
    config = run.folder / "config.yaml"
    config.write_text(config.read_text() + "shard: 2/2\n")
    assert run.assemble() == [f"{run.results / 'tiles'}: 1 tiles, 1 of them made anew"]
    assert sorted(run.files("tiles")) == ["12.parquet", "12_sources.parquet"]
    assert not (run.results / "catalogue").exists()


def test_two_processes_make_what_one_makes(tmp_path, monkeypatch):
    from constellation.catalogue import kept_tiles

    one = FakeRun.create(tmp_path / "one")
    one.assemble()
    monkeypatch.setattr(kept_tiles, "_WORTH_A_PROCESS", 0)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    two = FakeRun.create(tmp_path / "two")
    two.assemble()
    assert one.files("tiles") == two.files("tiles") != {}
    two.write(FIRST, replace(Result(FIRST), provenance={"config_hash": "c" * 64}))
    with pytest.raises(InputError, match="made with different settings"):
        two.assemble()
