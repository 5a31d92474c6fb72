"""Shapes, positions and fluxes in the pixels are those of the truth table, in (u west, v north)."""

from __future__ import annotations

from dataclasses import replace

import galsim
import numpy as np
import pytest

from constellation.mock_survey.population import Sources
from constellation.mock_survey.scene import draw_scene, quadrant_wcs

from .surveys import (
    AREA,
    NOISELESS,
    ONE_GALAXY,
    ONE_STAR,
    ROUND_PSF,
    SEED_OF_ONE_SOURCE,
    SHAPE,
    adu_per_ujy,
    aimed,
    cut_around,
    frame_named,
    one_quadrant,
    settings,
    sky_moments,
    write,
)

# Names of quadrants of parity +1 and -1.
UPRIGHT, TURNED = "3-4.F", "3-4.G"
VIEWS = [(name, roll) for name in (UPRIGHT, TURNED) for roll in (0.0, 37.0, 128.0)]


def view(folder, quadrant, roll, shear, sigma=0.0, **changes):
    """One noiseless galaxy: its truth, and the pixels around its true position."""
    config = one_quadrant(
        quadrant,
        roll,
        seed=SEED_OF_ONE_SOURCE,
        shear={"type": "constant", **shear},
        population={**ONE_GALAXY, "ellipticity_sigma": sigma},
        detector=NOISELESS,
        psf=ROUND_PSF,
        **changes,
    )
    survey = write(config, folder)
    truth, header = survey.only_source(), survey.header(f"{quadrant}.SCI")
    cut = cut_around(survey.light(quadrant), header, (truth["RA"], truth["DEC"]))
    return truth, header, cut


def drawn_by_galsim(truth):
    """Moments of the true galaxy, drawn by GalSim on a grid along (u, v)."""
    galaxy = galsim.Exponential(half_light_radius=truth["HLR_ARCSEC"])
    galaxy = galaxy.shear(g1=truth["E1"], g2=truth["E2"]).shear(g1=truth["G1"], g2=truth["G2"])
    profile = galsim.Convolve(galaxy, galsim.Moffat(beta=2.5, fwhm=0.14))
    image = profile.drawImage(nx=101, ny=101, scale=0.1, dtype=float).array
    v, u = 0.1 * (np.mgrid[:101, :101] - 50)
    return sky_moments(image, u, v)


@pytest.mark.parametrize(("quadrant", "roll"), VIEWS)
@pytest.mark.parametrize("shear", ({"g1": 0.2, "g2": -0.12}, {"g1": -0.05, "g2": 0.25}), ids=str)
def test_a_round_galaxy_is_stretched_by_the_true_shear(tmp_path, quadrant, roll, shear):
    truth, header, (light, u, v) = view(tmp_path, quadrant, roll, shear)
    assert (truth["G1"], truth["G2"]) == (shear["g1"], shear["g2"])
    assert (truth["E1"], truth["E2"]) == (0, 0)
    seen, expected = sky_moments(light, u, v), drawn_by_galsim(truth)
    np.testing.assert_allclose([seen.u, seen.v], 0, atol=2e-3)
    np.testing.assert_allclose([seen.g1, seen.g2], [expected.g1, expected.g2], atol=2e-3)
    np.testing.assert_allclose([seen.g1, seen.g2], list(shear.values()), rtol=0.1)
    assert seen.size == pytest.approx(expected.size, rel=0.01)

    inside = np.hypot(u, v) < 4.5
    flux_ujy = light[inside].sum() / adu_per_ujy(header)
    assert flux_ujy == pytest.approx(truth["FLUX_UJY"], rel=0.02)


@pytest.mark.parametrize(("quadrant", "roll"), VIEWS)
def test_an_elliptical_galaxy_is_sheared_after_its_own_shape(tmp_path, quadrant, roll):
    truth, _, (light, u, v) = view(tmp_path, quadrant, roll, {"g1": 0.3, "g2": 0.25}, sigma=0.3)
    assert np.hypot(truth["E1"], truth["E2"]) > 0.2
    seen, expected = sky_moments(light, u, v), drawn_by_galsim(truth)
    np.testing.assert_allclose([seen.g1, seen.g2], [expected.g1, expected.g2], atol=2e-3)
    swapped = drawn_by_galsim(
        {**truth, "E1": truth["G1"], "E2": truth["G2"], "G1": truth["E1"], "G2": truth["E2"]}
    )
    assert np.hypot(seen.g1 - swapped.g1, seen.g2 - swapped.g2) > 0.01, "the order does not show"


def test_positive_g2_points_north_west(tmp_path):
    _, _, (light, u, v) = view(tmp_path, TURNED, 37.0, {"g1": 0.0, "g2": 0.3})
    north_west = light[(u > 0.5) & (v > 0.5)].sum() + light[(u < -0.5) & (v < -0.5)].sum()
    north_east = light[(u < -0.5) & (v > 0.5)].sum() + light[(u > 0.5) & (v < -0.5)].sum()
    assert north_west > 2 * north_east


