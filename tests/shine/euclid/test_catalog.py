"""The catalogue's selection: each cut, what becomes of what it removes, and what values mean."""

import logging

import galsim
import numpy as np
import pytest
from pydantic import ValidationError

from shine.errors import InputError, Kind, SourceFlag
from shine.euclid.catalog import load_sources
from shine.euclid.selection_config import SelectionConfig
from shine.euclid.sizes import HLR_PER_RMS
from tests.shine.survey_files import catalog_columns, make_manifest, write_catalog

DEFAULTS = SelectionConfig()


@pytest.fixture
def load(tmp_path):
    """Write a catalogue of `n` good sources after changing single values, and load all of it."""

    def _load(n=4, selection=DEFAULTS, core=slice(None), nulls=None, **changes):
        columns = catalog_columns(n)
        for name, by_row in changes.items():
            for row, value in by_row.items():
                columns[name][row] = value
        path = write_catalog(tmp_path / "cat.fits", columns, nulls)
        ids = columns["OBJECT_ID"]
        return load_sources(make_manifest([path], ids, ids[core]), selection)

    return _load


def test_good_sources_are_galaxies_in_the_manifests_order(tmp_path):
    columns = catalog_columns(5)
    path = write_catalog(tmp_path / "cat.fits", columns)
    rows = [3, 0, 4]
    ids = columns["OBJECT_ID"][rows]
    table = load_sources(make_manifest([path], ids, ids[1:2]), DEFAULTS)
    np.testing.assert_array_equal(table.object_id, ids)
    np.testing.assert_array_equal(table.ra, columns["RIGHT_ASCENSION"][rows])
    np.testing.assert_array_equal(table.dec, columns["DECLINATION"][rows])
    np.testing.assert_array_equal(table.flux_ujy, columns["FLUX_DETECTION_TOTAL"][rows])
    np.testing.assert_array_equal(table.is_core, [False, True, False])
    assert (table.kind == Kind.GALAXY).all()
    assert (table.flags == 0).all()
    assert table.mask.discs.shape == (0, 3)
    assert not any(table.cuts.values())
    assert table.dropped == {}


@pytest.mark.parametrize(
    ("changes", "cut", "kind", "flag"),
    [
        ({"FLUXERR_DETECTION_TOTAL": {1: 1.2}}, "low_snr", Kind.NUISANCE, SourceFlag.LOW_SNR),
        ({"FLUXERR_DETECTION_TOTAL": {1: np.nan}}, "low_snr", Kind.NUISANCE, SourceFlag.LOW_SNR),
        ({"SEMIMAJOR_AXIS": {1: 0.95}}, "too_small", Kind.NUISANCE, SourceFlag.TOO_SMALL),
        ({"DET_QUALITY_FLAG": {1: 8}}, "det_quality", Kind.NUISANCE, SourceFlag.QUALITY_EXCLUDED),
        ({"DET_QUALITY_FLAG": {1: 512}}, "det_quality", Kind.NUISANCE, SourceFlag.QUALITY_EXCLUDED),
        ({"POINT_LIKE_PROB": {1: 0.97}}, "point_like", Kind.STAR, SourceFlag.POINT_LIKE),
        ({"MUMAX_MINUS_MAG": {1: -2.6}}, "point_like", Kind.STAR, SourceFlag.POINT_LIKE),
    ],
)
def test_cuts_that_leave_a_source_modelled(load, changes, cut, kind, flag):
    table = load(**changes)
    assert table.kind.tolist() == [Kind.GALAXY, kind, Kind.GALAXY, Kind.GALAXY]
    assert table.flags[1] & flag
    assert {name: count for name, count in table.cuts.items() if count} == {cut: 1}
    assert table.dropped == {}


@pytest.mark.parametrize(
    ("changes", "cut", "flag"),
    [
        ({"VIS_DET": {1: 0}}, "not_vis_detected", SourceFlag.NOT_VIS_DETECTED),
        ({"SPURIOUS_FLAG": {1: 1}}, "spurious", SourceFlag.SPURIOUS),
        ({"SPURIOUS_PROB": {1: 0.6}}, "spurious", SourceFlag.SPURIOUS),
        ({"FLUX_DETECTION_TOTAL": {1: np.nan}}, "bad_flux", SourceFlag.BAD_FLUX),
        ({"FLUX_DETECTION_TOTAL": {1: -3.0}}, "bad_flux", SourceFlag.BAD_FLUX),
        ({"RIGHT_ASCENSION": {1: np.nan}}, "bad_position", SourceFlag.BAD_POSITION),
        ({"DECLINATION": {1: 90.5}}, "bad_position", SourceFlag.BAD_POSITION),
    ],
)
def test_cuts_that_drop_a_source_count_and_name_it(load, changes, cut, flag):
    table = load(**changes)
    dropped_id = int(catalog_columns(4)["OBJECT_ID"][1])
    assert len(table.object_id) == 3
    assert dropped_id not in table.object_id
    assert table.cuts[cut] == 1
    assert set(table.dropped) == {dropped_id}
    assert table.dropped[dropped_id].flags & flag


