"""Sub-commands that take something out of a published catalogue."""

from __future__ import annotations

import argparse
from pathlib import Path

from constellation.commands import Command, add_catalogue, positive, say
from shine.errors import ConfigurationError, explain

_FORMS = "the file, .parquet, .csv or .fits"


def _describe_cone(command: argparse.ArgumentParser) -> None:
    add_catalogue(command)
    command.add_argument("--ra", type=float, required=True, help="right ascension, deg")
    command.add_argument("--dec", type=float, required=True, help="declination, deg")
    command.add_argument("--radius", type=positive, required=True, help="of the cone, deg")
    command.add_argument("--columns", nargs="+", help="of the sources; default: all")
    command.add_argument("--output", type=Path, required=True, help=_FORMS)


def _cone(options: argparse.Namespace) -> None:
    from constellation.catalogue.published import PublishedCatalogue
    from constellation.catalogue.rows import Rows, check_suffix, write_rows

    check_suffix(options.output)
    if not (0.0 <= options.ra <= 360.0 and abs(options.dec) <= 90.0):
        found = f"{options.ra:g}, {options.dec:g}"
        action = "Give degrees: right ascension from 0 to 360, declination from -90 to 90."
        raise ConfigurationError(explain("--ra, --dec", found, "a place on the sky", action))
    columns = _columns(options)
    catalogue = PublishedCatalogue(options.catalogue)
    found = catalogue.cone(options.ra, options.dec, options.radius, columns)
    n_rows = write_rows(Rows.of(found, "SOURCES"), options.output)
    say(f"{options.output}: {n_rows} sources")


def _columns(options: argparse.Namespace) -> list[str]:
    """The columns that are asked for; without any, those that the file can hold."""
    from constellation.catalogue.rows import list_columns
    from constellation.catalogue.schema import SOURCES

    if options.columns is not None:
        unknown = [name for name in options.columns if name not in SOURCES.names]
        if unknown:
            expected = f"some of {', '.join(SOURCES.names)}"
            action = "See docs/data-model.md."
            found = f"no column {', '.join(unknown)}"
            raise ConfigurationError(explain("--columns", found, expected, action))
        return list(dict.fromkeys(options.columns))
    lists = list_columns(SOURCES) if options.output.suffix == ".csv" else []
    if lists:
        say(f"{options.output}: a CSV has no lists, so without {', '.join(lists)}")
    return [name for name in SOURCES.names if name not in lists]


def _describe_export(command: argparse.ArgumentParser) -> None:
    add_catalogue(command)
    command.add_argument(
        "--samples", action="store_true", help="with the samples of the sources' shapes"
    )
    command.add_argument("--output", type=Path, required=True, help="the file, .fits")


def _export(options: argparse.Namespace) -> None:
    from constellation.catalogue.export import export
    from constellation.catalogue.published import PublishedCatalogue

    if options.output.suffix != ".fits":
        action = "The catalogue itself is Parquet; `constellation cone` writes CSV."
        raise ConfigurationError(
            explain("--output", str(options.output), "a name that ends with .fits", action)
        )
    n_rows = export(PublishedCatalogue(options.catalogue), options.output, options.samples)
    say(f"{options.output}: SHEAR of {n_rows[0]} sub-tiles, SOURCES of {n_rows[1]} sources")


def _describe_crossmatch(command: argparse.ArgumentParser) -> None:
    add_catalogue(command)
    command.add_argument(
        "--with",
        dest="other",
        type=Path,
        required=True,
        help="the other catalogue, FITS or .parquet; it must fit into memory",
    )
    command.add_argument(
        "--radius", type=positive, default=1.0, help="arcsec; default: %(default)s"
    )
    for name in ("ra", "dec"):
        command.add_argument(
            f"--{name}-column",
            default=name.upper(),
            help="of the other catalogue, in deg; default: %(default)s",
        )
    command.add_argument("--output", type=Path, required=True, help=_FORMS)


def _crossmatch(options: argparse.Namespace) -> None:
    from constellation.catalogue.cross_match import CrossMatch
    from constellation.catalogue.other import OtherCatalogue
    from constellation.catalogue.published import PublishedCatalogue
    from constellation.catalogue.rows import check_suffix, list_columns, write_rows

    check_suffix(options.output)
    other = OtherCatalogue.read(options.other, options.ra_column, options.dec_column)
    match = CrossMatch.of(PublishedCatalogue(options.catalogue), other, options.radius)
    rows = match.rows()
    if options.output.suffix == ".csv" and (lists := list_columns(rows.schema)):
        say(f"{options.output}: a CSV has no lists, so without {', '.join(lists)}")
        rows = rows.select([name for name in rows.schema.names if name not in lists])
    n_rows = write_rows(rows, options.output)
    for line in match.summary():
        say(line)
    say(f"{options.output}: {n_rows} rows")


COMMANDS = {
    "cone": Command(_describe_cone, _cone, "write the sources around a place on the sky"),
    "export": Command(_describe_export, _export, "write the catalogue as FITS tables"),
    "crossmatch": Command(
        _describe_crossmatch, _crossmatch, "match the sources with another catalogue"
    ),
}
