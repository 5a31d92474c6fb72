"""Parquet tables and MER catalogues: same rows, same bytes; what is wrong is named."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from astropy.io import fits
from pyarrow import parquet

from constellation.mer_catalogue import read_sources
from constellation.tables import read_table, write_table
from constellation.tiling import unit_vectors
from shine.errors import InputError

from .fake_survey import positions, write_catalogue

SCHEMA = pa.schema([("ID", pa.int64()), ("RA", pa.float64())])
TABLE = pa.table({"ID": [1, 2], "RA": [0.5, None]}, schema=SCHEMA)
COLUMNS = positions(np.array([7, 3]), np.array([10.0, 20.0]), np.array([-5.0, 5.0]))


def test_the_same_rows_give_the_same_bytes_and_no_leftovers(tmp_path):
    for name in ("a", "b"):
        write_table(TABLE, tmp_path / "folder" / name)
    first, second = sorted((tmp_path / "folder").iterdir())
    assert first.read_bytes() == second.read_bytes()
    assert parquet.read_table(first).equals(TABLE)


def test_a_table_is_checked_by_name_and_type_of_its_columns(tmp_path):
    path = tmp_path / "t.parquet"

    def read(table):
        write_table(table, path)
        return read_table(path, SCHEMA, "Make it again.")

    more = TABLE.append_column("G1", pa.array([0.1, 0.2]))
    assert read(more).equals(more)
    with pytest.raises(InputError, match=r"t\.parquet, column RA: found no such column, .*double"):
        read(TABLE.drop_columns("RA"))
    with pytest.raises(InputError, match=r"column ID: found string, expected int64. Make it again"):
        read(TABLE.set_column(0, "ID", pa.array(["1", "2"])))
    path.write_bytes(b"no table")
    with pytest.raises(InputError, match=r"t\.parquet: found no readable table"):
        read_table(path, SCHEMA, "Make it again.")


def test_a_catalogue_reads_the_same_from_fits_and_from_parquet(tmp_path):
    path = tmp_path / "catalogue.parquet"
    parquet.write_table(pa.table({name.lower(): v for name, v in COLUMNS.items()}), path)
    for source in (path, write_catalogue(tmp_path, 11, COLUMNS)):
        sources = read_sources([source])
        assert sources.object_id.tolist() == [3, 7]
        assert sources.vectors == pytest.approx(unit_vectors([20.0, 10.0], [5.0, -5.0]))


def test_an_empty_catalogue_is_no_error(tmp_path):
    nothing = {name: values[:0] for name, values in COLUMNS.items()}
    assert len(read_sources([write_catalogue(tmp_path, 11, nothing)]).object_id) == 0


def test_a_damaged_catalogue_is_named(tmp_path):
    path = write_catalogue(tmp_path, 11, COLUMNS)
    path.write_bytes(path.read_bytes()[:-2880])
    with pytest.raises(InputError, match=f"{path.name}.*truncated"):
        read_sources([path])
    path.write_bytes(b"PAR1 and nothing else")
    with pytest.raises(InputError, match=f"{path.name}: found a damaged Parquet file"):
        read_sources([path])
    with pytest.raises(InputError, match=r"nowhere\.fits"):
        read_sources([tmp_path / "nowhere.fits"])


def test_a_file_without_a_table_is_named(tmp_path):
    image = tmp_path / "image.fits"
    fits.HDUList([fits.PrimaryHDU()]).writeto(image)
    with pytest.raises(InputError, match=r"image\.fits: found no extension"):
        read_sources([image])
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(np.zeros((2, 2)))]).writeto(
        image, overwrite=True
    )
    with pytest.raises(InputError, match=r"image\.fits\[1\]: found no table"):
        read_sources([image])


def test_ids_that_are_no_integers_are_refused(tmp_path):
    path = write_catalogue(tmp_path, 11, COLUMNS | {"OBJECT_ID": np.array([1.0, 2.5])})
    with pytest.raises(InputError, match=f"{path.name}, column OBJECT_ID: found .f8"):
        read_sources([path])
