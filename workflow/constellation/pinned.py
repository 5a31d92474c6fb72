"""Results that `dvc pull` brought: DVC knows them, Snakemake does not.

Snakemake goes by the times of files and by its records of what made them. DVC brings files in any
order and without records: some would be made again for no reason, and a setting changed meanwhile
would go unnoticed. So where there are files and not a single record, DVC is asked once which
stages of dvc.yaml are as dvc.lock pins them: results, code, settings and data alike.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import yaml

_PIPELINE = Path("dvc.yaml")
_LOCK = Path("dvc.lock")
_RECORDS = Path(".snakemake/metadata")
_RECORDING = "CONSTELLATION_RECORDING"  # set for the Snakemake that writes the records
_LONG_AGO_S = 946_684_800.0  # 2000: before any file of the repository was written
_STEP_S = 0.01


@dataclass(frozen=True)
class Stage:
    """A stage of dvc.yaml; `arguments` are those of its `snakemake`."""

    name: str
    arguments: tuple[str, ...]
    outs: tuple[Path, ...]


class NoAnswer(Exception):
    """DVC or Snakemake could not be asked."""


def take_over(snakefile: str, results: Path) -> None:
    """Let Snakemake accept the stages that are pinned, and make the others again.

    To be called where the workflow is planned, in its working folder. It costs nothing where
    Snakemake has records, and leaves everything as it is where DVC gives no answer.
    """
    if _RECORDING in os.environ or _has_records() or not (_PIPELINE.exists() and _LOCK.exists()):
        return
    stages = _stages()
    if not any(out.exists() for stage in stages for out in stage.outs):
        return
    try:
        n_pinned, reason = _compare(stages)
        if n_pinned:
            _write_records(snakefile, stages[n_pinned - 1])
    except NoAnswer as error:
        _say(f"files are there without Snakemake's records, and {error}: left as they are")
        return
    _accept(stages[:n_pinned])
    _refuse(stages[n_pinned:], results)
    if n_pinned == len(stages):
        _keep(results)
        _say(f"the files are those that {_LOCK} pins: taken over without running anything")
    else:
        _say(f"files from elsewhere, but {reason}: it and what follows are made again")


def _has_records() -> bool:
    try:
        with os.scandir(_RECORDS) as records:
            return any(records)
    except FileNotFoundError:
        return False


def _stages() -> list[Stage]:
    """The stages in flow order, as dvc.yaml lists them."""
    content = yaml.safe_load(_PIPELINE.read_text(encoding="utf-8"))
    return [
        Stage(
            name,
            tuple(shlex.split(stage["cmd"])[1:]),
            tuple(Path(next(iter(out))) for out in stage["outs"]),
        )
        for name, stage in content["stages"].items()
    ]


def _compare(stages: list[Stage]) -> tuple[int, str]:
    """How many stages, from the first on, are as pinned; and what is changed in the next one.

    Missing files are no change, for Snakemake sees that they are missing. Raises NoAnswer.
    """
    asked = names = [stage.name for stage in stages]
    running = os.environ.get("DVC_STAGE", "").rpartition(":")[2]
    if running in names:  # DVC itself has started this Snakemake
        asked = names[: names.index(running)]
    if find_spec("dvc") is None:
        raise NoAnswer("DVC, which may know them, is not installed")
    status = json.loads(_run("dvc", "status", "--json", *asked)) if asked else {}
    for place, name in enumerate(asked):
        for entry in status.get(name, []):
            for what, states in entry.items() if isinstance(entry, dict) else [(entry, {"": ""})]:
                changed = [str(path) for path, state in states.items() if state != "deleted"]
                if changed:
                    return place, f"stage {name} has {what} {', '.join(changed)}".strip()
    return len(asked), f"stage {running} has changed"


def _write_records(snakefile: str, stage: Stage) -> None:
    """Let Snakemake note how all files up to a stage's were made; raises NoAnswer."""
    options = ("--touch", "--forceall", "--cores", "1", "--quiet", "all")
    _run("snakemake", *stage.arguments, "--snakefile", snakefile, *options)


def _run(program: str, *arguments: str) -> str:
    """What a program prints; raises NoAnswer if it fails."""
    done = subprocess.run(
        [sys.executable, "-m", program, *arguments],
        env=os.environ | {_RECORDING: "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        told = " ".join((done.stderr or done.stdout).split())
        raise NoAnswer(f"`{program} {arguments[0]}` failed ({told})")
    return done.stdout


def _accept(stages: Iterable[Stage]) -> None:
    """Let each result be newer than those before it, and all newer than the code."""
    _set_times((out for stage in stages for out in stage.outs), time.time())


def _refuse(stages: Iterable[Stage], results: Path) -> None:
    """Let each result be older than those before it: all are made again, even if interrupted."""
    outs = [out for stage in stages for out in stage.outs]
    _set_times(reversed(outs), _LONG_AGO_S)
    settings = results / "shine.yaml"
    if settings in outs:  # made from settings alone, which have no time
        settings.unlink(missing_ok=True)


def _set_times(outs: Iterable[Path], start_s: float) -> None:
    for place, out in enumerate(outs):
        time_s = start_s + place * _STEP_S
        for path in (out, *out.rglob("*")):
            if path.is_file():
                os.utime(path, (time_s, time_s))


def _keep(results: Path) -> None:
    """Put the results where shine finds those that it need not infer again after a change."""
    for folder in ("subtiles", "runs"):
        for path in (results / folder).glob("*/*"):
            kept = results / "kept" / path.parent.name / path.name
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.unlink(missing_ok=True)
            kept.hardlink_to(path)


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
