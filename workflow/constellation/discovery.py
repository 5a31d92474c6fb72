"""The quadrant index: where on the sky each detector quadrant lies, read from headers alone."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
from astropy.utils.exceptions import AstropyWarning
from lsst import sphgeom
from tqdm import tqdm

from constellation.exposure_headers import INDEX_SCHEMA, ExposureReader
from constellation.index_cache import KeptRows
from constellation.survey_files import ExposureFiles, File
from constellation.tables import read_table, write_table
from constellation.tiling import Floats, Integers, unit_vectors
from shine.storage import is_remote

logger = logging.getLogger(__name__)

EXPOSURES_AT_A_TIME = 4  # from S3, where most of the time is spent waiting


@dataclass(frozen=True)
class QuadrantIndex:
    """All quadrants of a survey; `table` has INDEX_SCHEMA, `folder` is where paths start."""

    table: pa.Table
    folder: Path

    def locate(self, path: str) -> File:
        """A file that the index names, as seen from here."""
        return path if is_remote(path) else self.folder / path

    @cached_property
    def _corners(self) -> Floats:
        ra, dec = (
            np.array(self.table[name].to_pylist(), dtype=np.float64).reshape(-1, 4)
            for name in ("RA_CORNERS", "DEC_CORNERS")
        )
        return unit_vectors(ra, dec)

    @cached_property
    def _circles(self) -> tuple[Floats, Floats]:
        return _bounding_circles(self._corners)

    def overlapping(self, polygon: Floats) -> Integers:
        """Row numbers, ascending, of the quadrants that overlap a convex spherical polygon.

        `polygon` holds unit vectors (n, 3) of its corners; sides are great circles.
        """
        centre, radius = _bounding_circles(polygon[None])
        centres, radii = self._circles
        distance = 2.0 * np.arcsin(
            np.clip(np.linalg.norm(centres - centre, axis=-1) / 2.0, 0.0, 1.0)
        )
        area = convex_polygon(polygon)
        return np.array(
            [
                row
                for row in np.flatnonzero(distance <= radii + radius)
                if not convex_polygon(self._corners[row]).isDisjointFrom(area)
            ],
            dtype=np.int64,
        )


def convex_polygon(corners: Floats) -> sphgeom.ConvexPolygon:
    """The convex spherical polygon around unit vectors (n, 3)."""
    return sphgeom.ConvexPolygon.convexHull([sphgeom.UnitVector3d(*corner) for corner in corners])


def build_index(
    exposures: Iterable[ExposureFiles], folder: Path, kept: KeptRows | None = None
) -> pa.Table:
    """Read the headers of all exposures, but of those whose rows are kept; shows its progress.

    Relative paths are re-based to `folder`, the index's. The table has INDEX_SCHEMA and is the same
    whatever was kept. Raises `InputError` naming the file and HDU of what is missing or damaged;
    what was read until then, or until an interruption, is kept.
    """
    ordered = sorted(exposures, key=lambda files: files.exposure)
    tables = {files: kept.find(files, folder) if kept else None for files in ordered}
    missing = [files for files in ordered if tables[files] is None]
    logger.info("%d of %d exposures are to be read", len(missing), len(ordered))
    tables.update(zip(missing, _read(missing, folder, kept), strict=True))
    if kept:
        kept.remove_others(ordered)
    # the same chunks and metadata, so that the same bytes are written
    columns = pa.concat_tables([INDEX_SCHEMA.empty_table(), *map(_bare, tables.values())])
    return columns.combine_chunks()


def write_index(table: pa.Table, path: Path) -> None:
    """Write an index atomically, as Parquet."""
    write_table(table, path)


def read_index(path: Path) -> QuadrantIndex:
    """Read an index; raises `InputError` if it is missing or has another schema."""
    return QuadrantIndex(read_table(path, INDEX_SCHEMA, "Build the index again."), path.parent)


def _read(
    exposures: Sequence[ExposureFiles], folder: Path, kept: KeptRows | None
) -> list[pa.Table]:
    """The rows of each exposure, in their order; kept as soon as they are read."""
    if not exposures:
        return []
    reader = ExposureReader(folder)

    def read(files: ExposureFiles) -> pa.Table:
        table = reader.read(files)
        if kept:
            kept.keep(files, folder, table)
        return table

    remote = any(is_remote(files.frame) for files in exposures)
    pool = ThreadPoolExecutor(EXPOSURES_AT_A_TIME if remote else 1)
    try:
        # threads that ignore warnings for a time, each by itself, undo each other's settings
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AstropyWarning)
            tables = pool.map(read, exposures)
            return list(tqdm(tables, total=len(exposures), unit="exposure", desc="indexing"))
    finally:
        pool.shutdown(cancel_futures=True)


def _bare(table: pa.Table) -> pa.Table:
    """The table without what Parquet adds to its metadata."""
    return pa.Table.from_arrays([table[name] for name in INDEX_SCHEMA.names], schema=INDEX_SCHEMA)


def _bounding_circles(corners: Floats) -> tuple[Floats, Floats]:
    """Centres (n, 3) and radii (n,) in radian of circles around polygons (n, k, 3)."""
    centres = corners.sum(axis=1)
    centres /= np.linalg.norm(centres, axis=-1, keepdims=True)
    chords = np.linalg.norm(corners - centres[:, None], axis=-1).max(axis=1)
    return centres, 2.0 * np.arcsin(np.clip(chords / 2.0, 0.0, 1.0)) + 1e-12
