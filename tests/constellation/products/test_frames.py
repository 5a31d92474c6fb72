"""Directions and turns of frames, against a rotation of the sphere and against astropy."""

from __future__ import annotations

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord

from constellation.products.frames import great_circles, middle
from tests.constellation.products.simulated import carried

PLACES = [(57.0, -51.0), (0.05, -85.0), (359.98, 89.7), (123.0, 0.0), (10.0, -89.999)]


def around(place, width_deg):
    """Positions within some degrees of one, over the pole and 0h."""
    rng = np.random.default_rng(3)
    centre = SkyCoord(*place, unit="deg")
    angle, distance = (
        rng.uniform(0, 360, 40) * u.deg,
        rng.uniform(0.01, 1.0, 40) * width_deg * u.deg,
    )
    found = centre.directional_offset_by(angle, distance)
    return found.ra.deg, found.dec.deg


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("width_deg", [0.02, 1.0, 80.0])
def test_shapes_are_carried_along_great_circles(place, width_deg):
    ra, dec = around(place, width_deg)
    path = great_circles(ra, dec, *place)
    away = np.exp(1j * path.turn) / np.exp(1j * carried(ra, dec, *place))
    np.testing.assert_allclose(away, 1.0, atol=1e-9)


@pytest.mark.parametrize("place", PLACES)
def test_lengths_and_directions_are_astropys(place):
    ra, dec = around(place, 30.0)
    here, there = SkyCoord(ra, dec, unit="deg"), SkyCoord(*place, unit="deg")
    path = great_circles(ra, dec, *place)
    np.testing.assert_allclose(np.rad2deg(path.length), here.separation(there).deg, atol=1e-10)
    # a position angle counts from north to east, and u is west
    east = here.position_angle(there).rad
    np.testing.assert_allclose(
        np.exp(1j * path.start), -np.sin(east) + 1j * np.cos(east), atol=1e-9
    )
    back = there.position_angle(here).rad
    np.testing.assert_allclose(np.exp(1j * path.end), np.sin(back) - 1j * np.cos(back), atol=1e-9)


def test_north_turns_by_the_difference_of_ra_times_the_sine_of_dec():
    for dec in (-85.0, -51.0, 60.0):
        turn = great_circles(359.9, dec, 0.1, dec).turn
        expected = np.deg2rad(0.2) * np.sin(np.deg2rad(dec))
        assert np.angle(np.exp(1j * turn)) == pytest.approx(expected, rel=1e-4)


def test_equal_positions_have_one_frame():
    path = great_circles([10.0, 0.0], [-30.0, 90.0], [10.0, 0.0], [-30.0, 90.0])
    assert path.length.tolist() == [0.0, 0.0] and path.turn.tolist() == [0.0, 0.0]


def test_the_middle_of_positions_across_0h_is_between_them():
    assert middle([359.0, 3.0], [0.0, 0.0]) == pytest.approx((1.0, 0.0))
