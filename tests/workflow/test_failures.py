"""What fails is named and what is done is kept; running again finishes the work."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterable

from pyarrow import parquet

from shine.errors import Status, SubtileFlag
from shine.results import read_shear, read_sources

from .project import EAST, SUBTILES, TIMEOUT_S, WEST, Project, rule_counts

FAILING = f"{WEST}_30_59"
OTHERS = [stem for stem in SUBTILES if stem != FAILING]


def forget(project: Project, stems: Iterable[str]) -> None:
    """Go back to the state before these sub-tiles were inferred and anything was merged."""
    results = project.folder / "results"
    for folder in ("tiles", "catalogue", "summary", "kept/tiles"):
        shutil.rmtree(results / folder)
    (results / "catalogue.json").unlink()
    for stem in stems:
        for folder in ("subtiles", "runs", "kept", "logs/subtiles"):
            for path in results.glob(f"{folder}/*/{stem}[._]*"):
                path.unlink()


def test_a_failed_sub_tile_is_named_and_the_others_are_finished(project):
    forget(project, [FAILING, SUBTILES[-1]])
    intact = project.manifest_path(FAILING).read_bytes()
    project.manifest_path(FAILING).write_text("tile_id: unknown\n")
    status, printed = project.attempt()
    assert status != 0
    log = f"results/logs/subtiles/{WEST}/{FAILING}.log"
    [line] = [line for line in printed.splitlines() if line.startswith(f"  {FAILING}: ")]
    assert "bad or missing input: error: " in line
    assert line.endswith(f"; log: {log}")
    assert f"{FAILING}.yaml: not a valid manifest" in (project.folder / log).read_text()
    assert [stem for stem in SUBTILES if project.result(stem).exists()] == OTHERS
    assert not (project.folder / "results" / "catalogue" / "shear.parquet").exists()
    done = project.inferences(OTHERS)

    project.manifest_path(FAILING).write_bytes(intact)
    counts = rule_counts(project.run())
    expected = {"subtile": 1, "tiles": 1, "merged_catalogue": 1, "summary": 1}
    checked = {"quality": 1, "quality_gate": 1, "report": 1}
    assert counts == expected | {"measurements": 1, "all": 1} | checked | {"total": 9}
    assert done.items() <= project.inferences().items()


def test_a_killed_run_is_finished_by_the_next_one_with_the_same_catalogue(finished, project):
    forget(project, SUBTILES)
    with project.start() as process:
        # no wait for the end of its output: what is killed cannot say anything
        give_up = time.monotonic() + TIMEOUT_S
        while not any(project.result(stem).exists() for stem in SUBTILES):
            assert process.poll() is None and time.monotonic() < give_up
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    kept = list((project.folder / "results" / "kept").rglob("[!.]*.parquet"))
    assert 0 < len(kept) < 2 * len(SUBTILES)
    for path in kept:  # each is whole or not there
        (read_sources if path.stem.endswith("_sources") else read_shear)(path)

    status, printed = project.attempt()
    assert status != 0 and "--unlock" in printed
    project.run("--unlock")
    project.run()
    assert project.catalogue() == finished.catalogue()


def test_a_sub_tile_that_does_not_converge_is_flagged_and_listed(project):
    stem = f"{EAST}_30_1"
    [place] = read_shear(project.result(stem)).select(["RA", "DEC"]).to_pylist()
    area = {"ra": place["RA"], "dec": place["DEC"], "width_arcmin": 0.2, "height_arcmin": 0.2}
    project.change("tiling", area=area)
    project.change("inference", solver={"max_iterations": 2})
    project.run()
    [row] = parquet.read_table(
        project.folder / "results" / "catalogue" / "shear.parquet"
    ).to_pylist()
    assert row["STATUS"] == Status.NOT_CONVERGED
    assert row["FLAGS"] & SubtileFlag.NOT_CONVERGED
    assert row["G1"] is not None
    table = (project.folder / "results" / "summary" / "summary.txt").read_text()
    [line] = [line for line in table.splitlines() if line.startswith(stem)]
    assert line.endswith("NOT_CONVERGED")
    assert "1 of 1 sub-tiles have no converged shear" in table
    log = project.folder / "results" / "logs" / "subtiles" / str(EAST) / f"{stem}.log"
    assert "method marginal has not converged" in log.read_text()
