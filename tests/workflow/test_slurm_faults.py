"""What goes wrong on a cluster: nothing is lost or half-written, and nothing is inferred twice."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
from collections.abc import Iterable
from pathlib import Path

from shine.results import read_shear, read_sources
from tests.servers.slurm import PARTITIONS

from .project import EAST, SUBTILES, TIMEOUT_S, WEST, Project
from .slurm_run import SlurmRun, inferences, on_slurm
from .test_failures import forget

IN_WEST = [stem for stem in SUBTILES if stem.startswith(str(WEST))]
FAILS_ALWAYS, FAILS_ONCE = f"{WEST}_30_59", f"{EAST}_30_0"


def assert_complete(project: Project, finished: Project, done: dict) -> None:
    """All results are those of an undisturbed run, and `done` was not inferred again."""
    for stem in SUBTILES:
        read_shear(project.result(stem))
        read_sources(project.result(stem, "_sources.parquet"))
        for suffix in (".parquet", "_sources.parquet", ".png"):
            undisturbed = finished.result(stem, suffix).read_bytes()
            assert project.result(stem, suffix).read_bytes() == undisturbed
    assert project.inferences() == inferences(project)
    assert 0 < len(done) < len(SUBTILES)
    assert done.items() <= inferences(project).items()


def states(run: SlurmRun, *tiles: int) -> list[str]:
    """How the jobs of these tiles have ended so far, the oldest job first."""
    return [job["JobState"] for tile in tiles for job in run.jobs(tile)]


def named_failures(printed: str) -> list[str]:
    """The sub-tiles that a run names at its end."""
    lines = printed.partition("Sub-tiles without a result:\n")[2].splitlines()
    return [line for line in lines if line.startswith("  ")]


def attempted(job: dict[str, str], stems: Iterable[str]) -> bool:
    """Whether a job has started all these sub-tiles: it names them once before it starts each."""
    log = Path(job["StdOut"]).read_text()
    return all(log.count(f"sub-tile {stem}\n") == 2 for stem in stems)


def hangs_at_the_second_link(folder: Path) -> Path:
    """Write an `ln` that links one file and then hangs; returns the folder that it is in."""
    script, once = folder / "programs" / "ln", folder / "linked"
    script.parent.mkdir()
    script.write_text(
        f"#!/bin/sh\nmkdir {shlex.quote(str(once))} || exec sleep {TIMEOUT_S}\n"
        f'exec {shlex.quote(shutil.which("ln"))} "$@"\n'
    )
    script.chmod(0o755)
    return script.parent


def test_a_node_that_dies_and_returns_runs_its_jobs_again(slurm_alone, finished, project):
    slurm, let_others_in = slurm_alone
    forget(project, IN_WEST)
    with on_slurm(slurm, project, "subtiles") as run:
        run.wait_for_inference(WEST)
        run.freeze(WEST)
        done = inferences(project)
        slurm.stop_node()
        slurm.start_node()
        let_others_in()
        run.end()
        [job] = run.jobs()
    assert (job["JobState"], job["Restarts"]) == ("COMPLETED", "1")
    assert_complete(project, finished, done)


def test_a_failing_sub_tile_is_tried_again_and_then_named_while_the_others_finish(
    finished, project, slurm
):
    forget(project, SUBTILES)
    intact = {stem: project.manifest_path(stem).read_bytes() for stem in (FAILS_ALWAYS, FAILS_ONCE)}
    for stem, content in intact.items():
        # longer than the other's: Snakemake starts with the job of the largest input
        project.manifest_path(stem).write_bytes(content + 1000 * b"# damaged\n" + b"unknown: 1\n")
    with on_slurm(slurm, project) as run:
        run.wait_for_state(EAST, "FAILED")
        project.manifest_path(FAILS_ONCE).write_bytes(intact[FAILS_ONCE])
        first_done = inferences(project)
        printed = run.end(fails=True)
    assert states(run, WEST) == ["FAILED", "FAILED", "FAILED"]
    assert states(run, EAST) == ["FAILED", "COMPLETED"]
    assert all(attempted(job, IN_WEST) for job in run.jobs(WEST))
    assert attempted(run.jobs(EAST)[0], set(SUBTILES) - set(IN_WEST))
    [named] = named_failures(printed)
    assert named.startswith(f"  {FAILS_ALWAYS}: bad or missing input: error: ")
    assert named.endswith(f"; log: results/logs/subtiles/{WEST}/{FAILS_ALWAYS}.log")
    done = inferences(project)
    assert set(done) == set(SUBTILES) - {FAILS_ALWAYS}
    assert first_done.items() <= done.items()
    assert not (project.folder / "results" / "catalogue").exists()

    project.manifest_path(FAILS_ALWAYS).write_bytes(intact[FAILS_ALWAYS])
    project.run()  # here: what was done on the cluster is done
    assert_complete(project, finished, done)
    assert project.catalogue() == finished.catalogue()


def test_jobs_that_are_cancelled_or_requeued_run_again_without_what_is_done(
    finished, project, slurm
):
    forget(project, SUBTILES)
    with on_slurm(slurm, project, "subtiles") as run:
        run.wait_for_inference(WEST)
        slurm.ask("scancel", run.jobs(WEST)[0]["JobId"])
        run.wait_for_inference(EAST)
        slurm.ask("scontrol", "requeue", run.jobs(EAST)[0]["JobId"])
        done = inferences(project)
        run.end()
    assert states(run, WEST) == ["CANCELLED", "COMPLETED"]
    [requeued] = run.jobs(EAST)
    assert (requeued["JobState"], requeued["Restarts"]) == ("COMPLETED", "1")
    assert_complete(project, finished, done)


def test_a_job_that_reaches_its_time_limit_gets_more_time_and_memory(finished, project, slurm):
    forget(project, IN_WEST)
    project.change("compute", mem_mb=3000, runtime_minutes=7)
    elsewhere = ("--default-resources", f"slurm_partition={PARTITIONS[1]}")
    with on_slurm(slurm, project, "subtiles", *elsewhere) as run:
        run.wait_for_inference(WEST)
        run.freeze(WEST)
        done = inferences(project)
        slurm.ask("scontrol", "update", f"jobid={run.jobs(WEST)[0]['JobId']}", "EndTime=now+1")
        run.end()
    first, second = run.jobs()
    assert (first["JobState"], second["JobState"]) == ("TIMEOUT", "COMPLETED")
    assert (first["MinMemoryNode"], second["MinMemoryNode"]) == ("3000M", "6000M")
    assert second["TimeLimit"] == "00:28:00"  # two sub-tiles of twice seven minutes
    assert {first["Partition"], second["Partition"]} == {PARTITIONS[1]}
    assert_complete(project, finished, done)


def test_a_run_ended_by_ctrl_c_cancels_its_jobs_and_can_go_on(
    finished, project, slurm, tmp_path, monkeypatch
):
    forget(project, IN_WEST)
    with monkeypatch.context() as patched:
        # when the run ends, one of a sub-tile's files is where the workflow wants it, others not
        patched.setenv("PATH", f"{hangs_at_the_second_link(tmp_path)}:{os.environ['PATH']}")
        with on_slurm(slurm, project, "subtiles") as run:
            run.wait_for_result(IN_WEST, "_sources.parquet")
            done = inferences(project)
            os.killpg(run.process.pid, signal.SIGINT)
            run.end(fails=True)
        assert states(run, WEST) in (["COMPLETING"], ["CANCELLED"])
    with on_slurm(slurm, project, "subtiles") as again:
        again.end()
    assert states(run, WEST) == ["CANCELLED"]
    assert_complete(project, finished, done)


def test_a_killed_run_leaves_jobs_that_the_next_one_cancels(finished, project, slurm):
    forget(project, IN_WEST)
    with on_slurm(slurm, project, "subtiles") as run:
        run.wait_for_result(IN_WEST)  # which the dying job must leave to the next run
        run.freeze(WEST)  # so that the job is still there when the next run starts
        done = inferences(project)
        os.killpg(run.process.pid, signal.SIGKILL)
        run.end(fails=True)
        assert states(run, WEST) == ["RUNNING"]
        project.run("--unlock")
        with on_slurm(slurm, project, "subtiles") as again:
            printed = again.end()
        [left] = run.jobs()
        assert left["JobState"] == "CANCELLED"
    assert f"Cancelled the SLURM jobs of an earlier run: {left['JobId']}\n" in printed
    assert_complete(project, finished, done)
    assert "Nothing to be done" in project.run("--dry-run", "subtiles")
