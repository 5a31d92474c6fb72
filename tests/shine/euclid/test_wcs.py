"""Sky <-> pixel against GalSim's own reading of the same headers."""

import warnings

import galsim
import numpy as np
import pytest
from astropy.io import fits

from shine.errors import InputError
from shine.euclid.wcs import QuadrantWCS, unit_vectors
from tests.shine.survey_files import wcs_header

SHAPE = (2066, 2048)
NEAR_EQUATOR_AT_0H, NEAR_POLE, USUAL = (359.999, 10.0), (10.0, 89.995), (57.78, -51.0)
CASES = [
    ("TPV", 37.0, False, USUAL),
    ("TPV", 128.0, False, NEAR_EQUATOR_AT_0H),
    ("TPV", 128.0, True, USUAL),
    ("TPV", 37.0, True, NEAR_POLE),
    ("TAN", 0.0, False, USUAL),
    ("TAN", 128.0, True, (20.0, -89.99)),
    ("TAN-SIP", 37.0, False, NEAR_EQUATOR_AT_0H),
    ("TAN-SIP", 37.0, True, USUAL),
]


def read(header: fits.Header) -> QuadrantWCS:
    return QuadrantWCS.from_header(header, SHAPE, "frame.fits[3-4.F.SCI]")


@pytest.fixture(params=CASES, ids=str)
def pair(request):
    """The same header read by shine and by GalSim."""
    header = wcs_header(*request.param)
    return read(header), galsim.GSFitsWCS(header=galsim.FitsHeader(header.copy()))


@pytest.fixture
def pixels():
    rng = np.random.default_rng(3)
    return rng.uniform(-30.0, 2080.0, (2, 25))


def test_positions_agree_with_galsim(pair, pixels):
    wcs, reference = pair
    x, y = pixels
    ra, dec = wcs.to_sky(x, y)
    for i in range(len(x)):
        expected = reference.toWorld(galsim.PositionD(x[i] + 1, y[i] + 1))  # GalSim counts from 1
        found = galsim.CelestialCoord(ra[i] * galsim.degrees, dec[i] * galsim.degrees)
        assert expected.distanceTo(found) / galsim.arcsec < 1e-6  # asin near the pole
        back = reference.toImage(found)
        assert np.hypot(back.x - 1 - x[i], back.y - 1 - y[i]) < 1e-6
    assert np.abs(wcs.to_pixel(ra, dec) - pixels).max() < 1e-6


def test_jacobians_agree_with_galsim(pair, pixels):
    wcs, reference = pair
    x, y = pixels
    jacobians = wcs.jacobian(x, y)
    for i in range(len(x)):
        local = reference.local(galsim.PositionD(x[i] + 1, y[i] + 1))
        expected = [[local.dudx, local.dudy], [local.dvdx, local.dvdy]]
        np.testing.assert_allclose(jacobians[i], expected, rtol=0, atol=1e-7 * 0.1)


def test_jacobian_depends_on_the_place():
    wcs = read(wcs_header())
    first, second = wcs.jacobian([0.0, 2000.0], [0.0, 2000.0])
    assert np.abs(first - second).max() > 1e-5


def test_a_shear_measured_on_the_sky_keeps_its_sign_and_value():
    """u is west: a galaxy stretched along east-west in a rolled frame has g1 > 0 on the sky."""
    wcs = read(wcs_header(roll_deg=37.0))
    ra, dec = wcs.to_sky([900.0], [1100.0])
    east = wcs.to_pixel(ra + 1 / 3600 / np.cos(np.radians(dec)), dec)
    moved = np.array(east)[:, 0] - [900.0, 1100.0]
    u, v = wcs.jacobian([900.0], [1100.0])[0] @ moved
    assert u == pytest.approx(-1.0, abs=1e-4)
    assert v == pytest.approx(0.0, abs=1e-4)


