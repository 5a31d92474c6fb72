"""The true sources: densities, counts, sizes, shapes and close pairs."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.coordinates import SkyCoord

from constellation.mock_survey.population import draw_population

from .surveys import AREA, offsets_arcsec, settings


@pytest.fixture(scope="module")
def sources():
    area = {**AREA, "width_arcmin": 12.0, "height_arcmin": 10.0}
    return draw_population(settings(area=area, shear={"type": "constant", "g1": 0.05}))


def magnitudes(sources):
    return 23.9 - 2.5 * np.log10(sources.flux_ujy)


def test_sources_fill_the_area_at_their_densities(sources):
    u, v = offsets_arcsec(sources.ra, sources.dec, AREA["ra"], AREA["dec"])
    assert np.abs(u).max() == pytest.approx(360, abs=2)
    assert np.abs(v).max() == pytest.approx(300, abs=2)
    stars = sources.is_star.sum()
    for count, density in ((len(sources) - stars, 39.0), (stars, 2.5)):
        assert abs(count - 120 * density) < 4 * np.sqrt(120 * density)
    quarters = np.histogram2d(u, v, bins=2)[0] / len(sources)
    np.testing.assert_allclose(quarters, 0.25, atol=0.03)


@pytest.mark.parametrize(("star", "bright", "slope"), ((False, 19.5, 0.3), (True, 16.5, 0.1)))
def test_counts_grow_with_magnitude(sources, star, bright, slope):
    magnitude = magnitudes(sources)[sources.is_star == star]
    assert bright <= magnitude.min() and magnitude.max() <= 26.0
    middle = (bright + 26.0) / 2
    below = (magnitude < middle).mean()
    expected = 1 / (1 + 10 ** (slope * (26.0 - middle)))
    assert below == pytest.approx(expected, abs=4 * np.sqrt(expected / len(magnitude)))


def test_faint_galaxies_are_smaller(sources):
    galaxies = sources[~sources.is_star]
    near = np.abs(magnitudes(galaxies) - 24.5) < 0.3
    assert np.median(galaxies.hlr_arcsec[near]) == pytest.approx(0.28, rel=0.05)
    faint, bright = magnitudes(galaxies) > 25.5, magnitudes(galaxies) < 22.5
    assert np.median(galaxies.hlr_arcsec[bright]) > 1.4 * np.median(galaxies.hlr_arcsec[faint])
    assert ((galaxies.hlr_arcsec >= 0.08) & (galaxies.hlr_arcsec <= 1.5)).all()


def test_intrinsic_shapes_have_no_preferred_direction(sources):
    galaxies = sources[~sources.is_star]
    shape = np.stack([galaxies.e1, galaxies.e2])
    np.testing.assert_allclose(shape.mean(axis=1), 0, atol=4 * 0.25 / np.sqrt(len(galaxies)))
    np.testing.assert_allclose(shape.std(axis=1), 0.25, rtol=0.06)
    assert 0.7 < np.hypot(*shape).max() <= 0.8
    assert (galaxies.g1 == 0.05).all() and (galaxies.g2 == 0).all()


@pytest.mark.parametrize("fraction", (0.0, 0.5))
def test_close_pairs_have_the_set_separations(fraction):
    population = {"galaxy_density": 6.0, "star_density": 0.0, "close_pair_fraction": fraction}
    area = {**AREA, "width_arcmin": 12.0, "height_arcmin": 10.0}
    pairs = {**population, "pair_separation_arcsec": (0.6, 1.0)}
    sources = draw_population(settings(area=area, population=pairs))
    places = SkyCoord(sources.ra, sources.dec, unit="deg")
    separation = places.match_to_catalog_sky(places, nthneighbor=2)[1].arcsec
    close = (separation > 0.599) & (separation < 1.001)
    assert close.mean() == pytest.approx(fraction, abs=0.02)
