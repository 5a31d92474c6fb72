"""Ranges of HEALPIX around a cone: they hold all of it, and not much more."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from constellation.catalogue.schema import healpix
from constellation.catalogue.sky_ranges import healpix_ranges

from .skies_of_sources import around


@pytest.mark.parametrize("place", [(0.0, 0.0), (45.0, 41.8), (120.0, 90.0), (359.999, -60.0)])
@pytest.mark.parametrize("radius", [1e-6, 0.01, 1.0, 30.0])
def test_ranges_hold_the_whole_cone_and_little_else(place, radius):
    ranges = healpix_ranges(*place, radius)
    assert all(low <= high for low, high in ranges)
    assert all(high < low for (_, high), (low, _) in pairwise(ranges))
    inside = healpix(*around(*place, radius, 3000, 1))
    held = sum((low <= inside) & (inside <= high) for low, high in ranges)
    assert (held == 1).all()
    total = sum(high - low + 1 for low, high in ranges) / (12 * 4**29)
    cone = (1.0 - np.cos(np.radians(radius))) / 2.0
    assert cone < total < 16.0 * cone
    assert len(ranges) <= 12
