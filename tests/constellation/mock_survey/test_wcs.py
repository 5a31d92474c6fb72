"""The geometry of quadrants: pixels, sky and focal plane, against astropy and GalSim."""

from __future__ import annotations

import astropy.units as un
import galsim
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.wcs import WCS

from constellation.mock_survey.focal_plane import overlapping_frames, quadrant_frames

from .surveys import AREA, NO_SOURCES, SHAPE, aimed, frame_named, offsets_arcsec, settings, write

ROLLS = (0.0, 37.0, 128.0)
CORNER, CENTRAL = "1-6.E", "4-3.G"
FULL_SHAPE = (2066, 2048)


@pytest.fixture(scope="module")
def survey(tmp_path_factory):
    """Three rolls; the quadrants are two of the focal plane's, wherever they point."""
    config = settings(
        area={**AREA, "width_arcmin": 30.0, "height_arcmin": 30.0},
        exposures=[{"roll_deg": roll, "offset_north_arcsec": 40.0} for roll in ROLLS],
        detector={"quadrants": [CORNER, CENTRAL]},
        population=NO_SOURCES,
    )
    return write(config, tmp_path_factory.mktemp("wcs"))


def grid(shape=SHAPE):
    """0-based positions all over a quadrant and a little beyond, off whole pixels."""
    rows, columns = shape
    x, y = np.meshgrid(np.linspace(-10.3, columns + 9.7, 9), np.linspace(-10.6, rows + 9.4, 8))
    return x.ravel(), y.ravel()


@pytest.mark.parametrize("exposure", range(3))
@pytest.mark.parametrize("name", (CORNER, CENTRAL))
def test_positions_agree_with_astropys_reading_of_the_header(survey, name, exposure):
    frame = frame_named(survey.config, name, exposure)
    x, y = grid()
    for kind in ("SCI", "RMS", "FLG"):
        wcs = WCS(survey.header(f"{name}.{kind}", exposure))
        expected = wcs.all_pix2world(x, y, 0)
        u, v = offsets_arcsec(*frame.to_sky(x, y), *expected)
        assert np.abs([u, v]).max() < 1e-6
        found = frame.to_pixel(*expected)
        np.testing.assert_allclose(found, (x, y), rtol=0, atol=1e-6)
        np.testing.assert_allclose(wcs.all_world2pix(*expected, 0), (x, y), rtol=0, atol=1e-4)


@pytest.mark.parametrize("exposure", range(3))
@pytest.mark.parametrize("reader", (galsim.FitsWCS, galsim.AstropyWCS))
def test_positions_agree_with_galsims_reading_of_the_header(survey, reader, exposure):
    header = survey.header(f"{CORNER}.SCI", exposure)
    path = str(survey.files.frames[exposure])
    wcs = reader(header=header) if reader is galsim.FitsWCS else reader(file_name=path, hdu=1)
    x, y = grid()
    ra, dec = frame_named(survey.config, CORNER, exposure).to_sky(x, y)
    found = wcs.radecToxy(np.deg2rad(ra), np.deg2rad(dec), units="rad")
    np.testing.assert_allclose(found, (x + 1, y + 1), rtol=0, atol=1e-4)


@pytest.mark.parametrize("roll", ROLLS)
def test_positions_agree_with_astropy_across_a_full_size_quadrant(roll):
    full = {"quadrant_shape": FULL_SHAPE}
    frame = frame_named(settings(exposures=[{"roll_deg": roll}], detector=full), CORNER)
    x, y = grid(FULL_SHAPE)
    expected = WCS(frame.header()).all_pix2world(x, y, 0)
    assert np.abs(offsets_arcsec(*frame.to_sky(x, y), *expected)).max() < 1e-6
    np.testing.assert_allclose(frame.to_pixel(*expected), (x, y), rtol=0, atol=1e-6)


def test_the_distortion_moves_outer_quadrants_by_pixels():
    header = frame_named(settings(detector={"quadrant_shape": FULL_SHAPE}), CORNER).header()
    straight = header.copy()
    for key in [key for key in header if key.startswith("PV")]:
        del straight[key]
    straight["CTYPE1"], straight["CTYPE2"] = "RA---TAN", "DEC--TAN"
    x, y = grid(FULL_SHAPE)
    bent = WCS(header).all_pix2world(x, y, 0)
    u, v = offsets_arcsec(*WCS(straight).all_pix2world(x, y, 0), *bent)
    assert 0.1 < np.hypot(u, v).mean() < 1.0
    assert np.ptp(np.hypot(u, v)) > 0.01


def test_the_pixel_is_a_tenth_of_an_arcsecond(survey):
    for exposure in range(3):
        wcs = WCS(survey.header(f"{CENTRAL}.SCI", exposure))
        right, up = (
            SkyCoord(*wcs.all_pix2world([100.0], [100.0], 0), unit="deg").separation(
                SkyCoord(*wcs.all_pix2world([100.0 + dx], [100.0 + dy], 0), unit="deg")
            )
            for dx, dy in ((1, 0), (0, 1))
        )
        np.testing.assert_allclose([right.arcsec, up.arcsec], 0.1, rtol=5e-4)


