"""Shear maps: the same numbers as a new inference of the same groups, wherever on the sky."""

from __future__ import annotations

import astropy.units as u
import numpy as np
import pyarrow as pa
import pytest
from astropy.io import fits
from astropy.table import Table
from astropy_healpix import HEALPix

import shine
from constellation.catalogue.published import PublishedCatalogue
from constellation.products.cells import HealpixCells, PlaneCells, SubtileCells, TileCells
from constellation.products.fits_files import write_healpix
from constellation.products.reading import Galaxies
from constellation.products.shear_map import shear_map
from constellation.sphere import TangentPlane, unit_vectors
from shine.errors import InputError, Status
from shine.population import ShapePrior, ShapeSamples, infer_shear
from tests.constellation.fake_catalogue import publish_plainly
from tests.constellation.products.simulated import SIGMA_E, carried, publish, shapes

PRIOR = ShapePrior(0.25)
FIXED = ShapePrior(SIGMA_E, infer_sigma=False)
SHEAR = 0.04 - 0.03j


def scattered(place, width_deg, n, rng):
    """Positions around one, over 0h where it lies there."""
    ra = place[0] + rng.uniform(-0.5, 0.5, n) * width_deg / np.cos(np.deg2rad(place[1]))
    return ra % 360.0, place[1] + rng.uniform(-0.5, 0.5, n) * width_deg


