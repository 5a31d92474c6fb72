"""Bad input of the catalogue, one by one: named and refused, or replaced by rule."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
import pytest
from pyarrow import parquet

from constellation.plan import SubTile
from shine.errors import InputError, Kind
from shine.result_schema import SCHEMA_VERSION

from .fake_results import Result
from .fake_run import FakeRun

FIRST, SECOND, THIRD, FOURTH = (SubTile(tile, 0, col) for tile in (11, 12) for col in (0, 1))


@pytest.fixture
def run(tmp_path) -> FakeRun:
    """A published run, which must stay as it is whatever is refused."""
    made = FakeRun.create(tmp_path)
    made.assemble()
    return made


@pytest.fixture(autouse=True)
def _published_before_and_after(run):
    before = run.files("catalogue")
    yield
    assert run.files("catalogue") == before


def refused(run: FakeRun, message: str, allow_failed: bool = False) -> None:
    with pytest.raises(InputError, match=message):
        run.assemble(allow_failed)


def rewrite(path, table: pa.Table | None = None, **metadata: str) -> None:
    """Write a result's table anew, with other metadata."""
    table = parquet.read_table(path) if table is None else table
    known = {key.decode(): text.decode() for key, text in table.schema.metadata.items()}
    parquet.write_table(table.replace_schema_metadata(known | metadata), path)


def sources_of(run: FakeRun, subtile: SubTile):
    return run.subtiles(subtile.tile_id) / f"{subtile.stem}_sources.parquet"


