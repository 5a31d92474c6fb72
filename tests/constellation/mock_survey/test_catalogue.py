"""The MER catalogues: rows, ids, nulls and columns that scatter as their errors say."""

from __future__ import annotations

import galsim
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS

from .surveys import (
    NEXT_TILE,
    NO_SOURCES,
    ONE_GALAXY,
    ONE_STAR,
    ROUND_PSF,
    SEED_OF_ONE_SOURCE,
    TILE,
    Survey,
    adu_per_ujy,
    aimed,
    merged,
    offsets_arcsec,
    one_quadrant,
    write,
)

NAME, SHAPE = "3-4.F", (1200, 1200)
TILES = [TILE, NEXT_TILE]
FLUXES = ("DETECTION_TOTAL", "SEGMENTATION", "VIS_PSF", "VIS_SERSIC")
FLUXES += tuple(f"VIS_{number}FWHM_APER" for number in (1, 2, 3, 4))
INTEGERS = {"OBJECT_ID": "i8", "SEGMENTATION_MAP_ID": "i8", "PARENT_ID": "i8"}
INTEGERS |= {"DET_QUALITY_FLAG": "i4", "VIS_DET": "i2", "FLAG_VIS": "i2", "DEBLENDED_FLAG": "i2"}
INTEGERS |= {"POINT_LIKE_FLAG": "i2", "EXTENDED_FLAG": "i2", "SPURIOUS_FLAG": "i2"}
UNITS = {
    **{f"{kind}_{name}": "uJy" for kind in ("FLUX", "FLUXERR") for name in FLUXES},
    "RIGHT_ASCENSION": "deg",
    "DECLINATION": "deg",
    "SEMIMAJOR_AXIS": "pix",
    "KRON_RADIUS": "pix",
    "FWHM": "arcsec",
    "POSITION_ANGLE": "deg",
    "MUMAX_MINUS_MAG": "mag",
}
PLAIN = {"ELLIPTICITY", "BLENDED_PROB", "POINT_LIKE_PROB", "EXTENDED_PROB", "SPURIOUS_PROB"}


@pytest.fixture(scope="module")
def survey(tmp_path_factory) -> Survey:
    """Two tiles whose border crosses one quadrant with some hundred sources."""
    config = one_quadrant(
        NAME,
        tiles=TILES,
        area={"width_arcmin": 2.0, "height_arcmin": 2.0},
        exposures=[aimed(NAME, 20.0, SHAPE)],
        detector={"quadrant_shape": SHAPE},
        population={"galaxy_density": 90.0, "star_density": 12.0},
        shear={"type": "constant", "g1": 0.1, "g2": 0.05},
        catalogue={"spurious_fraction": 0.08},
    )
    return write(config, tmp_path_factory.mktemp("catalogue"))


@pytest.fixture(scope="module")
def rows(survey) -> np.ndarray:
    return np.concatenate([survey.catalogue(tile) for tile in (0, 1)])


@pytest.fixture(scope="module")
def matched(survey, rows) -> tuple[np.ndarray, dict]:
    """Rows of true sources, and the truth in the same order."""
    truth = survey.truth()
    order = {object_id: place for place, object_id in enumerate(truth["OBJECT_ID"])}
    real = rows[rows["SPURIOUS_FLAG"] == 0]
    places = [order[object_id] for object_id in real["OBJECT_ID"]]
    return real, {name: values[places] for name, values in truth.items()}


def test_columns_have_euclids_names_types_and_units(survey):
    for path in survey.files.catalogues:
        with fits.open(path) as hdus:
            columns, data = hdus[1].columns, hdus[1].data
            assert set(columns.names) == set(UNITS) | set(INTEGERS) | PLAIN
            for name in columns.names:
                wide = name in ("RIGHT_ASCENSION", "DECLINATION")
                kind = INTEGERS.get(name, "f8" if wide else "f4")
                assert (name, data[name].dtype.str[1:]) == (name, kind)
                assert (name, columns[name].unit) == (name, UNITS.get(name))


