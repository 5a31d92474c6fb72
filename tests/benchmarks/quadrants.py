"""What the quadrant index of a whole survey costs, and the lists of quadrants of all its tiles.

    python -m tests.benchmarks.quadrants

Makes an index of 7.2 million footprints (12,500 fields of four exposures of 144 quadrants, dense
about the south pole), writes it, and makes the lists of 60,000 tiles, all of them where the survey
is, on two cores. Counts how often 100,000 pairs of polygons are judged as sphgeom does. Writes
`quadrants.json` and prints it.
"""

import argparse
import json
import os
import resource
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from constellation.quadrant_index import read_index
from constellation.sky_order import in_sky_order, write_index
from constellation.tiling import RADIANS_PER_ARCMIN, Floats, Grid, Tiles
from tests.benchmarks import footprints

CORES = 2
SUB_TILES = [(row, col) for row in range(4) for col in range(4)]
N_COLD = 200
NO_SOURCES = np.empty((0, 3))


def measure(n_fields: int, n_tiles: int, n_pairs: int, output: Path) -> dict[str, dict]:
    """Times (s), sizes and counts of everything."""
    output.mkdir(parents=True, exist_ok=True)
    path = output / "quadrants.parquet"
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        found = {"build": pool.submit(_build, n_fields, path).result()}
    tiles = footprints.covered_tiles(n_tiles, n_fields)
    places = np.arange(n_tiles)
    parts = np.array_split(places, CORES)
    begin = time.perf_counter()
    with ProcessPoolExecutor(CORES, mp_context=get_context("spawn")) as pool:
        lists = list(pool.map(_lists, [path] * CORES, [tiles] * CORES, parts))
    wall_s = time.perf_counter() - begin
    per_tile_ms = np.concatenate([times for times, _, _, _ in lists]) * 1e3
    quadrants = np.concatenate([counts for _, counts, _, _ in lists])
    found["lists"] = {
        "tiles": n_tiles,
        "wall_s": wall_s,
        "cpu_s_each": max(cpu_s for _, _, cpu_s, _ in lists),
        "median_ms_per_sub_tile": float(np.median(per_tile_ms)) / len(SUB_TILES),
        "quadrants_per_sub_tile": float(quadrants.mean()) / len(SUB_TILES),
        "sub_tiles_without": float((quadrants == 0).mean()),
        "peak_mb_each": max(peak_mb for _, _, _, peak_mb in lists),
    }
    chosen = np.random.default_rng(3).permutation(places)[:N_COLD]
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        found["opened_anew"] = pool.submit(_cold, path, tiles, chosen).result()
    ours, theirs = footprints.disagreements(*footprints.near_misses(n_pairs, 11))
    found["pairs"] = {
        "pairs": n_pairs,
        "overlap": int(theirs.sum()),
        "missed": int((theirs & ~ours).sum()),
        "invented": int((ours & ~theirs).sum()),
    }
    return found


def _build(n_fields: int, path: Path) -> dict[str, float]:
    times = [time.perf_counter()]
    rows = footprints.survey(n_fields)
    times.append(time.perf_counter())
    peak_before_mb = _peak_mb()
    table = in_sky_order(rows)
    times.append(time.perf_counter())
    write_index(table, path)
    times.append(time.perf_counter())
    made_s, sorted_s, written_s = np.diff(times).tolist()
    return {
        "quadrants": len(table),
        "invent_s": made_s,
        "sort_s": sorted_s,
        "write_s": written_s,
        "file_mb": path.stat().st_size / 1e6,
        "table_mb": rows.nbytes / 1e6,
        "peak_mb_before": peak_before_mb,
        "peak_mb": _peak_mb(),
    }


def _areas(tiles: Tiles, place: int) -> Floats:
    grid = Grid(tiles, place, (4, 4), RADIANS_PER_ARCMIN)
    return np.stack([grid.extended_corners(*cell, NO_SOURCES) for cell in SUB_TILES])


def _lists(path: Path, tiles: Tiles, places: np.ndarray) -> tuple[Floats, np.ndarray, float, float]:
    """Seconds and numbers of quadrants of each tile, seconds of CPU, and the peak memory in MB."""
    cpu_s = time.process_time()
    index = read_index(path)
    times, counts = [], []
    for place in places:
        begin = time.perf_counter()
        areas = _areas(tiles, int(place))
        found = index.near(areas)
        counts.append(sum(len(found.needed(area, NO_SOURCES)) for area in areas))
        times.append(time.perf_counter() - begin)
    return np.array(times), np.array(counts), time.process_time() - cpu_s, _peak_mb()


def _cold(path: Path, tiles: Tiles, places: np.ndarray) -> dict[str, float]:
    """Medians (ms) for tiles far apart: of opening the index, a whole tile, and one sub-tile."""
    times = []
    for place in places:
        areas = _areas(tiles, int(place))
        stamps = [time.perf_counter()]
        index = read_index(path)
        stamps.append(time.perf_counter())
        found = index.near(areas)
        for area in areas:
            found.needed(area, NO_SOURCES)
        stamps.append(time.perf_counter())
        index = read_index(path)
        stamps.append(time.perf_counter())
        index.near(areas[:1]).needed(areas[0], NO_SOURCES)
        stamps.append(time.perf_counter())
        times.append(np.diff(stamps) * 1e3)
    open_ms, tile_ms, _, sub_tile_ms = np.median(times, axis=0).tolist()
    return {"open_ms": open_ms, "tile_ms": tile_ms, "sub_tile_ms": sub_tile_ms}


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, default=Path("build/bench/quadrants"))
    parser.add_argument("--fields", type=int, default=12_500, help="of four exposures each")
    parser.add_argument("--tiles", type=int, default=60_000)
    parser.add_argument("--pairs", type=int, default=100_000)
    options = parser.parse_args()
    load = os.getloadavg()
    found = measure(options.fields, options.tiles, options.pairs, options.output)
    found["load"] = {"before": load, "after": os.getloadavg()}
    text = json.dumps(found, indent=2)
    (options.output / "quadrants.json").write_text(text + "\n")
    sys.stdout.write(f"{text}\n")


if __name__ == "__main__":
    main()
