"""`python -m tests.benchmarks.geometry`: who owns 10^7 sources among 60,000 tiles, and how fast.

The tiles are those of the whole sky in order of declination from the South, as many as are asked
for; the sources lie evenly over them. With `--core-level`, the tiles get cores of HEALPix cells
down to that level, which follow the nearest centres.
"""

from __future__ import annotations

import argparse
import os
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy_healpix import healpix_to_xyz, level_ipix_to_uniq

from constellation.assignment import Assignment, assign
from constellation.sphere import RADIANS_PER_ARCMIN, unit_vectors
from constellation.tile_cores import NOBODY, TileCores
from constellation.tile_lists import sky_tiles
from constellation.tiling import Grid, Tiles

SHAPE = (4, 4)
MARGIN_RAD = 1.0 * RADIANS_PER_ARCMIN
COARSEST_LEVEL = 8  # cells of 14 arcmin
GRIDS = 100  # tiles whose extended lists are timed
REACH_RAD = np.deg2rad(0.5)


@dataclass(frozen=True)
class Found:
    """What was measured: seconds, MB, and the assignment itself."""

    assignment: Assignment
    figures: dict[str, float]


def measure(n_tiles: int, n_sources: int, threads: int, core_level: int | None = None) -> Found:
    """Assign sources to the first tiles of the sky; peak memory is that of the whole process."""
    tiles = first_tiles(n_tiles)
    figures: dict[str, float] = {"tiles": n_tiles, "sources": n_sources}
    if core_level is not None:
        cores, _ = timed(lambda: nearest_cores(tiles, core_level))
        tiles = Tiles(tiles.index, tiles.ra, tiles.dec, cores)
        figures["core_cells"] = len(cores.nuniq)
    ra, dec = sources_on(tiles, n_sources)
    tiles = Tiles(tiles.index, tiles.ra, tiles.dec, tiles.cores)  # with nothing prepared
    before_mb = peak_mb()
    cpu_s = time.process_time()
    assignment, figures["assign_s"] = timed(lambda: assign(tiles, ra, dec, SHAPE, threads))
    figures["cpu_s"] = time.process_time() - cpu_s  # of all threads
    figures |= {"before_mb": before_mb, "peak_mb": peak_mb()}
    figures["extended_ms_per_tile"] = 1e3 * time_extended(tiles, unit_vectors(ra, dec))
    return Found(assignment, figures)


def first_tiles(n_tiles: int) -> Tiles:
    """The southernmost tiles of the sky."""
    tiles = sky_tiles()
    return Tiles(tiles.index[:n_tiles], tiles.ra[:n_tiles], tiles.dec[:n_tiles])


def sources_on(tiles: Tiles, n_sources: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions, evenly from the South pole to the northernmost tile's centre, deg."""
    rng = np.random.default_rng(20260801)
    ra = rng.uniform(0.0, 360.0, n_sources)
    dec = np.rad2deg(np.arcsin(rng.uniform(-1.0, np.sin(np.deg2rad(tiles.dec.max())), n_sources)))
    return ra, dec


def time_extended(tiles: Tiles, vectors: np.ndarray) -> float:
    """Seconds for the extended lists of one tile's sub-tiles, from the sources around it."""
    places = np.linspace(0, len(tiles.index) - 1, min(GRIDS, len(tiles.index))).astype(int)
    grids = [Grid(tiles, int(place), SHAPE, MARGIN_RAD) for place in places]
    near = [
        vectors[vectors @ tiles.centres[grid.place] > np.cos(2.0 * REACH_RAD)] for grid in grids
    ]
    _, seconds = timed(lambda: [g.extended_cells(v) for g, v in zip(grids, near, strict=True)])
    return seconds / len(grids)


def nearest_cores(tiles: Tiles, finest_level: int) -> TileCores:
    """Cores that hold what is nearest to each centre, within half a degree."""
    level, cell = COARSEST_LEVEL, np.arange(12 * 4**COARSEST_LEVEL)
    numbers, owners = [], []
    while len(cell):
        corners = [(0.5, 0.5)] if level == finest_level else [(0, 0), (0, 1), (1, 0), (1, 1)]
        owner = np.stack([holder_at(tiles, cell, level, *corner) for corner in corners])
        same = (owner == owner[0]).all(axis=0)
        taken = same & (owner[0] != NOBODY)
        numbers.append(level_ipix_to_uniq(level, cell[taken]))
        owners.append(owner[0][taken])
        cell = (4 * cell[~same][:, None] + np.arange(4)).ravel()
        level += 1
    owner, nuniq = np.concatenate(owners), np.concatenate(numbers)
    order = np.argsort(owner, kind="stable")
    first = np.searchsorted(owner[order], np.arange(len(tiles.index) + 1))
    return TileCores(nuniq[order], first)


def holder_at(tiles: Tiles, cell: np.ndarray, level: int, dx: float, dy: float) -> np.ndarray:
    """Positions of the tiles that are nearest to a place in each cell, `NOBODY` if none is near."""
    vectors = np.stack(healpix_to_xyz(cell, 2**level, dx, dy, order="nested"), axis=-1)
    nearest = tiles.nearest(vectors, workers=-1)
    near = (vectors * tiles.centres[nearest]).sum(axis=1) > np.cos(REACH_RAD)
    return np.where(near, nearest, NOBODY)


def timed(function: Callable[[], Any]) -> tuple[Any, float]:
    """What a function returns, and its seconds."""
    start = time.perf_counter()
    result = function()
    return result, time.perf_counter() - start


def peak_mb() -> float:
    """Most memory that this process has held, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0


def main() -> None:
    """Print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tiles", type=int, default=60_000)
    parser.add_argument("--sources", type=int, default=10_000_000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--core-level", type=int, help="finest HEALPix level of the tiles' cores")
    options = parser.parse_args()
    found = measure(options.tiles, options.sources, options.threads, options.core_level)
    for name, value in found.figures.items():
        print(f"{name:>22} {value:12.1f}")  # noqa: T201
    print(f"{'load':>22} {os.getloadavg()[0]:12.1f}")  # noqa: T201


if __name__ == "__main__":
    main()
