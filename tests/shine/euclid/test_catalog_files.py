"""Files of catalogues: FITS and Parquet, several at once, and those that cannot be used."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits

from shine.errors import InputError, SourceFlag
from shine.euclid.catalog import load_sources
from shine.euclid.selection_config import SelectionConfig
from tests.shine.survey_files import catalog_columns, make_manifest, write_catalog

DEFAULTS = SelectionConfig()


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
