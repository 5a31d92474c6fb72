"""Shear fields: constant, a plane wave without B modes, and GalSim's NFW halo."""

from __future__ import annotations

import warnings

import astropy.units as un
import galsim
import numpy as np
import pytest
from astropy.coordinates import SkyCoord

from constellation.mock_survey.config import Area
from constellation.mock_survey.lensing import reduced_shear
from constellation.mock_survey.lensing_config import ConstantShear, NfwShear, SinusoidShear

from .surveys import AREA, offsets_arcsec, one_quadrant, write

CENTRE = SkyCoord(AREA["ra"] * un.deg, AREA["dec"] * un.deg)
MASS, CONCENTRATION, REDSHIFT, SOURCES = 5e14, 4.0, 0.3, 1.0
ANGLES = np.arange(0.0, 360.0, 30.0)


def halo(ra=AREA["ra"], dec=AREA["dec"], **changes):
    """Settings of a cluster."""
    lens = {"mass_msun_h": MASS, "concentration": CONCENTRATION, "redshift": REDSHIFT}
    lens |= {"source_redshift": SOURCES, "ra": ra, "dec": dec}
    return NfwShear(type="nfw", **{**lens, **changes})


def galsims_shear(u, v):
    """Complex reduced shear of the same cluster at (u, v) from its centre in arcsec."""
    lens = galsim.NFWHalo(mass=MASS, conc=CONCENTRATION, redshift=REDSHIFT)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "'where' used without 'out'", UserWarning)
        g1, g2 = lens.getShear((u, v), z_s=SOURCES, reduced=True)
    return np.array(g1) + 1j * np.array(g2)


def shear_at(settings, places: SkyCoord, area=AREA):
    """Complex shear at directions on the sky."""
    g1, g2 = reduced_shear(settings, places.ra.deg, places.dec.deg, Area(**area))
    return g1 + 1j * g2


def test_a_constant_field_is_the_same_everywhere():
    places = CENTRE.directional_offset_by(ANGLES * un.deg, 40 * un.arcmin)
    g = shear_at(ConstantShear(type="constant", g1=0.03, g2=-0.02), places)
    np.testing.assert_array_equal(g, np.full(len(ANGLES), 0.03 - 0.02j))


@pytest.mark.parametrize("angle_deg", (0.0, 65.0, 120.0))
def test_a_sinusoid_is_a_plane_wave_along_its_angle(angle_deg):
    wave = SinusoidShear(
        type="sinusoid", amplitude=0.1, wavelength_arcmin=12.0, angle_deg=angle_deg
    )
    distance = np.linspace(-10.0, 10.0, 21)
    angle = np.deg2rad(angle_deg)
    for across in (0.0, 3.0):
        u = distance * np.cos(angle) - across * np.sin(angle)
        v = distance * np.sin(angle) + across * np.cos(angle)
        places = CENTRE.spherical_offsets_by(-u * un.arcmin, v * un.arcmin)
        expected = 0.1 * np.cos(2 * np.pi * distance / 12.0) * np.exp(2j * angle)
        np.testing.assert_allclose(shear_at(wave, places), expected, rtol=0, atol=1e-5)


def test_a_phase_shifts_the_sinusoid():
    here = CENTRE.directional_offset_by([0.0] * un.deg, [0.0] * un.arcmin)
    wave = SinusoidShear(type="sinusoid", amplitude=0.2, wavelength_arcmin=5.0, phase_deg=60.0)
    np.testing.assert_allclose(shear_at(wave, here), [0.1], atol=1e-9)


def test_a_sinusoid_has_no_b_modes():
    wave = SinusoidShear(type="sinusoid", amplitude=0.1, wavelength_arcmin=8.0, angle_deg=25.0)
    step = np.arange(16) * 0.5
    u, v = np.meshgrid(step, step)
    places = CENTRE.spherical_offsets_by(-u.ravel() * un.arcmin, v.ravel() * un.arcmin)
    g = shear_at(wave, places).reshape(u.shape)
    d_u, d_v = np.gradient(g, 0.5, axis=1), np.gradient(g, 0.5, axis=0)
    # The gradient of the convergence (Kaiser 1995); a B mode would give it a curl.
    kappa_u, kappa_v = d_u.real + d_v.imag, d_u.imag - d_v.real
    curl = np.gradient(kappa_v, 0.5, axis=1) - np.gradient(kappa_u, 0.5, axis=0)
    inner = np.s_[2:-2, 2:-2]
    scale = np.abs(np.gradient(kappa_u, 0.5, axis=1)[inner]).max()
    assert np.abs(curl[inner]).max() < 0.03 * scale


