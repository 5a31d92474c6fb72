"""Tangential profiles: the sign and the size of what GalSim's NFW halo does, at any place."""

from __future__ import annotations

import astropy.units as u
import galsim
import numpy as np
import pyarrow as pa
import pytest
from astropy.coordinates import SkyCoord
from pyarrow import csv, parquet
from scipy.stats import chi2

from constellation.mock_survey.lensing import reduced_shear
from constellation.mock_survey.lensing_config import NfwShear
from constellation.products.positions import read_positions
from constellation.products.profile import Rings, tangential_profile
from shine.errors import InputError
from shine.population import ShapePrior, ShapeSamples
from tests.constellation.products.simulated import SIGMA_E, galsim_shear, publish, shapes

PRIOR = ShapePrior(0.25)
FIXED = ShapePrior(SIGMA_E, infer_sigma=False)
EDGES = np.geomspace(1.0, 8.0, 6)


def halo(place, mass=8e14):
    """A cluster of GalSim, by the simulator's own code."""
    return NfwShear(type="nfw", mass_msun_h=mass, redshift=0.25, ra=place[0], dec=place[1])


def disc(place, radius_deg, n, rng, least_deg=0.0):
    """Positions (pairs of equal ones) all around a place, as many at one radius as at another."""
    size = rng.uniform(least_deg, radius_deg, n // 2)
    angle = rng.uniform(0.0, 360.0, n // 2)
    found = SkyCoord(*place, unit="deg").directional_offset_by(angle * u.deg, size * u.deg)
    return np.repeat(found.ra.deg, 2), np.repeat(found.dec.deg, 2)


def rings(*places, edges=EDGES):
    ra, dec = np.array(places, float).T
    return Rings(ra, dec, np.asarray(edges, float))


def column(table, name):
    return table[name].to_numpy()


@pytest.mark.parametrize("place", [(57.0, -51.0), (0.0, -85.0)])
def test_the_profile_of_a_cluster_is_recovered_to_a_per_cent(tmp_path, place):
    rng = np.random.default_rng(1)
    ra, dec = disc(place, 8.5 / 60.0, 24000, rng, 0.9 / 60.0)
    g1, g2 = reduced_shear(halo(place), ra, dec, None)
    galaxies = publish(tmp_path / "c", ra, dec, shapes(g1 + 1j * g2, rng, count=24))
    table = tangential_profile(galaxies, rings(place), PRIOR)
    size = np.hypot(g1, g2)
    separation = SkyCoord(ra, dec, unit="deg").separation(SkyCoord(*place, unit="deg")).arcmin
    ring = np.digitize(separation, EDGES) - 1
    true = np.array([size[ring == n].mean() for n in range(5)])
    assert true[0] > 0.12 and true[-1] > 0.02
    # paired galaxies cancel most of the noise of shapes, so that the errors are upper limits
    assert np.sum(((column(table, "G_T") - true) / column(table, "G_T_ERR")) ** 2) < 5.0
    np.testing.assert_allclose(column(table, "G_T"), true, atol=0.004)
    weights = true**2 * column(table, "N_SOURCES")
    assert np.average(column(table, "G_T") / true, weights=weights) == pytest.approx(1.0, abs=0.015)
    np.testing.assert_allclose(column(table, "G_X"), 0.0, atol=0.004)
    assert column(table, "N_SOURCES").tolist() == [np.sum(ring == n) for n in range(5)]
    means = [separation[ring == n].mean() for n in range(5)]
    np.testing.assert_allclose(column(table, "R_MEAN"), means, rtol=1e-9)


def test_errors_are_those_of_shapes_that_do_not_cancel(tmp_path):
    rng = np.random.default_rng(2)
    place, n = (10.0, 20.0), 5000
    ra, dec = disc(place, 8.5 / 60.0, n, rng, 0.9 / 60.0)
    g1, g2 = reduced_shear(halo(place), ra, dec, None)
    samples = shapes(g1 + 1j * g2, rng, noise=0.12, paired=False)
    table = tangential_profile(publish(tmp_path / "c", ra, dec, samples), rings(place), FIXED)
    expected = np.hypot(SIGMA_E, 0.12) / np.sqrt(column(table, "N_SOURCES"))
    np.testing.assert_allclose(column(table, "G_T_ERR"), expected, rtol=0.12)
    np.testing.assert_allclose(column(table, "G_X_ERR"), expected, rtol=0.12)
    separation = SkyCoord(ra, dec, unit="deg").separation(SkyCoord(*place, unit="deg")).arcmin
    ring, size = np.digitize(separation, EDGES) - 1, np.hypot(g1, g2)
    true = np.array([size[ring == n].mean() for n in range(5)])
    for name, truth in (("G_T", true), ("G_X", 0.0)):
        distance = np.sum(((column(table, name) - truth) / column(table, f"{name}_ERR")) ** 2)
        assert chi2.sf(distance, 5) > 1e-3 and chi2.cdf(distance, 5) > 1e-3


def test_the_signs_are_galsims(tmp_path):
    """Round galaxies at the equator, sheared by GalSim in its frame: x is west, y is north."""
    rng = np.random.default_rng(3)
    west, north = rng.uniform(-300.0, 300.0, (2, 400))
    middle = galsim.PositionD(60.0, -40.0)
    cluster = galsim.NFWHalo(mass=1e14, conc=4.0, redshift=0.3, halo_pos=middle)
    g1, g2 = galsim_shear(cluster, west, north)
    samples = ShapeSamples((g1 + 1j * g2)[:, None], np.zeros((400, 1)), np.arange(400))
    galaxies = publish(tmp_path / "c", (-west / 3600.0) % 360.0, north / 3600.0, samples)
    at = (-60.0 / 3600.0 % 360.0, -40.0 / 3600.0)
    table = tangential_profile(galaxies, rings(at, edges=[1.0, 2.0, 4.0]), FIXED)
    assert np.all(column(table, "G_T") > 0.01)
    assert np.all(np.abs(column(table, "G_X")) < 0.02 * column(table, "G_T"))
    # turned by 45 degrees it is all cross: g_t + i g_x = -g exp(-2 i phi)
    cross = ShapeSamples(samples.shape * 1j, samples.log_weight, samples.blend)
    galaxies = publish(tmp_path / "x", (-west / 3600.0) % 360.0, north / 3600.0, cross)
    turned = tangential_profile(galaxies, rings(at, edges=[1.0, 2.0, 4.0]), FIXED)
    np.testing.assert_allclose(column(turned, "G_X"), column(table, "G_T"), rtol=1e-3)
    np.testing.assert_allclose(column(turned, "G_T"), -column(table, "G_X"), atol=1e-5)


@pytest.mark.parametrize("place", [(57.0, -51.0), (0.0, -85.0), (120.0, 89.9)])
def test_directions_hold_far_from_the_position(tmp_path, place):
    """A shear that is tangential along great circles, 20 degrees away, over poles and 0h."""
    rng = np.random.default_rng(4)
    ra, dec = disc(place, 20.0, 400, rng, 10.0)
    here, there = SkyCoord(ra, dec, unit="deg"), SkyCoord(*place, unit="deg")
    east_of_north = here.position_angle(there).rad
    # across the direction of the position; astropy counts from north to east, and u is west
    shear = -0.05 * np.exp(2j * (east_of_north + 0.5 * np.pi))
    samples = ShapeSamples(shear[:, None], np.zeros((400, 1)), np.arange(400))
    galaxies = publish(tmp_path / "c", ra, dec, samples)
    row = tangential_profile(galaxies, rings(place, edges=[500.0, 1300.0]), FIXED).to_pylist()[0]
    assert row["G_T"] == pytest.approx(0.05, rel=0.01)
    assert row["G_X"] == pytest.approx(0.0, abs=1e-4)


def test_several_positions_are_stacked_and_empty_rings_absent(tmp_path):
    rng = np.random.default_rng(5)
    places = [(40.0, -30.0), (41.0, -30.0), (200.0, 60.0)]
    spots = [disc(place, 0.1, 600, rng) for place in places]
    each = [reduced_shear(halo(p), *spot, None) for p, spot in zip(places, spots, strict=True)]
    samples = shapes(np.concatenate([g1 + 1j * g2 for g1, g2 in each]), rng)
    galaxies = publish(tmp_path / "c", *np.concatenate(spots, axis=1), samples)
    edges = [2.0, 4.0, 6.1, 20.0, 40.0]
    stacked = tangential_profile(galaxies, rings(*places, edges=edges), FIXED)
    alone = [tangential_profile(galaxies, rings(p, edges=edges), FIXED) for p in places]
    assert column(stacked, "R_MAX").tolist() == [4.0, 6.1]
    weights = np.array([column(x, "G_T_ERR") ** -2 for x in alone])
    mean = np.average([column(x, "G_T") for x in alone], weights=weights, axis=0)
    np.testing.assert_allclose(column(stacked, "G_T"), mean, atol=2e-3)
    np.testing.assert_allclose(column(stacked, "G_T_ERR"), weights.sum(axis=0) ** -0.5, rtol=0.02)
    counts = sum(column(x, "N_SOURCES") for x in alone)
    assert column(stacked, "N_SOURCES").tolist() == counts.tolist()
    with pytest.raises(InputError, match=r"within 0\.5 arcmin: found no galaxy"):
        tangential_profile(galaxies, rings((0.0, 0.0), edges=[0.1, 0.5]), FIXED)


def test_positions_are_read_from_csv_and_parquet(tmp_path):
    table = pa.table({"Dec": [-51.0, 20.0], "name": ["a", "b"], "ra": [57.0, 359.0]})
    csv.write_csv(table, tmp_path / "p.csv")
    parquet.write_table(table, tmp_path / "p.parquet")
    for name in ("p.csv", "p.parquet"):
        ra, dec = read_positions(tmp_path / name)
        assert (ra.tolist(), dec.tolist()) == ([57.0, 359.0], [-51.0, 20.0])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ra,x\n1,2\n", "column DEC: found no such column"),
        ("ra,dec\n1,95\n", "column DEC: found 95.0 in row 1"),
        ("ra,dec\n1,2\n,3\n", "column RA: found nan in row 2"),
        ("ra,dec\nx,2\n", "column RA"),
        ("ra,dec\n", "found no row"),
    ],
)
def test_positions_that_are_none_are_named(tmp_path, text, message):
    path = tmp_path / "p.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_positions(path)
    with pytest.raises(InputError, match=r"absent\.parquet: found no readable table"):
        read_positions(tmp_path / "absent.parquet")
