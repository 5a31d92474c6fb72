"""A run of the workflow on the tests' SLURM: its jobs, what it prints, what it has inferred."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.servers.processes import wait_for
from tests.servers.slurm import Slurm

from .project import TIMEOUT_S, Project

# what the README says, and a question for the jobs' state more often than each minute
COMMAND = ("--profile", "slurm", "-j", "500")
IMPATIENCE = ("--slurm-init-seconds-before-status-checks", "7")
_RUN = re.compile(r"SLURM run ID: (\S+)")


@dataclass
class SlurmRun:
    """A Snakemake that is at work, and the SLURM jobs that it has submitted."""

    slurm: Slurm
    project: Project
    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        self.lines.extend(self.process.stdout)

    @property
    def printed(self) -> str:
        """What Snakemake has printed so far."""
        return "".join(self.lines)

    @property
    def _state(self) -> str:
        return f"{self.printed}\n{self.slurm.state()}"

    def jobs(self, tile: int | None = None) -> list[dict[str, str]]:
        """The SLURM jobs submitted so far (of one tile), oldest first."""
        name = _RUN.search(self.printed)
        jobs = self.slurm.jobs(name[1]) if name else []
        return [job for job in jobs if tile is None or str(tile) in job["Comment"]]

    def wait_for_state(self, tile: int, state: str) -> None:
        """Wait until a job of the tile is in this state."""
        self._wait(
            lambda: state in [job["JobState"] for job in self.jobs(tile)],
            f"a job of tile {tile} is {state}",
        )

    def wait_for_inference(self, tile: int) -> None:
        """Wait until a sub-tile of the tile is inferred, which is when others are yet to be."""
        self._wait(
            lambda: any(str(tile) in stem for stem in inferences(self.project)),
            f"a sub-tile of tile {tile} is inferred",
        )

    def wait_for_result(self, stems: Iterable[str], suffix: str = ".parquet") -> None:
        """Wait until a file of one of these sub-tiles is where the workflow wants it.

        The first such file of a sub-tile is `_sources.parquet`, the last `.parquet`.
        """
        self._wait(
            lambda: any(self.project.result(stem, suffix).exists() for stem in stems),
            f"one of {stems} has its result *{suffix}",
        )

    def freeze(self, *tiles: int) -> None:
        """Stop the processes of these tiles' jobs, as if they hung."""
        for tile in tiles:
            self.slurm.freeze(self.jobs(tile)[-1]["JobId"])

    def _wait(self, condition: Any, what: str) -> None:
        try:
            wait_for(lambda: condition() or self.process.poll() is not None, TIMEOUT_S, what)
            assert condition(), f"Snakemake ended before {what}"
        except (AssertionError, TimeoutError) as error:
            raise AssertionError(f"{error}:\n{self._state}") from error

    def end(self, *, fails: bool = False) -> str:
        """Wait for the end of Snakemake, which must succeed or fail; returns what it printed."""
        try:
            status = self.process.wait(TIMEOUT_S)
        except subprocess.TimeoutExpired as error:
            raise AssertionError(f"Snakemake does not end:\n{self._state}") from error
        self._reader.join()
        assert (status != 0) == fails, self.printed
        return self.printed


@contextlib.contextmanager
def on_slurm(slurm: Slurm, project: Project, *arguments: str) -> Iterator[SlurmRun]:
    """Run `snakemake --profile slurm -j 500`; nothing of it is left at the end."""
    with project.start(*COMMAND, *IMPATIENCE, *arguments) as process:
        run = SlurmRun(slurm, project, process)
        try:
            with slurm.ends_with(process):
                yield run
        finally:
            for job in run.jobs():
                slurm.ask("scancel", job["JobId"])


def inferences(project: Project) -> dict[str, Any]:
    """What was measured of each sub-tile that has been inferred: no two inferences are alike."""
    records = {
        path.name.partition(".")[0]: path
        for path in sorted((project.folder / "results" / "kept").glob("*/[!.]*.run.json"))
    }
    return {
        stem: json.loads(path.read_text())["measurements"]
        for stem, path in records.items()
        if path.with_name(f"{stem}.parquet").exists()  # the last file that is written
    }