def test_a_tile_lists_the_sources_nearest_to_its_centre(survey):
    assert len(survey.catalogue(0)) > 50 < len(survey.catalogue(1))
    centres = SkyCoord([[tile["ra"], tile["dec"]] for tile in TILES], unit="deg")
    for tile in (0, 1):
        rows = survey.catalogue(tile)
        places = SkyCoord(rows["RIGHT_ASCENSION"], rows["DECLINATION"], unit="deg")
        distances = [places.separation(centre).deg for centre in centres]
        np.testing.assert_array_equal(np.argmin(distances, axis=0), tile)
        segments = rows["SEGMENTATION_MAP_ID"]
        np.testing.assert_array_equal(segments // 1_000_000, TILES[tile]["tile_index"])
        assert len(set(segments)) == len(rows)


def test_no_object_is_listed_twice(rows):
    assert len(set(rows["OBJECT_ID"])) == len(rows)


def test_ids_spell_the_measured_position(rows):
    for row in rows[:20]:
        ra, dec = (round(abs(row[name]) * 1e7) for name in ("RIGHT_ASCENSION", "DECLINATION"))
        assert row["OBJECT_ID"] == -int(f"{ra:010d}{dec:09d}")


def test_ids_north_of_the_equator_are_positive(tmp_path):
    north = {"area": {"dec": 20.0}, "tiles": [{**TILE, "dec": 20.0}], "population": ONE_STAR}
    config = one_quadrant(NAME, seed=SEED_OF_ONE_SOURCE, **north)
    area = config.area.model_dump()
    config = one_quadrant(
        NAME, seed=SEED_OF_ONE_SOURCE, exposures=[aimed(NAME, area=area)], **north
    )
    [row] = write(config, tmp_path).catalogue()
    assert str(row["OBJECT_ID"]).startswith("577")
    assert len(str(row["OBJECT_ID"])) == 18


def test_real_rows_are_the_detected_truth_and_spurious_ones_are_not(survey, rows):
    truth = survey.truth()
    spurious = rows["SPURIOUS_FLAG"] == 1
    assert 3 <= spurious.sum() < 0.2 * len(rows)
    assert set(rows["OBJECT_ID"][~spurious]) == set(truth["OBJECT_ID"][truth["IS_DETECTED"]])
    assert not set(rows["OBJECT_ID"][spurious]) & set(truth["OBJECT_ID"])
    assert rows["SPURIOUS_PROB"][spurious].min() > 0.5 > rows["SPURIOUS_PROB"][~spurious].max()
    assert not truth["IS_DETECTED"].all()


def test_only_sources_on_a_quadrant_are_listed(survey):
    truth, (rows, columns) = survey.truth(), SHAPE
    wcs = WCS(survey.header(f"{NAME}.SCI"))
    x, y = wcs.all_world2pix(truth["RA"], truth["DEC"], 0)
    inside = (np.abs(x - (columns - 1) / 2) < columns / 2) & (np.abs(y - (rows - 1) / 2) < rows / 2)
    listed = truth["IS_DETECTED"]
    assert listed.sum() > 150 and (~inside).sum() > 30
    assert inside[listed].all()


def test_bright_sources_are_detected_and_faint_ones_are_not(survey):
    truth = survey.truth()
    area = survey.config.area
    near = np.hypot(*offsets_arcsec(truth["RA"], truth["DEC"], area.ra, area.dec)) < 59
    magnitude = 23.9 - 2.5 * np.log10(truth["FLUX_UJY"])
    bright, faint = near & (magnitude < 22.5), near & (magnitude > 25.5)
    assert bright.sum() > 20 < faint.sum()
    assert truth["IS_DETECTED"][bright].mean() > 0.95
    assert truth["IS_DETECTED"][faint].mean() < 0.2


def test_sources_nearer_than_the_deblending_limit_are_listed_as_the_brighter(survey):
    truth = survey.truth()
    places = SkyCoord(truth["RA"], truth["DEC"], unit="deg")
    listed = np.flatnonzero(truth["IS_DETECTED"])
    neighbour, separation, _ = places[listed].match_to_catalog_sky(places, nthneighbor=2)
    close = separation.arcsec < survey.config.catalogue.deblend_arcsec
    assert close.any()
    assert not truth["IS_DETECTED"][neighbour[close]].any()
    assert (truth["FLUX_UJY"][listed[close]] > truth["FLUX_UJY"][neighbour[close]]).all()


def test_sources_that_vis_does_not_detect_are_faint_galaxies(matched):
    real, truth = matched
    unseen = real["VIS_DET"] == 0
    assert 0 < unseen.sum() < 0.2 * len(real)
    assert not truth["IS_STAR"][unseen].any()
    snr = truth["FLUX_UJY"] / real["FLUXERR_DETECTION_TOTAL"]
    assert snr[unseen].max() < 6.6 and snr[~unseen].min() > 6.4


def test_point_like_flag_is_null_unless_one(survey, rows):
    point_like = (rows["DET_QUALITY_FLAG"] == 0) & (rows["POINT_LIKE_PROB"] > 0.96)
    assert 0 < point_like.sum() < len(rows)
    for path in survey.files.catalogues:
        assert fits.getheader(path, 1)[null_key(path, "POINT_LIKE_FLAG")] == -32768
        table = Table.read(path, hdu=1)
        expected = (table["DET_QUALITY_FLAG"] == 0) & (table["POINT_LIKE_PROB"] > 0.96)
        np.testing.assert_array_equal(table["POINT_LIKE_FLAG"].mask, ~expected)
        assert (table["POINT_LIKE_FLAG"][expected] == 1).all()


def null_key(path, column: str) -> str:
    """The TNULLn keyword of a column."""
    return f"TNULL{fits.getdata(path, 1).columns.names.index(column) + 1}"


def test_stars_are_told_from_galaxies(matched):
    real, truth = matched
    high = real["FLUX_DETECTION_TOTAL"] > 30 * real["FLUXERR_DETECTION_TOTAL"]
    stars, galaxies = high & truth["IS_STAR"], high & ~truth["IS_STAR"]
    assert stars.sum() > 8 < galaxies.sum()
    assert np.median(real["MUMAX_MINUS_MAG"][stars]) < -2.5
    assert (real["MUMAX_MINUS_MAG"][galaxies] > -2.5).mean() > 0.9
    assert np.median(real["POINT_LIKE_PROB"][stars]) > 0.96
    assert np.median(real["POINT_LIKE_PROB"][galaxies]) < 0.04
    np.testing.assert_allclose(real["POINT_LIKE_PROB"] + real["EXTENDED_PROB"], 1, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "fraction"), (("DETECTION_TOTAL", 0.96), ("SEGMENTATION", 0.9), ("VIS_SERSIC", 1.0))
)
def test_fluxes_scatter_by_their_errors(matched, name, fraction):
    real, truth = matched
    expected = fraction * truth["FLUX_UJY"]
    pull = (real[f"FLUX_{name}"] - expected) / real[f"FLUXERR_{name}"]
    assert len(pull) > 150
    assert 0.85 < np.sqrt(np.mean(pull**2)) < 1.2
    assert abs(pull.mean()) < 0.25


