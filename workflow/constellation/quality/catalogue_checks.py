"""Checks that a catalogue is whole: what must hold whatever is on the sky."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy import stats

from constellation.catalogue.published import PublishedCatalogue
from constellation.plan import Plan
from constellation.quality.check import Check, Finding, Limit
from constellation.quality.integrity import Tally, impossible_in_shear, missing_in_shear
from constellation.quality.settings import QualityConfig
from constellation.quality.sources import (
    SourceCounts,
    SourceReader,
    Truth,
    box_areas_arcmin2,
    repeated_ids,
)
from constellation.quality.subtiles import SubTiles, name_of, names_of, pack, pack_cells
from constellation.sphere import Floats, Integers
from constellation.tiling import CORE_SIZE_ARCMIN
from shine.errors import Status, SubtileFlag

_LEAST_FOR_DENSITY = 5
_LEAST_TAIL = 1e-300
_LEAST_SHARE = 0.5  # of a cell's box that the tile must own, to tell its density


@dataclass(frozen=True)
class CatalogueChecks:
    """The catalogue, its plan, and what is known of the truth."""

    catalogue: PublishedCatalogue
    plan: Plan
    settings: QualityConfig
    truth: Truth | None = None

    @cached_property
    def subtiles(self) -> SubTiles:
        """The rows of the shear table."""
        return SubTiles.of(self.catalogue.shear)

    @cached_property
    def counts(self) -> SourceCounts:
        """What the sources add up to."""
        return self._reader.count(self._files[0], self.subtiles.key, self.truth)

    @property
    def place(self) -> Integers:
        """(n,) where each sub-tile stands in `counts`."""
        return np.searchsorted(self.counts.key, self.subtiles.key)

    @property
    def true_shear(self) -> Floats:
        """Mean true shear of the galaxies of each sub-tile, (n, 2); NaN where not known."""
        return self.counts.mean_truth[self.place]

    def checks(self) -> list[Check]:
        """Those of integrity, then those of what was inferred and found."""
        return [
            Check.none_of("files", "source files that differ from files.parquet", *self._bad_files),
            self._planned(),
            self._duplicate_subtiles(),
            self._duplicate_sources(),
            self._missing().check("nulls", "values null or NaN where there must be one"),
            self._impossible().check("ranges", "values that cannot be"),
            self.counts.misplaced.check("positions", "sources outside their sub-tile"),
            self._source_counts(),
            self._failures(),
            self._convergence(),
            self._poor_fits(),
            self._source_density(),
        ]

    @property
    def _reader(self) -> SourceReader:
        return SourceReader(self.catalogue, self.plan)

    @cached_property
    def _files(self):
        return self._reader.files()

    @property
    def _bad_files(self) -> tuple[list[str], int]:
        bad = self._files[1]
        return bad[:3], len(bad)

    @cached_property
    def _planned_keys(self) -> Integers:
        cells = {}  # most tiles have the same
        parts = [np.zeros(0, np.int64)]
        for tile_id, subtiles in self.plan.by_tile.items():
            own = tuple((s.row, s.col) for s in subtiles)
            row, col = cells.setdefault(own, np.array(own, np.int64).T)
            parts.append(pack_cells(np.int64(tile_id), row, col))
        return np.concatenate(parts)

    def _planned(self) -> Check:
        done, failed = self.subtiles.key, pack(self.catalogue.failures)
        listed = np.union1d(done, failed)
        wrong = {
            "neither result nor failure": np.setdiff1d(self._planned_keys, listed),
            "not planned": np.setdiff1d(listed, self._planned_keys),
            "both result and failure": np.intersect1d(done, failed),
        }
        examples = [
            f"{what}: {len(keys)}, first {name_of(int(keys[0]))}"
            for what, keys in wrong.items()
            if len(keys)
        ]
        count = sum(map(len, wrong.values()))
        return Check.none_of("planned", "sub-tiles that differ from the plan", examples, count)

    def _duplicate_subtiles(self) -> Check:
        keys, counts = np.unique(self.subtiles.key, return_counts=True)
        repeated = keys[counts > 1]
        n = int((counts - 1).sum())
        meaning = "rows of sub-tiles that have another row"
        return Check.none_of("duplicate_subtiles", meaning, names_of(repeated), n)

    def _duplicate_sources(self) -> Check:
        n_rows = pc.sum(self.catalogue.files["N_ROWS"]).as_py() or 0
        count, ids = repeated_ids(self._files[0], n_rows)
        meaning = "rows of sources that have another row"
        return Check.none_of("duplicate_sources", meaning, [str(i) for i in ids], count)

    @cached_property
    def _names(self) -> pa.ChunkedArray:
        return pa.chunked_array([pa.array([name_of(int(key)) for key in self.subtiles.key])])

    def _missing(self) -> Tally:
        tally = self.counts.missing
        tally.add(missing_in_shear(self.catalogue.shear), self._names)
        return tally

    def _impossible(self) -> Tally:
        tally = self.counts.impossible
        tally.add(impossible_in_shear(self.catalogue.shear), self._names)
        return tally

    def _source_counts(self) -> Check:
        tally = self.counts.orphans
        differs = self.subtiles.n_sources != self.counts.n_used[self.place]
        tally.add(
            [("sub-tiles whose N_SOURCES is not that of their sources", differs)], self._names
        )
        return tally.check("source_counts", "sub-tiles and sources that do not fit together")

    def _failures(self) -> Check:
        n, planned = self.catalogue.failures.num_rows, len(self._planned_keys)
        classes = Counter(self.catalogue.failures["CLASS"].to_pylist())
        detail = ", ".join(f"{what}: {count}" for what, count in classes.most_common())
        most, share = self.settings.max_failures, n / planned
        found = Finding(share, None, f"{n} of {planned}" + (f"; {detail}" if detail else ""))
        meaning = "part of the planned sub-tiles without a result"
        return Check.of("failures", meaning, found, Limit(f"<= {most:g}", share <= most))

    def _convergence(self) -> Check:
        status = self.subtiles.status
        counts = {Status(s): int((status == s).sum()) for s in Status if (status == s).any()}
        nothing = counts.get(Status.NO_SOURCES, 0) + counts.get(Status.NO_QUADRANTS, 0)
        n, n_good = len(status) - nothing, counts.get(Status.OK, 0)
        meaning = "part of the sub-tiles with something to infer that converged"
        if not n:
            return Check.skipped("convergence", meaning, "no sub-tile has anything to infer")
        detail = ", ".join(f"{s.name}: {count}" for s, count in counts.items())
        least = self.settings.min_converged
        return Check.of(
            "convergence",
            meaning,
            _share(n_good, n, detail),
            Limit(f">= {least:g}", n_good >= least * n),
        )

    def _poor_fits(self) -> Check:
        n, n_poor = self.counts.n_used.sum(), self.counts.n_poor.sum()
        meaning = "part of the galaxies that carry shear with POOR_FIT"
        if not n:
            return Check.skipped("poor_fits", meaning, "no galaxy carries shear")
        share = self.counts.n_poor / np.maximum(self.counts.n_used, 1)
        worst = int(np.argmax(share))
        flagged = int((self.subtiles.flags & SubtileFlag.POOR_FIT > 0).sum())
        detail = f"most in {name_of(int(self.counts.key[worst]))}: {share[worst]:.3g}"
        detail += f"; sub-tiles with POOR_FIT: {flagged}"
        most = self.settings.max_poor_fits
        limit = Limit(f"<= {most:g}", n_poor <= most * n)
        return Check.of("poor_fits", meaning, _share(n_poor, n, detail), limit)

    @cached_property
    def areas_arcmin2(self) -> Floats:
        """(n,) the part of each sub-tile's box that its tile owns; 0 for unknown tiles."""
        areas = np.zeros(len(self.subtiles.key))
        order = np.argsort(self.subtiles.tile, kind="stable")
        tiles, first = np.unique(self.subtiles.tile[order], return_index=True)
        row, col = (
            self.catalogue.shear[name].to_numpy() for name in ("SUBTILE_ROW", "SUBTILE_COL")
        )
        for tile_id, start, stop in zip(
            tiles, first, np.append(first, len(order))[1:], strict=True
        ):
            rows = order[start:stop]
            if int(tile_id) in self.plan.by_tile:
                of_tile = box_areas_arcmin2(self.plan.grid(int(tile_id)))
                inside = (row[rows] < of_tile.shape[0]) & (col[rows] < of_tile.shape[1])
                areas[rows[inside]] = of_tile[row[rows[inside]], col[rows[inside]]]
        return areas

    @cached_property
    def density_sigma(self) -> Floats:
        """(n,) how improbable each sub-tile's number of galaxies is at the median density, in
        sigma; NaN where its box is hardly its tile's.
        """
        areas, count = self.areas_arcmin2, self.counts.n_boxed[self.place]
        cell = np.prod([CORE_SIZE_ARCMIN / n for n in self.plan.tiling.sub_tile_grid])
        known = areas > _LEAST_SHARE * cell
        if not known.any():
            return np.full(len(areas), np.nan)
        expected = np.median(count[known] / areas[known]) * areas
        return np.where(known, count_sigma(count, expected, self.settings.density_scatter), np.nan)

    def _source_density(self) -> Check:
        meaning = "sub-tiles whose density of galaxies is far from the median"
        known = np.isfinite(self.density_sigma)
        n = int(known.sum())
        if n < _LEAST_FOR_DENSITY:
            return Check.skipped(
                "source_density", meaning, f"{n} sub-tiles with galaxies are too few"
            )
        reach = float(stats.norm.isf(self.settings.false_alarm / (2.0 * n)))
        size = np.where(known, np.abs(self.density_sigma), 0.0)
        far = np.flatnonzero(size > reach)
        far = far[np.argsort(-size[far])]
        density = np.median(self.counts.n_boxed[self.place][known] / self.areas_arcmin2[known])
        named = [
            f"{name_of(int(self.subtiles.key[i]))} ({self.density_sigma[i]:+.1f})" for i in far[:3]
        ]
        detail = "; ".join([f"median {density:.1f} per arcmin2", *named])
        limit = Limit(f"0 beyond {reach:.2f} sigma", len(far) == 0)
        return Check.of("source_density", meaning, Finding(len(far), None, detail), limit)


def count_sigma(count: Integers, expected: Floats, scatter: float) -> Floats:
    """How far numbers (n,) are from those expected, in the sigma of as improbable a Gaussian.

    Poisson numbers about densities that scatter by a part `scatter` with a gamma distribution:
    together, the negative binomial distribution.
    """
    if scatter:
        shape = scatter**-2.0
        numbers = stats.nbinom(shape, shape / (shape + expected))
    else:
        numbers = stats.poisson(expected)
    high = count > expected
    tail = np.where(high, numbers.sf(count - 1), numbers.cdf(count))
    sigma = np.maximum(stats.norm.isf(np.maximum(tail, _LEAST_TAIL)), 0.0)
    return np.where(high, sigma, -sigma)


def _share(n: int, of: int, detail: str) -> Finding:
    """A part of a whole, with its binomial error; none and all of it have no estimate of one."""
    share = n / of
    error = np.sqrt(share * (1.0 - share) / of) if 0 < n < of else None
    return Finding(share, error, detail)