@pytest.mark.parametrize("suffix", [".parquet", "_sources.parquet"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_truncated_file(run, suffix, share):
    path = run.subtiles(11) / f"{SECOND.stem}{suffix}"
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    refused(run, f"{path}: found a damaged file")
    refused(run, f"{path}: found a damaged file", allow_failed=True)  # it has not failed


@pytest.mark.parametrize("suffix", [".parquet", "_sources.parquet"])
def test_an_older_schema(run, suffix):
    path = run.subtiles(11) / f"{SECOND.stem}{suffix}"
    rewrite(path, schema_version="3")
    wanted = rf"{path}: found schema version 3, expected version {SCHEMA_VERSION}\. Run this"
    refused(run, wanted)


def test_a_second_file_of_a_sub_tile(run):
    path = run.subtiles(11) / f"{SECOND.stem}.parquet"
    copy = path.with_name("again.parquet")
    copy.write_bytes(path.read_bytes())
    refused(run, f"{path} and {copy}: both are results of sub-tile {SECOND.stem}, expected one")


def test_a_second_file_under_the_name_of_an_unplanned_sub_tile(run):
    path = run.subtiles(11) / f"{SECOND.stem}.parquet"
    copy = path.with_name("11_7_7.parquet")
    copy.write_bytes(path.read_bytes())
    refused(run, f"{path} and {copy}: both are results")


def test_a_file_under_the_name_of_another_sub_tile(run):
    path = run.subtiles(11) / f"{SECOND.stem}.parquet"
    path.write_bytes((run.subtiles(11) / f"{FIRST.stem}.parquet").read_bytes())
    refused(run, f"{path}: found sub-tile {FIRST.stem}, expected {SECOND.stem}")


@pytest.mark.parametrize("subtile", [SECOND, FOURTH])
def test_another_configuration(run, subtile):
    run.write(subtile, Result(subtile, provenance={"config_hash": "b" * 64}))
    one = "11_0_0.parquet" if subtile == SECOND else "11.parquet"
    other = "11_0_1.parquet" if subtile == SECOND else "12.parquet"
    if subtile == FOURTH:  # and its neighbour: now it is the tiles that differ
        run.write(THIRD, Result(THIRD, provenance={"config_hash": "b" * 64}))
    refused(run, f"{one} and .*{other}: made with different settings")


def test_another_tile_list(run):
    listed = run.folder / "tiles.csv"
    listed.write_text(listed.read_text().replace("12,10.5,0.0", "12,10.5,0.002"))
    path = run.subtiles(12) / f"{THIRD.stem}.parquet"
    refused(run, rf"{path}: found the middle at RA, DEC 10\.3\d+, .*of another tile list or grid")


def test_another_grid(run):
    run.plan([11, 12], sub_tile_grid=[2, 2])
    for subtile in run.run.plan.subtiles:
        if subtile.row == 1:
            run.write(subtile)
    refused(run, f"{FIRST.stem}.parquet: found the middle at RA, DEC")


@pytest.mark.parametrize("place", [(float("nan"), 0.0), (370.0, 0.0), (10.0, 97.0)])
def test_a_sub_tile_in_no_place(run, place):
    path = run.subtiles(11) / f"{FIRST.stem}.parquet"
    table = parquet.read_table(path)
    for name, value in zip(("RA", "DEC"), place, strict=True):
        number = table.schema.get_field_index(name)
        table = table.set_column(number, table.schema.field(name), pa.array([value]))
    rewrite(path, table)
    refused(run, f"{path}: found the middle at RA, DEC")


@pytest.mark.parametrize(
    ("name", "value"), [("RA", float("nan")), ("RA", 361.0), ("RA", -1.0), ("DEC", 90.1)]
)
def test_a_source_in_no_place(run, name, value):
    path = sources_of(run, FIRST)
    table = parquet.read_table(path)
    number = table.schema.get_field_index(name)
    values = [table[name][0].as_py(), value]
    rewrite(path, table.set_column(number, table.schema.field(name), pa.array(values)))
    refused(run, f"{path}, column {name}: found {value}, expected")


def test_no_file_of_sources(run):
    sources_of(run, SECOND).unlink()
    refused(run, f"{sources_of(run, SECOND)}: found No such file")


def test_sources_of_another_sub_tile(run):
    path = sources_of(run, SECOND)
    path.write_bytes(sources_of(run, FIRST).read_bytes())
    refused(run, f"{path}: found SUBTILE_COL 0, expected SUBTILE_COL 1")


def test_sources_of_another_run(run):
    path = sources_of(run, SECOND)
    before = path.read_bytes()
    run.write(SECOND, Result(SECOND, {1: Kind.GALAXY}, provenance={"input_hashes": {"a": "2"}}))
    path.write_bytes(before)
    refused(run, f"{path}: found another input_hashes than in {SECOND.stem}.parquet")


def test_a_source_that_is_core_in_two_tiles(run):
    run.write(THIRD, Result(THIRD, {1102: Kind.GALAXY}))
    refused(run, "core source 1102 2 times, in 11_0_0, 12_0_0, expected once")


def test_a_source_that_is_core_twice_in_a_tile(run):
    run.write(SECOND, Result(SECOND, {1102: Kind.GALAXY}))
    refused(run, "core source 1102 2 times, in 11_0_0, 11_0_1, expected once")


def test_a_missing_result_is_named_with_its_log(run):
    (run.subtiles(11) / f"{SECOND.stem}.parquet").unlink()
    log = run.results / f"logs/subtiles/11/{SECOND.stem}.log"
    refused(run, rf"no result for 1 of 4 planned sub-tiles: {SECOND.stem} \(log: {log}\)")


def test_results_of_an_earlier_plan_and_unfinished_files_are_left_out(run):
    other = Result(SubTile(11, 7, 7), {9: Kind.GALAXY}, provenance={"config_hash": "b" * 64})
    path = other.write(run.subtiles(11))
    older = replace(other, subtile=SubTile(11, 7, 8)).write(run.subtiles(11))
    rewrite(older, parquet.read_table(older).drop_columns("TILE_ID"), schema_version="3")
    (run.subtiles(11) / "11_7_9.parquet").write_bytes(b"half")
    (run.subtiles(11) / ".11_0_0.parquet.123.tmp").write_bytes(b"half")
    (run.subtiles(11) / ".11_0_0.parquet").write_bytes(path.read_bytes())
    run.assemble()
