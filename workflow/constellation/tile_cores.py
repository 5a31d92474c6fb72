"""The true cores of tiles as HEALPix cells, as the official tile index gives them.

A core is a multi-order coverage map (MOC): cells of several levels, each written as one NUNIQ
number, 4 * 4^level + its place in nested order (IVOA MOC standard, https://ivoa.net/documents/MOC).
On the finest level a cell is a range of places, and all cores together a sorted list of such
ranges: who owns a position is one binary search, however many tiles there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from constellation.sphere import Floats, Integers
from shine.errors import InputError

FINEST_LEVEL = 29  # the deepest whose cells int64 numbers
NOBODY = -1


@dataclass(frozen=True)
class TileCores:
    """The cores of n tiles: `nuniq` int64 (m,) of all cells, those of tile i from `first[i]` on.

    `first` is int64 (n + 1,); a tile may have no cell.
    """

    nuniq: Integers
    first: Integers

    @classmethod
    def from_lists(cls, cells: Sequence[Integers]) -> TileCores:
        """Put together the cells of each tile; raises `InputError` as `checked`."""
        first = np.concatenate([[0], np.cumsum([len(own) for own in cells])]).astype(np.int64)
        nuniq = np.concatenate([np.asarray(own, np.int64) for own in cells])
        return cls(nuniq, first).checked()

    def checked(self) -> TileCores:
        """Return the same; raises `InputError` on a number that is no cell's."""
        bad = (self.nuniq < 4) | (self.nuniq >= 4 ** (FINEST_LEVEL + 2))
        if bad.any():
            raise InputError(f"{self.nuniq[bad][0]} is no NUNIQ number of a HEALPix cell")
        return self

    def of(self, place: int) -> Integers:
        """NUNIQ numbers of the cells of one tile."""
        return self.nuniq[self.first[place] : self.first[place + 1]]

    def take(self, places: Integers) -> TileCores:
        """The cores of some tiles, in the order of `places`."""
        counts = np.diff(self.first)[places]
        return TileCores(
            self.nuniq[_spread(self.first[places], counts)],
            np.concatenate([[0], np.cumsum(counts)]),
        )

    def ranges(self, places: Integers) -> CoreRanges:
        """Who owns what, among the tiles at `places` (ascending)."""
        chosen = self.take(places)
        level, cell = levels_and_cells(chosen.nuniq)
        shift = 2 * (FINEST_LEVEL - level)
        owner = np.repeat(places, np.diff(chosen.first))
        return CoreRanges.of(cell << shift, (cell + 1) << shift, owner)


@dataclass(frozen=True)
class CoreRanges:
    """Disjoint ranges `start` <= place < `end` of the finest level, ascending, and their owners."""

    start: Integers
    end: Integers
    owner: Integers

    @classmethod
    def of(cls, start: Integers, end: Integers, owner: Integers) -> CoreRanges:
        """Sort ranges; where several hold a place, the smallest `owner` does."""
        order = np.argsort(start, kind="stable")
        start, end, owner = start[order], end[order], owner[order]
        # a cluster of ranges that overlap ends where none of those before reaches on
        begins = np.ones(len(start), bool)
        begins[1:] = start[1:] >= np.maximum.accumulate(end)[:-1]
        cluster = np.cumsum(begins) - 1
        alone = np.bincount(cluster)[cluster] == 1 if len(start) else begins
        painted = _paint(start[~alone], end[~alone], owner[~alone])
        lone = start[alone], end[alone], owner[alone]
        parts = [np.concatenate(pair) for pair in zip(lone, painted, strict=True)]
        order = np.argsort(parts[0], kind="stable")
        return cls(*(part[order] for part in parts))._joined()

    def owners(self, vectors: Floats) -> Integers:
        """Owners (n,) of positions given as unit vectors (n, 3), `NOBODY` where there is none."""
        from astropy_healpix import xyz_to_healpix

        owner = np.full(len(vectors), NOBODY, np.int64)
        if len(vectors) == 0 or len(self.start) == 0:
            return owner
        place = xyz_to_healpix(*vectors.T, nside=2**FINEST_LEVEL, order="nested")
        found = np.searchsorted(self.start, place, side="right") - 1
        inside = (found >= 0) & (place < self.end[found])
        owner[inside] = self.owner[found[inside]]
        return owner

    def _joined(self) -> CoreRanges:
        """Neighbours of one owner as one range: a third of the cells, or fewer."""
        cut = np.ones(len(self.start) + 1, bool)
        cut[1:-1] = (self.start[1:] != self.end[:-1]) | (self.owner[1:] != self.owner[:-1])
        return CoreRanges(self.start[cut[:-1]], self.end[cut[1:]], self.owner[cut[:-1]])


def levels_and_cells(nuniq: Integers) -> tuple[Integers, Integers]:
    """Level, and place in nested order, of each cell: both int64 (n,)."""
    # imported where it is needed: it takes a second, and most tile lists have no cores
    from astropy_healpix import uniq_to_level_ipix

    level, cell = uniq_to_level_ipix(nuniq)
    return level.astype(np.int64), cell.astype(np.int64)


def outlines(nuniq: Integers, steps: int) -> Floats:
    """Points on the borders of cells, as unit vectors (n, 4 * steps, 3), the corners among them."""
    from astropy_healpix import healpix_to_xyz

    level, cell = levels_and_cells(nuniq)
    along = np.arange(steps) / steps
    low, high = np.zeros(steps), np.ones(steps)
    dx = np.concatenate([along, high, 1.0 - along, low])
    dy = np.concatenate([low, along, high, 1.0 - along])
    points = healpix_to_xyz(cell[:, None], 2 ** level[:, None], dx, dy, order="nested")
    return np.stack(points, axis=-1)


def _paint(start: Integers, end: Integers, owner: Integers) -> tuple[Integers, Integers, Integers]:
    """Overlapping ranges as disjoint ones, each with the smallest of its owners."""
    edges = np.unique(np.concatenate([start, end]))
    first, last = np.searchsorted(edges, start), np.searchsorted(edges, end)
    unowned = np.iinfo(np.int64).max
    smallest = np.full(max(len(edges) - 1, 0), unowned)
    np.minimum.at(smallest, _spread(first, last - first), np.repeat(owner, last - first))
    kept = smallest != unowned
    return edges[:-1][kept], edges[1:][kept], smallest[kept]


def _spread(first: Integers, counts: Integers) -> Integers:
    """`first[i]`, `first[i] + 1`, ... of which there are `counts[i]`, for one i after the other."""
    before = np.cumsum(counts) - counts
    return np.arange(counts.sum()) + np.repeat(first - before, counts)