@pytest.mark.parametrize("roll", ROLLS)
def test_the_focal_plane_turns_from_north_to_east_about_its_centre(roll):
    pointing = SkyCoord(AREA["ra"] * un.deg, AREA["dec"] * un.deg)
    x, y = grid()
    seen = []
    for angle in (0.0, roll):
        config = settings(exposures=[{"roll_deg": angle}])
        sky = SkyCoord(*frame_named(config, CORNER).to_sky(x, y), unit="deg")
        seen.append((pointing.separation(sky), pointing.position_angle(sky)))
    (distance, at_zero), (turned_distance, turned) = seen
    np.testing.assert_allclose(turned_distance.arcsec, distance.arcsec, rtol=0, atol=1e-5)
    angle = (turned - at_zero).wrap_at("270d").deg
    np.testing.assert_allclose(angle, roll, rtol=0, atol=1e-6)


def test_quadrants_come_in_both_parities_and_never_mirrored():
    config = settings(exposures=[{"roll_deg": 30.0}])
    turns = {}
    for frame in quadrant_frames(config, 0):
        ra, dec = frame.to_sky([100.0, 101.0, 100.0], [100.0, 100.0, 101.0])
        u, v = offsets_arcsec(ra, dec, ra[0], dec[0])
        assert u[1] * v[2] - u[2] * v[1] > 0, "x towards y is counter-clockwise from west to north"
        turns[frame.name] = round(float(np.rad2deg(np.arctan2(v[1], u[1])))) % 360
    assert set(turns.values()) == {30, 210}
    assert turns["3-4.F"] == turns["3-4.E"] == turns["4-4.G"] == 30
    assert turns["3-4.G"] == turns["3-4.H"] == turns["4-4.F"] == 210


def test_neighbouring_quadrants_of_a_ccd_share_a_border_and_no_area():
    config = settings()
    rows, columns = SHAPE
    left, right = (frame_named(config, f"2-2.{letter}") for letter in "EF")
    y = np.linspace(0, rows - 1, 5)
    u, v = offsets_arcsec(
        *left.to_sky(np.full(5, columns - 0.5), y), *right.to_sky(np.full(5, -0.5), y)
    )
    assert np.abs([u, v]).max() < 1e-6
    frames = quadrant_frames(config, 0)
    assert len({frame.name for frame in frames}) == len({frame.index for frame in frames}) == 144
    for frame in frames:
        x, y = frame.to_pixel(*left.to_sky(*np.meshgrid([0.0, 140.0, 279.0], [0.0, 150.0, 299.0])))
        inside = (x > -0.4) & (x < columns - 0.6) & (y > -0.4) & (y < rows - 0.6)
        assert inside.all() if frame.name == left.name else not inside.any()


def test_the_full_focal_plane_has_the_published_extent():
    config = settings(detector={"quadrant_shape": FULL_SHAPE})
    corners = [
        offsets_arcsec(*frame.corners(), AREA["ra"], AREA["dec"])
        for frame in quadrant_frames(config, 0)
    ]
    u, v = np.moveaxis(np.array(corners), 1, 0)
    np.testing.assert_allclose([np.ptp(u) / 3600, np.ptp(v) / 3600], [0.709, 0.787], atol=0.02)


def test_positions_behind_the_telescope_have_no_pixel():
    frame = frame_named(settings(), CENTRAL)
    x, y = frame.to_pixel(np.array([AREA["ra"] + 180.0, AREA["ra"]]), np.array([51.0, -45.0]))
    assert np.isnan(x).all() and np.isnan(y).all()


@pytest.mark.parametrize(("ra", "dec"), ((0.001, 20.0), (359.999, -20.0), (120.0, 89.99)))
def test_pixels_are_found_again_at_zero_hours_and_at_the_pole(ra, dec):
    config = settings(area={**AREA, "ra": ra, "dec": dec}, exposures=[{"roll_deg": 50.0}])
    frame = frame_named(config, CORNER)
    x, y = grid()
    sky = frame.to_sky(x, y)
    assert ((sky[0] >= 0) & (sky[0] < 360)).all()
    np.testing.assert_allclose(frame.to_pixel(*sky), (x, y), rtol=0, atol=1e-6)


@pytest.mark.parametrize("roll", ROLLS)
def test_the_quadrants_over_the_area_are_all_that_touch_it(roll):
    area = {**AREA, "width_arcmin": 2.0, "height_arcmin": 1.0}
    config = settings(area=area, exposures=[aimed("3-4.F", roll)])
    chosen = {frame.name for frame in overlapping_frames(config)}
    eta, xi = np.meshgrid(np.linspace(-0.5, 0.5, 41), np.linspace(-1.0, 1.0, 81))
    centre = SkyCoord(area["ra"] * un.deg, area["dec"] * un.deg)
    sky = centre.spherical_offsets_by(xi.ravel() * un.arcmin, eta.ravel() * un.arcmin)
    rows, columns = SHAPE
    touched = set()
    for frame in quadrant_frames(config, 0):
        x, y = frame.to_pixel(sky.ra.deg, sky.dec.deg)
        if ((x > -0.5) & (x < columns - 0.5) & (y > -0.5) & (y < rows - 0.5)).any():
            touched.add(frame.name)
    assert "3-4.F" in touched
    assert chosen == touched
