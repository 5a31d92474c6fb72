"""One pass over the source files of a catalogue, some rows at a time.

The memory needed does not grow with the survey, but for a few numbers per sub-tile.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from constellation.catalogue.published import PublishedCatalogue
from constellation.catalogue.schema import KEY, SOURCES
from constellation.plan import Plan
from constellation.quality.integrity import (
    FITTED,
    Tally,
    impossible_in_sources,
    missing_in_sources,
)
from constellation.quality.subtiles import floats, integers, pack
from constellation.sphere import Flags, Floats, Integers, unit_vectors
from constellation.tables import check_columns, unreadable
from constellation.tiling import Grid, cell_edges
from shine.errors import Kind, SourceFlag

COLUMNS = (
    *KEY, "OBJECT_ID", "RA", "DEC", "KIND", *FITTED, "CHI2", "N_PIXELS", "N_EXPOSURES", "FLAGS",
    "PSF_E1", "PSF_E2", "PSF_FWHM",
)  # fmt: skip
BATCH_ROWS = 100_000
MOST_IDS = 100_000_000  # identifiers compared at a time, of 8 bytes
_AGAIN = "Publish the catalogue again with `constellation assemble`."


@dataclass
class SourceCounts:
    """What the sources of each of n sub-tiles add up to, in the order of `key`, ascending.

    `n_used` galaxies that carry the shear, `n_boxed` those of them in the sub-tile's own box,
    `n_poor` those of them flagged POOR_FIT; `truth` the sums of the true shears of `n_truth`
    galaxies. `orphans` are sources of sub-tiles without a row.
    """

    key: Integers
    n_used: Integers
    n_boxed: Integers
    n_poor: Integers
    n_truth: Integers
    truth: Floats  # (n, 2)
    missing: Tally = field(default_factory=Tally)
    impossible: Tally = field(default_factory=Tally)
    misplaced: Tally = field(default_factory=Tally)
    orphans: Tally = field(default_factory=Tally)

    @classmethod
    def of(cls, key: Integers) -> SourceCounts:
        """Nothing counted yet."""
        key = np.unique(key)
        counts = (np.zeros(len(key), np.int64) for _ in range(4))
        return cls(key, *counts, np.zeros((len(key), 2)))

    @property
    def mean_truth(self) -> Floats:
        """Mean true shear (n, 2) of the galaxies that carry the shear; NaN where not known."""
        count = self.n_truth[:, None]
        return np.where(count > 0, self.truth / np.maximum(count, 1), np.nan)


@dataclass(frozen=True)
class Truth:
    """True shears (n, 2) by identifier, ascending."""

    object_id: Integers
    shear: Floats

    @classmethod
    def of(cls, table: pa.Table) -> Truth:
        """From a table with OBJECT_ID, G1, G2."""
        object_id = integers(table, "OBJECT_ID")
        order = np.argsort(object_id, kind="stable")
        shear = np.column_stack([floats(table, "G1"), floats(table, "G2")])
        return cls(object_id[order], shear[order])

    def of_sources(self, object_id: Integers) -> Floats:
        """(m, 2), NaN where there is none."""
        if not len(self.object_id):
            return np.full((len(object_id), 2), np.nan)
        place = np.minimum(np.searchsorted(self.object_id, object_id), len(self.object_id) - 1)
        known = self.object_id[place] == object_id
        return np.where(known[:, None], self.shear[place], np.nan)


@dataclass(frozen=True)
class SourceReader:
    """Reads the source files that are as the table of files says."""

    catalogue: PublishedCatalogue
    plan: Plan

    def files(self) -> tuple[list[Path], list[str]]:
        """The files that are there with the size and rows that are listed, and what is wrong with
        the others.
        """
        good, bad = [], []
        listed = self.catalogue.files.select(["PATH", "N_BYTES", "N_ROWS"]).to_pydict()
        for name, n_bytes, n_rows in zip(*listed.values(), strict=True):
            path = self.catalogue.folder / name
            try:
                found = path.stat().st_size, parquet.read_metadata(path).num_rows
            except (OSError, pa.ArrowInvalid) as error:
                bad.append(f"{name}: {' '.join(str(error).split())}")
                continue
            if found == (n_bytes, n_rows):
                good.append(path)
            else:
                expected = f"{n_bytes} bytes, {n_rows} rows"
                bad.append(f"{name}: {found[0]} bytes, {found[1]} rows instead of {expected}")
        return good, bad

    def count(self, paths: list[Path], key: Integers, truth: Truth | None) -> SourceCounts:
        """Look at every source once."""
        counts = SourceCounts.of(key)
        for path in paths:
            for rows in batches(path, COLUMNS):
                self._add(rows, counts, truth)
        return counts

    def _add(self, rows: pa.Table, counts: SourceCounts, truth: Truth | None) -> None:
        names = rows["OBJECT_ID"].cast(pa.string())
        counts.missing.add(missing_in_sources(rows), names)
        counts.impossible.add(impossible_in_sources(rows), names)
        right, boxed = self._places(rows)
        counts.misplaced.add([("sources of another sub-tile", ~right)], names)
        key = pack(rows)
        place = np.minimum(np.searchsorted(counts.key, key), max(len(counts.key) - 1, 0))
        known = counts.key[place] == key if len(counts.key) else np.zeros(len(key), bool)
        counts.orphans.add([("sources of a sub-tile without a row", ~known)], names)
        carries = known & (integers(rows, "KIND") == Kind.GALAXY)
        used = carries & (integers(rows, "N_EXPOSURES") > 0)
        poor = used & (integers(rows, "FLAGS", 0) & SourceFlag.POOR_FIT > 0)
        for total, chosen in (
            (counts.n_used, used),
            (counts.n_boxed, used & boxed),
            (counts.n_poor, poor),
        ):
            np.add.at(total, place[chosen], 1)
        if truth is not None:
            shear = truth.of_sources(integers(rows, "OBJECT_ID"))
            chosen = carries & np.isfinite(shear).all(axis=1)
            np.add.at(counts.truth, place[chosen], shear[chosen])
            np.add.at(counts.n_truth, place[chosen], 1)

    def _places(self, rows: pa.Table) -> tuple[Flags, Flags]:
        """Which sources (n,) are in the sub-tile that owns them, or have no position; and which
        are in its box.
        """
        ra, dec = floats(rows, "RA"), floats(rows, "DEC")
        placed = np.isfinite(ra) & np.isfinite(dec) & (np.abs(dec) <= 90.0)
        right, boxed = ~placed, np.zeros(len(ra), bool)
        tile, row, col = (integers(rows, name) for name in KEY)
        for tile_id in np.unique(tile[placed]):
            chosen = np.flatnonzero(placed & (tile == tile_id))
            if tile_id not in self.plan.by_tile:
                continue
            grid = self.plan.grid(int(tile_id))
            vectors = unit_vectors(ra[chosen], dec[chosen])
            own_row, own_col = grid.core_cells(vectors)
            owned = (own_row == row[chosen]) & (own_col == col[chosen])
            half = cell_edges(1)[1]
            inside = (np.abs(grid.plane.project(vectors)) <= half).all(axis=0)
            right[chosen], boxed[chosen] = owned, owned & inside
        return right, boxed


def batches(path: Path, columns: tuple[str, ...]) -> Iterator[pa.Table]:
    """The rows of a source file, some at a time; raises `InputError`."""
    try:
        with parquet.ParquetFile(path) as file:
            check_columns(file.schema_arrow, SOURCES, path, _AGAIN)
            for batch in file.iter_batches(BATCH_ROWS, columns=list(columns)):
                yield pa.Table.from_batches([batch])
    except (OSError, pa.ArrowInvalid) as error:
        raise unreadable(path, error, _AGAIN) from error


def repeated_ids(paths: list[Path], n_rows: int, most: int = MOST_IDS) -> tuple[int, list[int]]:
    """How many rows repeat an OBJECT_ID of another, and the first identifiers.

    Holds `most` identifiers at a time, and reads the column again for each such share of them.
    """
    shares = max(1, -(-n_rows // most))
    count, examples = 0, []
    for share in range(shares):
        parts = [np.zeros(0, np.int64)]
        for path in paths:
            for rows in batches(path, ("OBJECT_ID",)):
                ids = integers(rows, "OBJECT_ID")
                parts.append(ids[_mixed(ids) % shares == share] if shares > 1 else ids)
        ids = np.sort(np.concatenate(parts))
        repeated = ids[1:][np.diff(ids) == 0]
        count += len(repeated)
        examples += np.unique(repeated)[:3].tolist()
    return count, sorted(examples)[:3]


def _mixed(ids: Integers) -> np.ndarray:
    """Bits that share identifiers out evenly, whatever their pattern (Knuth's multiplier)."""
    return (ids.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(40)


def box_areas_arcmin2(grid: Grid, points: int = 96) -> Floats:
    """Area (R, C) of each cell's box that its tile owns, from a lattice of points.

    Without what an outer cell takes in beyond the box, which is open where the survey ends.
    """
    steps = [max(4, -(-points // n)) for n in grid.shape]
    eta, xi = (_middles(cell_edges(n), step) for n, step in zip(grid.shape, steps, strict=True))
    vectors = grid.plane.unproject(*np.meshgrid(xi, eta)).reshape(-1, 3)
    owned = grid.core_cells(vectors)[0].reshape(len(eta), len(xi)) >= 0
    share = owned.reshape(grid.shape[0], steps[0], grid.shape[1], steps[1]).mean(axis=(1, 3))
    sides = [np.degrees(np.diff(cell_edges(n))[0]) * 60.0 for n in grid.shape]
    return share * sides[0] * sides[1]


def _middles(edges: Floats, steps: int) -> Floats:
    inside = (np.arange(steps) + 0.5) / steps
    return (edges[:-1, None] + np.diff(edges)[:, None] * inside).ravel()
