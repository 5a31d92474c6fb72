"""All sources at once, against all tiles."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from constellation.assignment import assign
from constellation.sphere import unit_vectors
from shine.errors import InputError

from .skies import SKY, angles, skies


@settings(max_examples=40)
@given(skies())
def test_a_source_is_assigned_to_the_one_sub_tile_whose_grid_has_it_as_core(sky):
    ra, dec = angles(sky.vectors)
    found = assign(sky.tiles, ra, dec, sky.shape, threads=2)
    assert found.row.dtype == found.col.dtype == np.int8
    vectors = unit_vectors(ra, dec)  # through degrees and back, sources move by rounding errors
    for grid in sky.grids():
        row, col = grid.core_cells(vectors)
        own = found.tile_index == grid.tile_id
        np.testing.assert_array_equal(np.where(own, found.row, -1), row)
        np.testing.assert_array_equal(np.where(own, found.col, -1), col)


def test_positions_that_are_none_are_named():
    with pytest.raises(InputError, match=r"source 2 is at \(nan, 0\.0\)"):
        assign(SKY, [0.0, 1.0, np.nan], np.zeros(3), (1, 1))


def test_no_sources_are_no_error():
    assert all(len(column) == 0 for column in assign(SKY, [], [], (4, 4)))
