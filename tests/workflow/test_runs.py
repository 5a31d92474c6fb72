"""The workflow from nothing to a catalogue, its plan, and what it refuses to start with."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pytest
from pyarrow import parquet

from constellation.catalogue.published import PublishedCatalogue
from shine.errors import Status

from .project import EAST, MOCK, SUBTILES, WEST, Project, rule_counts

TRUTH = {"G1": MOCK["shear"]["g1"], "G2": MOCK["shear"]["g2"]}
RULE_COUNTS = {
    "mock_survey": 1,
    "quadrant_index": 1,
    f"manifests_{WEST}": 1,
    f"manifests_{EAST}": 1,
    "shine_config": 1,
    "subtile": 4,
    "tiles": 1,
    "merged_catalogue": 1,
    "summary": 1,
    "measurements": 1,
    "all": 1,
    "quality": 1,
    "quality_gate": 1,
    "report": 1,
    "total": 17,
}


def test_a_fresh_run_makes_everything_from_index_to_figure(finished):
    results = finished.folder / "results"
    assert (results / "index" / "quadrants.parquet").exists()
    for stem in SUBTILES:
        assert finished.manifest_path(stem).exists()
        for suffix in (".parquet", "_sources.parquet", ".png"):
            assert finished.result(stem, suffix).exists()
        assert finished.record(stem).exists()
    for tile in (WEST, EAST):
        assert parquet.read_metadata(results / "tiles" / f"{tile}.parquet").num_rows == 2
    assert (results / "summary" / "summary.png").read_bytes().startswith(b"\x89PNG")
    table = (results / "summary" / "summary.txt").read_text()
    assert [line.split()[0] for line in table.splitlines()[2:6]] == list(SUBTILES)
    assert table in (finished.folder / "printed.txt").read_text()  # and shown to the user


def test_the_log_of_a_sub_tile_has_no_noise(finished):
    for stem in SUBTILES:
        log = finished.folder / "results" / "logs" / "subtiles" / stem.split("_")[0] / f"{stem}.log"
        *told, printed = log.read_text().splitlines()
        assert told
        assert [line for line in told if not re.match(r"\S+ \S+ [A-Z]+ shine\.", line)] == []
        assert printed.endswith(f"{stem}.parquet")


def test_the_times_and_memory_of_all_sub_tiles_are_in_one_table(finished):
    rows = parquet.read_table(finished.folder / "results" / "measurements.parquet").to_pylist()
    names = [f"{row['TILE_ID']}_{row['SUBTILE_ROW']}_{row['SUBTILE_COL']}" for row in rows]
    assert names == list(SUBTILES)
    for row in rows:
        assert 0 < row["SOLVE_S"] < row["TOTAL_S"] < row["JOB_S"] + 0.5
        assert row["PEAK_RSS_MB"] > 100


def test_the_catalogue_holds_each_sub_tile_and_each_core_source_once(finished):
    catalogue = finished.folder / "results" / "catalogue"
    published = PublishedCatalogue(catalogue)
    shear = published.shear.to_pylist()
    names = [f"{row['TILE_ID']}_{row['SUBTILE_ROW']}_{row['SUBTILE_COL']}" for row in shear]
    assert sorted(names) == list(SUBTILES)
    assert published.failures.num_rows == 0
    assert {row["STATUS"] for row in shear} == {Status.OK}
    sources = published.sources()["OBJECT_ID"].to_pylist()
    core = [object_id for stem in SUBTILES for object_id in finished.manifest(stem).core_source_ids]
    assert len(sources) == len(set(sources))
    assert set(sources) <= set(core)
    assert len(sources) > 0.7 * len(core)  # the others are cut, such as spurious detections
    pulls = [(row[g] - truth) / row[f"{g}_ERR"] for row in shear for g, truth in TRUTH.items()]
    assert np.abs(pulls).max() < 4.0


def test_a_second_run_does_nothing(project):
    before = project.files("results")
    assert "Nothing to be done" in project.run()
    assert project.files("results") == before


def test_a_catalogue_that_was_removed_is_published_again(project):
    before = project.catalogue()
    shutil.rmtree(project.folder / "results" / "catalogue")
    counts = rule_counts(project.run())
    after = {"summary": 1, "quality": 1, "quality_gate": 1, "report": 1, "all": 1}
    assert counts == after | {"merged_catalogue": 1, "total": 6}
    assert project.catalogue() == before


def test_a_dry_run_prints_the_plan_and_writes_nothing(checkout, tmp_path):
    project = Project.create(tmp_path / "project", checkout)
    before = project.files(".")
    assert rule_counts(project.run("--dry-run")) == RULE_COUNTS
    assert {k: v for k, v in project.files(".").items() if ".snakemake" not in k} == before


@pytest.mark.parametrize(
    ("section", "settings", "message"),
    [
        ("tiling", {"sub_tile_gird": [2, 2]}, "tiling.sub_tile_gird: unknown key"),
        (
            "inference",
            {"solver": {"max_iteration": 2}},
            "inference.solver.max_iteration: unknown key",
        ),
        ("data", {"mock_survey": None}, "data: found no such folder"),
    ],
)
def test_a_wrong_configuration_is_named_before_any_job_runs(
    checkout, tmp_path, section, settings, message
):
    project = Project.create(tmp_path / "project", checkout)
    project.change(section, **settings)
    status, printed = project.attempt()
    assert status != 0
    assert message in printed
    assert "Traceback" not in printed
    assert not (project.folder / "results").exists()
    assert not (project.folder / "data").exists()
