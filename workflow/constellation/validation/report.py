"""The report of a campaign: JSON for programs, tables and figures for people."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from constellation.validation.figure import draw_calibration, draw_differences, draw_figure
from constellation.validation.outcomes import Calibration, Outcome, broken_limits
from constellation.validation.records import Cost
from constellation.validation.tables import markdown
from shine.atomic import write_atomically
from shine.provenance import git_commit


@dataclass(frozen=True)
class Report:
    """Everything that a campaign found, and the command that made it."""

    seed: int
    outcomes: list[Outcome]
    calibrations: list[Calibration]
    command: str
    peers: list[Outcome]  # shine and other codes, from the same blocks
    cost: Cost  # of shine's blocks, one after the other


def write_report(report: Report, folder: Path) -> None:
    """Write `validation.json`, `.md` and `.png` into a folder.

    With `differences.png` where cases are compared, and `{case}.png` for each case of coverage.
    """
    folder.mkdir(parents=True, exist_ok=True)
    found = report.outcomes
    content = {
        "command": report.command,
        "commit": git_commit(),
        "seed": report.seed,
        "cost": asdict(report.cost),
        "broken_limits": broken_limits(found),
        "results": [_as_json(item) for item in found],
        "peers": [_as_json(item) for item in report.peers],
        "coverage": [
            {
                "case": item.case.name,
                "shows": item.case.shows,
                "scenes": item.n_scenes,
                "intervals": {
                    name: [level._asdict() for level in levels]
                    for name, levels in item.covered.items()
                },
                "ranks": {
                    name: ranks._asdict() | {"counts": ranks.counts.tolist()}
                    for name, ranks in item.ranks.items()
                },
            }
            for item in report.calibrations
        ],
    }
    text = json.dumps(content, indent=1, allow_nan=False) + "\n"
    write_atomically(folder / "validation.json", text.encode())
    write_atomically(folder / "validation.md", markdown(report).encode())
    draw_figure(found, folder / "validation.png")
    if any(item.against is not None for item in found):
        draw_differences(found, folder / "differences.png")
    for item in report.calibrations:
        draw_calibration(item, folder / f"{item.case.name}.png")


def _as_json(item: Outcome) -> dict[str, Any]:
    about = {"case": item.case.name, "level": item.case.level, "shows": item.case.shows}
    return about | {"method": item.measured.method} | item.numbers
