"""How a sub-tile ends where there is nothing to measure, nothing new, or no success."""

import json

import jax
import numpy as np
import pytest

from shine.errors import SourceFlag, Status, SubtileFlag
from shine.euclid import posterior
from shine.manifest import write_manifest
from shine.results import provenance_of, read_shear
from tests.shine.euclid.subtile import N_GALAXIES, SubTile, draw_frame
from tests.shine.survey_files import make_manifest, wcs_header


def test_no_quadrant_is_an_empty_flagged_result(tmp_path, sky):
    subtile = SubTile(tmp_path, sky, [])
    shear = subtile.run()
    assert shear["STATUS"] == Status.NO_QUADRANTS
    assert (shear["G1"], shear["G1_ERR"], shear["N_SOURCES"]) == (None, None, 0)
    sources = subtile.sources()
    assert len(sources["OBJECT_ID"]) == N_GALAXIES
    assert np.isnan(sources["E1"]).all() and np.isnan(sources["FLUX_ERR"]).all()


def test_core_sources_that_are_not_modelled_have_a_row_that_says_why(tmp_path, sky):
    columns = sky.columns()
    columns["SPURIOUS_FLAG"] = np.arange(N_GALAXIES) == 3
    subtile = SubTile(tmp_path, sky, [draw_frame(sky, wcs_header(roll_deg=0.0))], columns=columns)
    assert subtile.run()["FLAGS"] & SubtileFlag.CORE_SOURCES_DROPPED
    sources = subtile.sources()
    [row] = np.flatnonzero(sources["OBJECT_ID"] == columns["OBJECT_ID"][3])
    assert sources["FLAGS"][row] & SourceFlag.SPURIOUS
    assert np.isnan(sources["E1"][row])
    assert sources["RA"][row] == pytest.approx(sky.ra[3])
    assert len(sources["OBJECT_ID"]) == N_GALAXIES


def test_a_quadrant_listed_in_two_ways_is_refused(subtile, capsys):
    files = subtile.quadrants[0]
    twice = [files, files.model_copy(update={"quadrant": "3-4.F"})]
    write_manifest(make_manifest([str(subtile.catalog)], [], [], twice), subtile.manifest)
    status, message = subtile.exit_status(capsys)
    assert status == 3
    assert "3-4.F: the manifest lists it twice" in message


def test_no_source_at_all_is_an_empty_flagged_result(subtile):
    write_manifest(
        make_manifest([str(subtile.catalog)], [], [], subtile.quadrants), subtile.manifest
    )
    shear = subtile.run()
    assert shear["STATUS"] == Status.NO_SOURCES
    assert (shear["G1"], shear["G1_ERR"], shear["N_SOURCES"]) == (None, None, 0)
    assert len(subtile.sources()["OBJECT_ID"]) == 0


def test_no_selected_source_is_an_empty_result_that_names_catalogue_and_cut(
    tmp_path, sky, capsys, caplog
):
    columns = sky.columns() | {"FLUXERR_DETECTION_TOTAL": np.full(N_GALAXIES, 1e3)}
    frame = draw_frame(sky, wcs_header(roll_deg=0.0))
    subtile = SubTile(tmp_path, sky, [frame], columns=columns)
    status, _ = subtile.exit_status(capsys)
    assert status == 0
    shear = read_shear(next((subtile.folder / "out").glob("*[0-9].parquet"))).to_pylist()[0]
    assert shear["STATUS"] == Status.NO_SOURCES
    assert shear["G1"] is None
    assert "catalogue.fits" in caplog.text
    assert f"'low_snr': {N_GALAXIES}" in caplog.text


def test_a_result_is_kept_while_nothing_changed(subtile, monkeypatch):
    # as in a clean checkout; the tests may run in one with changes
    monkeypatch.setattr("shine.provenance.git_commit", lambda: "0123abc")
    subtile.run()
    result = next((subtile.folder / "out").glob("*[0-9].parquet"))
    before = result.stat().st_mtime_ns
    subtile.run()
    assert result.stat().st_mtime_ns == before
    subtile.config.write_text("inference: {seed: 1}\n")
    subtile.run()
    assert result.stat().st_mtime_ns > before
    assert provenance_of(read_shear(result)).seed == 1


def test_a_kept_result_names_the_commit_of_the_code(subtile, monkeypatch):
    monkeypatch.setattr("shine.provenance.git_commit", lambda: "0123abc")
    subtile.run()
    result = next((subtile.folder / "out").glob("*[0-9].parquet"))
    record = result.with_suffix(".run.json")
    measured = json.loads(record.read_text())["measurements"]
    monkeypatch.setattr("shine.provenance.git_commit", lambda: "4567def")
    subtile.run()
    assert provenance_of(read_shear(result)).git_commit == "4567def"
    assert json.loads(record.read_text())["measurements"] == measured  # not inferred again


def test_not_converged_is_written_flagged_and_told(subtile, capsys):
    subtile.config.write_text("inference: {method: map, solver: {max_iterations: 2}}\n")
    status, message = subtile.exit_status(capsys)
    assert status == 4
    assert "max_iterations" in message
    shear = read_shear(next((subtile.folder / "out").glob("*[0-9].parquet"))).to_pylist()[0]
    assert shear["STATUS"] == Status.NOT_CONVERGED
    assert shear["FLAGS"] & SubtileFlag.NOT_CONVERGED
    assert shear["CONVERGENCE"] > 1e-3
    assert subtile.exit_status(capsys)[0] == 4


def test_out_of_memory_has_its_own_exit_status(subtile, capsys, monkeypatch):
    def exhausted(problem, settings):  # Linux hands out more memory than there is: none fails so
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to ...")

    monkeypatch.setattr(posterior.estimators, "estimate", exhausted)
    status, message = subtile.exit_status(capsys)
    assert status == 5
    assert "tiling.sub_tile_grid" in message
    assert not list(subtile.folder.glob("out/*"))
