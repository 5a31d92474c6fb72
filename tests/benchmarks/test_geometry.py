"""The benchmark of the geometry does what it times; how fast, a busy machine cannot say."""

import numpy as np
import pytest

from constellation.sphere import unit_vectors
from constellation.tiling import Grid, Tiles
from tests.benchmarks import geometry


@pytest.mark.parametrize("core_level", [None, 10])
def test_the_whole_survey_at_once_is_the_same_as_tile_by_tile(monkeypatch, core_level):
    monkeypatch.setattr("constellation.assignment.CHUNK", 1000)  # several, the last one smaller
    found = geometry.measure(300, 12_345, 2, core_level)
    tiles = geometry.first_tiles(300)
    if core_level:
        tiles = Tiles(*vars_of(tiles), geometry.nearest_cores(tiles, core_level))
    vectors = unit_vectors(*geometry.sources_on(tiles, 12_345))
    tile_index, row, col = found.assignment
    seen = np.zeros(len(vectors), int)
    for place in range(0, 300, 7):
        rows, cols = Grid(tiles, place, geometry.SHAPE, 0.0).core_cells(vectors)
        own = tile_index == tiles.index[place]
        seen += own
        np.testing.assert_array_equal(np.where(own, row, -1), rows)
        np.testing.assert_array_equal(np.where(own, col, -1), cols)
    assert seen.sum() > 1000
    assert found.figures["assign_s"] > 0 and found.figures["extended_ms_per_tile"] > 0
    assert found.figures["peak_mb"] >= found.figures["before_mb"] > 0


def test_the_cores_of_the_benchmark_follow_the_nearest_centres():
    tiles = geometry.first_tiles(300)
    cores = Tiles(*vars_of(tiles), geometry.nearest_cores(tiles, 10))
    vectors = unit_vectors(*geometry.sources_on(tiles, 5000))
    same = cores.owners(vectors) == tiles.owners(vectors)
    assert 0.8 < same.mean() < 1.0  # cells of 3 arcmin on either side of the borders


def vars_of(tiles):
    return tiles.index, tiles.ra, tiles.dec
