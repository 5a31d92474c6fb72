"""What a plan's cost follows from: counted, measured, from geometry or assumed, and marked so."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from constellation.benchmark_file import Benchmark
from constellation.cost import (
    Bill,
    Extent,
    Origin,
    Price,
    Quantity,
    Speed,
    expected_overlaps,
)
from constellation.plan import Plan, SubTile
from constellation.tiling import CORE_SIZE_ARCMIN

# VIS: a quadrant of 2048 x 2066 pixels of 0.1"; 144 of them share a field of 0.709 x 0.787 deg
QUADRANT_PX = (2048, 2066)
QUADRANT_ARCMIN = (2048 * 0.1 / 60.0, 2066 * 0.1 / 60.0)
PITCH_ARCMIN2 = 0.709 * 0.787 * 3600.0 / 144
# science, noise and background as float32, flags as int32; a weight map is a float32 more
BYTES_PER_PIXEL, WEIGHT_BYTES_PER_PIXEL = 16, 4
MOST_SUBTILES_LOOKED_UP = 100
REFERENCE_TILES = {"Q1": 260, "wide survey": 60_000}


@dataclass(frozen=True)
class Given:
    """What only the user can say; None is unknown."""

    n_exposures: float
    n_sources: float | None
    gpu_subtile_s: float | None
    core_price: Price | None
    gpu_price: Price | None


@dataclass(frozen=True)
class Estimate:
    """All inputs by name, and the bill of each extent with each speed."""

    inputs: dict[str, Quantity]
    extents: list[Extent]
    speeds: list[Speed]
    given: Given
    notes: list[str]

    def bills(self, extent: Extent) -> list[Bill]:
        """What an extent takes, with each speed."""
        prices = {True: self.given.gpu_price, False: self.given.core_price}
        return [Bill(extent, speed, prices[speed.on_gpu]) for speed in self.speeds]


def estimate(
    plan: Plan, index: Path, benchmark: Benchmark, given: Given, subtiles_per_job: int
) -> Estimate:
    """Everything that can be said before anything runs.

    `index` is the quadrant index, which need not be there yet. Raises `InputError`.
    """
    quadrants, pixel_bytes = _quadrants(plan, index, given.n_exposures)
    sources = _sources(plan, benchmark, given)
    counts = [len(subtiles) for subtiles in plan.by_tile.values()]
    per_tile = int(np.prod(plan.tiling.sub_tile_grid))
    sizes = {"this configuration": counts}
    sizes |= {name: [per_tile] * n_tiles for name, n_tiles in REFERENCE_TILES.items()}
    per_subtile = quadrants.value, pixel_bytes.value
    extents = [_extent(name, size, per_subtile, subtiles_per_job) for name, size in sizes.items()]
    speeds = benchmark.speeds(sources.value, quadrants.value)
    if given.gpu_subtile_s is not None:
        speeds.append(_gpu(given.gpu_subtile_s))
    inputs = {
        "tiles": Quantity(len(counts), "", Origin.GEOMETRY, str(plan.tiling.tiles)),
        "sub-tiles": Quantity(sum(counts), "", Origin.GEOMETRY, _grid(plan)),
        "sub-tiles per job": Quantity(
            subtiles_per_job, "", Origin.ASSUMED, "at most, of one tile; --subtiles-per-job"
        ),
        "quadrants per sub-tile": quadrants,
        "sources per sub-tile": sources,
        "pixels of a quadrant": pixel_bytes,
        **_money(given),
    }
    return Estimate(inputs, extents, speeds, given, _notes(benchmark, sources, quadrants))


def _extent(
    name: str, counts: list[int], per_subtile: tuple[float, float], subtiles_per_job: int
) -> Extent:
    quadrants, pixel_bytes = per_subtile
    n_subtiles = sum(counts)
    return Extent(
        name=name,
        n_tiles=len(counts),
        n_subtiles=n_subtiles,
        n_jobs=sum(-(-count // subtiles_per_job) for count in counts),
        quadrants_read=n_subtiles * quadrants,
        bytes_read=n_subtiles * quadrants * pixel_bytes,
    )


def _gpu(subtile_s: float) -> Speed:
    return Speed(
        name="graphics card",
        load_s=0.0,
        compile_s=0.0,
        solve_s=subtile_s,
        rest_s=0.0,
        start_s=0.0,
        n_cores=0,
        peak_rss_mb=None,
        origin=Origin.ASSUMED,
        on_gpu=True,
    )


def _extended_arcmin(plan: Plan) -> tuple[float, float]:
    """Width and height of a sub-tile with its margin."""
    n_rows, n_cols = plan.tiling.sub_tile_grid
    width, height = (
        CORE_SIZE_ARCMIN / n + 2.0 * plan.tiling.margin_arcmin for n in (n_cols, n_rows)
    )
    return width, height


def _grid(plan: Plan) -> str:
    n_rows, n_cols = plan.tiling.sub_tile_grid
    where = "" if plan.tiling.area is None else ", in tiling.area"
    return f"{n_rows} x {n_cols} per tile{where}"


def _quadrants(plan: Plan, index: Path, n_exposures: float) -> tuple[Quantity, Quantity]:
    """Quadrants per sub-tile, and bytes per quadrant."""
    if index.exists():
        mean, n_looked_up, pixel_bytes = _look_up(plan, index)
        if mean > 0.0:
            detail = f"{index}, mean of {n_looked_up} sub-tiles"
            return (
                Quantity(mean, "", Origin.MEASURED, detail),
                Quantity(pixel_bytes, "B", Origin.MEASURED, f"{index}, {_layers(pixel_bytes)}"),
            )
    expected = n_exposures * expected_overlaps(
        _extended_arcmin(plan), QUADRANT_ARCMIN, PITCH_ARCMIN2
    )
    pixel_bytes = float(np.prod(QUADRANT_PX) * BYTES_PER_PIXEL)
    detail = f"no index of this plan yet: {n_exposures:g} exposures (assumed; --exposures)"
    return (
        Quantity(expected, "", Origin.GEOMETRY, detail),
        Quantity(pixel_bytes, "B", Origin.GEOMETRY, f"VIS, {_layers(pixel_bytes)}"),
    )


def _layers(pixel_bytes: float) -> str:
    weighted = pixel_bytes > np.prod(QUADRANT_PX) * BYTES_PER_PIXEL
    return f"{4 + weighted} layers{' with weights' if weighted else ''}, uncompressed"


def _look_up(plan: Plan, path: Path) -> tuple[float, int, float]:
    """Mean quadrants of a sub-tile, of how many sub-tiles, and mean bytes of a quadrant."""
    import pyarrow as pa

    from constellation.quadrant_index import read_index

    index = read_index(path)
    no_source = np.empty((0, 3))
    chosen = _spread(plan, MOST_SUBTILES_LOOKED_UP)
    seen = []
    for subtile in chosen:
        area = plan.grid(subtile.tile_id).extended_corners(subtile.row, subtile.col, no_source)
        near = index.near(area[None])
        seen.append(near.table.take(near.overlapping(area)))
    quadrants = pa.concat_tables(seen)
    if not quadrants.num_rows:
        return 0.0, len(chosen), 0.0
    pixels = quadrants["NX"].to_numpy().astype(float) * quadrants["NY"].to_numpy()
    weighted = 1.0 - quadrants["WEIGHT"].null_count / quadrants.num_rows
    per_pixel = BYTES_PER_PIXEL + WEIGHT_BYTES_PER_PIXEL * weighted
    return quadrants.num_rows / len(chosen), len(chosen), float(pixels.mean()) * per_pixel


def _spread(plan: Plan, n: int) -> list[SubTile]:
    """At most n planned sub-tiles, evenly from first to last."""
    ends = np.linspace(0, len(planned := plan.subtiles), min(n, len(planned)) + 1).astype(int)
    return [planned[(first + last - 1) // 2] for first, last in pairwise(ends)]


def _sources(plan: Plan, benchmark: Benchmark, given: Given) -> Quantity:
    if given.n_sources is not None:
        return Quantity(given.n_sources, "", Origin.ASSUMED, "--sources")
    if benchmark.extended_arcmin2 is None:
        detail = "as many as in the benchmark, whatever the grid; --sources"
        return Quantity(benchmark.n_sources, "", Origin.ASSUMED, detail)
    width, height = _extended_arcmin(plan)
    density = benchmark.n_sources / benchmark.extended_arcmin2
    detail = f"the benchmark's {density:.1f} per arcmin2; --sources"
    return Quantity(density * width * height, "", Origin.ASSUMED, detail)


def _money(given: Given) -> dict[str, Quantity]:
    """Prices and the card's speed, as far as they are given."""
    found = {}
    if given.gpu_subtile_s is not None:
        found["seconds on a graphics card"] = Quantity(
            given.gpu_subtile_s, "s", Origin.ASSUMED, "per sub-tile, in all; --gpu-seconds"
        )
    for what, price in (("core", given.core_price), ("gpu", given.gpu_price)):
        if price is None:
            continue
        name = {"core": "core-hour", "gpu": "GPU-hour"}[what]
        option = f"--{what}-price"
        found[f"{name}, on demand"] = Quantity(price.on_demand, "", Origin.ASSUMED, option)
        if price.spot is not None:
            found[f"{name}, spot"] = Quantity(price.spot, "", Origin.ASSUMED, option)
    return found


def _notes(benchmark: Benchmark, sources: Quantity, quadrants: Quantity) -> list[str]:
    notes = []
    for law, quantity, what, most in (
        (benchmark.solve_by_sources, sources, "sources", benchmark.n_sources),
        (benchmark.load_by_quadrants, quadrants, "quadrants", benchmark.n_quadrants),
    ):
        if law.is_extrapolated(quantity.value):
            notes.append(
                f"EXTRAPOLATED: {quantity.value:,.0f} {what} per sub-tile, measured up to {most:,}"
            )
    return notes