def test_saturated_objects_are_masked_wider_the_brighter_they_are(load):
    table = load(
        DET_QUALITY_FLAG={0: 4, 1: 4 | 1, 2: 4},
        FLUX_DETECTION_TOTAL={0: 8 * 150.0, 1: 10.0, 2: np.nan},
        POINT_LIKE_PROB={0: 0.99, 2: 0.99},
    )
    np.testing.assert_allclose(table.mask.discs[:, 2], [6.0, 3.0, 3.0])
    columns = catalog_columns(3)
    np.testing.assert_array_equal(table.mask.discs[:, 0], columns["RIGHT_ASCENSION"])
    np.testing.assert_array_equal(table.mask.discs[:, 1], columns["DECLINATION"])
    assert len(table.object_id) == 1
    assert table.cuts["saturated"] == 3
    assert all(source.flags & SourceFlag.MASKED for source in table.dropped.values())


def test_a_spurious_saturated_object_masks_nothing(load):
    assert len(load(DET_QUALITY_FLAG={0: 4}, SPURIOUS_FLAG={0: 1}).mask.discs) == 0


def test_blends_and_contaminated_sources_stay_selected(load):
    table = load(DET_QUALITY_FLAG={0: 1, 1: 2})
    assert (table.kind == Kind.GALAXY).all()
    assert table.flags[:2].tolist() == [SourceFlag.CONTAMINATED, SourceFlag.BLENDED]


def test_cuts_count_in_order_what_the_cuts_before_them_left(load):
    table = load(VIS_DET={0: 0}, SPURIOUS_FLAG={0: 1, 1: 1}, POINT_LIKE_PROB={1: 1.0, 2: 1.0})
    assert table.cuts["not_vis_detected"] == 1
    assert table.cuts["spurious"] == 1
    assert table.cuts["point_like"] == 1
    assert list(table.cuts)[:3] == ["bad_position", "not_vis_detected", "spurious"]


def test_each_cut_is_logged_with_its_count(load, caplog):
    caplog.set_level(logging.INFO, logger="shine")
    table = load(VIS_DET={0: 0})
    messages = [record.getMessage() for record in caplog.records]
    for name, count in table.cuts.items():
        assert any(m.startswith(f"cut {name}: {count} of 4 sources") for m in messages)
    assert any("3 galaxies carry shear (3 in the core)" in m for m in messages)


def test_masked_integers_are_taken_for_what_they_mean(load):
    """Unknown detection is none; unknown quality is not vouched for; unknown spurious is not."""
    table = load(
        nulls={"VIS_DET": -99, "DET_QUALITY_FLAG": -99, "SPURIOUS_FLAG": -99},
        VIS_DET={0: -99},
        DET_QUALITY_FLAG={1: -99},
        SPURIOUS_FLAG={2: -99},
    )
    assert table.kind.tolist() == [Kind.NUISANCE, Kind.GALAXY, Kind.GALAXY]
    assert table.flags[0] == SourceFlag.QUALITY_EXCLUDED
    assert table.cuts["not_vis_detected"] == 1
    assert len(table.mask.discs) == 0


def test_masked_floats_are_taken_for_what_they_mean(load):
    unknown = {1: np.nan}
    table = load(POINT_LIKE_PROB=unknown, MUMAX_MINUS_MAG=unknown, SPURIOUS_PROB=unknown)
    assert (table.kind == Kind.GALAXY).all()


def test_size_is_the_half_light_radius_of_the_deconvolved_disc(load):
    """Against GalSim: an exponential's second moments give back its half-light radius."""
    hlr_arcsec, psf_rms_px, stretch = 0.4, 0.8, 1.2
    scale = galsim.Exponential(half_light_radius=hlr_arcsec).scale_radius
    rms_px = np.sqrt(3.0) * scale / 0.1
    convolved = [np.hypot(rms_px * f, psf_rms_px) for f in (stretch, 1 / stretch)]
    table = load(SEMIMAJOR_AXIS={0: convolved[0]}, ELLIPTICITY={0: 1 - convolved[1] / convolved[0]})
    assert table.hlr_arcsec[0] == pytest.approx(hlr_arcsec, rel=1e-4)
    image = galsim.Exponential(half_light_radius=1.0).drawImage(
        nx=400, ny=400, scale=0.05, method="no_pixel"
    )
    rms = np.sqrt(
        (np.arange(-9.975, 9.98, 0.05) ** 2 * image.array.sum(0)).sum() / image.array.sum()
    )
    assert HLR_PER_RMS * rms == pytest.approx(1.0, rel=0.02)


