"""What Snakemake takes to plan surveys of many tiles: time and memory, with empty files.

`python -m tests.benchmarks.planning --tiles 260 2600 6000` plans each survey as a whole,
`--tiles 60000 --shards 60 --plan 1 30 60` those shards of one, a job of it, and its merge. Results
are empty files, put where the workflow looks for them: simulated inference exists here alone.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from constellation.shards import Shard

ROOT = Path(__file__).parents[2]
STAMP = "20240101T000000.0Z"
STEP_DEG = 0.5  # between the centres of tiles
EXPOSURES_PER_TILE = 2  # four dithers of half a square degree, tiles of a quarter
FIRST_TILE = 102_000_000


SUBTILE_FILES = {  # by folder, in the order in which a run makes them
    "manifests": (".yaml",),
    "subtiles": (".parquet", "_sources.parquet", ".png"),
    "runs": (".run.json",),
    "benchmarks": (".tsv",),
}
TILE_SUFFIXES = (".parquet", "_sources.parquet")
GRID = 4


@dataclass(frozen=True)
class Cost:
    """What a plan took: its jobs, seconds (wall clock, processor), MB (peak, resident)."""

    what: str
    jobs: int
    wall_s: float
    cpu_s: float
    peak_mb: float


def tile_centres(n_tiles: int) -> np.ndarray:
    """Centres (n, 2) of tiles in rows of declination, from the equator southward, deg."""
    rows, dec = [], 0.0
    while sum(map(len, rows)) < n_tiles:
        ra = np.arange(0.0, 359.9, STEP_DEG / np.cos(np.deg2rad(dec)))
        rows.append(np.column_stack([ra, np.full(len(ra), dec)]))
        dec -= STEP_DEG
    return np.concatenate(rows)[:n_tiles]


def make_survey(folder: Path, n_tiles: int) -> list[int]:
    """Write tile list, configuration and the survey's files, all empty; returns the tiles."""
    centres = tile_centres(n_tiles)
    tiles = list(range(FIRST_TILE, FIRST_TILE + n_tiles))
    lines = [
        f"{tile},{ra!r},{dec!r}" for tile, (ra, dec) in zip(tiles, centres.tolist(), strict=True)
    ]
    folder.mkdir(parents=True)
    (folder / "tiles.csv").write_text("\n".join(["tile_index,ra,dec", *lines, ""]))
    config = {"tiling": {"tiles": "tiles.csv"}, "data": {"survey": "survey"}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    mer = folder / "survey" / "MER"
    mer.mkdir(parents=True)
    for tile in tiles:
        (mer / f"EUC_MER_FINAL-CAT_TILE{tile}-A1B2C3_{STAMP}_00.00.fits").touch()
    for number in range(0, n_tiles * EXPOSURES_PER_TILE, 4):
        observation = folder / "survey" / "VIS" / str(number // 4)
        observation.mkdir(parents=True)
        for dither in range(4):
            name = f"{number // 4:06d}-{dither:02d}-1-0000000__{STAMP}.fits"
            for tag in ("SWL-DET", "SWL-BKG", "GRD-PSF"):
                (observation / f"EUC_VIS_{tag}-{name}").touch()
    return tiles


def simulate(folder: Path, tiles: Sequence[int]) -> None:
    """Put empty results of these tiles' sub-tiles, and of the tiles, where a run has them."""
    results = folder / "results"
    for name, suffixes in SUBTILE_FILES.items():
        for tile in tiles:
            place = results / name / str(tile)
            place.mkdir(parents=True)
            for row, col in np.ndindex(GRID, GRID):
                for suffix in suffixes:
                    (place / f"{tile}_{row}_{col}{suffix}").touch()
    simulate_tiles(folder, tiles)


def simulate_manifest(folder: Path, tile: int) -> None:
    """Put what the job of a sub-tile needs where a run has it."""
    place = folder / "results" / "manifests" / str(tile)
    place.mkdir(parents=True)
    (place / f"{tile}_1_2.yaml").touch()
    (folder / "results" / "shine.yaml").touch()


def simulate_tiles(folder: Path, tiles: Sequence[int]) -> None:
    """Put empty catalogues of these tiles where a run has them."""
    place = folder / "results" / "tiles"
    place.mkdir(parents=True, exist_ok=True)
    for tile in tiles:
        for suffix in TILE_SUFFIXES:
            (place / f"{tile}{suffix}").touch()


def simulate_index(folder: Path) -> None:
    """Put an empty quadrant index where a run has it."""
    place = folder / "results" / "index" / "quadrants.parquet"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.touch()


def plan(what: str, folder: Path, *arguments: str) -> Cost:
    """What a dry run takes; raises `RuntimeError` with what it printed if it fails."""
    return snakemake(what, folder, *arguments, "--dry-run", "--quiet", "host", "reason", "rules")


def snakemake(what: str, folder: Path, *arguments: str) -> Cost:
    """Run `snakemake` on such a survey to its end; raises `RuntimeError` with what it printed."""
    places = ("--directory", str(folder), "--configfile", str(folder / "config.yaml"))
    printed = folder / "printed.txt"
    with printed.open("w") as stream:
        begin = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "snakemake", *arguments, *places],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'workflow'}"},
            stdout=stream,
            stderr=subprocess.STDOUT,
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - begin
    process.returncode = os.waitstatus_to_exitcode(status)
    text = printed.read_text()
    if process.returncode:
        raise RuntimeError(f"snakemake {' '.join(arguments)}: {text}")
    jobs = re.search(r"^total +(\d+)$", text, flags=re.MULTILINE)
    cpu_s = usage.ru_utime + usage.ru_stime
    return Cost(what, int(jobs[1]) if jobs else 0, seconds, cpu_s, usage.ru_maxrss / 1e3)


