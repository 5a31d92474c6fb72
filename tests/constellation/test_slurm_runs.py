"""Which jobs of earlier SLURM runs are cancelled, asked of programs that stand for SLURM's."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys

import pytest

from constellation.slurm_runs import replace_earlier_runs

OLD, NEW = "5f6c-old", "77aa-new"


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Start the run NEW, while the run OLD has these jobs in the queue."""
    (notes := tmp_path / "notes").mkdir()
    (programs := tmp_path / "bin").mkdir()
    (log := tmp_path / "1.snakemake.log").write_text(f"host: here\nSLURM run ID: {NEW}\nGo\n")
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")

    def run(jobs=("7", "8"), **earlier):
        if earlier:
            (notes / f"{OLD}.json").write_text(json.dumps(earlier))
        for name, body in {
            "squeue": f'[ "$2" != --name={OLD} ] || printf "%s\\n" {" ".join(jobs)}',
            "scancel": f'echo "$@" >> {tmp_path / "cancelled"}',
        }.items():
            (programs / name).write_text(f"#!/bin/sh\n{body}\n")
            (programs / name).chmod(0o755)
        return replace_earlier_runs([str(log), "another/logger.db"], notes)

    run.log = log
    run.noted = lambda: sorted(path.stem for path in notes.iterdir())
    run.cancelled = lambda: (
        (tmp_path / "cancelled").read_text() if (tmp_path / "cancelled").exists() else ""
    )
    return run


@pytest.fixture
def dead():
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_the_jobs_of_a_killed_run_are_cancelled_once(start, dead):
    earlier = {"host": socket.gethostname(), "pid": dead}
    assert start(**earlier) == ["Cancelled the SLURM jobs of an earlier run: 7, 8"]
    assert start.cancelled() == "7 8\n"
    assert start.noted() == [NEW]


def test_the_jobs_of_a_living_run_are_left_alone(start):
    assert start(host=socket.gethostname(), pid=os.getpid()) == []
    assert start.cancelled() == ""
    assert start.noted() == [OLD, NEW]


def test_the_jobs_of_another_host_are_named(start, dead):
    [line] = start(host="another", pid=dead)
    assert "started on another, has SLURM jobs: 7, 8" in line
    assert f"scancel --name={OLD}" in line
    assert start.cancelled() == ""
    assert start.noted() == [OLD, NEW]


def test_a_run_without_jobs_is_forgotten(start):
    assert start(jobs=[], host="another", pid=1) == []
    assert start.noted() == [NEW]


def test_without_slurm_nothing_is_noted(start):
    start.log.write_text("host: here\n")
    assert start(host="another", pid=1) == []
    assert start.noted() == [OLD]


def test_a_damaged_note_is_reported_and_does_not_stop_the_run(start, tmp_path):
    (tmp_path / "notes" / f"{OLD}.json").write_text("{")
    [line] = start()
    assert line.startswith(f"Jobs of the SLURM run {OLD} may still be there: ")
    assert NEW in start.noted()
