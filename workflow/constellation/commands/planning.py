"""The sub-command that tells what a campaign will take, before anything runs."""

from __future__ import annotations

import argparse
from pathlib import Path

from constellation.commands import Command, count, positive, say
from shine.errors import ConfigurationError


def _describe(command: argparse.ArgumentParser) -> None:
    command.add_argument("--config", type=Path, required=True, help="pipeline YAML")
    command.add_argument(
        "--benchmark",
        type=Path,
        default=Path("build/bench/bench.json"),
        help="what `make bench` measured, here or elsewhere; default: %(default)s",
    )
    prices = {"type": positive, "nargs": "+", "metavar": ("ON_DEMAND", "SPOT")}
    command.add_argument("--core-price", **prices, help="of a core for an hour (assumed)")
    command.add_argument("--gpu-price", **prices, help="of a graphics card for an hour (assumed)")
    command.add_argument(
        "--gpu-seconds", type=positive, help="seconds per sub-tile on a graphics card (assumed)"
    )
    command.add_argument(
        "--exposures",
        type=positive,
        default=4,
        help="exposures of each place, without a quadrant index; default: %(default)s (assumed)",
    )
    command.add_argument(
        "--sources", type=positive, help="sources modelled per sub-tile; default: the benchmark's"
    )
    command.add_argument(
        "--subtiles-per-job", type=count, default=16, help="default: %(default)s, as on SLURM"
    )
    command.add_argument(
        "--workers",
        type=count,
        nargs="+",
        default=[1, 10, 100, 1000],
        help="jobs at a time; default: 1 10 100 1000",
    )
    command.add_argument("--json", type=Path, help="write the numbers to this file")
    command.add_argument("--figure", type=Path, help="draw cost against wall-clock (PNG)")


def _run(options: argparse.Namespace) -> None:
    import json

    from constellation.benchmark_file import read_benchmark
    from constellation.cost_inputs import Given, estimate
    from constellation.cost_report import format_estimate, to_json
    from constellation.run_layout import Run
    from shine.atomic import write_atomically

    given = Given(
        n_exposures=options.exposures,
        n_sources=options.sources,
        gpu_subtile_s=options.gpu_seconds,
        core_price=_price("--core-price", options.core_price),
        gpu_price=_price("--gpu-price", options.gpu_price),
    )
    run = Run.from_config(options.config)
    benchmark = read_benchmark(options.benchmark)
    index = run.results / "index" / "quadrants.parquet"
    found = estimate(run.plan, index, benchmark, given, options.subtiles_per_job)
    if options.json is not None:
        content = to_json(found, benchmark, options.workers)
        text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        write_atomically(options.json, text.encode("utf-8"))
    if options.figure is not None:
        from constellation.cost_plot import plot_estimate

        plot_estimate(found, options.workers, options.figure)
    say(format_estimate(found, benchmark, options.workers, run.config.compute.mem_mb).rstrip())


def _price(option: str, values: list[float] | None):
    """The price that an option gives, or None; raises `ConfigurationError`."""
    from constellation.cost import Price

    if values is None:
        return None
    if len(values) > 2:
        raise ConfigurationError(f"{option}: found {len(values)} prices, expected at most two")
    return Price(*values)


COMMANDS = {
    "plan": Command(_describe, _run, "tell what a campaign will take, before anything runs"),
}