def test_sizes_that_tell_nothing_get_a_start_and_a_flag(load):
    table = load(SEMIMAJOR_AXIS={0: np.nan, 1: 0.7}, ELLIPTICITY={2: np.nan, 3: 1.0})
    assert table.hlr_arcsec[0] == DEFAULTS.fallback_hlr_arcsec
    assert table.flags[0] == SourceFlag.SIZE_UNKNOWN | SourceFlag.TOO_SMALL
    assert table.hlr_arcsec[1] == pytest.approx(DEFAULTS.min_hlr_arcsec)
    assert table.flags[1] == SourceFlag.SIZE_FLOORED | SourceFlag.TOO_SMALL
    assert (table.hlr_arcsec >= DEFAULTS.min_hlr_arcsec - 1e-12).all()


def test_sersic_radii_come_before_moments_where_there_is_a_fit(tmp_path):
    """Against GalSim: the circle of half the light has the radius sqrt(a b)."""
    columns = catalog_columns(6)
    ids = columns["OBJECT_ID"]
    radius = np.array([0.5, 0.5, np.nan, -1.0, 0.01])
    axis_ratio = np.array([1.0, 0.36, 0.5, 0.5, 1.0])
    fits_of_five = {
        "object_id": ids[:5][::-1],
        "sersic_sersic_vis_radius": radius[::-1],
        "sersic_sersic_vis_axis_ratio": axis_ratio[::-1],
    }
    manifest = make_manifest([write_catalog(tmp_path / "a.fits", columns)], ids)
    moments = load_sources(manifest, DEFAULTS)
    path = str(write_catalog(tmp_path / "morphology.fits", fits_of_five))
    table = load_sources(manifest.model_copy(update={"morphology_catalog": path}), DEFAULTS)
    np.testing.assert_allclose(table.hlr_arcsec[:2], [0.5, 0.3])
    np.testing.assert_array_equal(table.hlr_arcsec[[2, 3, 5]], moments.hlr_arcsec[[2, 3, 5]])
    assert table.hlr_arcsec[4] == DEFAULTS.min_hlr_arcsec
    unfitted, small = SourceFlag.NO_SERSIC_FIT, SourceFlag.SIZE_FLOORED
    np.testing.assert_array_equal(table.flags, [0, 0, unfitted, unfitted, small, unfitted])
    assert table.digest != moments.digest

    sheared = galsim.Exponential(half_light_radius=0.3).shear(q=0.36, beta=0 * galsim.degrees)
    image = sheared.drawImage(nx=600, ny=600, scale=0.02, method="no_pixel").array
    y, x = 0.02 * (np.indices(image.shape) - 299.5)
    inside = (x / 0.5) ** 2 + (y / (0.36 * 0.5)) ** 2 < 1.0
    assert image[inside].sum() / image.sum() == pytest.approx(0.5, abs=0.01)


def test_a_morphology_catalogue_without_sersic_fits_is_named(tmp_path):
    columns = catalog_columns(2)
    path = write_catalog(tmp_path / "a.fits", columns)
    manifest = make_manifest([path], columns["OBJECT_ID"])
    with pytest.raises(InputError, match=r"a.fits\[1\]: found no column SERSIC_SERSIC_VIS_RADIUS"):
        load_sources(manifest.model_copy(update={"morphology_catalog": str(path)}), DEFAULTS)


def test_no_source_is_a_valid_answer(load, tmp_path):
    table = load(n=3, VIS_DET={0: 0, 1: 0, 2: 0})
    assert len(table.object_id) == 0
    assert len(table.dropped) == 3
    table = load_sources(make_manifest([tmp_path / "cat.fits"], []), DEFAULTS)
    assert len(table.object_id) == 0
    assert table.cuts["low_snr"] == 0


def test_right_ascensions_are_brought_into_range(load):
    assert load(RIGHT_ASCENSION={0: -0.25}).ra[0] == 359.75


def test_digest_follows_the_used_values_alone(tmp_path):
    columns = catalog_columns(3)
    ids = columns["OBJECT_ID"][:2]
    digests = []
    for i, change in enumerate([("FWHM", 0), ("FLUX_DETECTION_TOTAL", 2), ("DECLINATION", 0)]):
        changed = {name: values.copy() for name, values in columns.items()} | {"FWHM": np.ones(3)}
        changed[change[0]][change[1]] += 1e-9
        path = write_catalog(tmp_path / f"{i}.fits", changed)
        digests.append(load_sources(make_manifest([path], ids), DEFAULTS).digest)
    assert digests[0] == digests[1] != digests[2]


def test_selection_refuses_unknown_keys_and_nonsense():
    for bad in ({"min_snrr": 10}, {"min_snr": -1}, {"max_point_like_prob": 2}, {"min_snr": np.nan}):
        with pytest.raises(ValidationError):
            SelectionConfig(**bad)
    assert all(field.description for field in SelectionConfig.model_fields.values())