@pytest.fixture(scope="module")
def galaxies(tmp_path_factory) -> Galaxies:
    """Two tiles that interleave around 0h, of two by two sub-tiles each; some pairs are blends."""
    rng = np.random.default_rng(2)
    n = 1200
    ra, dec = scattered((0.0, -60.0), 0.5, n, rng)
    samples = shapes(np.full(n, SHEAR), rng)
    blend = np.arange(n)
    blend[100:200:2] = blend[101:200:2]
    log_weight = samples.log_weight.copy()
    log_weight[100:200:2] = log_weight[101:200:2]
    place = blend % 4
    return publish(
        tmp_path_factory.mktemp("map") / "catalogue",
        ra,
        dec,
        ShapeSamples(samples.shape, log_weight, blend),
        TILE_ID=7 + blend % 2,
        SUBTILE_ROW=place // 2,
        SUBTILE_COL=(blend // 4) % 2,
    )


def inferred(galaxies, groups, prior=PRIOR):
    """By shine itself, in the galaxies' own frames; `groups` makes labels of the sources."""
    table = galaxies.catalogue.sources()
    return shine.reinfer(table, prior, groups=groups(table))


def assert_rows(table, expected, names, share=1e-6):
    """Shear, errors and numbers are those expected by the values of some columns."""
    assert table.num_rows == len(expected)
    for row in table.to_pylist():
        posterior = expected["_".join(str(row[name]) for name in names)]
        error = np.sqrt(np.diag(posterior.covariance))
        found = [row["G1"], row["G2"]]
        np.testing.assert_allclose(found, posterior.shear, atol=share * error.min())
        np.testing.assert_allclose([row["G1_ERR"], row["G2_ERR"]], error, rtol=share)
        assert row["G1G2_COV"] == pytest.approx(
            posterior.covariance[0, 1], abs=share * error[0] ** 2
        )
        assert row["N_SOURCES"] == posterior.n_galaxies
        assert row["ELLIPTICITY_SIGMA"] == pytest.approx(posterior.ellipticity_sigma, rel=share)


def texts(*names):
    """Labels made of columns."""
    return lambda table: np.array(
        [
            "_".join(map(str, row))
            for row in zip(*(table[x].to_pylist() for x in names), strict=True)
        ]
    )


def test_sub_tiles_have_the_catalogues_own_shear(galaxies):
    names = ("TILE_ID", "SUBTILE_ROW", "SUBTILE_COL")
    table = shear_map(galaxies, SubtileCells(galaxies.converged), PRIOR)
    assert table.num_rows == 8
    own = {tuple(row[n] for n in names): row for row in galaxies.catalogue.shear.to_pylist()}
    for row in table.to_pylist():
        expected = own[tuple(row[n] for n in names)]
        for g in ("G1", "G2"):
            assert row[g] == pytest.approx(expected[g], abs=1e-3 * expected[f"{g}_ERR"])
            assert row[f"{g}_ERR"] == pytest.approx(expected[f"{g}_ERR"], rel=1e-3)
        assert (row["RA"], row["DEC"]) == (expected["RA"], expected["DEC"])
    assert_rows(table, inferred(galaxies, texts(*names)), names)


def test_tiles_are_all_their_galaxies_in_the_frame_of_their_middle(galaxies):
    table = shear_map(galaxies, TileCells(galaxies.converged), FIXED)
    sources = galaxies.catalogue.sources()
    for row in table.to_pylist():
        tile = sources.filter(pa.array(np.asarray(sources["TILE_ID"]) == row["TILE_ID"]))
        expected = shine.reinfer(turned(tile, (row["RA"], row["DEC"])), FIXED)
        error = np.sqrt(expected.covariance[0, 0])
        np.testing.assert_allclose(
            [row["G1"], row["G2"]], expected.shear, atol=2e-3 * error
        )  # samples are rounded once more
        assert row["N_SOURCES"] == expected.n_galaxies
        assert np.cos(np.deg2rad(row["RA"])) > 0.99999 and row["DEC"] == pytest.approx(-60, abs=0.1)


def turned(table, place):
    """A table with its samples in the frame of another place, by rotations of the sphere."""
    angle = carried(table["RA"].to_numpy(), table["DEC"].to_numpy(), *place)
    turned_samples = []
    for pairs, a in zip(table["SHAPE_SAMPLES"].to_pylist(), angle, strict=True):
        s = (np.array(pairs[::2]) + 1j * np.array(pairs[1::2])) * np.exp(2j * a)
        turned_samples.append(np.rint(np.stack([s.real, s.imag], axis=-1)).ravel().astype(np.int16))
    column = table.column_names.index("SHAPE_SAMPLES")
    return table.set_column(column, "SHAPE_SAMPLES", pa.array(turned_samples, pa.list_(pa.int16())))


@pytest.mark.parametrize("order", [6, 9, 11])
def test_healpix_cells_are_those_of_the_positions(galaxies, order):
    table = shear_map(galaxies, HealpixCells(order), FIXED)
    sources = galaxies.catalogue.sources()
    sky = HEALPix(2**order, order="nested")
    cell = sky.lonlat_to_healpix(*(np.asarray(sources[x]) * u.deg for x in ("RA", "DEC")))
    names, counts = np.unique(cell, return_counts=True)
    assert table["HEALPIX"].to_pylist() == names.tolist()
    assert table["N_SOURCES"].to_pylist() == counts.tolist()
    lon, lat = sky.healpix_to_lonlat(names)
    np.testing.assert_allclose(table["RA"].to_numpy(), lon.deg)
    np.testing.assert_allclose(table["DEC"].to_numpy(), lat.deg)
    for row in table.to_pylist()[:3]:
        inside = sources.filter(pa.array(cell == row["HEALPIX"]))
        expected = shine.reinfer(turned(inside, (row["RA"], row["DEC"])), FIXED)
        error = np.sqrt(expected.covariance[0, 0])
        np.testing.assert_allclose([row["G1"], row["G2"]], expected.shear, atol=3e-3 * error)


def test_cells_do_not_depend_on_which_file_their_galaxies_are_in(galaxies, tmp_path):
    """All cells straddle both files; here one file holds them all."""
    sources = galaxies.catalogue.sources()
    one = tmp_path / "c"
    tile = pa.array(np.full(1200, 7))
    column = sources.column_names.index("TILE_ID")
    col = pa.array(np.asarray(sources["SUBTILE_COL"]) + 2 * (np.asarray(sources["TILE_ID"]) - 7))
    sources = sources.set_column(column, "TILE_ID", tile)
    column = sources.column_names.index("SUBTILE_COL")
    sources = sources.set_column(column, "SUBTILE_COL", col.cast(pa.int8()))
    shear = galaxies.catalogue.shear
    rows = shear.to_pylist()
    moved = [
        r | {"TILE_ID": 7, "SUBTILE_COL": r["SUBTILE_COL"] + 2 * (r["TILE_ID"] - 7)} for r in rows
    ]
    together = Galaxies(
        PublishedCatalogue(publish_plainly(one, pa.Table.from_pylist(moved, shear.schema), sources))
    )
    found, expected = (shear_map(x, HealpixCells(9), FIXED) for x in (galaxies, together))
    assert found["HEALPIX"].to_pylist() == expected["HEALPIX"].to_pylist()
    assert found["N_SOURCES"].to_pylist() == expected["N_SOURCES"].to_pylist()
    for name in ("G1", "G2", "G1_ERR"):
        np.testing.assert_allclose(found[name], expected[name], atol=1e-9)
    assert found.num_rows > 10


@pytest.mark.parametrize("place", [(123.0, -85.0), (0.0, -85.0), (200.0, 89.7), (0.0, 0.0)])
def test_a_field_that_is_one_shear_on_the_sphere_has_it_in_every_frame(tmp_path, place):
    """Round galaxies, known exactly: in the frame of the middle their shear is the same for all."""
    rng = np.random.default_rng(1)
    width = 0.5 if abs(place[1]) > 89 else 1.0
    ra, dec = scattered(place, width, 300, rng)
    own = SHEAR * np.exp(-2j * carried(ra, dec, *place))
    samples = ShapeSamples(own[:, None], np.zeros((300, 1)), np.arange(300))
    galaxies = publish(tmp_path / "c", ra, dec, samples)
    cells = PlaneCells(*place, 300.0)
    table = shear_map(galaxies, cells, FIXED)
    for row in table.to_pylist():
        back = np.exp(-2j * carried([row["RA"]], [row["DEC"]], *place)[0])
        found = (row["G1"] + 1j * row["G2"]) / back
        expected = complex(*infer_shear(alike(row["N_SOURCES"]), FIXED).shear)
        # what is left is the curvature of the sphere between the three places, and rounding
        assert abs(found - expected) < 5e-4 * abs(SHEAR)
    # in their own frames the shear of galaxies beside the pole is not one
    alone = complex(*shine.reinfer(galaxies.catalogue.sources(), FIXED).shear)
    lost = abs(alone - complex(*infer_shear(alike(300), FIXED).shear)) / abs(SHEAR)
    assert lost > 5e-3 or place[1] == 0.0


def alike(n):
    """Galaxies that all have the shape SHEAR, known exactly."""
    return ShapeSamples(np.full((n, 1), SHEAR), np.zeros((n, 1)), np.arange(n))


def test_squares_of_a_plane_lie_where_they_say(galaxies):
    table = shear_map(galaxies, PlaneCells(0.1, -60.0, 5.0), FIXED)
    sources = galaxies.catalogue.sources()
    plane = TangentPlane.at(0.1, -60.0)
    at = plane.project(unit_vectors(sources["RA"].to_numpy(), sources["DEC"].to_numpy()))
    col, row = np.floor(np.rad2deg(at) * 60.0 / 5.0).astype(int)
    expected = {(r, c): n for r, c, n in zip(*_counted(row, col), strict=True)}
    found = {(x["ROW"], x["COL"]): x["N_SOURCES"] for x in table.to_pylist()}
    assert found == expected and min(found)[0] < 0 < max(found)[0]
    east = table.filter(pa.array(table["COL"].to_numpy() > 2))["RA"].to_numpy()
    assert np.all((east > 0.1) & (east < 180.0))
    assert table.schema.metadata[b"plane_dec_deg"] == b"-60.0"


def _counted(row, col):
    pairs, counts = np.unique(np.column_stack([row, col]), axis=0, return_counts=True)
    return *pairs.T.tolist(), counts.tolist()


def test_of_a_shear_that_varies_a_cell_has_the_mean_over_its_galaxies(tmp_path):
    rng = np.random.default_rng(4)
    n = 4000
    ra, dec = scattered((57.0, 0.0), 0.2, n, rng)
    true = 0.06 * np.exp(1j * 30.0 * (np.repeat(ra[::2], 2) - 57.0)) * (1 + 2 * (dec > 0.02))
    galaxies = publish(tmp_path / "c", np.repeat(ra[::2], 2), dec, shapes(true, rng))
    table = shear_map(galaxies, TileCells(galaxies.converged), FIXED)
    row = table.to_pylist()[0]
    assert true.real.std() > 0.03
    np.testing.assert_allclose(
        [row["G1"], row["G2"]], [true.mean().real, true.mean().imag], atol=0.004
    )


def test_sub_tiles_without_a_converged_shear_are_left_out(tmp_path, galaxies):
    rng = np.random.default_rng(5)
    ra, dec = scattered((57.0, -51.0), 0.1, 60, rng)
    row = np.arange(60) % 3
    status = {(7, 1, 0): Status.NOT_CONVERGED}
    samples = shapes(np.full(60, SHEAR), rng)
    found = publish(tmp_path / "c", ra, dec, samples, SUBTILE_ROW=row, status=status)
    assert found.left_out == 1 and galaxies.left_out == 0
    table = shear_map(found, SubtileCells(found.converged), FIXED)
    assert table["SUBTILE_ROW"].to_pylist() == [0, 2]
    assert sum(shear_map(found, HealpixCells(8), FIXED)["N_SOURCES"].to_pylist()) == 40
    every = {(7, n, 0): Status.NOT_CONVERGED for n in range(3)}
    none = publish(tmp_path / "none", ra, dec, samples, SUBTILE_ROW=row, status=every)
    with pytest.raises(InputError, match="no sub-tile with a shear"):
        shear_map(none, HealpixCells(8), FIXED)


def test_the_fits_file_is_an_explicit_healpix_table(galaxies, tmp_path):
    table = shear_map(galaxies, HealpixCells(9), FIXED)
    write_healpix(table, tmp_path / "map.fits")
    header = fits.getheader(tmp_path / "map.fits", 1)
    keys = ("PIXTYPE", "ORDERING", "NSIDE", "INDXSCHM", "OBJECT", "COORDSYS")
    assert [header[key] for key in keys] == [
        "HEALPIX",
        "NESTED",
        512,
        "EXPLICIT",
        "PARTIAL",
        "C",
    ]
    found = Table.read(tmp_path / "map.fits", hdu=1)
    assert found["PIXEL"].tolist() == table["HEALPIX"].to_pylist()
    for name in table.column_names[1:]:
        assert found[name].tolist() == table[name].to_pylist()
    assert found["RA"].unit == u.deg
