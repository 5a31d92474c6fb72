"""Parts of a survey: disjoint, complete, and ranges of the tile list."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from constellation.config import TilingConfig, load_config
from constellation.plan import Plan
from constellation.run_layout import Run
from constellation.shards import Shard
from shine.errors import ConfigurationError, InputError

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
