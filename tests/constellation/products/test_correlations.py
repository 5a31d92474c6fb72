"""Two-point functions: TreeCorr's against a sum over all pairs, in whatever frame."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from astropy.coordinates import SkyCoord

from constellation.mock_survey.lensing import reduced_shear
from constellation.products.correlations import Separations, position_shear, shear_shear
from constellation.products.profile import Rings, tangential_profile
from constellation.products.scores import blend_scores
from shine.errors import ConfigurationError, InputError
from shine.population import ShapePrior, ShapeSamples
from shine.scores import shape_scores
from tests.constellation.products.simulated import SIGMA_E, carried, publish, shapes
from tests.constellation.products.test_profile import disc, halo

BINS = Separations(2.0, 60.0, 5)


def scattered(place, n, rng, width_deg=1.0):
    ra = place[0] + width_deg * rng.uniform(-0.5, 0.5, n) / np.cos(np.deg2rad(place[1]))
    return ra % 360.0, place[1] + width_deg * rng.uniform(-0.5, 0.5, n)


def wave(ra, dec, place, amplitude=0.05):
    """A shear without B modes: a plane wave along the direction 30 degrees from west to north."""
    west = -(np.mod(ra - place[0] + 180.0, 360.0) - 180.0) * np.cos(np.deg2rad(place[1])) * 60.0
    along = west * np.cos(np.pi / 6) + (dec - place[1]) * 60.0 * np.sin(np.pi / 6)
    return amplitude * np.cos(2.0 * np.pi * along / 40.0) * np.exp(2j * np.pi / 6)


def column(table, name):
    return table[name].to_numpy()


@pytest.mark.parametrize("place", [(57.0, -51.0), (0.0, -85.0)])
def test_xi_is_the_sum_over_all_pairs(tmp_path, place):
    rng = np.random.default_rng(1)
    ra, dec = scattered(place, 250, rng)
    samples = shapes(0.1 * wave(ra, dec, place) / 0.05, rng, paired=False)
    galaxies = publish(tmp_path / "c", ra, dec, samples)
    found = shear_shear(galaxies, BINS, SIGMA_E)
    [table] = galaxies.by_file()
    scores = blend_scores(table, SIGMA_E)
    i, j = np.triu_indices(250, 1)
    sky = SkyCoord(scores.ra, scores.dec, unit="deg")
    separation = sky[i].separation(sky[j]).arcmin
    # along the great circle that joins the two; astropy counts from north to east
    first = sky[i].position_angle(sky[j]).rad + 0.5 * np.pi
    last = sky[j].position_angle(sky[i]).rad + 1.5 * np.pi
    q, w = scores.gradient, scores.response
    a, b = q[i] * np.exp(-2j * first), q[j] * np.exp(-2j * last)
    edges = np.geomspace(2.0, 60.0, 6)
    where = np.digitize(separation, edges) - 1
    for n in range(5):
        chosen = where == n
        total = np.sum((w[i] * w[j])[chosen])
        plus = np.sum((a * b.conj())[chosen]).real / total
        minus = np.sum((a * b)[chosen]) / total
        # TreeCorr puts pairs of groups of galaxies into bins as one
        scale = 0.03 * found["XI_PLUS_ERR"][n].as_py() + 2e-5
        assert found["XI_PLUS"][n].as_py() == pytest.approx(plus, abs=scale)
        assert found["XI_MINUS"][n].as_py() == pytest.approx(minus.real, abs=scale)
        assert found["XI_CROSS"][n].as_py() == pytest.approx(minus.imag, abs=scale)
        assert found["N_PAIRS"][n].as_py() == pytest.approx(chosen.sum(), rel=0.01)
        assert found["THETA"][n].as_py() == pytest.approx(separation[chosen].mean(), rel=0.01)


def test_a_wave_has_the_correlation_of_its_shear(tmp_path):
    """Paired galaxies: the noise of shapes cancels, and the response is what is tested."""
    place, rng = (57.0, -51.0), np.random.default_rng(2)
    ra, dec = (x.repeat(2) for x in scattered(place, 5000, rng))
    true = wave(ra, dec, place, 0.08)
    galaxies = publish(tmp_path / "c", ra, dec, shapes(true, rng, count=24))
    found = shear_shear(galaxies, BINS, SIGMA_E)
    sky = SkyCoord(ra[::2], dec[::2], unit="deg")
    i, j = (x[::29] for x in np.triu_indices(5000, 1))
    where = np.digitize(sky[i].separation(sky[j]).arcmin, np.geomspace(2.0, 60.0, 6)) - 1
    pairs = (true[::2][i] * true[::2][j].conj()).real
    expected = np.array([pairs[where == n].mean() for n in range(5)])
    assert expected[0] > 2.5e-3
    np.testing.assert_allclose(column(found, "XI_PLUS"), expected, atol=0.08 * expected[0])


def test_the_aperture_mass_of_a_wave_has_no_b_mode(tmp_path):
    place, rng = (57.0, -51.0), np.random.default_rng(3)
    ra, dec = (x.repeat(2) for x in scattered(place, 4000, rng, 2.0))
    galaxies = publish(tmp_path / "c", ra, dec, shapes(wave(ra, dec, place), rng, count=12))
    found = shear_shear(galaxies, Separations(0.5, 120.0, 24), SIGMA_E)
    e, b = (column(found, name) for name in ("MAP_SQ", "MX_SQ"))
    radius = np.sqrt(column(found, "THETA_MIN") * column(found, "THETA_MAX"))
    # an integral over all separations: absent where too many of them are
    assert np.isfinite(e).tolist() == ((radius >= 1.5) & (radius <= 30.0)).tolist()
    near = (radius > 5.0) & (radius < 20.0)
    assert e[near].max() > 1e-4
    assert np.abs(b[near]).max() < 0.1 * e[near].max()


def test_around_positions_it_is_the_profile(tmp_path):
    rng = np.random.default_rng(4)
    places = [(40.0, -30.0), (41.5, -30.0), (0.0, -80.0)]
    spots = [disc(place, 0.12, 3000, rng, 0.02) for place in places]
    each = [reduced_shear(halo(p, 1e14), *s, None) for p, s in zip(places, spots, strict=True)]
    samples = shapes(np.concatenate([g1 + 1j * g2 for g1, g2 in each]), rng)
    galaxies = publish(tmp_path / "c", *np.concatenate(spots, axis=1), samples)
    positions = tuple(np.array(places).T)
    found = position_shear(galaxies, positions, Separations(2.0, 6.0, 3), SIGMA_E)
    prior = ShapePrior(SIGMA_E, infer_sigma=False)
    edges = np.geomspace(2.0, 6.0, 4)
    profile = tangential_profile(galaxies, Rings(*positions, edges), prior)
    assert np.all(column(profile, "G_T") > 0.01)
    np.testing.assert_allclose(column(found, "G_T"), column(profile, "G_T"), rtol=0.015)
    np.testing.assert_allclose(column(found, "G_X"), column(profile, "G_X"), atol=5e-4)
    np.testing.assert_allclose(column(found, "G_ERR"), column(profile, "G_T_ERR"), rtol=0.1)
    np.testing.assert_allclose(column(found, "N_PAIRS"), column(profile, "N_SOURCES"), rtol=0.03)


def test_blends_count_once_at_the_middle_of_their_members(tmp_path):
    rng = np.random.default_rng(5)
    # the first two, 2 arcsec from the pole, see north in directions 60 degrees apart
    ra, dec = np.array([10.0, 70.0, 359.9999, 0.0001]), np.array([-89.9995, -89.9995, 1.0, 1.0])
    samples = shapes(np.full(4, 0.03 + 0.02j), rng)
    blend = np.array([3, 3, 1, 1])
    log_weight = samples.log_weight[[0, 0, 2, 2]]
    together = ShapeSamples(samples.shape, log_weight, blend)
    galaxies = publish(tmp_path / "c", ra, dec, together)
    scores = blend_scores(galaxies.catalogue.sources(), SIGMA_E)
    assert scores.members.tolist() == [2, 2]
    np.testing.assert_allclose(scores.ra % 360.0, [0.0, 40.0], atol=1e-5)
    np.testing.assert_allclose(scores.dec, [1.0, -90.0 + 5e-4 * np.cos(np.pi / 6)], atol=1e-6)
    middles = np.repeat(scores.ra[::-1], 2), np.repeat(scores.dec[::-1], 2)
    expected = shape_scores(together.turned(carried(ra, dec, *middles)), SIGMA_E)
    # samples are stored in steps
    np.testing.assert_allclose(scores.gradient.real, expected.gradient[:, 0], atol=0.02)
    np.testing.assert_allclose(scores.gradient.imag, expected.gradient[:, 1], atol=0.02)
    trace = 0.5 * np.trace(expected.response, axis1=1, axis2=2)
    np.testing.assert_allclose(scores.response, trace, rtol=1e-2)


def test_a_jackknife_gives_errors_of_the_same_size(tmp_path):
    place, rng = (57.0, -51.0), np.random.default_rng(6)
    ra, dec = scattered(place, 1500, rng)
    samples = shapes(np.zeros(1500, complex), rng, count=12, paired=False)
    galaxies = publish(tmp_path / "c", ra, dec, samples)
    plain = shear_shear(galaxies, BINS, SIGMA_E)
    found = shear_shear(galaxies, Separations(2.0, 60.0, 5, 12), SIGMA_E)
    # patches are binned by themselves
    away = (column(found, "XI_PLUS") - column(plain, "XI_PLUS")) / column(plain, "XI_PLUS_ERR")
    assert np.abs(away).max() < 0.3
    ratio = column(found, "XI_PLUS_ERR") / column(plain, "XI_PLUS_ERR")
    assert np.all((ratio > 0.3) & (ratio < 2.5))
    again = shear_shear(galaxies, Separations(2.0, 60.0, 5, 12), SIGMA_E)
    assert column(again, "XI_PLUS_ERR") == pytest.approx(column(found, "XI_PLUS_ERR"), rel=1e-6)
    assert found.schema.metadata[b"errors"] == b"jackknife of 12 patches"
    around = position_shear(galaxies, (ra[:200], dec[:200]), Separations(2.0, 60.0, 5, 12), SIGMA_E)
    assert np.all(column(around, "G_ERR") > 0.0)


def test_bins_without_pairs_are_absent(tmp_path):
    rng = np.random.default_rng(7)
    ra, dec = np.array([10.0, 10.0, 10.0, 10.0]), np.array([0.0, 0.05, 3.0, 3.05])
    galaxies = publish(tmp_path / "c", ra, dec, shapes(np.zeros(4, complex), rng))
    found = shear_shear(galaxies, Separations(1.0, 1000.0, 6), SIGMA_E)
    assert column(found, "N_PAIRS").tolist() == [2, 4]
    with pytest.raises(InputError, match=r"0\.1 to 1 arcmin: found no pair"):
        shear_shear(galaxies, Separations(0.1, 1.0, 3), SIGMA_E)


def test_without_treecorr_the_extra_is_named(tmp_path, monkeypatch):
    rng = np.random.default_rng(8)
    samples = shapes(np.zeros(4, complex), rng)
    galaxies = publish(tmp_path / "c", np.full(4, 10.0), np.arange(4.0), samples)
    monkeypatch.setitem(sys.modules, "treecorr", None)
    with pytest.raises(ConfigurationError, match=r"shine-constellation\[correlations\]"):
        shear_shear(galaxies, BINS, SIGMA_E)
