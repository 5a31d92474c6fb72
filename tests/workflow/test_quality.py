"""Quality checks in the workflow: a catalogue that fails them fails the run, and can be read."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from constellation.quality.check import read_checks

from .project import Project, rule_counts

ONLY_QUALITY = {"quality": 1, "quality_gate": 1, "report": 1, "all": 1, "total": 4}
FILES = ("checks.parquet", "checks.txt", "quality.png")


def outcomes(project: Project) -> dict[str, str]:
    path = project.folder / "results" / "quality" / "checks.parquet"
    return {check.name: check.outcome for check in read_checks(path)}


def test_a_fresh_run_checks_its_catalogue(finished):
    folder = finished.folder / "results" / "quality"
    assert all((folder / name).stat().st_size > 0 for name in (*FILES, "passed"))
    found = outcomes(finished)
    whole = ("files", "planned", "duplicate_sources", "nulls", "ranges", "positions")
    assert {found[name] for name in (*whole, "source_counts", "pull_rms")} == {"passed"}


def test_changed_thresholds_cost_the_checks_alone(project):
    before = project.files("results/catalogue")
    project.change("quality", max_poor_fits=0.5)
    assert rule_counts(project.run()) == ONLY_QUALITY
    project.change("quality", stop_on=["files"])
    assert rule_counts(project.run()) == ONLY_QUALITY
    assert project.files("results/catalogue") == before
    assert "Nothing to be done" in project.run()


def test_a_corrupt_catalogue_fails_the_run_loudly_and_the_checks_stay(project):
    path = project.folder / "results" / "catalogue" / "shear.parquet"
    content = path.read_bytes()
    table = parquet.read_table(path)
    place = table.schema.get_field_index("G1_ERR")
    errors = table["G1_ERR"].to_numpy() * np.float32(-1.0)
    table = table.set_column(place, table.schema.field("G1_ERR"), pa.array(errors))
    parquet.write_table(table, path)
    status, printed = project.attempt("--forcerun", "quality")
    assert status != 0
    told = printed[printed.index("Quality checks that the catalogue failed:") :].splitlines()[1]
    assert told.startswith("  ranges: values that cannot be: 4 (limit: 0); error not positive: 4")
    folder = project.folder / "results" / "quality"
    assert all((folder / name).stat().st_size > 0 for name in FILES)
    assert not (folder / "passed").exists()
    assert outcomes(project)["ranges"] == "failed"
    log = (project.folder / "results" / "logs" / "quality_gate.log").read_text()
    assert "found 1 failed quality checks" in log and "docs/quality.md" in log
    # it fails again, until the catalogue is right or the check is no longer to stop
    assert project.attempt()[0] != 0
    project.change("quality", stop_on=["files", "nulls"])
    assert "ranges: values that cannot be: 4" in project.run()  # told nevertheless
    path.write_bytes(content)
    assert "Quality checks that the catalogue failed" not in project.run("--forcerun", "quality")
    assert outcomes(project)["ranges"] == "passed"
