"""What became of the sub-tiles that did not finish: name, class of error, log."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from constellation.plan import SubTile

# what an exit status asks of the operator; shine.errors has the same numbers
CLASSES = {
    2: "bad configuration",
    3: "bad or missing input",
    5: "out of memory",
    130: "interrupted",
    137: "killed, probably out of memory",
    143: "terminated",
}
INTERRUPTED = "interrupted"
_EXIT = re.compile(r"exit status (\d+)")


def list_failures(planned: Iterable[SubTile], results: Path, kept: Path, logs: Path) -> list[str]:
    """One line for each planned sub-tile that was attempted and has no result.

    When one sub-tile of a cluster's job fails, Snakemake removes the others' results: they are
    still in `kept`, and their logs end without an exit status.
    """
    lines = []
    for subtile in planned:
        log = logs / str(subtile.tile_id) / f"{subtile.stem}.log"
        result = Path(str(subtile.tile_id)) / f"{subtile.stem}.parquet"
        if not log.exists() or (results / result).exists():
            continue
        reason = _reason(log)
        if reason != INTERRUPTED or not (kept / result).exists():
            lines.append(f"{subtile.stem}: {reason}; log: {log}")
    return lines


def _reason(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    match = _EXIT.fullmatch(lines[-1]) if lines else None
    if match is None:
        return INTERRUPTED  # the job's last act is to log its exit status
    what = CLASSES.get(int(match[1]), f"error, exit status {match[1]}")
    return f"{what}: {lines[-2]}" if len(lines) > 1 else what
