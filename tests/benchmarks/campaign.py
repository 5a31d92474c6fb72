"""How long `constellation status` takes on a campaign of survey size.

`python -m tests.benchmarks.campaign` makes the files of a running campaign (empty ones but for the
logs of failures and the tiles' catalogues), looks at it in processes of their own, prints the
seconds, and removes the files again. A million sub-tiles take 4.3 million inodes.
"""

import argparse
import os
import resource
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import yaml
from pyarrow import parquet

from shine.errors import Status
from shine.result_schema import SHEAR_SCHEMA

GRID = 4
FIRST_TILE = 102_000_000
N_CELLS = GRID**2
ENDS = [f"_{row}_{col}" for row in range(GRID) for col in range(GRID)]
DAY_S = 86400.0
LOG = "error: frame.fits: truncated\nexit status 3\n"


@dataclass(frozen=True)
class Shares:
    """How the tiles stand: the first ones are complete, of others one sub-tile failed."""

    complete: float = 0.9
    with_catalogue: float = 0.999  # of the complete ones
    failing: float = 0.002
    recent: float = 0.01  # of the complete ones: finished within the last hour


def make(folder: Path, n_tiles: int, shares: Shares) -> Path:
    """Write tile list, configuration and files of a campaign; returns the configuration."""
    place = np.arange(n_tiles)
    # a spiral from pole to pole with the same area per tile
    dec = np.rad2deg(np.arcsin(1.0 - 2.0 * (place + 0.5) / n_tiles))
    tiles = {"tile_index": FIRST_TILE + place, "ra": place * 137.50776405 % 360.0, "dec": dec}
    folder.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pa.table(tiles), folder / "tiles.parquet")
    config = {
        "tiling": {"tiles": str(folder / "tiles.parquet"), "sub_tile_grid": [GRID, GRID]},
        "data": {"survey": str(folder / "data")},
        "output": {"results": str(folder / "results")},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    results = folder / "results"
    (results / "tiles").mkdir(parents=True)
    n_complete = int(n_tiles * shares.complete)
    n_assembled = int(n_complete * shares.with_catalogue)
    write = _catalogue_writer()
    every = max(round(1.0 / shares.failing), 1) if shares.failing else n_tiles + 1
    for n, tile_id in enumerate(tiles["tile_index"][: n_complete + 1].tolist()):
        done = ENDS if n < n_complete else ENDS[: N_CELLS // 2]
        if n % every == every - 1:
            done = done[1:]
        _make_tile(results, tile_id, done)
        if n < n_assembled:
            write(results / "tiles" / f"{tile_id}.parquet", tile_id)
        else:
            catalogue = _catalogue(tile_id)
            for end in done:
                path = results / f"subtiles/{tile_id}/{tile_id}{end}.parquet"
                parquet.write_table(catalogue.slice(ENDS.index(end), 1), path)
        if n < n_complete * (1.0 - shares.recent):
            os.utime(results / f"subtiles/{tile_id}", (0, time.time() - DAY_S))
    return folder / "config.yaml"


def _make_tile(results: Path, tile_id: int, done: list[str]) -> None:
    folder, logs = results / f"subtiles/{tile_id}", results / f"logs/subtiles/{tile_id}"
    folder.mkdir(parents=True)
    logs.mkdir(parents=True)
    for end in done:
        for suffix in (".parquet", "_sources.parquet", ".png"):
            os.close(os.open(f"{folder}/{tile_id}{end}{suffix}", os.O_CREAT))
        os.close(os.open(f"{logs}/{tile_id}{end}.log", os.O_CREAT))
    if ENDS[0] not in done:
        (logs / f"{tile_id}{ENDS[0]}.log").write_text(LOG)


def _catalogue(tile_id: int) -> pa.Table:
    cells = np.arange(N_CELLS)
    known = {
        "TILE_ID": np.full(N_CELLS, tile_id),
        "SUBTILE_ROW": cells // GRID,
        "SUBTILE_COL": cells % GRID,
        "STATUS": np.full(N_CELLS, int(Status.OK)),
        "METHOD": np.full(N_CELLS, "marginal"),
    }
    columns = [
        pa.array(known.get(field.name, np.zeros(N_CELLS))).cast(field.type)
        for field in SHEAR_SCHEMA
    ]
    return pa.table(columns, schema=SHEAR_SCHEMA)


def _catalogue_writer() -> Callable[[Path, int], None]:
    """Writes catalogues that differ in TILE_ID alone, a hundred times as fast as pyarrow."""
    known = FIRST_TILE + 54321  # bytes that stand for nothing else
    sink = pa.BufferOutputStream()
    parquet.write_table(_catalogue(known), sink, compression="none", use_dictionary=False)
    template, old = sink.getvalue().to_pybytes(), struct.pack("<q", known)

    def write(path: Path, tile_id: int) -> None:
        path.write_bytes(template.replace(old, struct.pack("<q", tile_id)))

    return write


def measure(folder: Path, n_tiles: int, shares: Shares) -> dict[str, float]:
    """Seconds (wall, processor) of a look, of one with a map, in processes of their own."""
    begin = time.perf_counter()
    config = make(folder, n_tiles, shares)
    found = {"subtiles": n_tiles * N_CELLS, "making_s": time.perf_counter() - begin}
    for name, more in (("status_s", []), ("map_s", ["--map", str(folder / "map.png")])):
        script = "import sys; from constellation.cli import main; sys.exit(main())"
        command = [sys.executable, "-c", script, "status", "--config", str(config), *more]
        begin, used = time.perf_counter(), _processor_s()
        told = subprocess.run(command, check=True, capture_output=True, text=True, cwd=folder)
        found[name] = time.perf_counter() - begin
        found[f"{name}_processor"] = _processor_s() - used
        sys.stdout.write(f"{told.stdout}\n")
    return found


def _processor_s() -> float:
    """Seconds of processor that the processes so far have taken: less shaken by what else runs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tiles", type=int, default=62_500, help="of 16 sub-tiles each")
    parser.add_argument("--folder", type=Path, help="an empty or new one; default: a temporary one")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp()) if options.folder is None else options.folder
    try:
        found = measure(folder / "campaign", options.tiles, Shares())
    finally:
        shutil.rmtree(folder / "campaign", ignore_errors=True)
    sys.stdout.write("".join(f"{name:<24}{value:12,.1f}\n" for name, value in found.items()))


if __name__ == "__main__":
    main()
