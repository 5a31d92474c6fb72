"""Identifiers that may come only once, and circles that hold all sources of a file."""

from __future__ import annotations

import numpy as np
import pytest
from astropy import units
from astropy.coordinates import SkyCoord
from hypothesis import given
from hypothesis import strategies as st

from constellation.catalogue import each_once
from constellation.catalogue.each_once import EachOnce
from constellation.sphere import bounding_circle, unit_vectors


@given(
    ids=st.lists(st.integers(-(2**63), 2**63 - 1), max_size=60, unique=True),
    again=st.integers(0, 59),
    parts=st.integers(1, 7),
)
def test_an_identifier_that_comes_twice_is_found(tmp_path_factory, ids, again, parts):
    for repeat in (False, True):
        folder = tmp_path_factory.mktemp("ids")
        once = EachOnce(folder, 5 * each_once.CLASS_SIZE)
        for part in np.array_split(np.array(ids, np.int64), parts):
            once.add(part)
        expected = None
        if repeat and ids:
            expected = ids[again % len(ids)]
            once.add(np.array([expected]))
        assert once.repeated() == expected


def test_no_class_of_identifiers_is_much_larger_than_the_others(tmp_path):
    once = EachOnce(tmp_path, 15 * each_once.CLASS_SIZE)
    for first in (0, -600_000_000_000):  # of a catalogue: they follow one another
        once.add(np.arange(100_000, dtype=np.int64) * 7 + first)
    sizes = [path.stat().st_size for path in tmp_path.iterdir()]
    assert len(sizes) == 16 and max(sizes) < 1.2 * min(sizes)


@pytest.mark.parametrize(
    ("ra", "dec", "spread"),
    [
        (10.0, 0.0, 0.3),
        (359.95, -45.0, 0.3),
        (0.0, 89.9, 0.3),
        (123.0, -89.99, 0.3),
        (5.0, 1.0, 80.0),
    ],
)
def test_the_circle_holds_all_sources_and_touches_one(ra, dec, spread):
    rng = np.random.default_rng(8)
    places = SkyCoord(ra * units.deg, dec * units.deg).directional_offset_by(
        rng.uniform(0.0, 360.0, 500) * units.deg, rng.uniform(0.0, spread, 500) * units.deg
    )
    vectors = unit_vectors(places.ra.deg, places.dec.deg)
    middle_ra, middle_dec, radius = bounding_circle(vectors)
    assert 0.0 <= middle_ra < 360.0
    away = SkyCoord(middle_ra * units.deg, middle_dec * units.deg).separation(places).deg
    assert radius == pytest.approx(away.max(), rel=1e-9)
    assert radius < 1.3 * spread


def test_the_circle_of_one_source_and_of_opposite_ones():
    assert bounding_circle(unit_vectors([30.0], [40.0])) == pytest.approx((30.0, 40.0, 0.0))
    around = unit_vectors([0.0, 180.0, 90.0, 270.0], [0.0, 0.0, 0.0, 0.0])
    assert bounding_circle(around)[2] == pytest.approx(180.0)
