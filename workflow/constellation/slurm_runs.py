"""The SLURM jobs that a killed run of the workflow leaves behind.

Snakemake cancels its jobs when it is interrupted, but not when it is killed or its host dies. They
would go on beside those of the next run, which infers the same sub-tiles: so each run notes its
name, which is the name of its jobs, and the next one cancels what is left of it.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
from collections.abc import Iterable
from pathlib import Path

_RUN_ID = re.compile(r"SLURM run ID: ([\w-]+)")
_ANSWER_S = 60


def replace_earlier_runs(logs: Iterable[str], notes: Path) -> list[str]:
    """Note the SLURM run that starts, and cancel the jobs of those that were killed.

    `logs` are Snakemake's; its own one names the run where SLURM is the executor, elsewhere nothing
    happens. `notes` is the folder of the notes, one for all runs that write the same results. Jobs
    of a run that is alive, or was started on another host, are left alone. Returns what the user
    should know, a line each.
    """
    texts = [Path(log).read_text() for log in logs if log.endswith(".snakemake.log")]
    started = _RUN_ID.search("".join(texts))
    if started is None:
        return []
    notes.mkdir(parents=True, exist_ok=True)
    lines = []
    for note in sorted(notes.glob("*.json")):
        try:
            lines += _end(note)
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            lines.append(f"Jobs of the SLURM run {note.stem} may still be there: {error}")
    note = {"host": socket.gethostname(), "pid": os.getpid()}
    (notes / f"{started[1]}.json").write_text(json.dumps(note))
    return lines


def _end(note: Path) -> list[str]:
    jobs = _ask("squeue", "--noheader", f"--name={note.stem}", "--format=%i").split()
    if not jobs:
        note.unlink()
        return []
    run = json.loads(note.read_text())
    if run["host"] != socket.gethostname():
        return [
            f"An earlier run, started on {run['host']}, has SLURM jobs: {', '.join(jobs)}. "
            f"If it was killed: scancel --name={note.stem}"
        ]
    if Path(f"/proc/{run['pid']}").exists():
        return []
    _ask("scancel", *jobs)
    note.unlink()
    return [f"Cancelled the SLURM jobs of an earlier run: {', '.join(jobs)}"]


def _ask(*command: str) -> str:
    return subprocess.run(
        command, capture_output=True, text=True, timeout=_ANSWER_S, check=True
    ).stdout
