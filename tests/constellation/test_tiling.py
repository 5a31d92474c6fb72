"""Every source is core exactly once, and extended in all sub-tiles that need it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from constellation.sphere import RADIANS_PER_ARCMIN, unit_vectors
from constellation.tiling import Grid, Tiles
from shine.errors import InputError

from .skies import Sky, angles, holders, skies

MARGIN = 1.0 * RADIANS_PER_ARCMIN


def check_core_once(sky):
    count = np.zeros(len(sky.vectors), int)
    for grid in sky.grids():
        row, col = grid.core_cells(sky.vectors)
        inside = row >= 0
        count += inside
        assert (row[inside] < sky.shape[0]).all() and (col[inside] < sky.shape[1]).all()
        assert (inside == (col >= 0)).all()
    assert (count == 1).all()


@settings(max_examples=80)
@given(skies())
def test_each_source_is_core_exactly_once(sky):
    check_core_once(sky)


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5))
def test_sources_anywhere_on_the_sphere_are_core_exactly_once(seed, n_tiles):
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(500, 3))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    tiles = Tiles.from_columns(range(n_tiles), *angles(vectors[:n_tiles]))
    check_core_once(Sky(tiles, vectors, (3, 5), MARGIN))


@settings(max_examples=80)
@given(skies(st.just(True)))
def test_a_core_owns_what_it_holds_and_the_nearest_centre_the_rest(sky):
    held = holders(sky.tiles, sky.vectors)
    nearest = np.argmax(sky.vectors @ sky.tiles.centres.T, axis=1)
    lowest = np.argmax(held, axis=1)  # tiles are sorted by index
    expected = np.where(held.any(axis=1), lowest, nearest)
    np.testing.assert_array_equal(sky.tiles.owners(sky.vectors), expected)


@settings(max_examples=30)
@given(skies())
def test_where_a_source_is_core_depends_on_no_other_source(sky):
    """Those of one catalogue, or of the whole survey: near tiles, or all, are searched."""
    everywhere = np.random.default_rng(1).normal(size=(20, 3))
    everywhere /= np.linalg.norm(everywhere, axis=1, keepdims=True)
    together = sky.tiles.cells(np.concatenate([sky.vectors, everywhere]), sky.shape)
    for n in range(0, len(sky.vectors), 7):
        alone = sky.tiles.cells(sky.vectors[n : n + 1], sky.shape)
        assert [int(column[n]) for column in together] == [int(column[0]) for column in alone]


@settings(max_examples=60)
@given(skies())
def test_core_sources_are_extended_in_their_own_sub_tile(sky):
    for grid in replace(sky, margin_rad=0.0).grids():
        row, col = grid.core_cells(sky.vectors)
        in_row, in_col = grid.extended_cells(sky.vectors)
        own = np.flatnonzero(row >= 0)
        assert in_row[own, row[own]].all() and in_col[own, col[own]].all()


@settings(max_examples=60)
@given(skies(), st.integers(0, 2**32 - 1))
def test_neighbours_within_the_margin_are_extended(sky, seed):
    """Move each source by less than the margin: it stays extended where it was core."""
    rng = np.random.default_rng(seed)
    step = rng.normal(size=sky.vectors.shape)
    step -= (step * sky.vectors).sum(1, keepdims=True) * sky.vectors
    step /= np.linalg.norm(step, axis=1, keepdims=True)
    angle = rng.uniform(0.0, 0.999, (len(step), 1)) * sky.margin_rad
    moved = np.cos(angle) * sky.vectors + np.sin(angle) * step
    for grid in sky.grids():
        row, col = grid.core_cells(sky.vectors)
        in_row, in_col = grid.extended_cells(moved)
        own = np.flatnonzero(row >= 0)
        assert in_row[own, row[own]].all() and in_col[own, col[own]].all()


@settings(max_examples=40)
@given(skies(st.just(False)))
def test_none_is_extended_that_is_further_than_the_margin_from_a_border(sky):
    for grid in sky.grids():
        in_row, in_col = grid.extended_cells(sky.vectors)
        member = in_row.any(axis=1) & in_col.any(axis=1)
        own = sky.tiles.centres[grid.place]
        nearest = np.argmax(sky.vectors @ sky.tiles.centres.T, axis=1)
        foreign = member & (nearest != grid.place)
        towards = sky.tiles.centres[nearest[foreign]] - own
        towards /= np.linalg.norm(towards, axis=1, keepdims=True)
        cosine = (sky.vectors[foreign] * towards).sum(axis=1)
        assert (np.pi / 2 - np.arccos(cosine) <= sky.margin_rad + 1e-9).all()
        half = np.deg2rad(0.25)
        for axis, members in ((grid.plane.north, in_row), (grid.plane.east, in_col)):
            along = np.arctan2(sky.vectors @ axis, sky.vectors @ grid.plane.centre)[:, None]
            n_cells = members.shape[1]
            border = np.arctan(np.tan(half) * (2 * np.arange(1, n_cells) / n_cells - 1))
            # angles at the centre, 1 % more than the distances to the great circles at most
            reach = 1.01 * sky.margin_rad
            assert not (members[:, 1:] & (along < border - reach)).any()
            assert not (members[:, :-1] & (along > border + reach)).any()


@settings(max_examples=30)
@given(skies(), st.randoms(use_true_random=False))
def test_the_order_of_the_tile_list_does_not_matter(sky, random):
    order = list(range(len(sky.tiles.index)))
    random.shuffle(order)
    columns = (column[order] for column in (sky.tiles.index, sky.tiles.ra, sky.tiles.dec))
    cores = sky.tiles.cores and sky.tiles.cores.take(np.array(order))
    other = replace(sky, tiles=Tiles.from_columns(*columns, cores))
    for first, second in zip(sky.grids(), other.grids(), strict=True):
        assert first.tile_id == second.tile_id
        np.testing.assert_array_equal(first.core_cells(sky.vectors), second.core_cells(sky.vectors))


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
