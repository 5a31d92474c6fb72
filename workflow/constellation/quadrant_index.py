"""Reading the quadrant index: of a survey's millions of quadrants just those about some area."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from lsst import sphgeom
from pyarrow import parquet

from constellation.config import ExposureConfig
from constellation.exposure_choice import ExposureChoice
from constellation.sky_order import INDEX_SCHEMA, PIXELS, REACH, REPEATED, ROW_ORDER, corners_of
from constellation.spherical import Polygons
from constellation.survey_files import File
from constellation.tables import check_columns, unreadable
from constellation.tiling import Floats, Integers
from shine.errors import InputError, explain
from shine.storage import is_remote

GROUPS_KEPT = 64  # row groups in memory, of 2 MB each: those of neighbouring tiles are the same
BUILD_AGAIN = "Build the index again."
# what manifests and estimates are made of; the index has more, for people
_COLUMNS = (*ROW_ORDER, "FRAME", "BACKGROUND", "PSF", "WEIGHT", "NX", "NY", "MJD", "DATASUM")
_CORNERS = ("RA_CORNERS", "DEC_CORNERS")


@dataclass(frozen=True)
class Footprints:
    """Some quadrants of an index, sorted by exposure and name.

    `table` has the columns that manifests and estimates need, `polygons` the outline of each row,
    and `folder` is where relative paths start.
    """

    table: pa.Table
    polygons: Polygons
    folder: Path
    choice: ExposureChoice

    def overlapping(self, area: Floats) -> Integers:
        """Rows, ascending, that have a point in common with a convex polygon.

        `area` holds unit vectors (k, 3) of its corners; sides are great circles.
        """
        return self.polygons.overlapping(area)

    def needed(self, area: Floats, sources: Floats) -> Integers:
        """Those of them that are needed for the area's sources, at unit vectors (m, 3)."""
        rows = self.overlapping(area)
        if self.choice.takes_all:
            return rows
        table, polygons = self.table.take(rows), self.polygons[rows]
        return rows[self.choice.needed(table, polygons, sources)]

    def locate(self, path: str) -> File:
        """A file that the index names, as seen from here."""
        return path if is_remote(path) else self.folder / path


class QuadrantIndex:
    """An index file, of which little is read; raises `InputError` if it is none."""

    def __init__(self, path: Path, choice: ExposureChoice) -> None:
        self.path = path
        self.choice = choice
        try:
            metadata = parquet.read_metadata(path)
            schema = metadata.schema.to_arrow_schema()
            check_columns(schema, INDEX_SCHEMA, path, BUILD_AGAIN)
            self._reach_rad = _reach_rad(schema, path)
            self._file = parquet.ParquetFile(
                path, metadata=metadata, memory_map=True, read_dictionary=list(REPEATED)
            )
        except (OSError, pa.ArrowInvalid) as error:
            raise unreadable(path, error, BUILD_AGAIN) from error
        self._group = functools.lru_cache(GROUPS_KEPT)(self._read_group)

    @property
    def table(self) -> pa.Table:
        """All rows, sorted along the sky: of a whole survey many GB."""
        return self._file.read().cast(INDEX_SCHEMA)

    def near(self, areas: Floats) -> Footprints:
        """The quadrants that may touch some neighbouring polygons: unit vectors (n, k, 3).

        They are those whose circles reach the circle around all the polygons, of the exposures that
        are used.
        """
        [centre], [radius_rad] = Polygons(areas.reshape(1, -1, 3)).circles
        tables, polygons = [], []
        for number in self._groups_near(centre, radius_rad):
            table, outlines = self._group(int(number))
            rows = outlines.near(centre, radius_rad)
            tables.append(table.take(rows).cast(_plain(_COLUMNS)))
            polygons.append(outlines.corners[rows])
        found = pa.concat_tables([_plain(_COLUMNS).empty_table(), *tables])
        order = pc.sort_indices(found, [(name, "ascending") for name in ROW_ORDER]).to_numpy()
        order = order[self.choice.used(found, self.path)[order]]
        corners = np.concatenate([np.empty((0, 4, 3)), *polygons])[order]
        return Footprints(found.take(order), Polygons(corners), self.path.parent, self.choice)

    def _groups_near(self, centre: Floats, radius_rad: float) -> Integers:
        """Numbers of the row groups with quadrants whose circles may reach a circle."""
        reach = sphgeom.Angle(radius_rad + self._reach_rad)
        circle = sphgeom.Circle(sphgeom.UnitVector3d(*centre), reach)
        first, last = self._pixel_ranges
        wanted = np.zeros(len(first), dtype=bool)
        for begin, end in PIXELS.envelope(circle):
            wanted |= (first < end) & (last >= begin)
        return np.flatnonzero(wanted)

    @cached_property
    def _pixel_ranges(self) -> tuple[Integers, Integers]:
        """First and last pixel of each row group."""
        metadata = self._file.metadata
        column = metadata.schema.names.index("PIXEL")
        statistics = [
            metadata.row_group(number).column(column).statistics
            for number in range(metadata.num_row_groups)
        ]
        first, last = (
            np.array([getattr(one, side) for one in statistics], dtype=np.int64)
            for side in ("min", "max")
        )
        return first, last

    def _read_group(self, number: int) -> tuple[pa.Table, Polygons]:
        table = self._file.read_row_group(number, [*_COLUMNS, *_CORNERS], use_threads=False)
        return table.select(_COLUMNS), Polygons(corners_of(table))


def read_index(path: Path, exposures: ExposureConfig | None = None) -> QuadrantIndex:
    """Open an index, to use the exposures that are asked for.

    Raises `InputError` if it is missing or has another schema.
    """
    return QuadrantIndex(path, ExposureChoice(exposures or ExposureConfig()))


def _reach_rad(schema: pa.Schema, path: Path) -> float:
    """The largest radius of a quadrant: how far from an area its centre may be."""
    text = (schema.metadata or {}).get(REACH.encode())
    if text is None:
        raise InputError(explain(f"{path}, metadata", f"no {REACH}", "it", BUILD_AGAIN))
    return float(text)


def _plain(names: tuple[str, ...]) -> pa.Schema:
    return pa.schema([INDEX_SCHEMA.field(name) for name in names])
