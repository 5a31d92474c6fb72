"""The command of the README on a real SLURM: what its jobs ask for, and what they compute."""

from __future__ import annotations

import re
from pathlib import Path

from tests.servers.slurm import FEATURE, PARTITIONS

from .project import EAST, SUBTILES, WEST
from .slurm_run import on_slurm
from .test_failures import forget


def test_sub_tiles_run_one_after_the_other_on_one_gpu_with_the_results_of_a_local_run(
    finished, project, slurm
):
    forget(project, SUBTILES)
    project.change(
        "compute",
        mem_mb=3000,
        runtime_minutes=7,
        partition=PARTITIONS[1],
        constraint=FEATURE,
        account="lensing",
    )
    with on_slurm(slurm, project) as run:
        run.end()
        jobs = [job for tile in (WEST, EAST) for job in run.jobs(tile)]
    assert len(jobs) == len(run.jobs()) == 2  # a job for each tile
    first, second = jobs
    assert max(first["StartTime"], second["StartTime"]) < min(first["EndTime"], second["EndTime"])
    for job in jobs:
        assert job["JobState"] == "COMPLETED"
        assert job["TresPerJob"] == "gres:gpu:1"
        assert job["NumCPUs"] == "1"
        assert job["MinMemoryNode"] == "3000M"  # of one sub-tile,
        assert job["TimeLimit"] == "00:14:00"  # but the time of both
        assert (job["Partition"], job["Features"]) == (PARTITIONS[1], FEATURE)
        assert job["Account"] == "lensing"
    for stem in SUBTILES:
        for suffix in (".parquet", "_sources.parquet", ".png"):
            local, remote = (run.result(stem, suffix).read_bytes() for run in (finished, project))
            assert remote == local
    assert project.catalogue() == finished.catalogue()
    for tile in (WEST, EAST):
        times = [
            working_time(log)
            for log in (project.folder / "results/logs/subtiles" / str(tile)).iterdir()
        ]
        (_, end_of_first), (start_of_second, _) = sorted(times)
        assert end_of_first <= start_of_second


def test_a_shard_submits_the_jobs_of_its_own_tiles(project, slurm):
    forget(project, SUBTILES)
    with on_slurm(slurm, project, "--config", "shard=2/2") as run:
        run.end()
        assert len(run.jobs(EAST)) == len(run.jobs()) == 1
    made = [stem for stem in SUBTILES if project.result(stem).exists()]
    assert made == [stem for stem in SUBTILES if stem.startswith(str(EAST))]
    tiles = (project.folder / "results" / "tiles").glob("*[0-9].parquet")
    assert [path.stem for path in tiles] == [str(EAST)]


def working_time(log: Path) -> tuple[str, str]:
    """When a sub-tile's log begins and ends."""
    times = re.findall(r"^\d{4}-\d\d-\d\d [\d:,]+", log.read_text(), flags=re.MULTILINE)
    return times[0], times[-1]
