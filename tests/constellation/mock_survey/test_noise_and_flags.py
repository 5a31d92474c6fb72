"""Noise follows the RMS map, the sky is the background map, and defects are flagged."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from .surveys import (
    NO_DEFECTS,
    NO_SOURCES,
    ONE_GALAXY,
    ONE_STAR,
    ROUND_PSF,
    SEED_OF_ONE_SOURCE,
    Survey,
    adu_per_ujy,
    aimed,
    frame_named,
    one_quadrant,
    write,
)

NAME = "3-4.F"
INVALID, HOT, SAT, COSMIC, QUADEDGE = 1, 2, 8, 16, 64
BAD_COLUMN, BAD_CLUSTER, NO_DATA = 1 << 7, 1 << 8, 1 << 22
STARSIGNAL, SATURATEDSTAR, OBJECTS = 1 << 18, 1 << 19, 1 << 24
DEFECTS = HOT | SAT | COSMIC | BAD_COLUMN | BAD_CLUSTER | NO_DATA


def empty_sky(folder, rolls=(0.0, 20.0), **detector) -> Survey:
    """Exposures of one quadrant without sources."""
    config = one_quadrant(
        NAME,
        exposures=[aimed(NAME, roll) for roll in rolls],
        population=NO_SOURCES,
        detector=detector,
    )
    return write(config, folder)


def source(folder, population, **detector) -> Survey:
    """One exposure of one bright source at the middle of a quadrant."""
    config = one_quadrant(
        NAME,
        seed=SEED_OF_ONE_SOURCE,
        population=population,
        detector={**NO_DEFECTS, **detector},
        psf=ROUND_PSF,
    )
    return write(config, folder)


@pytest.fixture(scope="module")
def defects(tmp_path_factory) -> Survey:
    return empty_sky(tmp_path_factory.mktemp("defects"), hot_pixels_per_megapixel=500.0)


@pytest.fixture(scope="module")
def saturated(tmp_path_factory) -> Survey:
    return source(tmp_path_factory.mktemp("saturated"), ONE_STAR, saturation_adu=5000.0)


@pytest.mark.parametrize(
    ("sky", "gain", "read_noise"), ((46.0, 3.48, 4.4), (10.0, 3.48, 20.0), (400.0, 1.0, 4.4))
)
def test_empty_sky_scatters_by_the_rms_map(tmp_path, sky, gain, read_noise):
    levels = {"sky_adu": sky, "gain": gain, "read_noise_e": read_noise}
    survey = empty_sky(tmp_path, **NO_DEFECTS, **levels)
    rms = survey.image(f"{NAME}.RMS")
    pull = survey.light(NAME) / rms
    assert np.std(pull) == pytest.approx(1, abs=0.015)
    assert np.mean(pull) == pytest.approx(0, abs=0.015)
    expected = np.sqrt(sky * gain + read_noise**2) / gain
    assert np.median(rms) == pytest.approx(expected, rel=0.04)
    noise = pull - pull.mean()
    for shifted in (noise[1:] * noise[:-1], noise[:, 1:] * noise[:, :-1]):
        assert shifted.mean() == pytest.approx(0, abs=0.02)


def test_the_background_map_is_the_sky_in_the_counts(tmp_path):
    survey = empty_sky(tmp_path, **NO_DEFECTS, sky_gradient=0.8, gain=100.0, read_noise_e=0.0)
    for exposure in (0, 1):
        sci = survey.image(f"{NAME}.SCI", exposure).astype(float)
        background = survey.image(NAME, exposure, "backgrounds").astype(float)
        blocks = [im.reshape(10, 30, 10, 28).mean(axis=(1, 3)) for im in (sci, background)]
        np.testing.assert_allclose(blocks[0], blocks[1], rtol=0, atol=0.15)
        assert np.ptp(blocks[1]) > 5
        steps = [np.abs(np.diff(background, axis=axis)).max() for axis in (0, 1)]
        assert max(steps) < 0.5, "the sky is not smooth"
    levels = [survey.image(NAME, exposure, "backgrounds").mean() for exposure in (0, 1)]
    assert abs(levels[0] - levels[1]) > 0.05
    np.testing.assert_allclose(levels, 46.0, rtol=0.3)


def test_exposures_have_noise_of_their_own(tmp_path):
    survey = empty_sky(tmp_path, **NO_DEFECTS, sky_adu=1e-9, read_noise_e=10.0)
    first, second = (survey.light(NAME, exposure) for exposure in (0, 1))
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.02


def test_the_rms_map_holds_the_photon_noise_of_the_source(tmp_path):
    survey = source(tmp_path, ONE_GALAXY)
    header, truth = survey.header(f"{NAME}.SCI"), survey.only_source()
    variance = survey.image(f"{NAME}.RMS").astype(float) ** 2
    background = survey.image(NAME, kind="backgrounds")
    noise_of_sky = background / header["GAIN"] + (header["RDNOISE"] / header["GAIN"]) ** 2
    photons = (variance - noise_of_sky) * header["GAIN"]
    y, x = np.mgrid[: photons.shape[0], : photons.shape[1]]
    x0, y0 = frame_named(survey.config, NAME).to_pixel(truth["RA"], truth["DEC"])
    near = np.hypot(x - x0, y - y0) < 40
    expected = truth["FLUX_UJY"] * adu_per_ujy(header)
    assert photons[near].sum() == pytest.approx(expected, rel=0.02)
    np.testing.assert_allclose(photons[~near], 0, atol=1.0)
    assert survey.light(NAME)[near].sum() == pytest.approx(expected, rel=0.01)


def test_flagged_defects_are_invalid_and_nothing_else_is(defects):
    for exposure in (0, 1):
        flags = defects.image(f"{NAME}.FLG", exposure)
        assert ((flags & INVALID != 0) == (flags & DEFECTS != 0)).all()
        assert (flags & ~(INVALID | DEFECTS | QUADEDGE)).max() == 0


def test_pixels_that_stand_out_are_flagged(defects):
    for exposure in (0, 1):
        flags = defects.image(f"{NAME}.FLG", exposure)
        pull = defects.light(NAME, exposure) / defects.image(f"{NAME}.RMS", exposure)
        good = flags & INVALID == 0
        assert np.isfinite(pull[good]).all()
        assert np.abs(pull[good]).max() < 6
        assert np.std(pull[good]) == pytest.approx(1, abs=0.015)
        for bit in (COSMIC, HOT):
            alone = (flags & bit != 0) & (flags & DEFECTS & ~bit == 0)
            assert alone.sum() > 20
            assert np.median(pull[alone]) > 10


def test_cosmic_rays_are_tracks_that_hit_each_exposure_elsewhere(defects):
    first, second = (defects.image(f"{NAME}.FLG", exposure) & COSMIC != 0 for exposure in (0, 1))
    share = first.mean(), second.mean()
    assert 0.002 < min(share) <= max(share) < 0.02
    assert (first & second).sum() < 0.1 * first.sum()
    _, n_tracks = ndimage.label(first, np.ones((3, 3)))
    assert 3 < first.sum() / n_tracks < 30


def test_bad_columns_hot_pixels_and_clusters_stay_in_place(defects):
    maps = [defects.image(f"{NAME}.FLG", exposure) for exposure in (0, 1)]
    for bit in (BAD_COLUMN, BAD_CLUSTER, HOT):
        first, second = (flags & bit != 0 for flags in maps)
        assert first.any()
        np.testing.assert_array_equal(first, second)
    for exposure, flags in enumerate(maps):
        sci = defects.image(f"{NAME}.SCI", exposure)
        dead = flags & BAD_COLUMN != 0
        assert 1 <= dead.any(axis=0).sum() <= 3
        for column in np.flatnonzero(dead.any(axis=0)):
            assert dead[dead[:, column].argmax() :, column].all()
        assert (sci[dead & (flags & BAD_CLUSTER == 0)] == 0).all()
        np.testing.assert_array_equal(np.isnan(sci), flags & NO_DATA != 0)
        np.testing.assert_array_equal(flags & NO_DATA != 0, flags & BAD_CLUSTER != 0)


def test_other_quadrants_have_other_defects_and_noise(tmp_path):
    names = ("3-4.E", "3-4.F")
    changes = {"detector": {"quadrants": names, "hot_pixels_per_megapixel": 500.0}}
    config = one_quadrant(NAME, area={"width_arcmin": 0.9}, population=NO_SOURCES, **changes)
    survey = write(config, tmp_path)
    flags = [survey.image(f"{name}.FLG") for name in names]
    for bit in (BAD_COLUMN, HOT, COSMIC):
        assert not np.array_equal(flags[0] & bit, flags[1] & bit)
    good = (flags[0] | flags[1]) & INVALID == 0
    pixels = [survey.light(name)[good] for name in names]
    assert abs(np.corrcoef(*pixels)[0, 1]) < 0.02


def test_a_detector_without_defects_has_only_edges_flagged(tmp_path):
    flags = empty_sky(tmp_path, (0.0,), **NO_DEFECTS).image(f"{NAME}.FLG")
    edge = np.ones(flags.shape, dtype=bool)
    edge[4:-4, 4:-4] = False
    np.testing.assert_array_equal(flags, np.where(edge, QUADEDGE, 0))


def test_every_clipped_pixel_is_flagged_saturated(saturated):
    sci, flags = saturated.image(f"{NAME}.SCI"), saturated.image(f"{NAME}.FLG")
    full = sci >= saturated.header(f"{NAME}.SCI")["SATURATE"]
    assert full.sum() > 20
    assert (flags[full] & (INVALID | SAT) == INVALID | SAT).all()
    assert sci.max() == 5000


def test_pixels_that_noise_alone_fills_are_flagged_saturated(tmp_path):
    survey = empty_sky(tmp_path, (0.0,), **NO_DEFECTS, sky_adu=90.0, saturation_adu=100.0)
    sci, flags = survey.image(f"{NAME}.SCI"), survey.image(f"{NAME}.FLG")
    full = sci >= 100
    assert 0.01 < full.mean() < 0.5
    assert (flags[full] & (INVALID | SAT) == INVALID | SAT).all()


def test_no_pixel_exceeds_the_saturation_level(tmp_path):
    survey = empty_sky(tmp_path, (0.0,), hot_pixels_per_megapixel=2000.0, saturation_adu=1000.0)
    sci = survey.image(f"{NAME}.SCI")
    assert np.nanmax(sci) == 1000


def test_charge_of_a_saturated_star_bleeds_along_columns(saturated):
    full = saturated.image(f"{NAME}.SCI") >= 5000
    rows, columns = np.nonzero(full)
    assert np.ptp(rows) > 2 * np.ptp(columns)
    flags = saturated.image(f"{NAME}.FLG")
    star, sat = flags & SATURATEDSTAR != 0, flags & SAT != 0
    assert star.sum() > 300
    good = star & ~sat
    assert good.any()
    assert (flags[good] & INVALID == 0).all(), "the star's wings are no defect"


@pytest.mark.parametrize(("population", "is_star"), ((ONE_GALAXY, False), (ONE_STAR, True)))
def test_objects_are_marked_but_not_invalid(tmp_path, population, is_star):
    survey = source(tmp_path, population, saturation_adu=1e6)
    flags, light = survey.image(f"{NAME}.FLG"), survey.light(NAME)
    bright = light > 5 * survey.image(f"{NAME}.RMS")
    assert bright.sum() > 50
    assert (flags[bright] & OBJECTS != 0).mean() > 0.98
    assert (flags & OBJECTS != 0).mean() < 0.1
    assert (flags & (INVALID | DEFECTS)).max() == 0
    assert (flags & STARSIGNAL != 0).any() == is_star
    if is_star:
        assert (flags[bright] & STARSIGNAL != 0).mean() > 0.98
