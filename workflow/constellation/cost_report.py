"""A plan's cost for people (text of at most 100 columns) and for programs (JSON)."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from constellation.benchmark_file import Benchmark
from constellation.cost import Bill, Extent, Origin, Quantity, break_even_s
from constellation.cost_inputs import Estimate

WIDTH = 100  # columns


def format_estimate(
    found: Estimate, benchmark: Benchmark, n_workers: Sequence[int], mem_mb: int
) -> str:
    """The inputs with their origins, the seconds per sub-tile, and one table per extent."""
    lines = [
        *_input_lines(found, benchmark),
        "",
        *_speed_lines(found, benchmark),
    ]
    for extent in found.extents:
        lines += ["", *_extent_lines(found, extent, n_workers)]
    lines += ["", *_closing_lines(found, benchmark, mem_mb)]
    return "\n".join(lines) + "\n"


def to_json(found: Estimate, benchmark: Benchmark, n_workers: Sequence[int]) -> dict[str, Any]:
    """The same numbers; missing ones are null."""
    return {
        "inputs": {name: _plain(quantity) for name, quantity in found.inputs.items()},
        "benchmark": {
            "file": str(benchmark.path),
            "machine": benchmark.machine,
            "sources": benchmark.n_sources,
            "quadrants": benchmark.n_quadrants,
        },
        "speeds": [
            asdict(speed) | {"origin": speed.origin.value, "subtile_s": speed.subtile_s}
            for speed in found.speeds
        ],
        "surveys": [
            asdict(extent) | {"bills": [_bill(bill, n_workers) for bill in found.bills(extent)]}
            for extent in found.extents
        ],
        "notes": found.notes,
    }


def format_duration(seconds: float) -> str:
    """Two or three figures in the unit that suits."""
    for limit, unit_s, unit in ((120, 1, "s"), (7200, 60, "min"), (172800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / unit_s:.{0 if seconds / unit_s >= 10 else 1}f} {unit}"
    days = seconds / 86400.0
    return f"{days:,.{0 if days >= 10 else 1}f} d" if days < 1000 else f"{days / 365.25:,.1f} yr"


def format_bytes(size: float) -> str:
    """Bytes with a decimal prefix."""
    power = min(max(int(math.log10(size) // 3), 0), 6) if size > 0 else 0
    return f"{size / 1000.0**power:.3g} {('B', 'kB', 'MB', 'GB', 'TB', 'PB', 'EB')[power]}"


def _input_lines(found: Estimate, benchmark: Benchmark) -> list[str]:
    lines = [f"{'input':<28}{'value':>12}  {'origin':<14}  told by"]
    rows = [
        (name, _value(quantity), quantity.origin.value, quantity.detail)
        for name, quantity in found.inputs.items()
    ]
    told = f"{benchmark.path}: {benchmark.machine}"
    rows.append(("seconds and memory", "below", Origin.MEASURED.value, told))
    for name, value, origin, detail in rows:
        first, *others = textwrap.wrap(detail, WIDTH - 58) or [""]
        lines.append(f"{name:<28}{value:>12}  {origin:<14}  {first}")
        lines += [" " * 58 + other for other in others]
    return lines


def _value(quantity: Quantity) -> str:
    if quantity.unit == "B":
        return format_bytes(quantity.value)
    whole = float(quantity.value).is_integer() or quantity.value >= 1000
    return f"{quantity.value:,.{0 if whole else 3}g}" if not whole else f"{quantity.value:,.0f}"


def _speed_lines(found: Estimate, benchmark: Benchmark) -> list[str]:
    lines = [
        f"{'one sub-tile':<32}{'load':>7}{'compile':>9}{'solve':>8}{'rest':>7}{'sum':>9}"
        f"{'memory':>10}  origin"
    ]
    for speed in found.speeds:
        if speed.on_gpu:
            parts = f"{'-':>7}{'-':>9}{'-':>8}{'-':>7}"
        else:
            parts = (
                f"{speed.load_s:7.1f}{speed.compile_s:9.1f}{speed.solve_s:8.1f}{speed.rest_s:7.1f}"
            )
        memory = "-" if speed.peak_rss_mb is None else f"{speed.peak_rss_mb / 1e3:.1f} GB"
        lines.append(
            f"{speed.name:<32}{parts}{speed.subtile_s:7.1f} s{memory:>10}  "
            f"{_origin(found, speed, benchmark)}"
        )
    return lines


def _origin(found: Estimate, speed, benchmark: Benchmark) -> str:
    """Measured as it stands, or scaled from the benchmark's sub-tile to the plan's."""
    sizes = (
        (found.inputs["sources per sub-tile"].value, benchmark.n_sources),
        (found.inputs["quadrants per sub-tile"].value, benchmark.n_quadrants),
    )
    same = all(abs(value / measured - 1.0) < 0.005 for value, measured in sizes)
    return speed.origin.value + ("" if same or speed.on_gpu else ", scaled")


def _extent_lines(found: Estimate, extent: Extent, n_workers: Sequence[int]) -> list[str]:
    reads = f"reads {extent.quadrants_read:,.0f} quadrants, {format_bytes(extent.bytes_read)}"
    lines = [
        f"{extent.name}: {extent.n_tiles:,} tiles, {extent.n_subtiles:,} sub-tiles, "
        f"{extent.n_jobs:,} jobs",
        f"{reads:<48}{'cost, on':>10}{'cost,':>9}   wall-clock, number of workers",
        f"{'method, PSF':<34}{'hours':>14}{'demand':>10}{'spot':>9}"
        + "".join(f"{n:>8,}" for n in n_workers),
    ]
    for bill in found.bills(extent):
        unit = "GPU-h" if bill.speed.on_gpu else "core-h"
        lines.append(
            f"{bill.speed.name:<34}{_hours(bill.unit_hours):>7} {unit:<6}"
            f"{_money(bill.cost_on_demand):>10}{_money(bill.cost_spot):>9}"
            + "".join(f"{format_duration(bill.wall_s(n)):>8}" for n in n_workers)
        )
    return lines


def _hours(hours: float) -> str:
    return f"{hours:,.0f}" if hours >= 10 else f"{hours:.2g}"


def _money(cost: float | None) -> str:
    if cost is None:
        return "-"
    return f"{cost:,.0f}" if cost >= 100 else f"{cost:,.2f}"


def _closing_lines(found: Estimate, benchmark: Benchmark, mem_mb: int) -> list[str]:
    given = found.given
    told = [
        f"A worker is one job at a time: {benchmark.n_cores} cores here, as in the benchmark, "
        "or one card.",
        f"Measured on {benchmark.n_sources:,} sources and {benchmark.n_quadrants} quadrants with "
        "compiled programs cached: solving is scaled with the sources, loading with the quadrants; "
        "memory is that of the measured sub-tile.",
        f"An empty cache costs up to {benchmark.cold_s:.0f} s more, once. Not included: index and "
        "manifests, waiting for machines, a store slower than the benchmark's disk, work that is "
        "lost on spot machines.",
    ]
    peak = max((s.peak_rss_mb for s in found.speeds if s.peak_rss_mb is not None), default=0.0)
    if peak > mem_mb:
        told.append(f"compute.mem_mb is {mem_mb}: less than the {peak:,.0f} MB that were measured.")
    if given.core_price is None and given.gpu_price is None:
        told.append("No cost: give --core-price and --gpu-price, per hour (on demand, then spot).")
    if given.gpu_subtile_s is None:
        told.append("No graphics card has been measured: --gpu-seconds N shows one at that speed.")
    if given.core_price is not None and given.gpu_price is not None:
        limits = ", ".join(
            f"{break_even_s(speed, given.core_price.on_demand, given.gpu_price.on_demand):.2g} s "
            f"({speed.name})"
            for speed in found.speeds
            if not speed.on_gpu
        )
        told.append(
            "At these prices (on demand, assumed) a card is cheaper than cores below so many "
            f"seconds per sub-tile: {limits}."
        )
    return [line for text in told + found.notes for line in textwrap.wrap(text, WIDTH)]


def _plain(quantity: Quantity) -> dict[str, Any]:
    return asdict(quantity) | {"origin": quantity.origin.value}


def _bill(bill: Bill, n_workers: Sequence[int]) -> dict[str, Any]:
    return {
        "speed": bill.speed.name,
        "on_gpu": bill.speed.on_gpu,
        "origin": bill.speed.origin.value,
        "hours": bill.unit_hours,
        "cost_on_demand": bill.cost_on_demand,
        "cost_spot": bill.cost_spot,
        "wall_s": {str(n): bill.wall_s(n) for n in n_workers},
        "held_hours": {str(n): bill.held_hours(n) for n in n_workers},
    }
