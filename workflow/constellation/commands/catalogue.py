"""Sub-commands that merge results, compare them with the truth and collect what they took."""

from __future__ import annotations

import argparse
from pathlib import Path

from constellation.commands import Command, add_catalogue, add_tiling, count, plan_of, say


def _describe_assemble(command: argparse.ArgumentParser) -> None:
    command.add_argument("--config", type=Path, required=True, help="pipeline YAML of the run")
    command.add_argument(
        "--allow-failed",
        action="store_true",
        help="publish without the sub-tiles that have no result, and list them",
    )


def _assemble(options: argparse.Namespace) -> None:
    from constellation.catalog_assembler import assemble
    from constellation.run_layout import Run

    for line in assemble(Run.from_config(options.config), options.allow_failed):
        say(line)


def _describe_assemble_tiles(command: argparse.ArgumentParser) -> None:
    add_tiling(command)
    command.add_argument("--shard", help="the tiles of this part of the survey, such as 3/60")
    folder = {"type": Path, "required": True}
    command.add_argument("--subtiles", **folder, help="folder of the sub-tiles' results")
    command.add_argument("--logs", **folder, help="folder of the sub-tiles' logs, for errors")
    command.add_argument("--kept", **folder, help="folder where the files are kept")
    command.add_argument("--processes", type=count, default=1, help="default: %(default)s")
    command.add_argument("--output", **folder, help="folder of the tiles' files")


def _assemble_tiles(options: argparse.Namespace) -> None:
    from constellation.catalog_assembler import describe_tiles
    from constellation.catalogue.kept_tiles import Folders, assemble_tiles
    from constellation.shards import Shard

    plan = plan_of(options, Shard.parse(options.shard) if options.shard else None)
    folders = Folders(options.subtiles, options.logs, options.kept, options.output)
    for line in describe_tiles(assemble_tiles(plan, folders, options.processes), folders):
        say(line)


def _describe_merge(command: argparse.ArgumentParser) -> None:
    add_tiling(command)
    folder = {"type": Path, "required": True}
    command.add_argument("--tiles", **folder, help="folder of the tiles' files")
    command.add_argument("--logs", **folder, help="folder of the sub-tiles' logs")
    command.add_argument("--receipt", **folder, help="what was published, in short (JSON)")
    command.add_argument("--output", **folder, help="folder of the catalogue, replaced as a whole")


def _merge(options: argparse.Namespace) -> None:
    from constellation.catalog_assembler import describe_publication
    from constellation.catalogue.publish import Target, publish

    target = Target(options.output, options.receipt, options.logs)
    for line in describe_publication(publish(plan_of(options), options.tiles, target), target):
        say(line)


def _describe_summary(command: argparse.ArgumentParser) -> None:
    add_catalogue(command)
    command.add_argument("--truth", type=Path, help="table with OBJECT_ID, G1, G2")
    command.add_argument("--panels", type=Path, help="picture of one sub-tile to show")
    command.add_argument("--table", type=Path, required=True, help="the table (text)")
    command.add_argument("--figure", type=Path, required=True, help="the figure (PNG)")


def _summary(options: argparse.Namespace) -> None:
    from constellation.catalogue.published import PublishedCatalogue
    from constellation.summary import format_table, summarise
    from constellation.summary_plots import plot_summary
    from shine.atomic import write_atomically

    summary = summarise(PublishedCatalogue(options.catalogue), options.truth)
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
        _describe_assemble, _assemble, "merge the results of a run into one published catalogue"
    ),
    "assemble-tiles": Command(
        _describe_assemble_tiles, _assemble_tiles, "merge the results of sub-tiles into tiles"
    ),
    "merge-tiles": Command(_describe_merge, _merge, "merge tiles into the published catalogue"),
    "summary": Command(
        _describe_summary, _summary, "compare a catalogue with the truth: table, figure"
    ),
    "measurements": Command(_describe_measurements, _measurements, "collect what the runs took"),
}
