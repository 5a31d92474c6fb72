"""The commands of science products: files, what is printed, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from pyarrow import parquet

from constellation.cli import main
from shine.errors import Status
from tests.constellation.products.simulated import publish, shapes

PLACE = (57.0, -51.0)


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory):
    """A field of 12 arcmin with a constant shear; one of its three sub-tiles has not converged."""
    rng = np.random.default_rng(1)
    n = 900
    dec = PLACE[1] + rng.uniform(-0.1, 0.1, n)
    ra = PLACE[0] + rng.uniform(-0.1, 0.1, n) / np.cos(np.deg2rad(dec))
    samples = shapes(np.full(n, 0.05 - 0.02j), rng, count=16)
    folder = tmp_path_factory.mktemp("commands") / "catalogue"
    row = np.where(dec > PLACE[1] + 0.08, 2, dec > PLACE[1])
    status = {(7, 2, 0): Status.NOT_CONVERGED}
    publish(folder, ra, dec, samples, SUBTILE_ROW=row, status=status)
    return folder, int(np.sum(row < 2))


@pytest.fixture
def run(catalogue, tmp_path, monkeypatch, capsys):
    """Runs a command in a folder of its own; returns its status, its table and what it printed."""
    monkeypatch.chdir(tmp_path)

    def command(text):
        places = ["--catalogue", str(catalogue[0]), "--output", "out.parquet"]
        status = main([*text.split(), *places, "--figure", "out.png"])
        table = parquet.read_table("out.parquet") if status == 0 else None
        printed = capsys.readouterr()
        return status, table, printed.out + printed.err

    return command


def is_png(path):
    return path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("cells", "names"),
    [
        ("--order 10", ["HEALPIX"]),
        ("--by tile", ["TILE_ID"]),
        ("--by sub-tile", ["TILE_ID", "SUBTILE_ROW", "SUBTILE_COL"]),
        ("--side 3", ["ROW", "COL"]),
        ("--side 3 --centre 57.05 -51", ["ROW", "COL"]),
    ],
)
def test_shear_maps_of_all_cells(run, catalogue, tmp_path, cells, names):
    status, table, printed = run(f"shear-map {cells}")
    assert status == 0 and is_png(tmp_path / "out.png")
    assert table.column_names == [
        *names,
        "RA",
        "DEC",
        "G1",
        "G2",
        "G1_ERR",
        "G2_ERR",
        "G1G2_COV",
        "N_SOURCES",
        "ELLIPTICITY_SIGMA",
        "ELLIPTICITY_SIGMA_ERR",
    ]
    assert table.schema.field("RA").metadata[b"unit"] == b"deg"
    assert b"u = west" in table.schema.metadata[b"conventions"]
    assert f"out.parquet: {table.num_rows} cells, {catalogue[1]} galaxies" in printed
    assert "1 sub-tiles without a converged shear left out" in printed
    weights = table["G1_ERR"].to_numpy() ** -2
    assert np.average(table["G1"].to_numpy(), weights=weights) == pytest.approx(0.05, abs=0.01)


def test_a_given_dispersion_is_not_inferred(run, tmp_path):
    _, table, _ = run("shear-map --order 10 --dispersion 0.3 --fits out.fits")
    assert set(table["ELLIPTICITY_SIGMA"].to_pylist()) == {0.3}
    assert fits.getheader(tmp_path / "out.fits", "SHEAR")["NSIDE"] == 1024


def test_a_convergence_map_has_images_with_wcs(run, tmp_path, catalogue):
    area = "--area 57 -51 10 6 --pixel 0.5 --smoothing 0.8"
    status, table, printed = run(f"convergence-map {area} --fits out.fits")
    assert status == 0 and is_png(tmp_path / "out.png")
    assert "out.parquet: 20 x 12 pixels" in printed and "most significant: kappa" in printed
    with fits.open(tmp_path / "out.fits") as hdus:
        names = [hdu.name for hdu in hdus[1:]]
        assert names == ["KAPPA_E", "KAPPA_B", "KAPPA_ERR", "G1", "G2", "N_SOURCES"]
        row = table.to_pylist()[37]
        assert hdus["KAPPA_E"].data[row["Y"], row["X"]] == row["KAPPA_E"]
        sky = WCS(hdus["KAPPA_E"].header).pixel_to_world(row["X"], row["Y"])
    assert (sky.ra.deg, sky.dec.deg) == pytest.approx((row["RA"], row["DEC"]), abs=1e-9)
    _, whole, printed = run("convergence-map")
    assert whole.num_rows > table.num_rows and f", {catalogue[1]} galaxies" in printed


def test_profiles_take_positions_and_edges(run, tmp_path):
    status, table, printed = run("profile --at 57 -51 --at 57.01 -51 --edges 0 2 5")
    assert status == 0 and is_png(tmp_path / "out.png")
    assert table["R_MAX"].to_pylist() == [2.0, 5.0]
    assert "2 rings," in printed and "around 2 positions" in printed
    (tmp_path / "p.csv").write_text("ra,dec\n57,-51\n")
    _, table, printed = run("profile --positions p.csv --min 1 --max 4 --bins 2")
    assert table["R_MIN"].to_pylist() == [1.0, 2.0] and "around 1 positions" in printed


def test_correlations_are_of_shears_or_around_positions(run, tmp_path):
    status, table, printed = run("correlations --min 1 --max 8 --bins 3")
    assert status == 0 and is_png(tmp_path / "out.png")
    assert table["XI_PLUS"].to_numpy() == pytest.approx(0.05**2 + 0.02**2, rel=0.3)
    assert "out.parquet: 3 bins of separation" in printed
    status, table, _ = run("correlations --min 1 --max 8 --bins 3 --at 57 -51 --dispersion 0.25")
    assert status == 0 and {"G_T", "G_X", "G_ERR"} < set(table.column_names)


def test_the_same_figure_and_files_are_made_again(run, tmp_path):
    names = ("out.parquet", "out.png", "out.fits")
    first = None
    for _ in range(2):
        run("convergence-map --area 57 -51 6 6 --fits out.fits")
        content = [(tmp_path / name).read_bytes() for name in names]
        first = first or content
    assert first == content


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("shear-map --by tile --fits x.fits", "--fits: only cells of --order"),
        ("shear-map --by tile --centre 1 2", "--centre: only squares of --side"),
        ("shear-map --side 2 --centre 1 92", "--centre: found RA 1 and Dec 92"),
        ("convergence-map --area 57 -95 5 5", "--area: found RA 57 and Dec -95"),
        ("convergence-map --area 57 -51 0 5", "--area: expected WIDTH and HEIGHT above 0"),
        ("profile --at 57 -51 --edges 2 1", "--edges: expected two or more numbers"),
        ("profile --at 57 -51 --min 3 --max 2", "--max: found 2, expected more than --min"),
        ("profile --at 57 151", "--at: found RA 57 and Dec 151"),
        ("correlations --min 3 --max 3", "--max: found 3, expected more than --min"),
    ],
)
def test_options_that_do_not_fit_are_refused(run, tmp_path, command, message):
    status, _, printed = run(command)
    assert status == 2 and f"error: {message}" in printed
    assert not (tmp_path / "out.parquet").exists()


def test_a_folder_without_a_catalogue_is_named(tmp_path, capsys):
    places = ["--catalogue", str(tmp_path), "--output", str(tmp_path / "x")]
    assert main(["shear-map", "--order", "9", *places]) == 3
    assert "shear.parquet: found no readable table" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["shear-map --order 19", "profile --at x 1", "profile"])
def test_wrong_arguments_are_a_usage_error(run, text):
    with pytest.raises(SystemExit) as end:
        run(text)
    assert end.value.code == 2
