"""A campaign's files by the sub-tiles they belong to, from listings of folders alone."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from constellation.outcome import Results
from constellation.plan import Plan

Cells = tuple[tuple[int, int], ...]
_SIDE = 128  # rows and columns are below it: int8 in the results


@dataclass(frozen=True)
class Planned:
    """The n planned sub-tiles without an object for each: `tile_ids` (t,) and each tile's cells.

    A sub-tile's place is its number in the plan's order: by tile, row, column.
    """

    tile_ids: NDArray[np.int64]
    cells: tuple[Cells, ...]

    @classmethod
    def of(cls, plan: Plan) -> Planned:
        """The same sub-tiles as `plan.by_tile`, where no area is cut out without making them."""
        if plan.tiling.area is not None:
            cells = tuple(tuple((s.row, s.col) for s in found) for found in plan.by_tile.values())
            return cls(np.array(list(plan.by_tile), dtype=np.int64), cells)
        n_rows, n_cols = plan.tiling.sub_tile_grid
        whole = tuple((row, col) for row in range(n_rows) for col in range(n_cols))
        return cls(plan.tiles.index, (whole,) * len(plan.tiles.index))

    @cached_property
    def first(self) -> NDArray[np.int64]:
        """The place of each tile's first sub-tile, and n at the end: (t + 1,)."""
        return np.concatenate([[0], np.cumsum([len(cells) for cells in self.cells])]).astype(int)

    @cached_property
    def keys(self) -> NDArray[np.int64]:
        """One ascending number per sub-tile, (n,)."""
        tiles = np.repeat(np.arange(len(self.cells)), np.diff(self.first))
        cells = {cells: [row * _SIDE + col for row, col in cells] for cells in set(self.cells)}
        return tiles * _SIDE**2 + np.concatenate([cells[one] for one in self.cells])

    def places(
        self, tile_ids: NDArray, rows: NDArray, cols: NDArray
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """The places of sub-tiles (k,), and which of them are planned at all (k,)."""
        tiles = np.minimum(np.searchsorted(self.tile_ids, tile_ids), len(self.tile_ids) - 1)
        keys = tiles * _SIDE**2 + rows.astype(np.int64) * _SIDE + cols
        places = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        known = (self.tile_ids[tiles] == tile_ids) & (self.keys[places] == keys)
        return places, known

    def place(self, stem: str) -> int | None:
        """The place of the sub-tile with this name; None if there is none."""
        parts = stem.split("_")
        if len(parts) != 3 or not all(part.isdecimal() for part in parts):
            return None
        [place], [known] = self.places(*(np.array([int(part)]) for part in parts))
        return int(place) if known else None

    def tile_of(self, place: int) -> int:
        """The number of a sub-tile's tile in the list."""
        return int(np.searchsorted(self.first, place, side="right") - 1)

    def name(self, place: int) -> str:
        """`{tile}/{tile}_{row}_{col}`, as its files are called below their folders."""
        tile = self.tile_of(place)
        row, col = self.cells[tile][place - self.first[tile]]
        return f"{self.tile_ids[tile]}/{self.tile_ids[tile]}_{row}_{col}"


@dataclass(frozen=True)
class Scan:
    """Which results are there, (n,), which sub-tiles have a log but none, and folders' times (t,).

    `changed_s` is when a name was last added to or removed from a tile's folder of results.
    """

    done: NDArray[np.bool_]
    attempted: list[int]
    changed_s: NDArray[np.float64]


@dataclass(frozen=True)
class CampaignFiles:
    """The files that a run has made of the planned sub-tiles."""

    planned: Planned
    results: Results

    def scan(self) -> Scan:
        """List each tile's folders; raises `InputError` if a store refuses."""
        planned = self.planned
        done = np.zeros(planned.first[-1], dtype=bool)
        attempted: list[int] = []
        changed_s = np.zeros(len(planned.tile_ids))
        ends = {cells: [f"_{row}_{col}" for row, col in cells] for cells in set(planned.cells)}
        list_results, list_logs = (self._lister(name) for name in ("subtiles", "logs/subtiles"))
        for n, (tile_id, cells) in enumerate(
            zip(planned.tile_ids.tolist(), planned.cells, strict=True)
        ):
            tile = str(tile_id)
            names, logs = list_results(tile), list_logs(tile)
            if not names and not logs:
                continue
            stems = [tile + end for end in ends[cells]]
            first = planned.first[n]
            there = [f"{stem}.parquet" in names for stem in stems]
            done[first : first + len(stems)] = there
            if logs and not all(there):
                attempted += [
                    int(first) + k
                    for k, stem in enumerate(stems)
                    if not there[k] and f"{stem}.log" in logs
                ]
            if not self.results.is_remote and names:
                changed_s[n] = _changed_s(self.results.path(f"subtiles/{tile}"))
        return Scan(done, attempted, changed_s)

    def finish_times(self, scan: Scan, since_s: float) -> Iterator[float]:
        """When the results that are not older than `since_s` were written, s since the epoch.

        A folder that has not changed since then cannot hold any. None of a store's is known.
        """
        for tile in np.flatnonzero(scan.changed_s >= since_s):
            first, after = self.planned.first[tile : tile + 2]
            for place in first + np.flatnonzero(scan.done[first:after]):
                path = self.results.path(f"subtiles/{self.planned.name(int(place))}.parquet")
                if (time_s := _changed_s(path)) >= since_s:
                    yield time_s

    def _lister(self, folder: str) -> Callable[[str], Set[str]]:
        """A function that returns the names in a tile's folder."""
        if self.results.is_remote:
            found = self.results.names_by_tile(folder)
            return lambda tile: found.get(tile, _NOTHING)
        top = self.results.path(folder)

        def names(tile: str) -> Set[str]:
            try:
                return set(os.listdir(f"{top}/{tile}"))  # noqa: PTH208, a million names
            except (FileNotFoundError, NotADirectoryError):
                return _NOTHING

        return names


_NOTHING: frozenset[str] = frozenset()


def _changed_s(path: str) -> float:
    try:
        return os.stat(path).st_mtime  # noqa: PTH116
    except FileNotFoundError:  # removed meanwhile, to be made again
        return 0.0
