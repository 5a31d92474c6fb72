"""Matching with another catalogue, against all distances, at 0h and at a pole."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import Table
from pyarrow import parquet

from constellation.catalogue.cross_match import CrossMatch
from constellation.catalogue.other import OtherCatalogue
from shine.errors import InputError

from .skies_of_sources import around, sources_at

ARCSEC = 1.0 / 3600.0
SKIES = {
    "0h": (0.0, -20.0),
    "pole": (100.0, 90.0),
    "south": (30.0, -89.999),
    "plain": (57.8, -51.0),
}


def scattered(places, sigma_arcsec, seed):
    """Places moved by some arcseconds in any direction."""
    rng = np.random.default_rng(seed)
    sky = SkyCoord(*places, unit="deg")
    angle = rng.uniform(0.0, 360.0, len(sky)) * u.deg
    moved = sky.directional_offset_by(
        angle, np.abs(rng.normal(0, sigma_arcsec, len(sky))) * u.arcsec
    )
    return moved.ra.deg, moved.dec.deg


def write_other(path, places):
    ra, dec = places
    names = [f"n{n}" for n in range(len(ra))]
    Table({"NAME": names, "RA": ra * u.deg, "DEC": dec * u.deg}).write(path)
    return path


@pytest.mark.parametrize("where", SKIES)
@pytest.mark.parametrize("radius", [1.0, 40.0])
def test_each_source_gets_its_nearest_object(tmp_path, where, radius):
    ra, dec = SKIES[where]
    ours = {11: around(ra, dec, 0.05, 200, 1), 12: around(ra, dec, 0.05, 150, 2)}
    catalogue = sources_at(tmp_path, ours)
    near = scattered(np.concatenate(list(ours.values()), axis=1)[:, ::3], 1.0, 3)
    others = np.concatenate([near, around(ra, dec, 0.05, 100, 4)], axis=1)
    path = write_other(tmp_path / "other.fits", others)
    match = CrossMatch.of(catalogue, OtherCatalogue.read(path, "RA", "DEC"), radius)
    found = pa.concat_tables(match.rows().tables())

    every = catalogue.sources()
    sky = SkyCoord(every["RA"].to_numpy(), every["DEC"].to_numpy(), unit="deg")
    distance = sky[:, None].separation(SkyCoord(*others, unit="deg")[None]).arcsec
    nearest = distance.min(axis=1)
    hit = nearest <= radius
    assert hit.sum() > 60
    expected = {
        object_id: (f"n{place}", n)
        for object_id, place, n, there in zip(
            every["OBJECT_ID"].to_pylist(),
            distance.argmin(axis=1),
            (distance <= radius).sum(axis=1),
            hit,
            strict=True,
        )
        if there
    }
    pairs = zip(found["OTHER_NAME"].to_pylist(), found["N_WITHIN"].to_pylist(), strict=True)
    assert dict(zip(found["OBJECT_ID"].to_pylist(), pairs, strict=True)) == expected
    by_id = dict(zip(every["OBJECT_ID"].to_pylist(), nearest, strict=True))
    apart = [by_id[object_id] for object_id in found["OBJECT_ID"].to_pylist()]
    np.testing.assert_allclose(found["SEPARATION"].to_numpy(), apart, atol=1e-6)

    names = [name for name, _ in expected.values()]
    sharing = [names.count(name) for name in found["OTHER_NAME"].to_pylist()]
    assert found["N_SHARING"].to_pylist() == sharing
    crowded = sum(n > 1 for _, n in expected.values())
    shared = sum(names.count(name) > 1 for name in set(names))
    assert match.summary() == [
        f"{hit.sum()} of 350 sources have an object of {path} in reach",
        f"{crowded} of them have several, of which the nearest was taken",
        f"{len(set(names))} of {others.shape[1]} objects are matched, "
        f"{shared} of them to several sources",
    ]
    if radius > 10.0:
        assert crowded and shared


def test_the_columns_of_both_are_kept_and_positions_may_be_missing(tmp_path):
    catalogue = sources_at(tmp_path, {11: (np.array([10.0, 10.1]), np.array([0.0, 0.0]))})
    table = pa.table(
        {
            "ALPHA": [10.0, None, np.nan, 10.1 + 0.5 * ARCSEC],
            "DELTA": [0.5, 0.0, 0.0, 0.0],
            "FLUX": ["a", "b", "c", "d"],
        }
    )
    parquet.write_table(table, tmp_path / "o.parquet")
    other = OtherCatalogue.read(tmp_path / "o.parquet", "ALPHA", "DELTA")
    match = CrossMatch.of(catalogue, other, 1.0)
    rows = match.rows()
    [found] = rows.tables()
    assert found.schema.names == rows.schema.names
    assert found["OTHER_FLUX"].to_pylist() == ["d"] and found["FLUX"].to_pylist() == [1.0]
    assert found["OBJECT_ID"].to_pylist() == [11_001]
    assert found["SEPARATION"].to_pylist() == pytest.approx([0.5], abs=1e-6)
    assert rows.schema.field("FLUX").metadata[b"unit"] == b"uJy"


def test_the_same_place_is_a_match_however_small_the_radius(tmp_path):
    catalogue = sources_at(tmp_path, {11: (np.array([10.0]), np.array([0.0]))})
    path = write_other(tmp_path / "o.fits", (np.array([10.0]), np.array([0.0])))
    other = OtherCatalogue.read(path, "RA", "DEC")
    assert len(CrossMatch.of(catalogue, other, 1e-9).matches) == 1


def test_files_out_of_reach_are_not_opened(tmp_path):
    far = around(200.0, 10.0, 0.05, 20, 5)
    catalogue = sources_at(tmp_path, {11: around(10.0, 0.0, 0.05, 20, 1), 12: far})
    near, away = catalogue.files["PATH"].to_pylist()
    (catalogue.folder / away).write_bytes(b"not to be read")
    path = write_other(tmp_path / "o.fits", around(10.0, 0.0, 0.05, 50, 2))
    other = OtherCatalogue.read(path, "RA", "DEC")
    assert [match.path for match in CrossMatch.of(catalogue, other, 60.0).matches] == [near]


def test_columns_of_a_fits_table_keep_their_values(tmp_path):
    table = Table({"RA": [1.0, 2.0], "DEC": [0.0, 0.0], "PAIR": [[1, 2], [3, 4]], "S": ["a", "bc"]})
    table["N"] = np.ma.MaskedArray([5, 6], mask=[False, True])
    table["RA"].unit = "deg"
    table.write(tmp_path / "o.fits")
    read = OtherCatalogue.read(tmp_path / "o.fits", "RA", "DEC").table
    assert read.to_pydict() == {
        "RA": [1.0, 2.0],
        "DEC": [0.0, 0.0],
        "PAIR": [[1, 2], [3, 4]],
        "S": ["a", "bc"],
        "N": [5, None],
    }


@pytest.mark.parametrize(
    ("columns", "arguments", "message"),
    [
        (
            {"ra": [1.0], "dec": [0.0]},
            ("RA", "DEC"),
            "column RA: found no such column among ra, dec",
        ),
        ({"RA": ["1h"], "DEC": [0.0]}, ("RA", "DEC"), "column RA: found string, expected numbers"),
        (
            {"RA": [1.0], "DEC": [95.0]},
            ("RA", "DEC"),
            "column DEC, row 0: found 95, expected a decl",
        ),
        ({"RA": [None], "DEC": [0.0]}, ("RA", "DEC"), "no position in 1 rows, expected at least"),
        ({"RA": [1.0] * u.rad, "DEC": [0.0]}, ("RA", "DEC"), "column RA: found the unit rad, exp"),
    ],
)
def test_what_is_no_position_is_named(tmp_path, columns, arguments, message):
    catalogue = sources_at(tmp_path, {11: (np.array([10.0]), np.array([0.0]))})
    path = tmp_path / "o.fits"
    if None in columns.get("RA", []):
        path = tmp_path / "o.parquet"
        parquet.write_table(pa.table({"RA": pa.array([None], pa.float64()), "DEC": [0.0]}), path)
    else:
        Table(columns).write(path)
    with pytest.raises(InputError, match=message):
        CrossMatch.of(catalogue, OtherCatalogue.read(path, *arguments), 1.0)


def test_a_file_that_is_no_table_is_named(tmp_path):
    for name in ("o.fits", "o.parquet"):
        (tmp_path / name).write_bytes(b"no table")
        with pytest.raises(InputError, match=rf"{name}: found no readable table"):
            OtherCatalogue.read(tmp_path / name, "RA", "DEC")
