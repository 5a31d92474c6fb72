"""Sub-commands that merge results, compare them with the truth and collect what they took."""

from __future__ import annotations

import argparse
from pathlib import Path

from constellation.commands import Command, add_tiling, check_planned, plan_of, say


def _describe_assemble(command: argparse.ArgumentParser) -> None:
    add_tiling(command)
    command.add_argument("--tile", type=int, help="assemble this tile; without it, merge all tiles")
    command.add_argument(
        "--input", type=Path, required=True, help="folder of the sub-tiles' (or tiles') results"
    )
    command.add_argument(
        "--logs", type=Path, default=Path("logs"), help="folder of the sub-tiles' logs, for errors"
    )
    command.add_argument("--output", type=Path, required=True, help="folder of the catalogue")
    command.add_argument("--name", default="shear", help="name of the merged catalogue")


def _assemble(options: argparse.Namespace) -> None:
    from constellation.catalog_assembler import assemble_tile, check_complete, merge_tiles

    plan = plan_of(options)
    if options.tile is None:
        catalogue, name = merge_tiles(plan.by_tile, options.input), options.name
        check_complete(catalogue, plan.subtiles, options.input)
    else:
        check_planned(plan, options.tile)
        planned = plan.by_tile[options.tile]
        catalogue, name = assemble_tile(planned, options.input, options.logs), str(options.tile)
    for line in catalogue.without_shear():
        say(line)
    paths = catalogue.write(options.output, name)
    rows = catalogue.shear.num_rows, catalogue.sources.num_rows
    for path, count, what in zip(paths, rows, ("sub-tiles", "sources"), strict=True):
        say(f"{path}: {count} {what}")


def _describe_summary(command: argparse.ArgumentParser) -> None:
    command.add_argument("--shear", type=Path, required=True, help="merged shear catalogue")
    command.add_argument("--sources", type=Path, required=True, help="merged sources")
    command.add_argument("--truth", type=Path, help="table with OBJECT_ID, G1, G2")
    command.add_argument("--panels", type=Path, help="picture of one sub-tile to show")
    command.add_argument("--table", type=Path, required=True, help="the table (text)")
    command.add_argument("--figure", type=Path, required=True, help="the figure (PNG)")


def _summary(options: argparse.Namespace) -> None:
    from constellation.catalog_assembler import read_catalogue
    from constellation.summary import format_table, summarise
    from constellation.summary_plots import plot_summary
    from shine.atomic import write_atomically

    catalogue = read_catalogue(options.shear, options.sources)
    summary = summarise(catalogue, options.truth)
    text = format_table(summary)
    plot_summary(summary, options.panels, options.figure)
    write_atomically(options.table, text.encode("utf-8"))
    say(text)


def _describe_measurements(command: argparse.ArgumentParser) -> None:
    add_tiling(command)
    command.add_argument("--runs", type=Path, required=True, help="folder of the run records")
    command.add_argument(
        "--benchmarks", type=Path, required=True, help="folder of Snakemake's benchmark records"
    )
    command.add_argument("--output", type=Path, required=True, help="the table (Parquet)")


def _measurements(options: argparse.Namespace) -> None:
    from constellation.measurements import collect_measurements
    from constellation.tables import write_table

    table = collect_measurements(plan_of(options).subtiles, options.runs, options.benchmarks)
    write_table(table, options.output)
    say(f"{options.output}: {table.num_rows} sub-tiles")


COMMANDS = {
    "assemble": Command(
        _describe_assemble, _assemble, "merge results into a tile's or a full catalogue"
    ),
    "summary": Command(
        _describe_summary, _summary, "compare a catalogue with the truth: table, figure"
    ),
    "measurements": Command(_describe_measurements, _measurements, "collect what the runs took"),
}
