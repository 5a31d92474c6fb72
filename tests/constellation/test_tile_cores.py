"""HEALPix cells as ranges: overlaps, nested cells, numbers that are no cell's."""

from __future__ import annotations

import numpy as np
import pytest
from astropy_healpix import healpix_to_xyz, level_ipix_to_uniq
from hypothesis import given, settings
from hypothesis import strategies as st

from constellation.tile_cores import (
    NOBODY,
    CoreRanges,
    TileCores,
    levels_and_cells,
    outlines,
)
from shine.errors import InputError

EDGES = st.lists(st.tuples(st.integers(0, 60), st.integers(1, 20), st.integers(0, 5)), max_size=30)


@settings(max_examples=300)
@given(EDGES)
def test_any_ranges_become_disjoint_ones_of_the_smallest_owners(given_ranges):
    expected = np.full(100, 99)
    for start, length, owner in given_ranges:
        expected[start : start + length] = np.minimum(expected[start : start + length], owner)
    start, length, owner = np.array(given_ranges, dtype=np.int64).reshape(-1, 3).T
    ranges = CoreRanges.of(start, start + length, owner)
    found = np.full(100, 99)
    for begin, end, holder in zip(ranges.start, ranges.end, ranges.owner, strict=True):
        assert (found[begin:end] == 99).all()  # disjoint
        found[begin:end] = holder
    np.testing.assert_array_equal(found, expected)
    assert len(ranges.start) == np.count_nonzero(np.diff(expected, prepend=99) * (expected != 99))


def test_positions_are_found_in_cells_of_all_levels():
    levels = np.array([0, 1, 5, 13, 29, 29])
    cells = np.array([11, 47, 0, 777, 12 * 4**29 - 5 * 4**28, 3])
    nuniq = level_ipix_to_uniq(levels, cells)
    np.testing.assert_array_equal(levels_and_cells(nuniq), [levels, cells])
    for level, cell, number in zip(levels, cells, nuniq, strict=True):
        centre = np.array(healpix_to_xyz(cell, 2**level, order="nested"))
        ranges = TileCores.from_lists([[number]]).ranges(np.array([0]))
        assert ranges.owners(np.stack([centre, -centre])).tolist() == [0, NOBODY]


def test_outlines_run_around_the_cell():
    [points] = outlines(np.array([level_ipix_to_uniq(3, 500)]), 4)
    assert points.shape == (16, 3)
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), 1.0, rtol=1e-12)
    centre = np.array(healpix_to_xyz(500, 8, order="nested"))
    angle = np.arccos(points @ centre)
    assert angle.min() > 0.03 and angle.max() < 0.15
    steps = np.linalg.norm(np.diff(points, axis=0, append=points[:1]), axis=1)
    assert steps.max() < 2.0 * steps.min()  # in order, without jumps


@pytest.mark.parametrize("number", [0, 3, -7, 4**31])
def test_numbers_of_no_cell_are_refused(number):
    with pytest.raises(InputError, match=f"{number} is no NUNIQ number"):
        TileCores.from_lists([[16], [number]])
