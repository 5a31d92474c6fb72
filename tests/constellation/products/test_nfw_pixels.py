"""A cluster from the pixels of a mock survey to its profile and its mass map."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import yaml
from astropy.coordinates import SkyCoord
from pyarrow import parquet
from scipy.stats import chi2

from constellation.catalogue.published import PublishedCatalogue
from constellation.cli import main
from shine.euclid.cli import run_subtile
from tests.constellation.fake_catalogue import publish_plainly

TILE, MIDDLE = 102018665, (57.3828797, -51.0)
CLUSTER = (57.3868797, -50.997)  # in the middle of no sub-tile
EDGES = (0.4, 0.7, 1.1, 1.6)
SQUARE = {"ra": MIDDLE[0], "dec": MIDDLE[1]}
# one quadrant of each of two exposures covers the whole area
MOCK = {
    "seed": 11,
    "tiles": "tiles.csv",
    "area": SQUARE | {"width_arcmin": 3.3, "height_arcmin": 3.3},
    "exposures": [
        {"offset_east_arcsec": 104.5, "offset_north_arcsec": 130.0, "roll_deg": 0.0},
        {"offset_east_arcsec": 100.5, "offset_north_arcsec": 134.0, "roll_deg": 2.0},
    ],
    "shear": {
        "type": "nfw",
        "mass_msun_h": 1e15,
        "redshift": 0.25,
        "ra": CLUSTER[0],
        "dec": CLUSTER[1],
        "max_shear": 0.4,
    },
    "detector": {"quadrant_shape": [2000, 2000]},
    # galaxies of one size make scenes of one shape, which share compiled programs
    "population": {
        "galaxy_density": 70.0,
        "star_density": 0.0,
        "bright_magnitude": 21.0,
        "faint_magnitude": 23.8,
        "hlr_arcsec": 0.2,
        "hlr_slope": 0.0,
        "hlr_scatter": 0.0,
        "close_pair_fraction": 0.0,
        "ellipticity_sigma": 0.2,
    },
}
TILING = {
    "tiles": "tiles.csv",
    "sub_tile_grid": [20, 20],
    "margin_arcmin": 0.22,
    "area": SQUARE | {"width_arcmin": 2.9, "height_arcmin": 2.9},
}


@pytest.fixture(scope="module")
def survey(tmp_path_factory) -> Path:
    """The folder of a survey of four sub-tiles, its catalogue and its truth."""
    folder = tmp_path_factory.mktemp("nfw")
    before = Path.cwd()
    os.chdir(folder)
    try:
        Path("tiles.csv").write_text(f"tile_index,ra,dec\n{TILE},{MIDDLE[0]},{MIDDLE[1]}\n")
        Path("mock.yaml").write_text(yaml.safe_dump(MOCK))
        Path("shine.yaml").write_text("inference: {}\ngal: {}\n")
        places = ["--config", "mock.yaml", "--output", "data", "--workers", "1"]
        assert main(["mock-survey", *places]) == 0
        assert main(["index", "--survey", "data", "--output", "index.parquet"]) == 0
        catalogues = [str(path) for path in Path("data/MER").glob("*FINAL-CAT*")]
        places = ["--index", "index.parquet", "--catalogues", *catalogues, "--output", "manifests"]
        tiling = ["--tiling", json.dumps(TILING), "--tile", str(TILE)]
        assert main(["manifests", *tiling, *places]) == 0
        for manifest in sorted(Path("manifests").iterdir()):
            run_subtile(manifest, "shine.yaml", "results")
        results = sorted(Path("results").glob("*.parquet"))
        shear = _together(path for path in results if not path.stem.endswith("_sources"))
        sources = _together(path for path in results if path.stem.endswith("_sources"))
        publish_plainly(Path("catalogue"), shear, sources)
    finally:
        os.chdir(before)
    return folder


def _together(paths) -> pa.Table:
    return pa.concat_tables([parquet.read_table(p).replace_schema_metadata() for p in paths])


def run(survey, command, *options):
    output = survey / f"{command}.parquet"
    places = ["--catalogue", str(survey / "catalogue"), "--output", str(output)]
    assert main([command, *options, *places, "--figure", str(output.with_suffix(".png"))]) == 0
    return parquet.read_table(output)


def truth(survey):
    """True tangential shear and ring of the galaxies that carry shear; the simulator's own."""
    sources = PublishedCatalogue(survey / "catalogue").sources(["OBJECT_ID", "SAMPLE_LOG_WEIGHT"])
    used = sources.filter(pc.is_valid(sources["SAMPLE_LOG_WEIGHT"])).select(["OBJECT_ID"])
    table = parquet.read_table(survey / "data" / "truth.parquet")
    table = table.join(used, "OBJECT_ID", join_type="inner")
    assert table.num_rows == used.num_rows
    ra, dec = table["RA"].to_numpy(), table["DEC"].to_numpy()
    here, there = SkyCoord(ra, dec, unit="deg"), SkyCoord(*CLUSTER, unit="deg")
    # astropy counts directions from north to east, and g counts from west to north
    across = np.exp(-2j * (here.position_angle(there).rad + 0.5 * np.pi))
    tangential = -(table["G1"].to_numpy() + 1j * table["G2"].to_numpy()) * across
    np.testing.assert_allclose(tangential.imag, 0.0, atol=1e-6)
    return tangential.real, np.digitize(here.separation(there).arcmin, EDGES) - 1


