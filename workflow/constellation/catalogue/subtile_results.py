"""The results of a tile's sub-tiles: found, and refused if they are not what was planned."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import parquet

from constellation.catalogue.metadata import text_of
from constellation.catalogue.schema import KEY
from constellation.manifest import core_bounds
from constellation.plan import Plan, SubTile
from shine.errors import InputError, explain
from shine.results import read_shear, read_sources

PLACE_TOLERANCE_DEG = 0.5 / 3600.0  # places are noted to 0.4 milli-arcsec

_SOURCES = "_sources.parquet"
_AGAIN = "Remove it and run the workflow again."


@dataclass(frozen=True)
class PlannedTile:
    """The planned sub-tiles of a tile with the middles of their core areas (RA, DEC), degrees."""

    tile_id: int
    middles: Mapping[SubTile, tuple[float, float]]

    @classmethod
    def of(cls, plan: Plan, tile_id: int) -> PlannedTile:
        """One of the tiles of a plan."""
        grid = plan.grid(tile_id)
        bounds = {subtile: core_bounds(grid, subtile) for subtile in plan.by_tile[tile_id]}
        return cls(
            tile_id,
            {subtile: (_middle_ra(*ra), sum(dec) / 2.0) for subtile, (ra, dec) in bounds.items()},
        )

    @property
    def subtiles(self) -> list[SubTile]:
        """They, sorted."""
        return sorted(self.middles)


@dataclass(frozen=True)
class Result:
    """The two tables of a sub-tile, which belong together."""

    path: Path
    shear: pa.Table  # one row
    sources: pa.Table

    @property
    def metadata(self) -> dict[str, str]:
        """The provenance and the rest of it."""
        return text_of(self.shear.schema)


def list_results(folder: Path) -> dict[str, os.DirEntry[str]]:
    """The Parquet files of a tile's folder by name, unfinished ones left out."""
    try:
        with os.scandir(folder) as entries:
            return {
                entry.name: entry
                for entry in entries
                if entry.name.endswith(".parquet") and not entry.name.startswith(".")
            }
    except FileNotFoundError:
        return {}


def missing_from(names: Mapping[str, object], planned: Sequence[SubTile]) -> list[SubTile]:
    """The planned sub-tiles without a shear file, which is what vouches for a result."""
    return [subtile for subtile in planned if f"{subtile.stem}.parquet" not in names]


def read_results(tile: PlannedTile, folder: Path) -> list[Result]:
    """The results of a tile's planned sub-tiles, as far as they are there, in the plan's order.

    Results of an earlier plan are left out. Raises `InputError` naming a file that is damaged, of
    another schema, sub-tile, tile list or grid, has no sources or those of another run, or holds a
    sub-tile that another file holds too.
    """
    names = list_results(folder)
    there = [subtile for subtile in tile.subtiles if f"{subtile.stem}.parquet" in names]
    results = [_read(subtile, tile.middles[subtile], folder) for subtile in there]
    _refuse_copies(sorted(names), set(there), folder)
    return results


def _read(subtile: SubTile, middle: tuple[float, float], folder: Path) -> Result:
    path = folder / f"{subtile.stem}.parquet"
    shear = read_shear(path)
    found = SubTile(*(shear[name][0].as_py() for name in KEY))
    if found != subtile:
        raise InputError(explain(path, f"sub-tile {found.stem}", subtile.stem, _AGAIN))
    _check_middle(shear, middle, path)
    sources_path = folder / f"{subtile.stem}{_SOURCES}"
    sources = read_sources(sources_path)
    for name, value in zip(KEY, (subtile.tile_id, subtile.row, subtile.col), strict=True):
        others = pc.unique(sources[name]).to_pylist()
        if others not in ([], [value]):
            [*_, other] = [other for other in others if other != value]
            raise InputError(explain(sources_path, f"{name} {other}", f"{name} {value}", _AGAIN))
    _check_same_run(shear, sources, path, sources_path)
    _check_positions(sources, sources_path)
    return Result(path, shear, sources)


def _check_middle(shear: pa.Table, middle: tuple[float, float], path: Path) -> None:
    """Whether the sub-tile lies where the tile list and the grid have it."""
    ra, dec = shear["RA"][0].as_py(), shear["DEC"][0].as_py()
    off_ra = (ra - middle[0] + 180.0) % 360.0 - 180.0
    off = abs(off_ra) * np.cos(np.deg2rad(middle[1])), abs(dec - middle[1])
    if not max(off) <= PLACE_TOLERANCE_DEG:  # nor is NaN
        found, expected = (
            f"the middle at RA, DEC {a:.5f}, {d:.5f}" for a, d in ((ra, dec), middle)
        )
        action = f"It is of another tile list or grid: {_AGAIN[0].lower()}{_AGAIN[1:]}"
        raise InputError(explain(path, found, expected, action))


def _check_same_run(shear: pa.Table, sources: pa.Table, path: Path, sources_path: Path) -> None:
    one, other = shear.schema.metadata, sources.schema.metadata
    if one != other:
        differing = sorted(key.decode() for key in one if one[key] != other.get(key))
        raise InputError(
            explain(
                sources_path,
                f"another {', '.join(differing)} than in {path.name}",
                "both of one run",
                "Remove both and run the workflow again.",
            )
        )


def _check_positions(sources: pa.Table, path: Path) -> None:
    """Refuse positions off the sphere, NaN among them; unknown ones are null."""
    for name, low, high in (("RA", 0.0, 360.0), ("DEC", -90.0, 90.0)):
        values = sources[name].drop_null().to_numpy()
        bad = ~((values >= low) & (values <= high))
        if bad.any():
            where, expected = f"{path}, column {name}", f"{low:g} to {high:g} deg, or null"
            raise InputError(explain(where, str(values[bad][0]), expected, _AGAIN))


def _refuse_copies(names: Sequence[str], there: set[SubTile], folder: Path) -> None:
    """Look into files with other names: they may hold a planned sub-tile once more."""
    expected = {f"{subtile.stem}.parquet" for subtile in there}
    for name in names:
        if name in expected or name.endswith(_SOURCES):
            continue
        found = _subtile_in(folder / name)
        if found in there:
            raise InputError(
                f"{folder / f'{found.stem}.parquet'} and {folder / name}: both are results of "
                f"sub-tile {found.stem}, expected one; remove the wrong one"
            )


def _subtile_in(path: Path) -> SubTile | None:
    """The sub-tile that a file speaks of; None if it is no result, of an earlier schema maybe."""
    try:
        rows = parquet.ParquetFile(path).read(columns=list(KEY)).to_pylist()
        return SubTile(*(rows[0][key] for key in KEY)) if len(rows) == 1 else None
    except (OSError, pa.ArrowException, KeyError):
        return None


def _middle_ra(low: float, high: float) -> float:
    """Of a range of right ascensions, degrees; across 0h its low end is above its high end."""
    return (low + 0.5 * ((high - low) % 360.0)) % 360.0
