"""Every source is core exactly once, and extended in all sub-tiles that need it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from constellation.tiling import (
    RADIANS_PER_ARCMIN,
    Grid,
    TangentPlane,
    Tiles,
    unit_vectors,
)
from shine.errors import InputError

MARGIN = 1.0 * RADIANS_PER_ARCMIN
N_SOURCES = 300


@st.composite
def surveys(draw):
    """An irregular tile list and sources around it, also at the poles and across 0h."""
    ra0 = draw(st.sampled_from([0.0, 359.9, 123.4, 180.0]))
    dec0 = draw(st.sampled_from([-90.0, -89.8, -51.0, 0.0, 47.3, 89.6, 90.0]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n_tiles = draw(st.integers(1, 9))
    plane = TangentPlane.at(ra0, dec0)
    spacing = 0.5 * np.pi / 180.0
    cells = np.array([(i, j) for i in range(3) for j in range(3)])[:n_tiles] - 1.0
    cells += draw(st.sampled_from([0.0, 0.2])) * rng.normal(size=cells.shape)
    centres = plane.unproject(*(cells.T * spacing))
    spread = draw(st.sampled_from([0.4, 1.0])) * np.pi / 180.0
    vectors = plane.unproject(*(rng.normal(size=(2, N_SOURCES)) * spread))
    index = rng.permutation(1000)[:n_tiles]
    shape = draw(st.sampled_from([(1, 1), (2, 3), (4, 4), (12, 12)]))
    return Tiles.from_columns(index, *angles(centres)), vectors, shape


def angles(vectors):
    """Right ascension and declination, deg."""
    ra = np.mod(np.rad2deg(np.arctan2(vectors[:, 1], vectors[:, 0])), 360.0)
    return ra, np.rad2deg(np.arctan2(vectors[:, 2], np.hypot(vectors[:, 0], vectors[:, 1])))


def core_counts(tiles, vectors, shape):
    count = np.zeros(len(vectors), int)
    for place in range(len(tiles.index)):
        rows, cols = Grid(tiles, place, shape, MARGIN).core_cells(vectors)
        count += rows >= 0
        inside = rows >= 0
        assert (rows[inside] < shape[0]).all() and (cols[inside] < shape[1]).all()
        assert ((rows < 0) == (cols < 0)).all()
    return count


@settings(max_examples=60, deadline=None)
@given(surveys())
def test_each_source_is_core_exactly_once(survey):
    assert (core_counts(*survey) == 1).all()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5))
def test_sources_anywhere_on_the_sphere_are_core_exactly_once(seed, n_tiles):
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(500, 3))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    tiles = Tiles.from_columns(range(n_tiles), *angles(vectors[:n_tiles]))
    assert (core_counts(tiles, vectors, (3, 5)) == 1).all()


@settings(max_examples=40, deadline=None)
@given(surveys())
def test_core_sources_are_extended_in_their_own_sub_tile(survey):
    tiles, vectors, shape = survey
    for place in range(len(tiles.index)):
        grid = Grid(tiles, place, shape, 0.0)
        rows, cols = grid.core_cells(vectors)
        in_row, in_col = grid.extended_cells(vectors)
        own = np.flatnonzero(rows >= 0)
        assert in_row[own, rows[own]].all() and in_col[own, cols[own]].all()


@settings(max_examples=40, deadline=None)
@given(surveys(), st.integers(0, 2**32 - 1))
def test_neighbours_within_the_margin_are_extended(survey, seed):
    """Move each source by less than the margin: it stays extended where it was core."""
    tiles, vectors, shape = survey
    rng = np.random.default_rng(seed)
    step = rng.normal(size=vectors.shape)
    step -= (step * vectors).sum(1, keepdims=True) * vectors
    step /= np.linalg.norm(step, axis=1, keepdims=True)
    angle = rng.uniform(0.0, 0.999, (len(vectors), 1)) * MARGIN
    moved = np.cos(angle) * vectors + np.sin(angle) * step
    for place in range(len(tiles.index)):
        grid = Grid(tiles, place, shape, MARGIN)
        rows, cols = grid.core_cells(vectors)
        in_row, in_col = grid.extended_cells(moved)
        own = np.flatnonzero(rows >= 0)
        assert in_row[own, rows[own]].all() and in_col[own, cols[own]].all()


@settings(max_examples=20, deadline=None)
@given(surveys(), st.randoms(use_true_random=False))
def test_the_order_of_the_tile_list_does_not_matter(survey, random):
    tiles, vectors, shape = survey
    order = list(range(len(tiles.index)))
    random.shuffle(order)
    other = Tiles.from_columns(tiles.index[order], tiles.ra[order], tiles.dec[order])
    for place in range(len(tiles.index)):
        first, second = (Grid(t, place, shape, MARGIN) for t in (tiles, other))
        assert first.tile_id == second.tile_id
        np.testing.assert_array_equal(first.core_cells(vectors), second.core_cells(vectors))


def test_extended_areas_end_a_margin_beyond_the_border():
    tiles = Tiles.from_columns([1, 2], [10.0, 10.5], [0.0, 0.0])
    arcmin = np.array([-1.5, -0.5, 0.5, 1.5])
    vectors = unit_vectors(10.25 + arcmin / 60.0, np.zeros(4))
    rows, cols = (Grid(tiles, 0, (1, 1), MARGIN).extended_cells(vectors)[n][:, 0] for n in (0, 1))
    assert (rows & cols).tolist() == [True, True, True, False]


def test_rows_grow_north_and_columns_grow_east():
    tiles = Tiles.from_columns([7], [0.0], [0.0])
    grid = Grid(tiles, 0, (3, 3), MARGIN)
    north, east = unit_vectors([0.0, 0.2], [0.2, 0.0])
    assert np.array(grid.core_cells(np.array([north]))).ravel().tolist() == [2, 1]
    assert np.array(grid.core_cells(np.array([east]))).ravel().tolist() == [1, 2]


@pytest.mark.parametrize("dec", [-90.0, -51.0, 0.0, 89.99])
def test_box_corners_hold_the_cell_and_its_margin(dec):
    tiles = Tiles.from_columns([7], [0.0], [dec])
    grid = Grid(tiles, 0, (4, 4), MARGIN)
    inner = grid.plane.project(grid.core_corners(1, 2))
    outer = grid.plane.project(grid.extended_corners(1, 2, np.empty((0, 3))))
    for small, large in zip(inner, outer, strict=True):
        assert large.min() == pytest.approx(small.min() - MARGIN, rel=2e-3)
        assert large.max() == pytest.approx(small.max() + MARGIN, rel=2e-3)
    far = grid.plane.unproject(np.array([0.02]), np.array([0.0]))
    stretched, _ = grid.plane.project(grid.extended_corners(1, 2, far))
    assert stretched.max() == pytest.approx(0.02)


@pytest.mark.parametrize(
    ("index", "ra", "dec", "message"),
    [
        ([1, 1], [0.0, 1.0], [0.0, 0.0], "tile_index 1 is listed more than once"),
        ([1, 2], [0.0, 360.0], [5.0, 5.0], "tiles 1 and 2 share one centre"),
        ([1], [0.0], [91.0], "tile 1 has the centre"),
        ([], [], [], "no tile"),
    ],
)
def test_bad_tile_lists_are_refused(index, ra, dec, message):
    with pytest.raises(InputError, match=message):
        Tiles.from_columns(index, ra, dec)