def test_the_tangential_profile_agrees_with_the_truth(survey):
    around = ["--at", *map(str, CLUSTER), "--edges", *map(str, EDGES)]
    found = run(survey, "profile", *around)
    g_t, ring = truth(survey)
    true = np.array([g_t[ring == n].mean() for n in range(3)])
    assert np.all(true > 0.1)
    assert found["N_SOURCES"].to_pylist() == [np.sum(ring == n) for n in range(3)]
    for name, expected in (("G_T", true), ("G_X", 0.0)):
        pull = (found[name].to_numpy() - expected) / found[f"{name}_ERR"].to_numpy()
        assert chi2.sf(np.sum(pull**2), 3) > 1e-3, (name, pull)
    significance = found["G_T"].to_numpy() / found["G_T_ERR"].to_numpy()
    assert np.sqrt(np.sum(significance**2)) > 15.0
    assert (survey / "profile.png").read_bytes().startswith(b"\x89PNG")


def test_the_convergence_peaks_at_the_cluster(survey, capsys):
    area = ["--area", *map(str, MIDDLE), "3", "3", "--pixel", "0.1", "--smoothing", "0.25"]
    rows = run(survey, "convergence-map", *area)
    significance = (rows["KAPPA_E"].to_numpy()) / rows["KAPPA_ERR"].to_numpy()
    top = rows.slice(int(np.argmax(significance)), 1).to_pylist()[0]
    peak = SkyCoord(top["RA"], top["DEC"], unit="deg")
    assert peak.separation(SkyCoord(*CLUSTER, unit="deg")).arcmin < 0.3
    assert significance.max() > 6.0 and top["KAPPA_E"] > 0.2
    # the shear that is missing beyond the edges makes B modes beside them
    inside = (np.abs(rows["X"].to_numpy() - 14.5) < 8) & (np.abs(rows["Y"].to_numpy() - 14.5) < 8)
    b = (rows["KAPPA_B"].to_numpy() / rows["KAPPA_ERR"].to_numpy())[inside]
    assert np.abs(b).max() < 4.0 and np.sqrt(np.mean(b**2)) < 1.8
    assert "most significant: kappa" in capsys.readouterr().out


def test_sub_tiles_and_their_catalogue_agree_on_the_shear(survey):
    found = run(survey, "shear-map", "--by", "sub-tile").to_pylist()
    own = PublishedCatalogue(survey / "catalogue").shear.to_pylist()
    own = {(row["SUBTILE_ROW"], row["SUBTILE_COL"]): row for row in own}
    assert len(found) == 4
    for row in found:
        expected = own[row["SUBTILE_ROW"], row["SUBTILE_COL"]]
        for g in ("G1", "G2"):
            assert row[g] == pytest.approx(expected[g], abs=1e-3 * expected[f"{g}_ERR"])
