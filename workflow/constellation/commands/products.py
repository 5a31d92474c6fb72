"""Sub-commands that make science products of a published catalogue, without pixels."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from constellation.commands import Command, add_catalogue, count, positive, say


def _add_inputs(command: argparse.ArgumentParser, dispersion: str) -> None:
    add_catalogue(command)
    command.add_argument(
        "--dispersion",
        type=positive,
        metavar="SIGMA",
        help="of each component of the intrinsic ellipticities; default: " + dispersion,
    )


def _add_outputs(command: argparse.ArgumentParser) -> None:
    command.add_argument("--output", type=Path, required=True, help="the table (Parquet)")
    command.add_argument("--figure", type=Path, help="draw it (PNG)")


def _add_positions(command: argparse.ArgumentParser, required: bool) -> None:
    around = command.add_mutually_exclusive_group(required=required)
    around.add_argument(
        "--at",
        type=_number,
        nargs=2,
        action="append",
        metavar=("RA", "DEC"),
        help="a position in degrees; may be given several times",
    )
    around.add_argument(
        "--positions", type=Path, help="CSV or Parquet with columns RA, DEC in degrees"
    )


def _galaxies(options: argparse.Namespace):
    from constellation.catalogue.published import PublishedCatalogue
    from constellation.products.reading import Galaxies

    galaxies = Galaxies(PublishedCatalogue(options.catalogue))
    if galaxies.left_out:
        say(
            f"{options.catalogue}: {galaxies.left_out} sub-tiles without a converged shear left out"
        )
    return galaxies


def _prior(options: argparse.Namespace):
    from shine.population import ShapePrior

    if options.dispersion is None:
        return ShapePrior(ellipticity_sigma=0.25)
    return ShapePrior(ellipticity_sigma=options.dispersion, infer_sigma=False)


def _dispersion(options: argparse.Namespace, galaxies) -> float:
    return galaxies.dispersion() if options.dispersion is None else options.dispersion


def _around(options: argparse.Namespace):
    """RA and Dec of the positions that the options name."""
    import numpy as np

    from constellation.products.positions import read_positions

    if options.positions is not None:
        return read_positions(options.positions)
    for place in options.at:
        _check_place("--at", *place)
    ra, dec = np.array(options.at).T
    return ra, dec


def _describe_shear_map(command: argparse.ArgumentParser) -> None:
    _add_inputs(command, "inferred in each cell")
    cells = command.add_mutually_exclusive_group(required=True)
    cells.add_argument("--order", type=_order, help="HEALPix cells of this order, 0 to 18 (nested)")
    cells.add_argument("--by", choices=("tile", "sub-tile"), help="tiles, or sub-tiles")
    cells.add_argument(
        "--side", type=positive, metavar="ARCMIN", help="squares of a tangent plane, of this side"
    )
    command.add_argument(
        "--centre",
        type=_number,
        nargs=2,
        metavar=("RA", "DEC"),
        help="of the plane, in degrees; default: the middle of the sub-tiles",
    )
    _add_outputs(command)
    command.add_argument("--fits", type=Path, help="with --order, write explicit HEALPix FITS")


def _shear_map(options: argparse.Namespace) -> None:
    from constellation.products.fits_files import write_healpix
    from constellation.products.shear_map import shear_map
    from constellation.tables import write_table
    from shine.errors import ConfigurationError

    if options.fits is not None and options.order is None:
        raise ConfigurationError("--fits: only cells of --order are HEALPix pixels")
    if options.centre is not None and options.side is None:
        raise ConfigurationError("--centre: only squares of --side have a plane")
    galaxies = _galaxies(options)
    table = shear_map(galaxies, _cells(options, galaxies), _prior(options))
    write_table(table, options.output)
    if options.fits is not None:
        write_healpix(table, options.fits)
    if options.figure is not None:
        from constellation.products.shear_figure import plot_shear

        plot_shear(table, options.figure)
    n = sum(table["N_SOURCES"].to_pylist())
    say(f"{options.output}: {table.num_rows} cells, {n} galaxies")


def _cells(options: argparse.Namespace, galaxies):
    import numpy as np

    from constellation.products import cells
    from constellation.products.frames import middle

    shear = galaxies.converged
    if options.order is not None:
        return cells.HealpixCells(options.order)
    if options.by is not None:
        kind = cells.TileCells if options.by == "tile" else cells.SubtileCells
        return kind(shear)
    if options.centre is not None:
        _check_place("--centre", *options.centre)
    centre = options.centre or middle(np.asarray(shear["RA"]), np.asarray(shear["DEC"]))
    return cells.PlaneCells(*centre, options.side)


def _describe_convergence_map(command: argparse.ArgumentParser) -> None:
    _add_inputs(command, "the catalogue's mean")
    command.add_argument(
        "--area",
        type=_number,
        nargs=4,
        metavar=("RA", "DEC", "WIDTH", "HEIGHT"),
        help="centre in degrees, sides in arcmin; default: all galaxies",
    )
    command.add_argument(
        "--pixel", type=positive, default=0.5, help="side of a pixel, arcmin; default: %(default)s"
    )
    command.add_argument(
        "--smoothing",
        type=positive,
        default=1.0,
        help="standard deviation of the Gaussian, arcmin; default: %(default)s",
    )
    _add_outputs(command)
    command.add_argument("--fits", type=Path, help="write the images with WCS (FITS)")


def _convergence_map(options: argparse.Namespace) -> None:
    from constellation.products.fits_files import write_images
    from constellation.products.grid import Grid
    from constellation.products.mass_map import mass_map
    from constellation.tables import write_table
    from shine.errors import ConfigurationError

    galaxies = _galaxies(options)
    if options.area is None:
        grid = Grid.of_all(galaxies, options.pixel)
    else:
        _check_place("--area", *options.area[:2])
        if min(options.area[2:]) <= 0.0:
            raise ConfigurationError("--area: expected WIDTH and HEIGHT above 0")
        grid = Grid.of_area(tuple(options.area), options.pixel)
    found = mass_map(galaxies, grid, options.smoothing, _dispersion(options, galaxies))
    write_table(found.table(), options.output)
    if options.fits is not None:
        write_images(found.images(), grid.wcs, options.fits)
    if options.figure is not None:
        from constellation.products.figures import plot_mass

        plot_mass(found, options.figure)
    x, y = found.peak()
    ra, dec = grid.positions(x, y)
    value, error = found.kappa.real[y, x], found.error[y, x]
    rows, columns = grid.shape
    say(f"{options.output}: {columns} x {rows} pixels, {found.n_galaxies.sum():.0f} galaxies")
    say(f"most significant: kappa {value:.4f} +- {error:.4f} at RA {ra:.4f}, Dec {dec:+.4f}")


def _add_bins(command: argparse.ArgumentParser, least: float, most: float, n: int) -> None:
    for name, default in (("--min", least), ("--max", most)):
        command.add_argument(
            name, type=positive, default=default, help="arcmin; default: %(default)s"
        )
    command.add_argument(
        "--bins", type=count, default=n, help="logarithmic bins between; default: %(default)s"
    )


def _describe_profile(command: argparse.ArgumentParser) -> None:
    _add_inputs(command, "inferred in each ring")
    _add_positions(command, required=True)
    _add_bins(command, 0.5, 10.0, 8)
    command.add_argument(
        "--edges", type=_number, nargs="+", metavar="ARCMIN", help="of the rings, instead"
    )
    _add_outputs(command)


def _profile(options: argparse.Namespace) -> None:
    import numpy as np

    from constellation.products.figures import plot_profile
    from constellation.products.profile import Rings, tangential_profile
    from constellation.tables import write_table
    from shine.errors import ConfigurationError

    _check_bins(options)
    edges = np.geomspace(options.min, options.max, options.bins + 1)
    if options.edges is not None:
        edges = np.array(options.edges)
        if len(edges) < 2 or edges[0] < 0.0 or not (np.diff(edges) > 0.0).all():
            raise ConfigurationError("--edges: expected two or more numbers from 0 on, growing")
    rings = Rings(*_around(options), edges)
    table = tangential_profile(_galaxies(options), rings, _prior(options))
    write_table(table, options.output)
    if options.figure is not None:
        plot_profile(table, options.figure)
    n = sum(table["N_SOURCES"].to_pylist())
    say(f"{options.output}: {table.num_rows} rings, {n} galaxies around {len(rings.ra)} positions")


def _describe_correlations(command: argparse.ArgumentParser) -> None:
    _add_inputs(command, "the catalogue's mean")
    _add_positions(command, required=False)
    _add_bins(command, 1.0, 100.0, 10)
    command.add_argument(
        "--patches", type=count, default=0, help="errors by jackknife over so many patches"
    )
    _add_outputs(command)


def _correlations(options: argparse.Namespace) -> None:
    from constellation.products.correlations import Separations, position_shear, shear_shear
    from constellation.products.figures import plot_correlations
    from constellation.tables import write_table

    _check_bins(options)
    bins = Separations(options.min, options.max, options.bins, options.patches)
    galaxies = _galaxies(options)
    sigma = _dispersion(options, galaxies)
    if options.at is None and options.positions is None:
        table = shear_shear(galaxies, bins, sigma)
    else:
        table = position_shear(galaxies, _around(options), bins, sigma)
    write_table(table, options.output)
    if options.figure is not None:
        plot_correlations(table, options.figure)
    pairs = sum(table["N_PAIRS"].to_pylist())
    say(f"{options.output}: {table.num_rows} bins of separation, {pairs:.0f} pairs")


def _check_bins(options: argparse.Namespace) -> None:
    from shine.errors import ConfigurationError

    if options.min >= options.max:
        raise ConfigurationError(f"--max: found {options.max:g}, expected more than --min")


def _check_place(name: str, ra: float, dec: float) -> None:
    from shine.errors import ConfigurationError

    if abs(dec) > 90.0:
        raise ConfigurationError(f"{name}: found RA {ra:g} and Dec {dec:g}, expected degrees")


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"found {text}, expected a number")
    return value


def _order(text: str) -> int:
    from constellation.products.cells import MOST_ORDER

    if not (text.isdecimal() and int(text) <= MOST_ORDER):
        raise argparse.ArgumentTypeError(f"found {text}, expected 0 to {MOST_ORDER}")
    return int(text)


COMMANDS = {
    "shear-map": Command(
        _describe_shear_map, _shear_map, "infer the shear again for cells of any kind"
    ),
    "convergence-map": Command(
        _describe_convergence_map, _convergence_map, "map the convergence, E and B modes"
    ),
    "profile": Command(
        _describe_profile, _profile, "measure the tangential shear around positions"
    ),
    "correlations": Command(
        _describe_correlations, _correlations, "measure two-point functions by TreeCorr"
    ),
}