@pytest.mark.parametrize("projection", ["TPV", "TAN", "TAN-SIP"])
def test_far_sources_have_no_pixel_and_raise_nothing(projection):
    wcs = read(wcs_header(projection))
    rng = np.random.default_rng(5)
    ra, dec = rng.uniform(0, 360, 300), np.degrees(np.arcsin(rng.uniform(-1, 1, 300)))
    x, y = wcs.to_pixel(ra, dec)
    assert np.isnan(x).all()
    assert np.isnan(y).all()
    centre_ra, centre_dec = wcs.to_sky([1023.5], [1032.5])
    antipode = wcs.to_pixel(centre_ra + 180.0, -centre_dec)
    assert np.isnan(antipode).all()


def test_unknown_positions_stay_unknown_beside_known_ones():
    wcs = read(wcs_header())
    ra, dec = wcs.to_sky([10.0, np.nan], [20.0, 5.0])
    assert np.isnan(ra[1])
    x, y = wcs.to_pixel([ra[0], np.nan, np.inf], [dec[0], 5.0, 5.0])
    np.testing.assert_allclose([x[0], y[0]], [10.0, 20.0], atol=1e-6)
    assert np.isnan(x[1:]).all()


def test_an_answer_is_always_a_solution():
    """Where a strong distortion folds the sky, positions are inverted rightly or not at all."""
    header = wcs_header(roll_deg=0.0)
    header["PV1_7"], header["PV2_7"] = 60.0, -60.0
    wcs = read(header)
    centre_ra, centre_dec = wcs.to_sky([1023.5], [1032.5])
    rng = np.random.default_rng(6)
    ra, dec = centre_ra + rng.uniform(-0.2, 0.2, 500), centre_dec + rng.uniform(-0.12, 0.12, 500)
    x, y = wcs.to_pixel(ra, dec)
    solved = np.isfinite(x)
    assert solved.any()
    back = unit_vectors(*wcs.to_sky(x[solved], y[solved]))
    assert np.abs(back - unit_vectors(ra[solved], dec[solved])).max() < 1e-12


def test_shapes_are_kept_and_empty_input_is_fine():
    wcs = read(wcs_header())
    assert wcs.to_pixel(np.zeros((2, 3)), np.zeros((2, 3)))[0].shape == (2, 3)
    assert wcs.to_pixel([], [])[0].shape == (0,)
    assert wcs.jacobian([], []).shape == (0, 2, 2)


def test_footprint_is_the_outer_corners_across_0h():
    wcs = read(wcs_header(centre=(0.0, 10.0)))
    corners = wcs.footprint()
    assert corners.shape == (4, 2)
    x, y = wcs.to_pixel(*corners.T)
    np.testing.assert_allclose(x, [-0.5, 2047.5, 2047.5, -0.5], atol=1e-6)
    np.testing.assert_allclose(y, [-0.5, -0.5, 2065.5, 2065.5], atol=1e-6)
    assert ((corners[:, 0] >= 0) & (corners[:, 0] < 360)).all()


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"CTYPE1": "GLON-TAN", "CTYPE2": "GLAT-TAN"}, "found CTYPE1, CTYPE2"),
        ({"CTYPE1": "DEC--TAN", "CTYPE2": "RA---TAN"}, "found CTYPE1, CTYPE2"),
        ({"CTYPE1": None, "CTYPE2": None}, "found CTYPE1, CTYPE2"),
        ({"CD1_1": 0.0, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": 0.0}, "an invertible WCS"),
        ({"CD1_1": 1e-5, "CD1_2": 1e-5, "CD2_1": 1e-5, "CD2_2": 1e-5}, "an invertible"),
        ({"PV1_1": "one"}, r"PV1_1: found 'one', expected a number"),
    ],
)
def test_headers_without_a_usable_wcs_are_named(changes, problem):
    header = wcs_header()
    for key, value in changes.items():
        if value is None:
            del header[key]
        else:
            header[key] = value
    with pytest.raises(InputError, match=problem) as caught:
        read(header)
    assert "frame.fits[3-4.F.SCI]" in str(caught.value)


def test_key_changes_with_the_transformation_alone():
    header = wcs_header()
    key = read(header).key
    header["OBSERVER"] = "somebody"
    assert read(header).key == key
    header["PV1_4"] += 1e-14
    assert read(header).key != key


def test_no_warning_reaches_the_user():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        read(wcs_header())
    assert caught == []
