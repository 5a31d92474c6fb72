"""Convex polygons on the sphere, judged as sphgeom does one by one."""

from __future__ import annotations

import numpy as np
import pytest
from lsst import sphgeom

from constellation.spherical import Polygons, convex_polygon
from constellation.tiling import RADIANS_PER_ARCMIN, TangentPlane, unit_vectors
from tests.benchmarks import footprints


def box(ra, dec, size_arcmin):
    half = size_arcmin / 2.0 * RADIANS_PER_ARCMIN
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half
    return TangentPlane.at(ra, dec).unproject(*corners.T)


def test_overlaps_are_those_of_sphgeom_at_poles_at_0h_and_where_corners_touch():
    areas, quadrants = footprints.near_misses(4000, seed=5)
    ours, theirs = footprints.disagreements(areas, quadrants)
    assert 0.3 < theirs.mean() < 0.7  # the pairs are hard ones
    assert np.flatnonzero(theirs & ~ours).tolist() == []
    assert (ours & ~theirs).mean() < 0.01


def test_many_polygons_are_judged_as_one_by_one():
    areas, quadrants = footprints.near_misses(600, seed=6)
    at_pole = np.arange(len(areas)) % 3 == 1
    polygons = Polygons(quadrants[at_pole])
    for area in areas[at_pole][:20]:
        expected = [
            row
            for row, corners in enumerate(polygons.corners)
            if not convex_polygon(corners).isDisjointFrom(convex_polygon(area))
        ]
        assert polygons.overlapping(area).tolist() == expected


@pytest.mark.parametrize("width_deg", [1.0, 100.0])
def test_large_polygons_overlap_where_they_should(width_deg):
    wide = box(10.0, 20.0, 60.0 * width_deg)
    small = [box(10.0 + offset, 20.0, 5.0) for offset in (0.0, 170.0, 180.0, 190.0)]
    assert Polygons(np.array(small)).overlapping(wide).tolist() == [0]
    assert Polygons(wide[None]).overlapping(small[0]).tolist() == [0]


def test_the_other_side_of_the_sphere_does_not_overlap():
    area = box(30.0, 40.0, 10.0)
    assert Polygons(-area[None]).overlapping(area).tolist() == []


def test_a_corner_given_twice_or_a_dent_makes_no_overlap_missed():
    square = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * 1e-3
    repeated, dented = square.copy(), square.copy()
    repeated[1] = repeated[0]
    dented[2] = -0.1e-3, -0.1e-3
    plane = TangentPlane.at(0.0, 0.0)
    polygons = Polygons(np.array([plane.unproject(*corners.T) for corners in (repeated, dented)]))
    for xi, eta in np.random.default_rng(1).uniform(-2e-3, 2e-3, (300, 2)):
        area = plane.unproject(*(square * 0.1 + (xi, eta)).T)
        truth = [
            row
            for row, corners in enumerate(polygons.corners)
            if not convex_polygon(corners).isDisjointFrom(convex_polygon(area))
        ]
        assert set(truth[:1]) <= set(polygons.overlapping(area).tolist())
        # sphgeom fills the dent; what lies in the polygon itself is found
        if min(xi, eta) < -0.1e-3 and max(abs(xi), abs(eta)) < 1e-3:
            assert 1 in polygons.overlapping(area)


def test_sources_are_held_by_the_polygons_that_contain_them():
    rng = np.random.default_rng(2)
    _, quadrants = footprints.near_misses(60, seed=7)
    ra, dec = rng.uniform(0.0, 360.0, 4000), rng.uniform(-90.0, -89.7, 4000)
    southern = np.flatnonzero(quadrants[:, 0, 2] < -0.9999)
    polygons = Polygons(quadrants)
    held = polygons.holding(unit_vectors(ra, dec))
    assert held[southern].any()
    for row, corners in enumerate(quadrants):
        polygon = convex_polygon(corners)
        expected = [
            polygon.contains(sphgeom.UnitVector3d(*vector)) for vector in unit_vectors(ra, dec)
        ]
        assert held[row].tolist() == expected


def test_a_margin_reaches_as_far_as_it_says():
    polygons = Polygons(box(0.0, 0.0, 60.0)[None])
    ra = 0.5 + np.array([-0.01, 0.005, 0.015])
    vectors = unit_vectors(ra, np.zeros(3))
    assert polygons.holding(vectors).tolist() == [[True, False, False]]
    assert polygons.holding(vectors, np.deg2rad(0.01)).tolist() == [[True, True, False]]
    assert not polygons.holding(-vectors, np.deg2rad(0.01)).any()
