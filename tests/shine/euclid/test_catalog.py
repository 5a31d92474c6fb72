"""The catalogue's selection: each cut, what becomes of what it removes, and every kind of file."""

import logging
from pathlib import Path

import galsim
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from pydantic import ValidationError

from shine.errors import InputError, SourceFlag
from shine.euclid.catalog import Kind, load_sources
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


def as_parquet(path: Path, columns: dict, **nulls: int) -> Path:
    arrays = {
        name: pa.array(v, mask=np.arange(len(v)) == nulls.get(name, -1))
        for name, v in columns.items()
    }
    pq.write_table(pa.table(arrays), path)
    return path


def test_parquet_and_lower_case_columns_give_the_same(tmp_path):
    columns = catalog_columns(4)
    columns["DET_QUALITY_FLAG"][2] = 2
    lower = {name.lower(): values for name, values in columns.items()}
    ids = columns["OBJECT_ID"]
    reference = load_sources(
        make_manifest([write_catalog(tmp_path / "a.fits", columns)], ids), DEFAULTS
    )
    for path in (
        write_catalog(tmp_path / "lower.fits", lower),
        write_catalog(tmp_path / "gzipped.fits.gz", columns),
        as_parquet(tmp_path / "b.parquet", columns),
        as_parquet(tmp_path / "c.parquet", lower | {"vis_det": columns["VIS_DET"] == 1}),
    ):
        assert load_sources(make_manifest([path], ids), DEFAULTS).digest == reference.digest
    assert reference.flags[2] == SourceFlag.BLENDED


def test_parquet_nulls_are_masked_values_and_ids_keep_all_digits(tmp_path):
    columns = catalog_columns(4)
    path = as_parquet(tmp_path / "a.parquet", columns, VIS_DET=1, OBJECT_ID=3, POINT_LIKE_PROB=2)
    table = load_sources(make_manifest([path], columns["OBJECT_ID"][:3]), DEFAULTS)
    np.testing.assert_array_equal(table.object_id, columns["OBJECT_ID"][[0, 2]])
    with pytest.raises(InputError, match="no row for 1 of 4 source_ids"):
        load_sources(make_manifest([path], columns["OBJECT_ID"]), DEFAULTS)


def test_several_catalogues_are_joined_and_the_first_wins(tmp_path):
    columns = catalog_columns(4)
    first = {name: values[:3] for name, values in columns.items()}
    second = {name: values[2:].copy() for name, values in columns.items()}
    second["FLUX_DETECTION_TOTAL"] += 100.0
    paths = [
        write_catalog(tmp_path / "a.fits", first),
        write_catalog(tmp_path / "b.fits", second),
    ]
    ids = columns["OBJECT_ID"]
    table = load_sources(make_manifest(paths, ids), DEFAULTS)
    np.testing.assert_array_equal(table.flux_ujy, [10.0, 11.0, 12.0, 113.0])
    table = load_sources(make_manifest(paths[::-1], ids), DEFAULTS)
    np.testing.assert_array_equal(table.flux_ujy, [10.0, 11.0, 112.0, 113.0])


def test_ids_that_no_catalogue_has_are_named(tmp_path):
    path = write_catalog(tmp_path / "cat.fits", catalog_columns(3))
    ids = [*catalog_columns(3)["OBJECT_ID"], 17]
    with pytest.raises(InputError, match=r"cat.fits: found no row for 1 of 4 .* such as \[17\]"):
        load_sources(make_manifest([path], ids), DEFAULTS)


@pytest.mark.parametrize("kind", ["fits", "parquet"])
def test_missing_columns_are_named_unless_the_cut_is_off(tmp_path, kind):
    columns = catalog_columns(3)
    del columns["MUMAX_MINUS_MAG"]
    write = write_catalog if kind == "fits" else as_parquet
    manifest = make_manifest([write(tmp_path / f"cat.{kind}", columns)], columns["OBJECT_ID"])
    with pytest.raises(
        InputError, match=rf"cat.{kind}.* no column MUMAX_MINUS_MAG among OBJECT_ID"
    ):
        load_sources(manifest, DEFAULTS)
    table = load_sources(manifest, SelectionConfig(min_mumax_minus_mag=None))
    assert len(table.object_id) == 3


def test_columns_of_the_wrong_type_are_named(tmp_path):
    columns = catalog_columns(2)
    ids = columns["OBJECT_ID"]
    path = as_parquet(tmp_path / "a.parquet", columns | {"VIS_DET": np.array(["yes", "no"])})
    with pytest.raises(InputError, match=r"a.parquet column VIS_DET: found type string"):
        load_sources(make_manifest([path], ids), DEFAULTS)
    path = write_catalog(tmp_path / "b.fits", columns | {"OBJECT_ID": ids.astype(float)})
    with pytest.raises(InputError, match=r"b.fits\[1\] column OBJECT_ID: found type .f8"):
        load_sources(make_manifest([path], ids), DEFAULTS)


def test_fits_files_without_a_usable_table_are_named(tmp_path):
    columns = catalog_columns(3)
    ids = columns["OBJECT_ID"]
    image = tmp_path / "image.fits"
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(np.zeros((2, 2)))]).writeto(image)
    with pytest.raises(InputError, match=r"image.fits\[1\]: found no table"):
        load_sources(make_manifest([image], ids), DEFAULTS)
    fits.PrimaryHDU().writeto(image, overwrite=True)
    with pytest.raises(InputError, match=r"image.fits: found no extension"):
        load_sources(make_manifest([image], ids), DEFAULTS)
    path = write_catalog(tmp_path / "cat.fits", columns)
    path.write_bytes(path.read_bytes().replace(b"TFORM6  = 'D ", b"TFORM6  = '? "))
    with pytest.raises(InputError, match=r"cat.fits\[1\]: found a damaged table"):
        load_sources(make_manifest([path], ids), DEFAULTS)


@pytest.mark.parametrize("kind", ["fits", "parquet"])
def test_damaged_and_missing_catalogues_are_named(tmp_path, kind):
    columns = catalog_columns(500)
    write = write_catalog if kind == "fits" else as_parquet
    path = write(tmp_path / f"cat.{kind}", columns)
    manifest = make_manifest([path], columns["OBJECT_ID"][:2])
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match=rf"cat.{kind}: found a (truncated|damaged) file"):
        load_sources(manifest, DEFAULTS)
    path.unlink()
    with pytest.raises(InputError, match=rf"cat.{kind}: found No such file"):
        load_sources(manifest, DEFAULTS)


def test_a_table_that_differs_from_its_sum_is_named(tmp_path):
    columns = catalog_columns(500)
    path = write_catalog(tmp_path / "a.fits", columns)
    with fits.open(path) as hdus:
        hdus.writeto(tmp_path / "b.fits", checksum=True)
    manifest = make_manifest([tmp_path / "b.fits"], columns["OBJECT_ID"])
    assert len(load_sources(manifest, DEFAULTS).object_id) == 500
    content = bytearray((tmp_path / "b.fits").read_bytes())
    flux = content.rindex(columns["FLUX_DETECTION_TOTAL"][400:401].astype(">f8").tobytes())
    content[flux + 1] ^= 1  # another flux, as good as any
    (tmp_path / "b.fits").write_bytes(content)
    with pytest.raises(InputError, match=r"b.fits\[1\]: found damaged data \(DATASUM"):
        load_sources(manifest, DEFAULTS)


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
