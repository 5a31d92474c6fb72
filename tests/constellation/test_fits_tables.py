"""FITS files of tables, as astropy reads them: values, what is missing, units, sums."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from astropy.io import fits
from astropy.table import Table
from hypothesis import given
from hypothesis import strategies as st

from constellation.catalogue import fits_hdus, fits_tables
from constellation.catalogue.fits_tables import write_fits
from constellation.catalogue.rows import Rows
from shine.errors import InputError

COLUMNS = {
    "small": pa.array([1, None, -128], pa.int8()),
    "short": pa.array([None, -5, 7], pa.int16()),
    "int": pa.array([2**31 - 1, None, -3], pa.int32()),
    "long": pa.array([2**62 + 1, -(2**62) - 1, None], pa.int64()),
    "real": pa.array([1.5, None, np.inf], pa.float32()),
    "double": pa.array([np.pi, None, -np.e]),
    "yes": pa.array([True, False, None]),
    "text": pa.array(["µ", None, "a longer one"]),
    "pair": pa.array([[1.0, 2.0], None, [3.0, None]], pa.list_(pa.float32(), 2)),
    "whole_pair": pa.array([[1, 2], None, [3, 4]], pa.list_(pa.int32(), 2)),
    "list": pa.array([[1, -2, 3], None, []], pa.list_(pa.int16())),
    "real_list": pa.array([[0.5], [1.5, 2.5], None], pa.list_(pa.float64())),
}


def described(name: str) -> pa.Field:
    unit = {"real": "uJy", "double": "deg", "list": "1/32767"}.get(name, "")
    metadata = {"unit": unit, "description": f"what {name} means, at a length " + 60 * "x"}
    return pa.field(name, COLUMNS[name].type, True, metadata)


TABLE = pa.table(list(COLUMNS.values()), schema=pa.schema([described(name) for name in COLUMNS]))


def in_pieces(table: pa.Table, *sizes: int) -> Rows:
    starts = np.append(0, np.cumsum(sizes))
    parts = [table.slice(start, size) for start, size in zip(starts, sizes, strict=False)]
    return Rows("T", table.schema, lambda names: [part.select(names) for part in parts])


@pytest.fixture(params=[None, 10], ids=["32-bit offsets", "64-bit offsets"])
def read(request, monkeypatch, tmp_path):
    """Write rows, in pieces; returns the HDU as astropy reads it, its sums checked."""
    if request.param is not None:
        monkeypatch.setattr(fits_tables, "LARGEST_OFFSET", request.param)

    def written(*sizes: int) -> fits.BinTableHDU:
        path = tmp_path / "t.fits"
        assert write_fits(path, [in_pieces(TABLE, *sizes)]) == [sum(sizes)]
        with fits.open(path, checksum=True, memmap=False) as hdus:
            hdus.verify("exception")
            hdu = hdus["T"]
            assert hdu.verify_checksum() == hdu.verify_datasum() == 1
            _ = hdu.data["list"], hdu.data["real_list"]
            form = "Q" if request.param else "P"
            assert hdu.header["TFORM11"] == f"{form}I(3)"
            return hdu

    return written


@pytest.mark.parametrize("sizes", [(3,), (1, 2), (0, 1, 1, 0, 1)])
def test_values_come_back_in_one_piece_or_several(read, sizes):
    data = read(*sizes).data
    assert data["small"].tolist() == [1, -32768, -128]
    assert data["int"].tolist() == [2**31 - 1, -(2**31), -3]
    assert data["long"].tolist() == [2**62 + 1, -(2**62) - 1, -(2**63)]
    np.testing.assert_array_equal(data["real"], np.float32([1.5, np.nan, np.inf]))
    np.testing.assert_array_equal(data["double"], [np.pi, np.nan, -np.e])
    np.testing.assert_array_equal(data["pair"], [[1.0, 2.0], [np.nan] * 2, [3.0, np.nan]])
    assert data["whole_pair"].tolist() == [[1, 2], [-(2**31)] * 2, [3, 4]]
    assert [row.tolist() for row in data["list"]] == [[1, -2, 3], [], []]
    assert [row.tolist() for row in data["real_list"]] == [[0.5], [1.5, 2.5], []]


def test_astropy_masks_what_is_missing_and_knows_units_and_descriptions(tmp_path):
    table = TABLE.drop_columns(["text", "yes"])
    write_fits(tmp_path / "t.fits", [in_pieces(table, 3)])
    read = Table.read(tmp_path / "t.fits")
    for name in ("small", "short", "int", "long", "real", "double"):
        missing = [value is None for value in COLUMNS[name].to_pylist()]
        assert np.ma.getmaskarray(read[name]).tolist() == missing, name
    assert str(read["real"].unit) == "uJy" and str(read["double"].unit) == "deg"
    assert read["list"].unit is None
    with fits.open(tmp_path / "t.fits") as hdus:
        header, names = hdus[1].header, table.column_names
    for number, name in enumerate(names, start=1):
        description = described(name).metadata[b"description"].decode()
        more = " (unit: 1/32767)" if name == "list" else ""
        assert header[f"TCOMM{number}"] == description + more


def test_truth_values_may_be_missing(tmp_path):
    write_fits(tmp_path / "t.fits", [in_pieces(TABLE.select(["yes"]), 3)])
    with fits.open(tmp_path / "t.fits", logical_as_bytes=True) as hdus:
        assert hdus[1].header["TFORM1"] == "L"
        assert hdus[1].data["yes"].tolist() == [b"T", b"F", b""]


def test_texts_are_as_wide_as_the_longest(tmp_path):
    plain = pa.table({"text": ["abc", "a longer one", ""]})
    write_fits(tmp_path / "t.fits", [in_pieces(plain, 1, 2)])
    with fits.open(tmp_path / "t.fits") as hdus:
        assert hdus[1].header["TFORM1"] == "12A"
        assert hdus[1].data["text"].tolist() == ["abc", "a longer one", ""]


def test_an_empty_table_and_several_tables_are_valid(tmp_path):
    empty, full = in_pieces(TABLE.slice(0, 0), 0), in_pieces(TABLE, 3)
    cards = [fits.Card("CREATOR", "me", "who")]
    assert write_fits(tmp_path / "t.fits", [empty, full], cards, "a comment") == [0, 3]
    with fits.open(tmp_path / "t.fits", checksum=True) as hdus:
        hdus.verify("exception")
        assert [len(hdu.data) for hdu in hdus[1:]] == [0, 3]
        assert hdus[0].header["CREATOR"] == "me" and "a comment" in str(hdus[0].header["COMMENT"])
        assert all(hdu.verify_checksum() == hdu.verify_datasum() == 1 for hdu in hdus)


def test_the_same_rows_give_the_same_bytes(tmp_path):
    for name, sizes in (("a", (3,)), ("b", (3,))):
        write_fits(tmp_path / name, [in_pieces(TABLE, *sizes)])
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@given(st.lists(st.binary(min_size=0, max_size=41), max_size=5))
def test_sums_are_those_of_astropy_whatever_the_parts(tmp_path_factory, parts):
    content = b"".join(parts)
    path = tmp_path_factory.getbasetemp() / "sums.fits"
    header = fits.Header([("SIMPLE", True), ("BITPIX", 8), ("NAXIS", 1)])
    header["NAXIS1"] = len(content)
    with path.open("wb") as stream:
        fits_hdus.write_hdu(stream, header, parts)
    assert path.stat().st_size % 2880 == 0
    with fits.open(path, checksum=True) as hdus:
        assert hdus[0].verify_checksum() == hdus[0].verify_datasum() == 1
        assert hdus[0].data is None or hdus[0].data.tobytes() == content
        theirs = fits.PrimaryHDU(hdus[0].data)
        theirs.add_datasum()
        assert int(theirs.header["DATASUM"]) == int(header["DATASUM"])


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pa.array([1], pa.timestamp("s")), r"T, column c: found timestamp\[s\] for FITS"),
        (pa.array([["a"]]), r"T, column c: found list<.*string> for FITS"),
        (pa.array([[1, None]], pa.list_(pa.int16())), "a missing value within a list"),
        (pa.array([-(2**63)]), "which stands for a missing value"),
    ],
)
def test_what_fits_cannot_hold_is_refused_and_nothing_is_written(tmp_path, column, message):
    table = pa.table({"c": column})
    with pytest.raises(InputError, match=message):
        write_fits(tmp_path / "t.fits", [in_pieces(table, 1)])
    assert not list(tmp_path.iterdir())


def test_a_missing_number_where_none_may_be_is_refused(tmp_path):
    schema = pa.schema([pa.field("c", pa.int32(), nullable=False)])
    rows = Rows("T", schema, lambda names: [pa.table({"c": pa.array([None], pa.int32())})])
    with pytest.raises(InputError, match="a missing value in a column that may have none"):
        write_fits(tmp_path / "t.fits", [rows])