def test_positive_g1_points_west(tmp_path):
    _, _, (light, u, v) = view(tmp_path, UPRIGHT, 128.0, {"g1": 0.3, "g2": 0.0})
    west_and_east = light[np.abs(u) > np.abs(v) + 0.5].sum()
    assert west_and_east > 2 * light[np.abs(v) > np.abs(u) + 0.5].sum()


@pytest.mark.parametrize(("quadrant", "roll"), VIEWS[1:5:2])
def test_a_star_is_the_psf_with_the_pixel_once(tmp_path, quadrant, roll):
    psf = {"ellipticity": 0.15, "ellipticity_angle_deg": 25.0}
    config = one_quadrant(
        quadrant,
        roll,
        seed=SEED_OF_ONE_SOURCE,
        population=ONE_STAR,
        detector=NOISELESS,
        psf={**ROUND_PSF, "halo_fraction": 0.1, **psf},
        shear={"type": "constant", "g1": 0.3},
    )
    survey = write(config, tmp_path)
    truth, header = survey.only_source(), survey.header(f"{quadrant}.SCI")
    assert truth["IS_STAR"]
    assert [truth[key] for key in ("G1", "G2", "E1", "E2", "HLR_ARCSEC")] == [0.0] * 5
    light, u, v = cut_around(survey.light(quadrant), header, (truth["RA"], truth["DEC"]), half=15)

    core = galsim.Moffat(beta=2.5, fwhm=0.14, flux=0.9)
    profile = core + galsim.Exponential(half_light_radius=1.0, flux=0.1)
    profile = profile.shear(g=0.15, beta=(25.0 + roll) * galsim.degrees)
    turn = np.deg2rad(roll + (180 if quadrant == TURNED else 0))
    jacobian = 0.1 * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    offset = np.linalg.solve(jacobian, [-u[15, 15], -v[15, 15]])
    wcs = galsim.JacobianWCS(*jacobian.ravel())
    expected = profile.drawImage(nx=31, ny=31, wcs=wcs, offset=offset, dtype=float).array
    flux_adu = truth["FLUX_UJY"] * adu_per_ujy(header)
    np.testing.assert_allclose(light, flux_adu * expected, rtol=0, atol=2e-3 * light.max())


@pytest.mark.parametrize("roll", (0.0, 37.0))
def test_light_across_a_border_is_shared_by_both_quadrants(roll):
    config = settings(exposures=[{"roll_deg": roll}], psf=ROUND_PSF, detector=NOISELESS)
    left, right = (frame_named(config, f"2-3.{letter}") for letter in "EF")
    ra, dec = left.to_sky(np.array([SHAPE[1] - 0.2]), np.array([150.3]))
    one, none = np.ones(1), np.zeros(1)
    galaxy = Sources(ra, dec, none > 0, 100 * one, 0.6 * one, none, none, none, none)
    counts = adu_per_ujy({"MAGZEROP": "24.57", "EXPTIME": 560.52}) * 100
    shares = [draw_scene(config, frame, galaxy).galaxies_adu.sum() for frame in (left, right)]
    assert sum(shares) == pytest.approx(counts, rel=0.01)
    assert min(shares) > 0.4 * counts


def test_galaxies_and_stars_are_drawn_into_their_own_images():
    config = settings(exposures=[aimed(UPRIGHT)])
    frame = frame_named(config, UPRIGHT)
    one, none = np.ones(1), np.zeros(1)
    ra, dec = AREA["ra"] * one, AREA["dec"] * one
    source = Sources(ra, dec, none > 0, 100 * one, 0.5 * one, none, none, none, none)
    scene = draw_scene(config, frame, source)
    assert scene.galaxies_adu.max() > 0 == scene.stars_adu.max()
    scene = draw_scene(config, frame, replace(source, is_star=one > 0))
    assert scene.stars_adu.max() > 0 == scene.galaxies_adu.max()
    x, y = quadrant_wcs(frame).radecToxy(ra, dec, units="deg")
    row, column = np.unravel_index(scene.stars_adu.argmax(), SHAPE)
    np.testing.assert_allclose([column + 1, row + 1], [x[0], y[0]], atol=1.0)


def test_the_counts_follow_each_exposures_zero_point_and_time(tmp_path):
    exposures = [
        {**aimed(UPRIGHT, roll), "zero_point": zero_point, "exposure_time_s": time}
        for roll, zero_point, time in ((0.0, 24.56605, 560.52), (10.0, 24.1, 90.0))
    ]
    config = one_quadrant(
        UPRIGHT,
        seed=SEED_OF_ONE_SOURCE,
        population=ONE_GALAXY,
        detector=NOISELESS,
        psf=ROUND_PSF,
        exposures=exposures,
    )
    survey = write(config, tmp_path)
    truth = survey.only_source()
    for exposure in (0, 1):
        header = survey.header(f"{UPRIGHT}.SCI", exposure)
        light, u, v = cut_around(
            survey.light(UPRIGHT, exposure), header, (truth["RA"], truth["DEC"])
        )
        flux_ujy = light[np.hypot(u, v) < 4.5].sum() / adu_per_ujy(header)
        assert flux_ujy == pytest.approx(truth["FLUX_UJY"], rel=0.01)