def measure_whole(folder: Path, n_tiles: int) -> Iterator[Cost]:
    """Plan a survey as one."""
    make_survey(folder, n_tiles)
    yield plan(f"{n_tiles} tiles, nothing done", folder)


def measure_shards(folder: Path, n_tiles: int, of: int, numbers: Sequence[int]) -> Iterator[Cost]:
    """Plan what shards share, some of them, one job, and the merge of all."""
    tiles = make_survey(folder, n_tiles)
    yield plan(f"{n_tiles} tiles, prepare", folder, "prepare")
    simulate_index(folder)
    for number in numbers:
        yield plan(f"shard {number}/{of}", folder, *shard_options(number, of))
    simulate_manifest(folder, tiles[0])
    job = ("--allowed-rules", "subtile", "--target-jobs", f"subtile:tile={tiles[0]},row=1,col=2")
    yield plan("one job of a shard", folder, *job, *shard_options(1, of))
    simulate_tiles(folder, tiles)
    yield plan(f"{n_tiles} tiles, merge", folder, "--config", "shard=merge")


def measure_done(folder: Path, n_tiles: int, of: int) -> Iterator[Cost]:
    """Plan the first shard when it is done, and when one sub-tile of it has failed."""
    tiles = make_survey(folder, n_tiles)
    simulate_index(folder)
    (folder / "results" / "shine.yaml").touch()
    simulate(folder, Shard(1, of).of_items(tiles))
    shard = shard_options(1, of)
    # what Snakemake notes of each result, without which it would have nothing to compare
    yield snakemake("a shard, noting what is done", folder, "--touch", "--quiet", "all", *shard)
    yield plan("the same, all done", folder, *shard)
    for suffix in SUBTILE_FILES["subtiles"]:
        (folder / "results" / "subtiles" / str(tiles[0]) / f"{tiles[0]}_1_2{suffix}").unlink()
    yield plan("the same, one sub-tile failed", folder, *shard)


def shard_options(number: int, of: int) -> tuple[str, str]:
    return "--config", f"shard={Shard(number, of)}"


def line(cost: Cost) -> str:
    """A row of the table, with the load of the machine."""
    numbers = f"{cost.jobs:,} | {cost.wall_s:.1f} | {cost.cpu_s:.1f} | {cost.peak_mb:,.0f}"
    return f"| {cost.what} | {numbers} | {os.getloadavg()[0]:.1f} |"


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, default=Path("build/bench/planning"))
    parser.add_argument("--tiles", type=int, nargs="+", default=[260, 2600, 6000])
    parser.add_argument("--shards", type=int, help="plan the surveys in so many parts")
    parser.add_argument("--plan", type=int, nargs="+", default=[1], help="these of the parts")
    parser.add_argument("--done", action="store_true", help="plan the first part when it is done")
    options = parser.parse_args(arguments)
    sys.stdout.write(
        "| plan | jobs | wall s | CPU s | peak MB | load |\n|---|---|---|---|---|---|\n"
    )
    for n_tiles in options.tiles:
        folder = options.output.resolve() / str(n_tiles)
        shutil.rmtree(folder, ignore_errors=True)
        if options.done:
            costs = measure_done(folder, n_tiles, options.shards or 1)
        elif options.shards:
            costs = measure_shards(folder, n_tiles, options.shards, options.plan)
        else:
            costs = measure_whole(folder, n_tiles)
        for cost in costs:
            sys.stdout.write(f"{line(cost)}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
