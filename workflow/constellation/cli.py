"""The command `constellation`: each sub-command is one step of the workflow, usable by hand."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from shine.errors import INTERRUPTED_EXIT_CODE, ConfigurationError, InputError, ShineError

# Modules are imported by the sub-command that needs them: `--help` and errors come at once.


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a sub-command; returns the exit status (0, or that of the error's class)."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = _parser(arguments).parse_args(arguments)
    logging.basicConfig(
        level=logging.DEBUG if options.verbose else logging.INFO,
        format="%(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    logging.getLogger("botocore").setLevel(logging.INFO)  # below, it logs access keys
    if not options.verbose:
        logging.getLogger("urllib3").setLevel(logging.ERROR)  # it tells of connections it closes
    try:
        return options.run(options) or 0
    except ShineError as error:
        _say(f"error: {error}", sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        _say("interrupted", sys.stderr)
        return INTERRUPTED_EXIT_CODE


def _parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="constellation",
        description="Cut a survey into sub-tiles, and merge their shear into one catalogue.",
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="log more")
    commands = parser.add_subparsers(title="sub-commands", metavar="COMMAND", required=True)
    for name, (describe, run, help_text) in _COMMANDS.items():
        command = commands.add_parser(
            name, help=help_text, description=f"{help_text[0].upper()}{help_text[1:]}."
        )
        if name in arguments:
            describe(command)
        command.set_defaults(run=run)
    return parser


def _describe_mock_survey(command: argparse.ArgumentParser) -> None:
    from constellation.mock_survey import cli

    cli.add_arguments(command)


def _mock_survey(options: argparse.Namespace) -> int | None:
    from constellation.mock_survey import cli
    from constellation.mock_survey.errors import MockSurveyError

    try:
        return cli.run(options)
    except MockSurveyError as error:  # the simulator knows nothing of shine's errors
        raise ConfigurationError(str(error)) from error


def _describe_index(command: argparse.ArgumentParser) -> None:
    command.add_argument("--survey", required=True, help="folder or s3:// with VIS and PSF")
    command.add_argument("--kinds", type=int, nargs="+", default=[1], help="kinds of exposure")
    command.add_argument(
        "--kept", type=Path, help="folder where what was read is kept, to go on and to add to it"
    )
    command.add_argument("--output", type=Path, required=True, help="the index (Parquet)")


def _index(options: argparse.Namespace) -> None:
    from constellation.discovery import build_index, write_index
    from constellation.index_cache import KeptRows
    from constellation.survey_files import as_file, exposure_versions, match_exposures
    from shine.s3_settings import without_cache

    without_cache()  # of pixels, not of the headers of a whole survey
    versions = exposure_versions(as_file(options.survey))
    exposures = match_exposures(versions, options.kinds)
    kept = KeptRows(options.kept, versions) if options.kept else None
    table = build_index(exposures, options.output.parent, kept)
    write_index(table, options.output)
    _say(f"{options.output}: {table.num_rows} quadrants of {len(exposures)} exposures")


def _describe_manifests(command: argparse.ArgumentParser) -> None:
    _add_tiling(command)
    command.add_argument("--tile", type=int, required=True, help="the tile's index")
    command.add_argument("--index", type=Path, required=True, help="from `constellation index`")
    command.add_argument(
        "--catalogues", nargs="+", required=True, help="MER catalogues of the tile and those around"
    )
    command.add_argument("--morphology", nargs="+", help="morphology catalogues of the same tiles")
    command.add_argument("--segmentation", nargs="+", help="segmentation maps of the same tiles")
    command.add_argument("--output", type=Path, required=True, help="folder of the manifests")


def _manifests(options: argparse.Namespace) -> None:
    from constellation.discovery import read_index
    from constellation.manifest import TileFiles, build_manifests, check_unique, write_manifests
    from constellation.survey_files import MER_PRODUCTS

    plan = _plan(options)
    _check_planned(plan, options.tile)
    given = {name: getattr(options, name) for name in MER_PRODUCTS}
    files = TileFiles.of(given, plan.catalogue_tiles(options.tile))
    manifests = build_manifests(
        plan, options.tile, read_index(options.index), files, options.output
    )
    written = write_manifests(manifests, options.output)
    if others := set(options.output.glob("*.yaml")) - set(written):
        check_unique([*written, *others])
    for manifest, path in zip(manifests, written, strict=True):
        _say(
            f"{path}: {len(manifest.core_source_ids)} core sources, "
            f"{len(manifest.source_ids)} modelled, {len(manifest.quadrants)} quadrants"
        )


def _describe_fetch(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--config", type=Path, required=True, help="pipeline YAML with data.survey in S3"
    )
    command.add_argument("--tile", type=int, nargs="+", required=True, help="tiles to fetch for")
    command.add_argument("--output", type=Path, required=True, help="folder of the copies")


def _fetch(options: argparse.Namespace) -> None:
    from constellation.fetch import CHECKSUMS, fetch, list_files
    from constellation.run_layout import Run
    from shine.s3_settings import without_cache

    run = Run.from_config(options.config)
    run.config.data.s3.export()
    without_cache()
    uris = list_files(run, options.tile)
    fetched = fetch(uris, str(run.config.data.survey), options.output)
    _say(
        f"{options.output}: {fetched.n_files} files, {fetched.n_copied} of them copied now "
        f"({fetched.copied_bytes / 1e9:.2f} GB); checksums in {CHECKSUMS}"
    )


def _describe_assemble(command: argparse.ArgumentParser) -> None:
    _add_tiling(command)
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
    from constellation.catalog_assembler import assemble_tile, merge_tiles

    plan = _plan(options)
    if options.tile is None:
        catalogue, name = merge_tiles(plan.by_tile, options.input), options.name
    else:
        _check_planned(plan, options.tile)
        planned = plan.by_tile[options.tile]
        catalogue, name = assemble_tile(planned, options.input, options.logs), str(options.tile)
    for line in catalogue.without_shear():
        _say(line)
    paths = catalogue.write(options.output, name)
    rows = catalogue.shear.num_rows, catalogue.sources.num_rows
    for path, count, what in zip(paths, rows, ("sub-tiles", "sources"), strict=True):
        _say(f"{path}: {count} {what}")


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
    _say(text)


def _describe_measurements(command: argparse.ArgumentParser) -> None:
    _add_tiling(command)
    command.add_argument("--runs", type=Path, required=True, help="folder of the run records")
    command.add_argument(
        "--benchmarks", type=Path, required=True, help="folder of Snakemake's benchmark records"
    )
    command.add_argument("--output", type=Path, required=True, help="the table (Parquet)")


def _measurements(options: argparse.Namespace) -> None:
    from constellation.measurements import collect_measurements
    from constellation.tables import write_table

    table = collect_measurements(_plan(options).subtiles, options.runs, options.benchmarks)
    write_table(table, options.output)
    _say(f"{options.output}: {table.num_rows} sub-tiles")


def _describe_schema(command: argparse.ArgumentParser) -> None:
    command.add_argument("--output", type=Path, help="file to write; without it, print")


def _schema(options: argparse.Namespace) -> None:
    from constellation.config import schema_json
    from shine.atomic import write_atomically

    if options.output is None:
        _say(schema_json().rstrip())
    else:
        write_atomically(options.output, schema_json().encode("utf-8"))


def _describe_shine_config(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--sections",
        required=True,
        help="pipeline YAML, or JSON text with the keys inference and gal",
    )
    command.add_argument("--output", type=Path, required=True, help="the YAML file for shine")


def _shine_config(options: argparse.Namespace) -> None:
    from constellation.config import write_shine_config

    write_shine_config(options.sections, options.output)


def _add_tiling(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--tiling", required=True, help="pipeline YAML, or JSON text of its section tiling"
    )


def _plan(options: argparse.Namespace):
    from constellation.config import TilingConfig, load_section
    from constellation.plan import Plan

    return Plan.from_config(load_section(TilingConfig, "tiling", options.tiling))


def _check_planned(plan, tile_id: int) -> None:
    if tile_id not in plan.by_tile:
        raise InputError(f"tile {tile_id}: no sub-tile of it is planned")


def _say(text: str, stream=None) -> None:
    print(text, file=stream or sys.stdout, flush=True)


_Describe = Callable[[argparse.ArgumentParser], None]
_Run = Callable[[argparse.Namespace], int | None]
_COMMANDS: dict[str, tuple[_Describe, _Run, str]] = {
    "mock-survey": (_describe_mock_survey, _mock_survey, "simulate a survey in Euclid's format"),
    "index": (_describe_index, _index, "index the quadrants of a survey by their place on the sky"),
    "manifests": (_describe_manifests, _manifests, "write the manifests of a tile's sub-tiles"),
    "fetch": (_describe_fetch, _fetch, "copy the files that some tiles need from S3 to a folder"),
    "assemble": (_describe_assemble, _assemble, "merge results into a tile's or a full catalogue"),
    "summary": (_describe_summary, _summary, "compare a catalogue with the truth: table, figure"),
    "measurements": (_describe_measurements, _measurements, "collect what the runs took"),
    "schema": (_describe_schema, _schema, "show the JSON schema of the configuration"),
    "shine-config": (_describe_shine_config, _shine_config, "write the sections that shine reads"),
}
