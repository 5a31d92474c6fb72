"""The PSF files: 9 x 9 stamps that are GalSim's drawings of the PSF, pixel included."""

from __future__ import annotations

import galsim
import numpy as np
import pytest
from astropy.wcs import WCS

from constellation.mock_survey.focal_plane import QuadrantFrame
from constellation.mock_survey.psf import psf_profiles, psf_shapes

from .surveys import (
    AREA,
    NO_SOURCES,
    NOISELESS,
    ROUND_PSF,
    SHAPE,
    Survey,
    aimed,
    cut_around,
    frame_named,
    offsets_arcsec,
    settings,
    sky_moments,
    write,
)

QUADRANTS = ("3-4.F", "4-4.F")
ROLL = 37.0
VARYING = {"ellipticity": 0.05, "ellipticity_variation": 0.25, "fwhm_variation": 0.4}
CELLS = (np.arange(9) + 0.5) / 9
# GalSim's own default accuracy, ten times finer where the PSF file's is coarse.
FINE = galsim.GSParams(folding_threshold=1e-3, maxk_threshold=1e-4)


def survey_of(folder, psf, population=NO_SOURCES) -> Survey:
    """One exposure of two quadrants, the second turned by 180 deg."""
    area = {**AREA, "width_arcmin": 3.0, "height_arcmin": 3.0}
    config = settings(
        area=area,
        exposures=[aimed(QUADRANTS[0], ROLL)],
        detector={**NOISELESS, "quadrants": QUADRANTS},
        psf=psf,
        population=population,
    )
    return write(config, folder)


@pytest.fixture(scope="module")
def varying(tmp_path_factory) -> Survey:
    stars = {"galaxy_density": 0.0, "star_density": 90.0, "star_bright_magnitude": 18.0}
    stars |= {"bright_magnitude": 18.0, "faint_magnitude": 18.5}
    psf = {"halo_fraction": 0.0, "fwhm_arcsec": 0.3, **VARYING}
    return survey_of(tmp_path_factory.mktemp("varying"), psf, stars)


def stamps(survey, name):
    """Stamps by (row of the grid, column of the grid, y, x)."""
    image = survey.image(name, kind="psfs")
    return image.reshape(9, 21, 9, 21).swapaxes(1, 2).astype(float)


def jacobian(header, x, y):
    """d(u, v) / d(x, y) in arcsec per pixel at a 0-based position, by astropy."""
    wcs = WCS(header)
    sky = wcs.all_pix2world([x - 1, x + 1, x, x], [y, y, y - 1, y + 1], 0)
    u, v = offsets_arcsec(*sky, *(float(p) for p in wcs.all_pix2world(x, y, 0)))
    return np.array([[u[1] - u[0], u[3] - u[2]], [v[1] - v[0], v[3] - v[2]]]) / 2


def drawn(profile, matrix):
    """A profile on 21 x 21 pixels, convolved with the pixel by hand."""
    wcs = galsim.JacobianWCS(*matrix.ravel())
    pixel = wcs.toWorld(galsim.Pixel(1.0))
    profile = galsim.Convolve(profile.withGSParams(FINE), pixel, gsparams=FINE)
    return profile.drawImage(nx=21, ny=21, wcs=wcs, method="no_pixel", dtype=float).array


@pytest.mark.parametrize("name", QUADRANTS)
@pytest.mark.parametrize("ellipticity", (0.0, 0.2))
def test_the_stamps_of_an_even_psf_are_its_profile(tmp_path, name, ellipticity):
    shape = {"ellipticity": ellipticity, "ellipticity_angle_deg": 20.0}
    psf = {**ROUND_PSF, "halo_fraction": 0.08, "beta": 3.5, "fwhm_arcsec": 0.16, **shape}
    survey = survey_of(tmp_path, psf)
    core = galsim.Moffat(beta=3.5, fwhm=0.16, flux=0.92)
    profile = core + galsim.Exponential(half_light_radius=1.0, flux=0.08)
    profile = profile.shear(g=ellipticity, beta=(20.0 + ROLL) * galsim.degrees)
    expected = drawn(profile, jacobian(survey.header(f"{name}.SCI"), 140.0, 150.0))
    assert expected.argmax() == 220
    for stamp in stamps(survey, name).reshape(81, 21, 21):
        np.testing.assert_allclose(stamp, expected, rtol=0, atol=1e-3 * expected.max())


@pytest.mark.parametrize("name", QUADRANTS)
def test_stamps_are_the_psf_at_the_cells_centres(varying, name):
    rows, columns = SHAPE
    frame = frame_named(varying.config, name)
    header = varying.header(f"{name}.SCI")
    found = stamps(varying, name)
    for row, column in ((0, 0), (0, 8), (8, 0), (4, 4), (2, 7)):
        x, y = CELLS[column] * columns - 0.5, CELLS[row] * rows - 0.5
        [profile] = psf_profiles(varying.config.psf, frame, np.array([x]), np.array([y]))
        expected = drawn(profile, jacobian(header, x, y))
        difference = np.abs(found[row, column] - expected).max() / expected.max()
        assert difference < 2e-3
    across = np.abs(found[8, 0] - found[0, 8]).max() / found.max()
    assert across > 0.01, "rows and columns of the grid cannot be told apart"


