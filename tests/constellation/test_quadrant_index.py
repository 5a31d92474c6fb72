"""Reading of a large index just what lies about an area."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from constellation import sky_order
from constellation.plan import RADIANS_PER_ARCMIN
from constellation.quadrant_index import read_index
from constellation.sky_order import ROW_ORDER, corners_of, in_sky_order, write_index
from constellation.spherical import Polygons
from constellation.tiling import Grid
from shine.errors import InputError
from tests.benchmarks import footprints

N_FIELDS = 10
N_TILES = 25


@pytest.fixture(scope="module")
def rows() -> pa.Table:
    """Rows of a small survey about the south pole, in the order of exposures."""
    return footprints.survey(N_FIELDS)


@pytest.fixture
def path(rows, tmp_path, monkeypatch):
    """An index of it with many row groups."""
    monkeypatch.setattr(sky_order, "ROWS_PER_GROUP", 100)
    write_index(in_sky_order(rows), tmp_path / "quadrants.parquet")
    return tmp_path / "quadrants.parquet"


def areas_of(place: int) -> np.ndarray:
    grid = Grid(footprints.covered_tiles(N_TILES, N_FIELDS), place, (2, 2), RADIANS_PER_ARCMIN)
    none = np.empty((0, 3))
    return np.stack([grid.extended_corners(row, col, none) for row in (0, 1) for col in (0, 1)])


def named(table: pa.Table) -> list[tuple]:
    return list(zip(*(table[name].to_pylist() for name in ROW_ORDER), strict=True))


def test_what_overlaps_is_found_whatever_row_group_it_is_in(rows, path):
    index = read_index(path)
    polygons = Polygons(corners_of(rows))
    seen = 0
    for place in range(N_TILES):
        areas = areas_of(place)
        found = index.near(areas)
        assert named(found.table) == sorted(named(found.table))
        for area in areas:
            expected = named(rows.take(polygons.overlapping(area)))
            assert named(found.table.take(found.overlapping(area))) == expected
            seen += len(expected)
    assert seen > 1000


def test_little_is_read(path, monkeypatch):
    index = read_index(path)
    n_groups = parquet.read_metadata(path).num_row_groups
    read = []
    group = index._read_group
    monkeypatch.setattr(index, "_group", lambda number: read.append(number) or group(number))
    counts = []
    for place in range(N_TILES):
        read.clear()
        index.near(areas_of(place)[:1])
        counts.append(len(read))
    assert n_groups == 58
    assert 0 < np.mean(counts) < n_groups / 3


def test_a_huge_quadrant_is_found_far_from_its_centre(rows, tmp_path, monkeypatch):
    monkeypatch.setattr(sky_order, "ROWS_PER_GROUP", 100)
    [place] = np.flatnonzero(pa.compute.equal(rows["OBS_ID"], 3).to_numpy())[:1]
    index_of = corners_of(rows)
    centre = index_of[place].sum(axis=0)
    centre /= np.linalg.norm(centre)
    wide = centre + 40.0 * (index_of[place] - centre)
    wide /= np.linalg.norm(wide, axis=-1, keepdims=True)
    columns = {
        "RA_CORNERS": np.rad2deg(np.arctan2(wide[:, 1], wide[:, 0])) % 360.0,
        "DEC_CORNERS": np.rad2deg(np.arcsin(wide[:, 2])),
    }
    changed = rows
    for name, corners in columns.items():
        values = rows[name].combine_chunks().flatten().to_numpy().reshape(-1, 4).copy()
        values[place] = corners
        column = pa.FixedSizeListArray.from_arrays(values.reshape(-1), 4)
        changed = changed.set_column(rows.column_names.index(name), name, column)
    write_index(in_sky_order(changed), tmp_path / "quadrants.parquet")
    index = read_index(tmp_path / "quadrants.parquet")
    polygons, found = Polygons(corners_of(changed)), []
    for tile in range(N_TILES):
        [area, *_] = areas_of(tile)
        near = index.near(area[None])
        expected = named(changed.take(polygons.overlapping(area)))
        assert named(near.table.take(near.overlapping(area))) == expected
        found.append(named(changed)[place] in expected)
    assert sum(found) > 2


def test_where_nothing_was_seen_nothing_is_found(path):
    found = read_index(path).near(-areas_of(0))
    assert len(found.table) == 0
    assert found.overlapping(-areas_of(0)[0]).tolist() == []


def test_the_order_of_the_rows_does_not_matter(rows, path, tmp_path):
    shuffled = rows.take(np.random.default_rng(1).permutation(len(rows)))
    write_index(in_sky_order(shuffled), tmp_path / "other.parquet")
    assert (tmp_path / "other.parquet").read_bytes() == path.read_bytes()


def test_a_row_group_names_just_its_own_files(path):
    frames = set(parquet.ParquetFile(path).read_row_group(0, ["FRAME"])["FRAME"].to_pylist())
    group = parquet.read_metadata(path).row_group(0)
    [column] = [i for i in range(group.num_columns) if group.column(i).path_in_schema == "FRAME"]
    assert group.column(column).total_uncompressed_size < 150 * len(frames) + 500


def test_an_index_of_an_earlier_version_is_named(rows, tmp_path):
    parquet.write_table(rows, tmp_path / "old.parquet")
    message = r"old\.parquet, column \w+: found .* expected .* Build the index again"
    with pytest.raises(InputError, match=message):
        read_index(tmp_path / "old.parquet")


def test_an_index_that_something_else_rewrote_is_named(path, tmp_path):
    table = parquet.read_table(path).replace_schema_metadata(None)
    parquet.write_table(table, tmp_path / "other.parquet")
    with pytest.raises(InputError, match=r"other\.parquet, metadata: found no largest_radius_rad"):
        read_index(tmp_path / "other.parquet")


def test_an_empty_index_finds_nothing(rows, tmp_path):
    write_index(in_sky_order(rows[:0]), tmp_path / "none.parquet")
    assert len(read_index(tmp_path / "none.parquet").near(areas_of(0)).table) == 0
