"""The commands that take something out of a catalogue: cone, export, crossmatch."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Table
from pyarrow import csv, parquet

from constellation.catalogue.schema import SHEAR, SOURCES
from constellation.cli import main

from .skies_of_sources import around, sources_at

CONE = ["cone", "--catalogue", "catalogue", "--ra", "0.01", "--dec", "-20", "--radius", "0.02"]


@pytest.fixture
def catalogue(tmp_path, monkeypatch):
    """Two tiles on either side of 0h, in the working folder."""
    monkeypatch.chdir(tmp_path)
    west, east = around(359.98, -20.0, 0.05, 150, 1), around(0.02, -20.0, 0.05, 100, 2)
    return sources_at(tmp_path, {11: west, 12: east})


@pytest.fixture
def in_cone(catalogue):
    """The ids of the sources in the cone."""
    every = catalogue.sources()
    sky = SkyCoord(every["RA"].to_numpy(), every["DEC"].to_numpy(), unit="deg")
    near = sky.separation(SkyCoord(0.01, -20.0, unit="deg")).deg <= 0.02
    ids = every["OBJECT_ID"].to_numpy()[near].tolist()
    assert {id // 1000 for id in ids} == {11, 12}
    return sorted(ids)


def test_a_cone_is_written_in_each_form(catalogue, in_cone, capsys):
    for suffix in ("parquet", "csv", "fits"):
        assert main([*CONE, "--output", f"c.{suffix}"]) == 0
        assert f"c.{suffix}: {len(in_cone)} sources" in capsys.readouterr().out
    table = parquet.read_table("c.parquet")
    assert table.schema.equals(SOURCES)
    assert [field.metadata[b"description"] for field in table.schema] == [
        field.metadata[b"description"] for field in SOURCES
    ]
    plain = csv.read_csv("c.csv")
    lists = {"COVARIANCE", "SHAPE_SAMPLES", "SAMPLE_LOG_WEIGHT"}
    assert plain.column_names == [name for name in SOURCES.names if name not in lists]
    with fits.open("c.fits", checksum=True) as hdus:
        data = hdus["SOURCES"].data
        for found in (table["OBJECT_ID"], plain["OBJECT_ID"], data["OBJECT_ID"]):
            assert sorted(np.asarray(found).tolist()) == in_cone
        np.testing.assert_array_equal(data["RA"], table["RA"].to_numpy())
        np.testing.assert_array_equal(plain["RA"].to_numpy(), table["RA"].to_numpy())


def test_a_cone_may_lie_around_files_that_do_not_hold_its_centre(catalogue):
    every = catalogue.sources()
    sky = SkyCoord(every["RA"].to_numpy(), every["DEC"].to_numpy(), unit="deg")
    near = sky.separation(SkyCoord(0.6, -20.0, unit="deg")).deg <= 0.55
    assert 0 < near.sum() < 250
    assert catalogue.cone(0.6, -20.0, 0.55).num_rows == near.sum()


def test_the_columns_are_those_asked_for(catalogue, in_cone):
    assert main([*CONE, "--columns", "OBJECT_ID", "FLUX", "--output", "new/c.csv"]) == 0
    table = csv.read_csv("new/c.csv")
    assert table.column_names == ["OBJECT_ID", "FLUX"] and table.num_rows == len(in_cone)


def test_the_exported_tables_are_the_catalogue(catalogue, capsys):
    assert main(["export", "--catalogue", "catalogue", "--output", "c.fits"]) == 0
    assert "c.fits: SHEAR of 2 sub-tiles, SOURCES of 250 sources" in capsys.readouterr().out
    with fits.open("c.fits", checksum=True) as hdus:
        hdus.verify("exception")
        assert all(hdu.verify_checksum() == hdu.verify_datasum() == 1 for hdu in hdus)
        primary = hdus[0].header
        assert primary["GITCOMM"] == "c0ffee" and primary["SEED"] == 0
        assert primary["CODEDIG"] == "b" * 64 and primary["CONFHASH"] == "a" * 64
        comment = "".join(primary["COMMENT"])
        assert "u = west" in comment and "missing values are NaN" in comment
        assert "SHAPE_SAMPLES" not in hdus["SOURCES"].columns.names
    for name, expected in (("SHEAR", catalogue.shear), ("SOURCES", catalogue.sources())):
        read, header = Table.read("c.fits", hdu=name), fits.getheader("c.fits", name)
        schema = SHEAR if name == "SHEAR" else SOURCES
        for number, column in enumerate(read.colnames, start=1):
            description = schema.field(column).metadata[b"description"].decode()
            assert header[f"TCOMM{number}"].startswith(description)
            _assert_equal(read[column], expected[column])
            unit = schema.field(column).metadata[b"unit"].decode()
            if unit in ("deg", "uJy", "arcsec"):
                assert u.Unit(unit) == read[column].unit


def test_an_export_of_a_damaged_catalogue_leaves_no_file(catalogue, capsys):
    first, second = catalogue.files["PATH"].to_pylist()
    Path("catalogue", second).unlink()
    assert main(["export", "--catalogue", "catalogue", "--output", "c.fits"]) == 3
    assert "sources that cannot be read" in capsys.readouterr().err
    assert first and not list(Path().glob("*c.fits*"))


def test_a_match_is_written_and_told(catalogue, capsys):
    ra, dec = (catalogue.sources()[name].to_numpy()[:40] for name in ("RA", "DEC"))
    Table({"ALPHA": ra, "DELTA": dec + 0.3 / 3600.0, "ID": np.arange(40)}).write("other.fits")
    columns = ["--ra-column", "ALPHA", "--dec-column", "DELTA"]
    match = ["crossmatch", "--catalogue", "catalogue", "--with", "other.fits", *columns]
    for suffix in ("parquet", "csv", "fits"):
        assert main([*match, "--output", f"m.{suffix}"]) == 0
        printed = capsys.readouterr().out
        assert "40 of 250 sources have an object of other.fits in reach" in printed
        assert f"m.{suffix}: 40 rows" in printed
    table = parquet.read_table("m.parquet")
    np.testing.assert_allclose(table["SEPARATION"].to_numpy(), 0.3, atol=1e-6)
    assert {"RA", "FLUX", "OTHER_ALPHA", "OTHER_ID", "N_WITHIN", "N_SHARING"} <= set(
        table.column_names
    )
    assert csv.read_csv("m.csv")["OTHER_ID"].to_pylist() == table["OTHER_ID"].to_pylist()
    assert Table.read("m.fits")["OTHER_ID"].tolist() == table["OTHER_ID"].to_pylist()
    assert main([*match, "--radius", "0.1", "--output", "none.fits"]) == 0
    assert "none.fits: 0 rows" in capsys.readouterr().out
    assert len(Table.read("none.fits")) == 0


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--output", "c.txt"], 2, "c.txt: found a file ending with '.txt', expected .parquet or"),
        (["--output", "c"], 2, "c: found a file without suffix"),
        (["--columns", "G1", "--output", "c.csv"], 2, "--columns: found no column G1, expected"),
        (["--columns", "COVARIANCE", "--output", "c.csv"], 2, "found lists in COVARIANCE"),
        (["--dec", "91", "--output", "c.csv"], 2, "--ra, --dec: found 0.01, 91"),
        (["--catalogue", "no", "--output", "c.csv"], 3, "no/files.parquet: found no readable"),
    ],
)
def test_a_wrong_cone_is_an_error_that_names_it(catalogue, capsys, arguments, status, message):
    assert main([*CONE, *arguments]) == status
    assert message in capsys.readouterr().err
    assert not list(Path().glob("c.*"))


def test_an_export_is_fits(catalogue, capsys):
    assert main(["export", "--catalogue", "catalogue", "--output", "c.csv"]) == 2
    assert "--output: found c.csv, expected a name that ends with .fits" in capsys.readouterr().err


def test_a_reader_that_has_seen_enough_ends_the_command_quietly():
    """As in `constellation schema | head`."""
    program = "import sys; from constellation.cli import main; sys.exit(main(['schema']))"
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    process.stdout.close()  # before anything is written
    error = process.stderr.read()
    process.stderr.close()
    assert process.wait() == 141
    assert not re.search("Traceback|BrokenPipe", error), error


def _assert_equal(read, expected):
    """A column as astropy read it, and as the catalogue has it."""
    missing = np.asarray(pc.is_null(expected))
    values = [value for value in expected.to_pylist() if value is not None]
    if read.dtype.kind in "SU":
        assert not missing.any() and [str(text) for text in read] == values
    elif read.ndim > 1:
        np.testing.assert_array_equal(np.asarray(read)[~missing], np.array(values, read.dtype))
    else:
        assert np.ma.getmaskarray(read).tolist() == missing.tolist()
        np.testing.assert_array_equal(np.asarray(read)[~missing], np.array(values, read.dtype))
