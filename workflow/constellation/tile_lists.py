"""Lists of tiles: read, written, and made up for an area of the sky."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import csv, parquet

from constellation.sphere import RADIANS_PER_ARCMIN, Floats, TangentPlane
from constellation.tables import write_table
from constellation.tile_cores import TileCores
from constellation.tiling import Tiles
from shine.atomic import write_atomically
from shine.errors import ConfigurationError, InputError, explain

TILE_COLUMNS = ("tile_index", "ra", "dec")
CORE_COLUMN = "core_nuniq"
SPACING_DEG = 0.5
# Real indices have nine digits and begin with 1.
FIRST_MADE_UP_INDEX = 900_000_000
MADE_UP_PER_ROW = 1000
WIDEST_ARCMIN = 9000.0  # 150 deg: a tangent plane shows no half of the sky


def read_tiles(path: Path) -> Tiles:
    """Read a tile list: CSV or Parquet with the columns tile_index, ra, dec (degrees).

    A Parquet list may have the column core_nuniq as well, a list of HEALPix cells for each tile:
    the tiles' true cores, which then decide who owns a source. Raises `InputError` that names the
    file and the column.
    """
    try:
        table = parquet.read_table(path) if path.suffix == ".parquet" else csv.read_csv(path)
    except (OSError, pa.ArrowInvalid) as error:
        problem = " ".join(str(error).split())
        raise InputError(
            explain(path, f"no readable table ({problem})", "a tile list", "Check tiling.tiles.")
        ) from error
    missing = [name for name in TILE_COLUMNS if name not in table.column_names]
    if missing:
        raise InputError(
            explain(
                f"{path}, column {missing[0]}",
                f"only {', '.join(table.column_names)}",
                ", ".join(TILE_COLUMNS),
                "Rename or add it.",
            )
        )
    try:
        index = table["tile_index"].cast(pa.int64()).to_pylist()
        ra, dec = (table[name].cast(pa.float64()).to_numpy() for name in ("ra", "dec"))
        return Tiles.from_columns(index, ra, dec, _read_cores(table))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, TypeError) as error:
        raise InputError(f"{path}: a tile list of numbers is expected: {error}") from error
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def write_tiles(tiles: Tiles, path: Path) -> None:
    """Write a tile list as `read_tiles` reads it, atomically.

    Raises `ConfigurationError` where the name's suffix is neither .csv nor .parquet, or .csv for
    tiles with cores, which have no place in it.
    """
    suffixes = (".parquet",) if tiles.cores is not None else (".csv", ".parquet")
    if path.suffix not in suffixes:
        what = "a list with the tiles' cores" if tiles.cores is not None else "a tile list"
        raise ConfigurationError(
            explain(
                path,
                f"the suffix {path.suffix!r}",
                f"{' or '.join(suffixes)} for {what}",
                "Name the output so.",
            )
        )
    columns = dict(zip(TILE_COLUMNS, (tiles.index, tiles.ra, tiles.dec), strict=True))
    if path.suffix == ".csv":
        rows = zip(*(column.tolist() for column in columns.values()), strict=True)
        lines = [",".join(columns), *(f"{index},{ra!r},{dec!r}" for index, ra, dec in rows), ""]
        write_atomically(path, "\n".join(lines).encode("ascii"))
        return
    if tiles.cores is not None:
        columns[CORE_COLUMN] = pa.LargeListArray.from_arrays(tiles.cores.first, tiles.cores.nuniq)
    write_table(pa.table(columns), path)


def sky_tiles() -> Tiles:
    """Tiles over the whole sky, as Euclid's are laid out, with indices that are made up.

    Rows every 0.5 deg of declination, from pole to pole; in a row as many tiles, evenly from right
    ascension 0 on, as make their distance 0.5 deg or a little less. Euclid's own lie in such rows
    too, but what their numbers and right ascensions follow from is not public.
    """
    rows = np.arange(round(180.0 / SPACING_DEG) + 1)
    row_dec = -90.0 + SPACING_DEG * rows
    circles = 360.0 * np.cos(np.deg2rad(row_dec))
    counts = np.maximum(1, np.ceil(circles / SPACING_DEG - 1e-6)).astype(np.int64)
    row = np.repeat(rows, counts)
    number = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    index = FIRST_MADE_UP_INDEX + MADE_UP_PER_ROW * row + number
    ra = np.round(360.0 * number / counts[row], 9)  # as many digits as a list needs
    return Tiles.from_columns(index, ra, row_dec[row])


def tiles_over(ra_deg: float, dec_deg: float, width_arcmin: float, height_arcmin: float) -> Tiles:
    """Those of `sky_tiles` that own part of a box on the plane tangent at its centre.

    `width_arcmin` is east-west, `height_arcmin` north-south. Raises `ConfigurationError` naming
    what is out of range.
    """
    _check_area(ra_deg, dec_deg, width_arcmin, height_arcmin)
    plane = TangentPlane.at(ra_deg, dec_deg)
    xi, eta = np.meshgrid(_across(width_arcmin), _across(height_arcmin))
    tiles = sky_tiles()
    owners = np.unique(tiles.nearest(plane.unproject(xi.ravel(), eta.ravel())))
    return Tiles(tiles.index[owners], tiles.ra[owners], tiles.dec[owners])


def _across(size_arcmin: float) -> Floats:
    """Places along a side of a box, radian in the plane: one per arcmin, but 2001 at most."""
    half = np.tan(size_arcmin / 2.0 * RADIANS_PER_ARCMIN)
    return np.linspace(-half, half, min(int(np.ceil(size_arcmin)), 2000) + 1)


def _check_area(ra_deg: float, dec_deg: float, width_arcmin: float, height_arcmin: float) -> None:
    ranges = {
        "RA": (ra_deg, 0.0 <= ra_deg < 360.0, "0 <= RA < 360 deg"),
        "DEC": (dec_deg, -90.0 <= dec_deg <= 90.0, "-90 to 90 deg"),
        "WIDTH": (width_arcmin, 0.0 < width_arcmin <= WIDEST_ARCMIN, "up to 9000 arcmin"),
        "HEIGHT": (height_arcmin, 0.0 < height_arcmin <= WIDEST_ARCMIN, "up to 9000 arcmin"),
    }
    for name, (found, fits, expected) in ranges.items():
        if not fits:
            raise ConfigurationError(
                explain(f"--area, {name}", f"{found:g}", expected, "Correct it.")
            )


def _read_cores(table: pa.Table) -> TileCores | None:
    if CORE_COLUMN not in table.column_names:
        return None
    lists = table[CORE_COLUMN].cast(pa.large_list(pa.int64())).combine_chunks()
    if lists.null_count:
        raise InputError(f"column {CORE_COLUMN}: found tiles without a list, expected one for each")
    first = lists.offsets.to_numpy()
    return TileCores(lists.values.to_numpy()[first[0] : first[-1]], first - first[0]).checked()
