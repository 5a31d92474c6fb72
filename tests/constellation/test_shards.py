"""Parts of a survey: disjoint, complete, and ranges of the tile list."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from constellation.catalog_assembler import check_complete, merge_tiles
from constellation.config import TilingConfig, load_config
from constellation.plan import Plan, SubTile
from constellation.run_layout import Run
from constellation.shards import Shard
from shine.errors import ConfigurationError, InputError
from shine.euclid.catalog import Kind

from .fake_results import Result, tile_catalogue

TILES = [(12, 10.5, 0.0), (11, 10.0, 0.0), (13, 50.0, 0.0), (14, 11.0, 0.0)]
NEAR_11 = {"ra": 10.25, "dec": 0.0, "width_arcmin": 60.0, "height_arcmin": 30.0}


@pytest.fixture
def tiling(tmp_path):
    rows = [",".join(map(str, row)) for row in TILES]
    (tmp_path / "tiles.csv").write_text("\n".join(["tile_index,ra,dec", *rows, ""]))
    return TilingConfig(tiles=tmp_path / "tiles.csv", sub_tile_grid=(1, 2))


@given(n=st.integers(0, 500), of=st.integers(1, 90))
def test_the_shards_are_ranges_that_hold_each_item_once(n, of):
    parts = [Shard(number, of).of_items(range(n)) for number in range(1, of + 1)]
    assert [item for part in parts for item in part] == list(range(n))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_a_shard_plans_some_tiles_as_the_whole_survey_does(tiling):
    whole = Plan.from_config(tiling)
    parts = [Plan.from_config(tiling, Shard(number, 3)) for number in (1, 2, 3)]
    assert [part.tile_ids for part in parts] == [[11], [12], [13, 14]]
    assert [subtile for part in parts for subtile in part.subtiles] == whole.subtiles
    assert parts[0].catalogue_tiles(11) == whole.catalogue_tiles(11) == [11, 12]
    assert 12 not in parts[0].by_tile and 12 in whole.by_tile


def test_the_shards_of_an_area_hold_its_sub_tiles(tiling):
    area = tiling.model_copy(update={"area": load_config(config_of(tiling, NEAR_11)).tiling.area})
    whole = Plan.from_config(area)
    assert whole.tile_ids == [11, 12]
    parts = [Plan.from_config(area, Shard(number, 2)) for number in (1, 2)]
    assert [subtile for part in parts for subtile in part.subtiles] == whole.subtiles
    assert [part.tile_ids for part in parts] == [[11], [12]]


def test_more_shards_than_tiles_are_refused(tiling):
    with pytest.raises(InputError, match="shard 1/9: found no tile, for only 4 are planned"):
        Plan.from_config(tiling, Shard(1, 9))


def config_of(tiling, area=None, **sections):
    planned = {"tiles": str(tiling.tiles), "sub_tile_grid": [1, 2], "area": area}
    return {"tiling": planned, "data": {"survey": "nowhere"}} | sections


@pytest.mark.parametrize("name", ["0/3", "4/3", "3", "1/0", "a/b", "1/2/3", " 1/2"])
def test_a_shard_that_is_none_is_refused(tiling, name):
    with pytest.raises(ConfigurationError, match=r"shard: .*such as 3/60, or merge"):
        Run.from_config(config_of(tiling, shard=name))


def test_what_a_run_makes_and_looks_at_follows_from_the_shard(tiling):
    run = Run.from_config(config_of(tiling, shard="2/3"))
    assert (run.is_whole, run.merges_only, run.shard) == (False, False, Shard(2, 3))
    assert run.tile_catalogues() == [
        "results/tiles/12.parquet",
        "results/tiles/12_sources.parquet",
    ]
    merging = Run.from_config(config_of(tiling, shard="merge"))
    assert (merging.is_whole, merging.merges_only, merging.shard) == (False, True, None)
    assert merging.plan.tile_ids == [11, 12, 13, 14]
    assert merging.survey.exposures == []  # nobody looks for the folder


def test_a_merge_holds_the_planned_sub_tiles_and_no_others(tmp_path, tiling):
    for tile in (11, 12):
        results = [Result(SubTile(tile, 0, col), {100 * tile + col: Kind.GALAXY}) for col in (0, 1)]
        tile_catalogue(results, tmp_path).write(tmp_path / "tiles", str(tile))
    folder: Path = tmp_path / "tiles"
    merged = merge_tiles([11, 12], folder)
    planned = Plan.from_config(tiling).subtiles[:4]
    check_complete(merged, planned, folder)
    with pytest.raises(InputError, match=r"1 sub-tiles missing, 0 that are not.*no 13_0_0"):
        check_complete(merged, [*planned, SubTile(13, 0, 0)], folder)
    with pytest.raises(InputError, match=r"0 sub-tiles missing, 1 that are not.*also 12_0_1"):
        check_complete(merged, planned[:3], folder)


def test_the_command_that_merges_refuses_an_incomplete_tile(tmp_path, tiling, capsys):
    from constellation.cli import main

    for tile, columns in ((11, 2), (12, 1), (13, 2), (14, 2)):
        results = [
            Result(SubTile(tile, 0, col), {100 * tile + col: Kind.GALAXY}) for col in range(columns)
        ]
        tile_catalogue(results, tmp_path).write(tmp_path / "tiles", str(tile))
    planned = json.dumps({"tiles": str(tiling.tiles), "sub_tile_grid": [1, 2]})
    places = ["--input", str(tmp_path / "tiles"), "--output", str(tmp_path / "catalogue")]
    assert main(["assemble", "--tiling", planned, *places]) == 3
    assert "1 sub-tiles missing, 0 that are not planned (no 12_0_1)" in capsys.readouterr().err
    assert not (tmp_path / "catalogue").exists()
