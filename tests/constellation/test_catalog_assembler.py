"""One catalogue from many results: complete, each sub-tile and source once, or an error."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from constellation.catalog_assembler import assemble_tile, merge_tiles, read_catalogue
from constellation.plan import SubTile
from shine.errors import InputError, Status
from shine.euclid.catalog import Kind
from shine.result_schema import SHEAR_SCHEMA, SOURCE_SCHEMA

from .fake_results import Result, tile_catalogue

LOGS = Path("logs/11")
PLANNED = [SubTile(11, 0, 0), SubTile(11, 0, 1), SubTile(11, 1, 0)]
RESULTS = [
    Result(subtile, {100 * n + 2: Kind.GALAXY, 100 * n + 1: Kind.STAR})
    for n, subtile in enumerate(PLANNED)
]


@pytest.fixture
def folder(tmp_path):
    for result in RESULTS:
        result.write(tmp_path)
    return tmp_path


def test_a_tile_holds_its_sub_tiles_and_their_sources_in_order(folder):
    catalogue = assemble_tile(PLANNED[::-1], folder, LOGS)
    assert catalogue.shear.schema.equals(SHEAR_SCHEMA)
    assert catalogue.sources.schema.equals(SOURCE_SCHEMA)
    assert catalogue.shear["SUBTILE_ROW"].to_pylist() == [0, 0, 1]
    assert catalogue.shear["SUBTILE_COL"].to_pylist() == [0, 1, 0]
    assert catalogue.sources["OBJECT_ID"].to_pylist() == [1, 2, 101, 102, 201, 202]
    assert catalogue.without_shear() == []


def test_a_missing_sub_tile_is_named_with_its_log(folder):
    (folder / "11_0_1.parquet").unlink()
    with pytest.raises(InputError, match=r"no result for 1 of 3 .* 11_0_1 \(log: logs/11/11_0_1"):
        assemble_tile(PLANNED, folder, LOGS)


def test_an_empty_folder_names_all_sub_tiles(tmp_path):
    with pytest.raises(InputError, match=r"3 of 3 planned sub-tiles: 11_0_0 .* 11_0_1 .* 11_1_0"):
        assemble_tile(PLANNED, tmp_path, LOGS)


def test_two_results_of_one_sub_tile_are_refused_naming_both_files(folder):
    copy = RESULTS[1].write(folder, "again")
    with pytest.raises(InputError, match=f"{folder / '11_0_1.parquet'} and {copy}: both .* 11_0_1"):
        assemble_tile(PLANNED, folder, LOGS)


def test_results_of_an_earlier_plan_and_unfinished_files_are_left_out(folder):
    Result(SubTile(11, 7, 7), provenance={"config_hash": "b" * 64}).write(folder)
    (folder / ".11_0_0.parquet.123.tmp").write_bytes(b"half")
    (folder / ".11_0_0.parquet").write_bytes(b"half")
    assert assemble_tile(PLANNED, folder, LOGS).shear.num_rows == 3


def test_results_of_different_settings_are_refused(folder):
    Result(PLANNED[2], provenance={"config_hash": "b" * 64}).write(folder)
    expected = f"{folder / '11_0_0.parquet'} and {folder / '11_1_0.parquet'}: .* different settings"
    with pytest.raises(InputError, match=expected):
        assemble_tile(PLANNED, folder, LOGS)


def test_a_damaged_result_is_named(folder):
    (path := folder / "11_0_1.parquet").write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match=f"{path}: found a damaged file"):
        assemble_tile(PLANNED, folder, LOGS)


def test_sources_of_another_sub_tile_are_refused(folder):
    source = folder / "11_1_0_sources.parquet"
    source.replace(other := folder / "11_0_1_sources.parquet")
    with pytest.raises(InputError, match=f"{other}: found SUBTILE_ROW 1, expected SUBTILE_ROW 0"):
        assemble_tile(PLANNED[:2], folder, LOGS)


def test_sub_tiles_without_shear_are_rows_with_nulls_and_listed(tmp_path):
    empty = Result.without_shear(PLANNED[1], Status.NO_SOURCES)
    lost = Result(PLANNED[2], shear={"g1": 0.1, "g2": 0.2, "status": Status.NOT_CONVERGED})
    catalogue = tile_catalogue([RESULTS[0], empty, lost], tmp_path)
    _, without, unsure = catalogue.shear.to_pylist()
    assert without["STATUS"] == Status.NO_SOURCES
    assert {without[name] for name in ("G1", "G2", "G1_ERR", "G2_ERR", "CHI2")} == {None}
    assert (unsure["G1"], unsure["G1_ERR"]) == (pytest.approx(0.1), None)
    assert catalogue.without_shear() == [
        "11_0_1: NO_SOURCES, no usable galaxy in the core area",
        f"11_1_0: NOT_CONVERGED, {Status.NOT_CONVERGED.meaning}",
    ]


def test_common_metadata_stays_and_what_differs_becomes_a_list(folder):
    Result(PLANNED[2], provenance={"git_commit": "beef", "seed": 1}).write(folder)
    metadata = assemble_tile(PLANNED, folder, LOGS).shear.schema.metadata
    assert metadata[b"config_hash"] == b"a" * 64
    assert json.loads(metadata[b"git_commit"]) == ["beef", "c0ffee"]
    assert json.loads(metadata[b"seed"]) == ["0", "1"]
    [(what, digest)] = json.loads(metadata[b"input_hashes"]).items()
    assert what == "3 results" and len(digest) == 64


def test_what_was_left_out_is_added_up(tmp_path):
    for tile in (11, 12):
        results = [Result(SubTile(tile, 0, col)) for col in range(3)]
        tile_catalogue(results, tmp_path).write(tmp_path, str(tile))
    metadata = merge_tiles([11, 12], tmp_path).sources.schema.metadata
    expected = {"sources": {"spurious": 12, "low_snr": 0}, "pixels": {"flagged": 180}}
    assert json.loads(metadata[b"left_out"]) == expected


def test_the_digest_of_the_inputs_follows_each_of_them(folder):
    hashes = []
    for manifest in ("1", "2"):
        Result(PLANNED[2], provenance={"input_hashes": {"manifest": manifest}}).write(folder)
        catalogue = assemble_tile(PLANNED, folder, LOGS)
        hashes.append(catalogue.sources.schema.metadata[b"input_hashes"])
    assert hashes[0] != hashes[1]


def test_tiles_are_merged_into_one_catalogue_that_can_be_read_again(tmp_path):
    for tile in (12, 11):
        ids = {1000 * tile: Kind.GALAXY}
        tile_catalogue([Result(SubTile(tile, 0, 0), ids)], tmp_path).write(tmp_path, str(tile))
    paths = merge_tiles([12, 11], tmp_path).write(tmp_path / "new" / "folder", "shear")
    assert [path.name for path in paths] == ["shear.parquet", "shear_sources.parquet"]
    merged = read_catalogue(*paths)
    assert merged.shear["TILE_ID"].to_pylist() == [11, 12]
    assert merged.sources["OBJECT_ID"].to_pylist() == [11000, 12000]
    first = [path.read_bytes() for path in paths]
    merged.write(tmp_path / "new" / "folder", "shear")
    assert [path.read_bytes() for path in paths] == first


def test_a_core_source_in_two_tiles_is_refused(tmp_path):
    for tile in (11, 12):
        ids = {77: Kind.GALAXY}
        tile_catalogue([Result(SubTile(tile, 0, 0), ids)], tmp_path).write(tmp_path, str(tile))
    with pytest.raises(InputError, match="core source 77 2 times, expected once"):
        merge_tiles([11, 12], tmp_path)


def test_a_sub_tile_in_two_tiles_is_refused(tmp_path):
    catalogue = tile_catalogue([Result(SubTile(11, 0, 0))], tmp_path)
    for name in ("11", "12"):
        catalogue.write(tmp_path, name)
    with pytest.raises(InputError, match="sub-tile 11_0_0 2 times, expected once"):
        merge_tiles([11, 12], tmp_path)


def test_a_missing_or_damaged_tile_is_named(tmp_path):
    with pytest.raises(InputError, match=r"11\.parquet: found no readable table"):
        merge_tiles([11], tmp_path)
    (tmp_path / "11.parquet").write_bytes(b"half a file")
    with pytest.raises(InputError, match=r"11\.parquet: found no readable table"):
        merge_tiles([11], tmp_path)


def test_a_table_that_is_no_catalogue_is_named(tmp_path):
    catalogue = tile_catalogue([RESULTS[0]], tmp_path)
    shear, sources = catalogue.write(tmp_path, "shear")
    parquet.write_table(catalogue.shear.drop_columns("G2"), shear)
    with pytest.raises(InputError, match=rf"{shear}, column G2: found no such column"):
        read_catalogue(shear, sources)
    parquet.write_table(catalogue.shear.replace_schema_metadata({}), shear)
    with pytest.raises(InputError, match=rf"{shear}: found no metadata git_commit"):
        read_catalogue(shear, sources)
    wrong = catalogue.shear.set_column(0, "TILE_ID", pa.array(["11"]))
    parquet.write_table(wrong, shear)
    with pytest.raises(InputError, match="column TILE_ID: found string, expected int64"):
        read_catalogue(shear, sources)