def test_flux_errors_are_those_of_the_pixels_noise(survey, matched):
    real, truth = matched
    header = survey.header(f"{NAME}.SCI")
    noise_ujy = np.median(survey.image(f"{NAME}.RMS")) / adu_per_ujy(header)
    galaxies = ~truth["IS_STAR"] & (truth["FLUX_UJY"] < 1.0)
    assert galaxies.sum() > 20
    chosen = real[galaxies]
    for number in (1, 4):
        errors = chosen[f"FLUXERR_VIS_{number}FWHM_APER"]
        assert np.ptp(errors) < 0.5 * errors.mean()
    ratio = np.median(chosen["FLUXERR_VIS_4FWHM_APER"] / chosen["FLUXERR_VIS_1FWHM_APER"])
    assert 3.0 < ratio < 4.2
    axis_ratio = 1 - chosen["ELLIPTICITY"]
    area_px = np.pi * chosen["KRON_RADIUS"] ** 2 * axis_ratio
    expected = noise_ujy * np.sqrt(area_px)
    median = np.median(chosen["FLUXERR_DETECTION_TOTAL"] / expected)
    assert median == pytest.approx(1.0, abs=0.15)


def test_positions_scatter_alike_in_both_directions_by_less_for_bright_sources(matched):
    real, truth = matched
    u, v = offsets_arcsec(real["RIGHT_ASCENSION"], real["DECLINATION"], *centre(truth))
    u0, v0 = offsets_arcsec(truth["RA"], truth["DEC"], *centre(truth))
    shift = np.stack([u - u0, v - v0])
    size = real["SEMIMAJOR_AXIS"] * 0.1
    pull = shift / size * real["FLUX_DETECTION_TOTAL"] / real["FLUXERR_DETECTION_TOTAL"]
    ordinary = np.abs(pull).max(axis=0) < 6
    assert ordinary.mean() > 0.95
    scatter = np.sqrt(np.mean(pull[:, ordinary] ** 2, axis=1))
    assert ((scatter > 0.6) & (scatter < 1.6)).all()
    assert 0.8 < scatter[0] / scatter[1] < 1.25


def centre(truth) -> tuple[float, float]:
    """A direction amid the sources, in degrees."""
    return float(truth["RA"].mean()), float(truth["DEC"].mean())


