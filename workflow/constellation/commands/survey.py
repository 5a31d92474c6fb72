"""Sub-commands that simulate, index, divide and fetch a survey."""

from __future__ import annotations

import argparse
from pathlib import Path

from constellation.commands import Command, add_tiling, check_planned, plan_of, say
from shine.errors import ConfigurationError


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
    from constellation.discovery import build_index
    from constellation.index_cache import KeptRows
    from constellation.sky_order import write_index
    from constellation.survey_files import as_file, exposure_versions, match_exposures
    from shine.s3_settings import without_cache

    without_cache()  # of pixels, not of the headers of a whole survey
    versions = exposure_versions(as_file(options.survey))
    exposures = match_exposures(versions, options.kinds)
    kept = KeptRows(options.kept, versions) if options.kept else None
    table = build_index(exposures, options.output.parent, kept)
    write_index(table, options.output)
    say(f"{options.output}: {table.num_rows} quadrants of {len(exposures)} exposures")


def _describe_manifests(command: argparse.ArgumentParser) -> None:
    add_tiling(command)
    command.add_argument("--tile", type=int, required=True, help="the tile's index")
    command.add_argument("--index", type=Path, required=True, help="from `constellation index`")
    command.add_argument(
        "--catalogues", nargs="+", required=True, help="MER catalogues of the tile and those around"
    )
    command.add_argument("--morphology", nargs="+", help="morphology catalogues of the same tiles")
    command.add_argument("--segmentation", nargs="+", help="segmentation maps of the same tiles")
    command.add_argument(
        "--exposures",
        default="{}",
        help="which exposures to use: JSON text of the section data.exposures; default: all",
    )
    command.add_argument(
        "--form", choices=("yaml", "yaml.gz"), default="yaml", help="of the manifests"
    )
    command.add_argument("--output", type=Path, required=True, help="folder of the manifests")


def _manifests(options: argparse.Namespace) -> None:
    from constellation.config import ExposureConfig, load_section
    from constellation.manifest import (
        TileFiles,
        build_manifests,
        check_unique,
        list_manifests,
        write_manifests,
    )
    from constellation.quadrant_index import read_index
    from constellation.survey_files import MER_PRODUCTS

    plan = plan_of(options)
    check_planned(plan, options.tile)
    given = {name: getattr(options, name) for name in MER_PRODUCTS}
    files = TileFiles.of(given, plan.catalogue_tiles(options.tile))
    exposures = load_section(ExposureConfig, "data.exposures", options.exposures)
    index = read_index(options.index, exposures)
    manifests = build_manifests(plan, options.tile, index, files, options.output)
    written = write_manifests(manifests, options.output, options.form)
    if others := set(list_manifests(options.output)) - set(written):
        check_unique([*written, *others])
    for manifest, path in zip(manifests, written, strict=True):
        say(
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
    say(
        f"{options.output}: {fetched.n_files} files, {fetched.n_copied} of them copied now "
        f"({fetched.copied_bytes / 1e9:.2f} GB); checksums in {CHECKSUMS}"
    )


COMMANDS = {
    "mock-survey": Command(
        _describe_mock_survey, _mock_survey, "simulate a survey in Euclid's format"
    ),
    "index": Command(
        _describe_index, _index, "index the quadrants of a survey by their place on the sky"
    ),
    "manifests": Command(
        _describe_manifests, _manifests, "write the manifests of a tile's sub-tiles"
    ),
    "fetch": Command(
        _describe_fetch, _fetch, "copy the files that some tiles need from S3 to a folder"
    ),
}
