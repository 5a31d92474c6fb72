"""Tile lists: made up for an area, written and read, and made from the official XML."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from astropy_healpix import level_ipix_to_uniq, xyz_to_healpix
from pyarrow import parquet

from constellation.cli import main
from constellation.config import TilingConfig
from constellation.plan import Plan
from constellation.sphere import TangentPlane, unit_vectors
from constellation.tile_lists import CORE_COLUMN, read_tiles, sky_tiles, tiles_over, write_tiles
from constellation.tiling import Grid, Tiles
from shine.errors import ConfigurationError, InputError

XML = """<?xml version="1.0" encoding="UTF-8"?>
<mer:DpdMerTile xmlns:mer="http://euclid.esa.org/schema/dpd/mer/tile">
  <Header><ProductId>P</ProductId></Header>
  <Data>
    <TileIndex>{index}</TileIndex> <RaCen>{ra}</RaCen> <DecCen>{dec}</DecCen>
    <InnerNUNIQIndex>{core}</InnerNUNIQIndex>
    <OuterNUNIQIndex>16 17</OuterNUNIQIndex>
  </Data>
</mer:DpdMerTile>
"""
BOMB = """<?xml version="1.0"?>
<!DOCTYPE lolz [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>
<DpdMerTile><TileIndex>&b;</TileIndex></DpdMerTile>
"""
EXTERNAL = """<!DOCTYPE x SYSTEM "file:///etc/passwd"><DpdMerTile/>"""
LEVEL = 12  # cells of 52 arcsec


def core_of_box(west, east, south, north):
    """NUNIQ numbers of cells that cover a box in right ascension and declination, deg."""
    ra, dec = np.meshgrid(np.arange(west, east, 0.005), np.arange(south, north, 0.005))
    vectors = unit_vectors(ra.ravel(), dec.ravel())
    cell = np.unique(xyz_to_healpix(*vectors.T, nside=2**LEVEL, order="nested"))
    return level_ipix_to_uniq(LEVEL, cell)


@pytest.fixture
def xml_folder(tmp_path):
    """Two tiles at 0h whose border lies 6 arcmin further east than half-way between them."""
    folder = tmp_path / "xml"
    for index, centre, west, east in ((11, 359.75, -0.5, 0.1), (12, 0.25, 0.1, 0.5)):
        core = " ".join(map(str, core_of_box(west, east, -0.25, 0.25)))
        write_xml(folder, index=index, ra=centre, dec=0.0, core=core)
    return folder


def write_xml(folder: Path, **values) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"EUC_MER_TILE{values['index']}.xml"
    path.write_text(XML.format(**values))
    return path


def test_made_up_tiles_lie_in_rows_of_half_a_degree_with_whole_circles():
    tiles = sky_tiles()
    assert len(np.unique(tiles.index)) == len(tiles.index)
    assert ((tiles.index >= 900_000_000) & (tiles.index < 901_000_000)).all()
    row_dec, first, counts = np.unique(tiles.dec, return_index=True, return_counts=True)
    np.testing.assert_array_equal(row_dec, np.arange(-90.0, 90.5, 0.5))
    assert counts[0] == counts[-1] == 1 and counts[180] == 720
    for dec, start, count in zip(row_dec, first, counts, strict=True):
        ra = tiles.ra[start : start + count]
        np.testing.assert_allclose(np.diff(ra), 360.0 / count, atol=1e-8)
        distance = 360.0 / count * np.cos(np.deg2rad(dec))
        assert distance <= 0.5 + 1e-9
        assert count < 7 or distance > 0.5 * (1.0 - 1.0 / count)  # with one tile less too wide


def test_made_up_tiles_leave_no_hole():
    """No place is further from a centre than the corner of a lattice of 0.5 deg, and a little."""
    vectors = np.random.default_rng(5).normal(size=(20_000, 3))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    tiles = sky_tiles()
    cosine = (tiles.centres[tiles.nearest(vectors)] * vectors).sum(axis=1)
    assert np.rad2deg(np.arccos(cosine)).max() < 0.37


@pytest.mark.parametrize("area", [(0.0, 0.0), (123.4, -51.0), (10.0, 90.0), (359.99, 88.7)])
def test_tiles_over_an_area_are_those_that_own_part_of_it(area):
    everywhere, tiles = sky_tiles(), tiles_over(*area, 150.0, 70.0)
    half_width, half_height = np.tan(np.deg2rad(np.array([150.0, 70.0]) / 120.0))
    xi, eta = np.random.default_rng(2).uniform(-1.0, 1.0, (2, 50_000))
    inside = TangentPlane.at(*area).unproject(half_width * xi, half_height * eta)
    owners = everywhere.index[everywhere.nearest(inside)]
    assert set(owners) <= set(tiles.index)
    assert len(tiles.index) < 30
    assert tiles.index.tolist() == tiles_over(*area, 150.0, 70.0).index.tolist()


@pytest.mark.parametrize(
    ("area", "named"),
    [
        ((360.0, 0.0, 1.0, 1.0), "--area, RA: found 360"),
        ((0.0, -91.0, 1.0, 1.0), "--area, DEC: found -91"),
        ((0.0, 0.0, 0.0, 1.0), "--area, WIDTH: found 0"),
        ((0.0, 0.0, 1.0, float("nan")), "--area, HEIGHT: found nan"),
    ],
)
def test_an_area_out_of_range_is_named(area, named):
    with pytest.raises(ConfigurationError, match=named):
        tiles_over(*area)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_list_made_by_the_command_is_one_that_the_plan_reads(tmp_path, capsys, suffix):
    path = tmp_path / f"tiles{suffix}"
    area = ["--area", "57.4", "-51", "40", "40"]
    assert main(["tiles", *area, "--output", str(path)]) == 0
    assert "made up, not Euclid's" in capsys.readouterr().out
    made, read = tiles_over(57.4, -51.0, 40.0, 40.0), read_tiles(path)
    for name in ("index", "ra", "dec"):
        np.testing.assert_array_equal(getattr(read, name), getattr(made, name))
    assert len(Plan.from_config(TilingConfig(tiles=path)).subtiles) == 16 * len(made.index)
    before = path.read_bytes()
    assert main(["tiles", *area, "--output", str(path)]) == 0
    assert path.read_bytes() == before


def test_official_tiles_own_what_their_cores_hold(xml_folder, tmp_path, capsys):
    path = tmp_path / "tiles.parquet"
    assert main(["tiles", "--xml", str(xml_folder), "--output", str(path)]) == 0
    assert "2 tiles, their cores of" in capsys.readouterr().out
    tiles = read_tiles(path)
    # 6' east of half-way; held by none, near 12; beyond all cores
    vectors = unit_vectors([0.05, 0.15, 0.05, 0.55], [0.0, 0.0, 0.3, 0.0])
    assert tiles.index[tiles.owners(vectors)].tolist() == [11, 12, 12, 12]
    plain = Tiles(tiles.index, tiles.ra, tiles.dec)
    assert plain.index[plain.owners(vectors)].tolist() == [12, 12, 12, 12]


def test_official_cores_are_extended_by_the_margin(xml_folder, tmp_path):
    main(["tiles", "--xml", str(xml_folder), "--output", str(tmp_path / "t.parquet")])
    grid = Grid(read_tiles(tmp_path / "t.parquet"), 0, (1, 1), np.deg2rad(0.05))
    rows, _ = grid.extended_cells(unit_vectors([0.05, 0.14, 0.18], np.zeros(3)))
    assert rows[:, 0].tolist() == [True, True, False]  # the core ends at 0.1, cells of 0.014 deg
    assert np.rad2deg(grid.overhang_rad) == pytest.approx(0.1, abs=0.03)
    assert Grid(Tiles.from_columns([1], [0], [0]), 0, (1, 1), 0.0).overhang_rad == 0.0


def test_numbers_may_stand_in_elements_of_their_own(tmp_path):
    cells = core_of_box(9.9, 10.1, -0.1, 0.1)
    inner = "".join(f"<MerHealpixList>{cell}</MerHealpixList>" for cell in cells)
    write_xml(tmp_path / "xml", index=5, ra=10.0, dec=0.0, core=inner)
    arguments = ["--xml", str(tmp_path / "xml"), "--output", str(tmp_path / "t.parquet")]
    assert main(["tiles", *arguments]) == 0
    assert read_tiles(tmp_path / "t.parquet").cores.of(0).tolist() == cells.tolist()


CORE = " ".join(map(str, core_of_box(9.9, 10.0, 0.0, 0.1)))
GOOD = {"index": 5, "ra": 10.0, "dec": 0.0, "core": CORE}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"index": "five"}, "element TileIndex: found 'five', expected numbers"),
        ({"index": ""}, "element TileIndex: found 0, expected 1 number"),
        ({"index": "5</TileIndex><TileIndex>6"}, "element TileIndex: found 5 and 6, expected one"),
        ({"index": 10**20}, "element TileIndex: found '1000"),
        ({"ra": "10.0 11.0"}, "element RaCen: found 2, expected 1 number"),
        ({"ra": "nan"}, "elements RaCen and DecCen: found nan, 0.0"),
        ({"dec": 95.0}, "elements RaCen and DecCen: found 10.0, 95.0"),
        ({"core": ""}, "element InnerNUNIQIndex: found 0, expected numbers"),
        ({"core": "16 x"}, "element InnerNUNIQIndex: found '16 x'"),
        ({"core": "3"}, "element InnerNUNIQIndex: 3 is no NUNIQ number"),
        ({"core": CORE + " 16"}, "element InnerNUNIQIndex: found cell 16, expected cells within"),
        ({"dec": 40.0}, "element InnerNUNIQIndex: found cell"),
        ({"core": "<"}, "broken XML"),
    ],
)
def test_what_is_wrong_in_the_xml_is_named(tmp_path, capsys, changes, message):
    path = write_xml(tmp_path / "xml", **GOOD | {"index": 5})
    path.write_text(XML.format(**GOOD | changes))
    output = ["--output", str(tmp_path / "tiles.parquet")]
    assert main(["tiles", "--xml", str(tmp_path / "xml"), *output]) == 3
    error = capsys.readouterr().err
    assert str(path) in error and message in error


def test_a_file_without_the_elements_is_no_tile(tmp_path, capsys):
    (tmp_path / "other.xml").write_text("<DpdVisFrame><Data/></DpdVisFrame>")
    assert main(["tiles", "--xml", str(tmp_path), "--output", "x.parquet"]) == 3
    assert "other.xml, element TileIndex: found none" in capsys.readouterr().err


@pytest.mark.parametrize("text", [BOMB, EXTERNAL])
def test_entities_are_refused_unread(tmp_path, capsys, text):
    (tmp_path / "bomb.xml").write_text(text)
    assert main(["tiles", "--xml", str(tmp_path), "--output", "x.parquet"]) == 3
    assert "bomb.xml: found a document type declaration" in capsys.readouterr().err


def test_a_tile_in_two_files_and_a_folder_without_any_are_refused(tmp_path, capsys):
    folder = tmp_path / "xml"
    copy = write_xml(folder, **GOOD).read_text()
    (folder / "copy.xml").write_text(copy)
    assert main(["tiles", "--xml", str(folder), "--output", "x.parquet"]) == 3
    error = capsys.readouterr().err
    assert "copy.xml" in error and "EUC_MER_TILE5.xml" in error and "tile 5" in error
    assert main(["tiles", "--xml", str(tmp_path / "none"), "--output", "x.parquet"]) == 3
    assert "none: found no XML file" in capsys.readouterr().err


def test_a_list_that_cannot_hold_it_is_refused(tmp_path, capsys):
    write_xml(tmp_path / "xml", **GOOD)
    assert main(["tiles", "--xml", str(tmp_path / "xml"), "--output", "tiles.csv"]) == 2
    assert "tiles.csv: found the suffix '.csv', expected .parquet" in capsys.readouterr().err
    with pytest.raises(ConfigurationError, match=r"\.csv or \.parquet"):
        write_tiles(tiles_over(0.0, 0.0, 1.0, 1.0), Path("tiles.txt"))


@pytest.mark.parametrize(
    ("cores", "message"),
    [
        ([[16], None], f"column {CORE_COLUMN}: found tiles without a list"),
        ([[16], [2]], "2 is no NUNIQ number"),
        (["a", "b"], "a tile list of numbers is expected"),
    ],
)
def test_bad_cores_in_a_list_are_named(tmp_path, cores, message):
    table = pa.table(
        {"tile_index": [1, 2], "ra": [0.0, 1.0], "dec": [0.0, 0.0], CORE_COLUMN: cores}
    )
    parquet.write_table(table, path := tmp_path / "tiles.parquet")
    with pytest.raises(InputError, match=f"{path}: .*{message}"):
        read_tiles(path)


def test_cores_survive_the_order_of_the_list(tmp_path):
    lists = [[64, 65], [], [70]]
    columns = {"tile_index": [3, 1, 2], "ra": [0.0, 1.0, 2.0], "dec": [0.0] * 3}
    parquet.write_table(pa.table(columns | {CORE_COLUMN: lists}), path := tmp_path / "t.parquet")
    tiles = read_tiles(path)
    assert [tiles.cores.of(n).tolist() for n in range(3)] == [[], [70], [64, 65]]
    write_tiles(tiles, path)
    assert [read_tiles(path).cores.of(n).tolist() for n in range(3)] == [[], [70], [64, 65]]