def test_a_cluster_shears_like_galsims_halo():
    rng = np.random.default_rng(3)
    u, v = rng.uniform(-400.0, 400.0, (2, 200))
    places = CENTRE.spherical_offsets_by(-u * un.arcsec, v * un.arcsec)
    expected = galsims_shear(u, v)
    weak = np.abs(expected) < 0.3
    assert weak.sum() > 150
    found = shear_at(halo(), places)
    np.testing.assert_allclose(found[weak], expected[weak], rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("ra", "dec"), ((AREA["ra"], AREA["dec"]), (0.01, 10.0), (150.0, 85.0), (40.0, -88.0))
)
def test_a_cluster_shears_tangentially_all_around(ra, dec):
    centre = SkyCoord(ra * un.deg, dec * un.deg)
    for radius in (60.0, 300.0):
        places = centre.directional_offset_by(ANGLES * un.deg, radius * un.arcsec)
        g = shear_at(halo(ra % 360, dec), places)
        # Position angles run from north to east, and u points west.
        towards = np.pi / 2 + places.position_angle(centre).rad
        spin = -g * np.exp(-2j * towards)
        assert (spin.real > 0.01).all()
        np.testing.assert_allclose(spin.imag, 0, atol=1e-6)
        np.testing.assert_allclose(spin.real, spin.real[0], rtol=1e-6)


def test_galaxies_west_of_a_cluster_are_stretched_north_south():
    west = CENTRE.directional_offset_by([270.0] * un.deg, [120.0] * un.arcsec)
    north = CENTRE.directional_offset_by([0.0] * un.deg, [120.0] * un.arcsec)
    north_west = CENTRE.directional_offset_by([315.0] * un.deg, [120.0] * un.arcsec)
    assert shear_at(halo(), west).real < -0.05
    assert shear_at(halo(), north).real > 0.05
    assert shear_at(halo(), north_west).imag < -0.05


def test_the_shear_of_a_cluster_is_capped_and_finite():
    radii = np.concatenate([[0.0], np.geomspace(0.01, 1000.0, 200)])
    places = CENTRE.directional_offset_by(np.full(201, 77.0) * un.deg, radii * un.arcsec)
    g = shear_at(halo(mass_msun_h=5e15, max_shear=0.4), places)
    assert np.isfinite(g).all()
    assert np.abs(g).max() == pytest.approx(0.4)
    assert np.abs(g[-1]) < 0.3


@pytest.mark.parametrize(
    "field", (halo(), SinusoidShear(type="sinusoid", amplitude=0.1, wavelength_arcmin=8.0))
)
def test_no_sources_have_no_shear(field):
    assert len(shear_at(field, CENTRE[None][:0])) == 0


def test_the_truth_holds_the_field_at_each_galaxy(tmp_path):
    lens = {"type": "nfw", "mass_msun_h": MASS, "ra": AREA["ra"], "dec": AREA["dec"] - 0.05}
    population = {"galaxy_density": 20.0, "star_density": 3.0}
    area = {"width_arcmin": 2.0, "height_arcmin": 2.0}
    survey = write(one_quadrant("3-4.F", shear=lens, area=area, population=population), tmp_path)
    truth = survey.truth()
    u, v = offsets_arcsec(truth["RA"], truth["DEC"], lens["ra"], lens["dec"])
    expected = galsims_shear(u, v)
    galaxies = ~truth["IS_STAR"]
    assert 0 < galaxies.sum() < len(galaxies)
    found = truth["G1"] + 1j * truth["G2"]
    np.testing.assert_allclose(found[galaxies], expected[galaxies], rtol=0, atol=1e-4)
    assert np.abs(found[galaxies]).max() > 0.02
    assert (found[~galaxies] == 0).all()