def test_shapes_are_those_of_the_lensed_galaxies(matched):
    real, truth = matched
    own, shear = truth["E1"] + 1j * truth["E2"], truth["G1"] + 1j * truth["G2"]
    shape = (own + shear) / (1 + np.conj(shear) * own)
    clear = ~truth["IS_STAR"] & (np.abs(shape) > 0.2)
    clear &= real["FLUX_DETECTION_TOTAL"] > 20 * real["FLUXERR_DETECTION_TOTAL"]
    assert clear.sum() > 30
    measured = real["ELLIPTICITY"] * np.exp(2j * np.deg2rad(real["POSITION_ANGLE"]))
    turn = np.angle(measured[clear] / shape[clear]) / 2
    assert np.rad2deg(np.std(turn)) < 6
    assert abs(np.rad2deg(np.mean(turn))) < 3
    axis_ratio = (1 - np.abs(shape[clear])) / (1 + np.abs(shape[clear]))
    assert np.corrcoef(1 - real["ELLIPTICITY"][clear], axis_ratio)[0, 1] > 0.9
    assert ((real["POSITION_ANGLE"] >= -90) & (real["POSITION_ANGLE"] <= 90)).all()


def test_sizes_are_those_of_galsims_convolved_disc(tmp_path):
    galaxy = {**ONE_GALAXY, "hlr_arcsec": 0.5}
    config = one_quadrant(NAME, seed=SEED_OF_ONE_SOURCE, population=galaxy, psf=ROUND_PSF)
    [row] = write(config, tmp_path).catalogue()
    disc = galsim.Convolve(
        galsim.Exponential(half_light_radius=0.5), galsim.Gaussian(fwhm=0.14), galsim.Pixel(0.1)
    )
    image = disc.drawImage(nx=400, ny=400, scale=0.05, method="no_pixel")
    rms_px = image.calculateMomentRadius(rtype="trace") / 0.1
    assert row["SEMIMAJOR_AXIS"] == pytest.approx(rms_px, rel=0.03)
    assert row["FWHM"] == pytest.approx(2.3548 * rms_px * 0.1, rel=0.03)
    assert row["KRON_RADIUS"] == pytest.approx(2.9 * rms_px, rel=0.1)
    assert row["ELLIPTICITY"] < 0.05


def test_close_pairs_are_marked_as_blends(rows):
    places = SkyCoord(rows["RIGHT_ASCENSION"], rows["DECLINATION"], unit="deg")
    place, separation, _ = places.match_to_catalog_sky(places, nthneighbor=2)
    blended = separation.arcsec < 1.5
    assert blended.sum() > 5
    np.testing.assert_array_equal(rows["DEBLENDED_FLAG"] == 1, blended)
    np.testing.assert_array_equal(rows["DET_QUALITY_FLAG"] & 2 != 0, blended)
    assert (rows["PARENT_ID"][~blended] == -(2**63)).all()
    members = np.stack([rows["OBJECT_ID"], rows["OBJECT_ID"][place]])
    assert (members == rows["PARENT_ID"]).any(axis=0)[blended].all()
    flux = dict(zip(rows["OBJECT_ID"], rows["FLUX_DETECTION_TOTAL"], strict=True))
    assert all(flux[row["PARENT_ID"]] >= flux[row["OBJECT_ID"]] for row in rows[blended])
    assert rows["BLENDED_PROB"][blended].min() > rows["BLENDED_PROB"][~blended].max()


def test_a_saturated_star_is_flagged_and_its_surroundings_masked(tmp_path):
    survey = write(
        one_quadrant(
            NAME,
            seed=SEED_OF_ONE_SOURCE,
            population=merged(ONE_STAR, {"galaxy_density": 400.0}),
            detector={"saturation_adu": 5000.0},
        ),
        tmp_path,
    )
    rows, truth = survey.catalogue(), survey.truth()
    stars = np.isin(rows["OBJECT_ID"], truth["OBJECT_ID"][truth["IS_STAR"]])
    assert stars.any()
    assert (rows["DET_QUALITY_FLAG"][stars] & (4 | 128) == 4 | 128).all()
    assert (rows["FLAG_VIS"][stars] == 1).all()
    assert (rows["POINT_LIKE_FLAG"][stars] == -32768).all()
    assert (rows["FLAG_VIS"][~stars] == 0).all()
    at_star = SkyCoord(
        *(rows[k][stars][:1] for k in ("RIGHT_ASCENSION", "DECLINATION")), unit="deg"
    )
    others = SkyCoord(rows["RIGHT_ASCENSION"], rows["DECLINATION"], unit="deg")
    near = others.separation(at_star).arcsec < 3.0
    assert near.sum() > 1
    assert (rows["DET_QUALITY_FLAG"][near] & 128 == 128).all()


def test_an_empty_sky_gives_empty_catalogues(tmp_path):
    survey = write(one_quadrant(NAME, tiles=TILES, population=NO_SOURCES), tmp_path)
    assert [len(survey.catalogue(tile)) for tile in (0, 1)] == [0, 0]
    assert len(survey.truth()["RA"]) == 0
    assert len(Table.read(survey.files.catalogues[0], hdu=1)) == 0