def stamp_shapes(survey, name):
    """Moments (9, 9, 3) of the stamps on the sky: g1, g2, size."""
    rows, columns = SHAPE
    header = survey.header(f"{name}.SCI")
    y, x = np.mgrid[:21, :21] - 10.0
    shapes = np.zeros((9, 9, 3))
    for row, column in np.ndindex(9, 9):
        matrix = jacobian(header, CELLS[column] * columns - 0.5, CELLS[row] * rows - 0.5)
        u, v = np.einsum("ij,j...->i...", matrix, np.stack([x, y]))
        moments = sky_moments(stamps(survey, name)[row, column], u, v, start=0.1)
        np.testing.assert_allclose([moments.u, moments.v], 0, atol=1e-4)
        shapes[row, column] = moments.g1, moments.g2, moments.size
    return shapes


def test_stars_in_the_image_have_the_shapes_of_the_stamps(varying):
    truth = varying.truth()
    assert truth["IS_STAR"].all()
    name, (rows, columns) = QUADRANTS[0], SHAPE
    header, light = varying.header(f"{name}.SCI"), varying.light(name)
    x, y = frame_named(varying.config, name).to_pixel(truth["RA"], truth["DEC"])
    apart = np.hypot(x[:, None] - x, y[:, None] - y) + 999 * np.eye(len(x))
    inside = (x > 16) & (x < columns - 17) & (y > 16) & (y < rows - 17)
    chosen = np.flatnonzero(inside & (apart.min(axis=1) > 24))
    assert len(chosen) >= 8
    shapes = stamp_shapes(varying, name)
    assert (np.ptp(shapes, axis=(0, 1)) > (0.02, 0.01, 0.005)).all(), "the PSF hardly varies"
    residuals, nodes = [], []
    for i in chosen:
        row, column = int(9 * (y[i] + 0.5) / rows), int(9 * (x[i] + 0.5) / columns)
        cut, u, v = cut_around(light, header, (truth["RA"][i], truth["DEC"][i]), half=10)
        star = sky_moments(cut, u, v, start=0.1)
        residuals.append(np.array([star.g1, star.g2, star.size]) - shapes[row, column])
        nodes.append(shapes[row, column])
    misfit = np.sqrt(np.mean(np.square(residuals), axis=0))
    assert (misfit < 0.4 * np.std(nodes, axis=0)).all()


def test_the_default_psf_varies_across_quadrants_and_keeps_most_of_its_light(tmp_path):
    survey = survey_of(tmp_path, {})
    everything = []
    for name in QUADRANTS:
        found = stamps(survey, name)
        assert (found > -1e-6).all()
        sums = found.sum(axis=(2, 3))
        assert ((sums > 0.93) & (sums < 0.98)).all()
        peaks = found[..., 10, 10]
        assert np.ptp(peaks) > 3e-3 * peaks.mean()
        everything.append(found)
    assert np.abs(everything[0] - everything[1]).max() > 1e-3


def test_width_and_shape_turn_with_the_focal_plane():
    x, y = np.array([20.0, 250.0]), np.array([30.0, 200.0])
    profiles = []
    for roll in (0.0, 50.0):
        config = settings(exposures=[{"roll_deg": roll}], psf=VARYING)
        frame: QuadrantFrame = frame_named(config, "2-5.G")
        profiles.append(psf_profiles(config.psf, frame, x, y))
    for still, turned in zip(*profiles, strict=True):
        expected = still.rotate(50 * galsim.degrees)
        images = [
            p.drawImage(nx=41, ny=41, scale=0.05, dtype=float).array for p in (expected, turned)
        ]
        np.testing.assert_allclose(images[1], images[0], rtol=0, atol=2e-3 * images[0].max())
        unturned = still.drawImage(nx=41, ny=41, scale=0.05, dtype=float).array
        assert np.abs(images[1] - unturned).max() > 0.01 * unturned.max()


def test_quadrants_of_either_parity_agree_on_the_psf_between_them():
    config = settings(exposures=[{"roll_deg": 20.0}], psf=VARYING)
    below, above = (frame_named(config, f"2-5.{letter}") for letter in "FG")
    x, y = np.array([20.0, 140.0, 250.0]), np.full(3, SHAPE[0] + 1.0)
    one = psf_shapes(config.psf, below, x, y)
    other = psf_shapes(config.psf, above, *above.to_pixel(*below.to_sky(x, y)))
    np.testing.assert_allclose(one, other, rtol=0, atol=1e-5)
    assert (np.ptp(one, axis=1) > 1e-3).all()
