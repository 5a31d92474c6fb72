"""A made-up campaign: its plan, results, logs, and what Snakemake leaves of running jobs."""

from __future__ import annotations

import base64
import os
import time
from pathlib import Path

import yaml

from constellation.campaign_files import Planned
from constellation.config import TilingConfig
from constellation.outcome import Results
from constellation.plan import Plan, SubTile
from constellation.snakemake_records import SnakemakeRecords
from constellation.status import State, Watch
from shine.errors import Kind, Status

from ..fake_results import SHEAR, Result

CELLS = [(row, col) for row in range(2) for col in range(4)]
BAD = SHEAR | {"status": Status.NOT_CONVERGED}


class Campaign:
    """Tiles 11 and 12 of 2 x 4 sub-tiles in the working folder; `now_s` is the time of the look."""

    def __init__(self) -> None:
        self.now_s = time.time()
        Path("tiles.csv").write_text("tile_index,ra,dec\n11,10.0,0.0\n12,10.5,0.0\n")
        tiling = {"tiles": "tiles.csv", "sub_tile_grid": [2, 4]}
        config = {"tiling": tiling, "data": {"survey": "data"}, "output": {"results": "out"}}
        Path("config.yaml").write_text(yaml.safe_dump(config))
        self.plan = Plan.from_config(TilingConfig(**tiling))
        self.planned = Planned.of(self.plan)

    def watch(self, most_files: int = 100, folder: str = "out") -> Watch:
        records = SnakemakeRecords(Path(".snakemake"))
        return Watch(self.planned, Results(folder), records, most_files)

    def look(self, **options):
        return self.watch(**options).look(self.now_s)

    def state(self, found, subtile: SubTile) -> State:
        return State(found.state[self.planned.place(subtile.stem)])

    def done(self, subtile: SubTile, *, shear=None, age_s: float = 60.0) -> Path:
        """Write a result; its folder is as old."""
        result = Result(subtile, {1: Kind.GALAXY}, shear or SHEAR | {"status": Status.OK})
        path = result.write(Path(f"out/subtiles/{subtile.tile_id}"))
        for changed in (path, path.parent):
            os.utime(changed, (0, self.now_s - age_s))
        return path

    def log(self, subtile: SubTile, text: str, age_s: float = 60.0) -> str:
        path = Path(f"out/logs/subtiles/{subtile.tile_id}/{subtile.stem}.log")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        os.utime(path, (0, self.now_s - age_s))
        return str(path)

    def lock(self, *outputs: str) -> None:
        """Snakemake's lock of a run that makes these files."""
        Path(".snakemake/locks").mkdir(parents=True, exist_ok=True)
        Path(".snakemake/locks/0.output.lock").write_text("\n".join(outputs) + "\n")

    def mark(self, subtile: SubTile) -> None:
        """Snakemake's mark of a job that has been submitted or started."""
        name = f"out/subtiles/{subtile.tile_id}/{subtile.stem}.parquet"
        folder = Path(".snakemake/incomplete")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / base64.urlsafe_b64encode(name.encode()).decode()).write_text("{}")


def told(printed: str) -> list[str]:
    """The lines without their spacing."""
    return [" ".join(line.split()) for line in printed.splitlines()]


DONE, VAGUE, RUNNING, QUEUED, BROKEN, KEPT, OLD, WAITING = (SubTile(11, *cell) for cell in CELLS)
AGAIN = SubTile(12, 0, 0)
