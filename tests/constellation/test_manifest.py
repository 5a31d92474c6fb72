"""Manifests of the sub-tiles of two neighbouring tiles."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from constellation.config import TilingConfig
from constellation.discovery import build_index
from constellation.manifest import TileFiles, build_manifests, check_unique, write_manifests
from constellation.mer_catalogue import read_sources
from constellation.plan import Plan
from constellation.quadrant_index import read_index
from constellation.sky_order import write_index
from constellation.survey_files import (
    list_catalogues,
    list_exposure_files,
    match_catalogues,
    match_exposures,
)
from constellation.tile_lists import read_tiles
from shine.errors import InputError
from shine.manifest import read_manifest

from .fake_survey import positions, write_catalogue, write_exposure, write_weight

TILES = "tile_index,ra,dec\n11,359.75,0.0\n12,0.25,0.0\n"
N_PER_TILE = 400


@pytest.fixture
def survey(tmp_path, monkeypatch):
    """Two tiles that share the border at 0h, sources over both, one quadrant on the border."""
    monkeypatch.chdir(tmp_path)
    Path("tiles.csv").write_text(TILES)
    rng = np.random.default_rng(3)
    for tile, ra0 in ((11, 359.75), (12, 0.25)):
        ra, dec = rng.uniform(-0.25, 0.25, (2, N_PER_TILE))
        object_id = tile * 1000 + np.arange(N_PER_TILE)
        write_catalogue(Path("data"), tile, positions(object_id, (ra0 + ra) % 360.0, dec))
    write_exposure(Path("data"), 0, {"1-1.E": (0.0, 0.0), "2-2.F": (0.2, 0.2)})
    return Path("data")


def manifests_of(tile, plan, survey, folder, **others):
    exposures = match_exposures(list_exposure_files(survey), [1])
    index_path = Path("results/index/quadrants.parquet")
    write_index(build_index(exposures, index_path.parent), index_path)
    files = TileFiles(match_catalogues(list_catalogues(survey)), **others)
    return build_manifests(plan, tile, read_index(index_path), files, folder)


def plan_of(**changes):
    settings = {"tiles": "tiles.csv", "sub_tile_grid": (2, 2), "margin_arcmin": 1.0}
    return Plan.from_config(TilingConfig(**(settings | changes)))


def test_sources_are_core_once_and_extended_across_the_border(survey):
    plan = plan_of()
    folder = Path("results/manifests")
    manifests = [m for tile in (11, 12) for m in manifests_of(tile, plan, survey, folder / "x")]
    core = [object_id for m in manifests for object_id in m.core_source_ids]
    assert len(core) == len(set(core)) == 2 * N_PER_TILE
    western = [m for m in manifests if m.tile_id == 11 and m.sub_tile_col == 1]
    for manifest in western:
        foreign = [object_id for object_id in manifest.source_ids if object_id // 1000 == 12]
        assert 0 < len(foreign) < 20
        assert len(manifest.catalogs) == 2
        ra_low, ra_high = manifest.sky_bounds.extended_ra
        assert ra_low > ra_high  # across 0h
    [middle] = [m for m in manifests if m.stem == "11_0_0"]
    assert middle.catalogs == ("../../../data/MER/" + next(survey.glob("MER/*11-*")).name,)


def test_only_quadrants_that_overlap_are_listed(survey):
    listed = {
        m.stem: [files.quadrant for files in m.quadrants]
        for m in manifests_of(12, plan_of(), survey, Path("results/manifests"))
    }
    assert listed == {"12_0_0": ["1-1.E"], "12_0_1": [], "12_1_0": ["1-1.E", "2-2.F"]} | {
        "12_1_1": ["2-2.F"] if listed["12_1_1"] else []
    }


def test_weights_are_named_where_there_are_some(survey):
    folder = Path("results/manifests/12")
    write_exposure(survey, 1, {"1-1.E": (0.0, 0.0)})
    weight = write_weight(survey, 1, ["1-1.E"])
    [manifest, *_] = write_manifests(manifests_of(12, plan_of(), survey, folder), folder)
    first, second = read_manifest(manifest).quadrants
    assert first.wgt_path is None
    assert Path(second.wgt_path).resolve() == weight.resolve()
    assert manifest.read_text().count("wgt_path") == 1  # null is not written


def test_other_mer_products_are_those_of_the_catalogues_tiles(survey):
    folder = Path("results/manifests/x")
    plain = manifests_of(11, plan_of(), survey, folder)
    assert {(m.morphology_catalog, m.segmentation_map) for m in plain} == {(None, None)}
    others = {
        "morphology": {11: Path("data/MER/m11"), 12: Path("data/MER/m12")},
        "segmentation": {11: "s3://x/s11", 12: "s3://x/s12"},
    }
    manifests = manifests_of(11, plan_of(), survey, folder, **others)
    seen = set()
    for manifest in manifests:
        tiles = tuple(path.partition("TILE")[2][:2] for path in manifest.catalogs)
        assert manifest.morphology_catalogs == tuple(f"../../../data/MER/m{n}" for n in tiles)
        assert manifest.segmentation_maps == tuple(f"s3://x/s{n}" for n in tiles)
        seen.add(tiles)
    assert seen == {("11",), ("11", "12")}
    one = {"segmentation": {11: "s3://x/s11", 12: "s3://x/s12"}}
    manifest = manifests_of(11, plan_of(), survey, folder, **one)[0]
    assert manifest.morphology_catalogs == () != manifest.segmentation_maps


def test_a_moved_project_keeps_working(survey, tmp_path):
    folder = Path("results/manifests/12")
    paths = write_manifests(manifests_of(12, plan_of(), survey, folder), folder)
    moved = tmp_path.parent / f"{tmp_path.name}-moved"
    shutil.copytree(tmp_path, moved)
    manifest = read_manifest(moved / paths[0])
    for path in (*manifest.catalogs, manifest.quadrants[0].sci_path):
        assert Path(path).resolve().is_relative_to(moved)
        assert Path(path).exists()


def test_manifests_are_deterministic(survey):
    folder = Path("results/manifests/12")
    paths = write_manifests(manifests_of(12, plan_of(), survey, folder), folder)
    first = [path.read_bytes() for path in paths]
    write_manifests(manifests_of(12, plan_of(), survey, folder), folder)
    assert [path.read_bytes() for path in paths] == first


def test_a_sub_tile_without_sources_or_quadrants_is_valid(survey):
    write_catalogue(survey, 12, positions(np.array([12001]), np.array([0.1]), np.array([0.1])))
    manifests = manifests_of(12, plan_of(sub_tile_grid=(4, 4)), survey, Path("m"))
    assert len(manifests) == 16
    empty = [m for m in manifests if not m.source_ids and not m.quadrants]
    assert empty
    for path in write_manifests(empty, Path("m")):
        assert read_manifest(path).core_source_ids == []


def test_an_area_limits_the_plan(survey):
    area = {"ra": 0.0, "dec": 0.0, "width_arcmin": 20.0, "height_arcmin": 20.0}
    plan = plan_of(area=area)
    assert [s.stem for s in plan.subtiles] == ["11_0_1", "11_1_1", "12_0_0", "12_1_0"]
    assert list(plan.cell_sets.values()) == [[11], [12]]
    with pytest.raises(InputError, match=r"tiles\.csv: no sub-tile has its centre in tiling\.area"):
        plan_of(area=area | {"dec": 45.0})


def test_two_manifests_of_one_sub_tile_are_refused(survey):
    folder = Path("m")
    paths = write_manifests(manifests_of(12, plan_of(), survey, folder), folder)
    check_unique(paths)
    shutil.copy(paths[0], copy := folder / "other.yaml")
    with pytest.raises(InputError, match=rf"{paths[0]} and {copy}: both .* 12_0_0"):
        check_unique([*paths, copy])


def test_columns_are_found_in_either_case_and_missing_ones_named(survey):
    columns = positions(np.array([1, 2]), np.array([0.1, np.nan]), np.array([0.0, 0.0]))
    lower = {name.lower(): values for name, values in columns.items()}
    sources = read_sources([write_catalogue(survey, 12, lower)])
    assert sources.object_id.tolist() == [1]  # the other has no position
    del columns["DECLINATION"]
    path = write_catalogue(survey, 12, columns)
    with pytest.raises(InputError, match=rf"{path.name}.*no column DECLINATION"):
        read_sources([path])


def test_a_source_in_two_catalogues_counts_for_the_first(survey):
    first = write_catalogue(survey, 11, positions(np.array([5]), np.array([1.0]), np.array([0.0])))
    second = write_catalogue(
        survey, 12, positions(np.array([4, 5]), np.array([2.0, 2.0]), np.array([0.0, 0.0]))
    )
    sources = read_sources([first, second])
    assert sources.object_id.tolist() == [4, 5]
    assert sources.catalogue.tolist() == [1, 0]


def test_a_tile_list_without_a_column_is_named(tmp_path):
    (path := tmp_path / "tiles.csv").write_text("tile,ra,dec\n1,2,3\n")
    with pytest.raises(InputError, match=rf"{path}, column tile_index: found only tile, ra, dec"):
        read_tiles(path)
    (path := tmp_path / "tiles.csv").write_text("tile_index,ra,dec\n1,x,3\n")
    with pytest.raises(InputError, match=str(path)):
        read_tiles(path)
