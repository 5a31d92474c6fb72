"""Which of a campaign's results have not converged, without opening a file per sub-tile."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import dataset, parquet

from constellation.campaign_files import Planned, Scan
from constellation.outcome import Results
from shine.errors import InputError, Status
from shine.result_schema import SHEAR_SCHEMA
from shine.storage import open_file

COLUMNS = ("TILE_ID", "SUBTILE_ROW", "SUBTILE_COL", "STATUS")
_SCHEMA = pa.schema([SHEAR_SCHEMA.field(name) for name in COLUMNS])
_UNKNOWN = -1


@dataclass(frozen=True)
class Known:
    """Places of the done sub-tiles that have not converged, and of how many STATUS is known."""

    not_converged: NDArray[np.int64]
    n_looked: int


@dataclass
class Convergence:
    """Reads STATUS: from the merged catalogue if it is there, else from tiles' catalogues, else
    from results; a bounded number of files each time, spread over the campaign, and each once.
    """

    planned: Planned
    results: Results
    status: NDArray[np.int8] = field(init=False)  # (n,)
    read_s: NDArray[np.float64] = field(init=False)  # (n,) state of the folder it was read at

    def __post_init__(self) -> None:
        n = int(self.planned.first[-1])
        self.status = np.full(n, _UNKNOWN, dtype=np.int8)
        self.read_s = np.zeros(n)

    def look(self, scan: Scan, most_files: int) -> Known:
        """Read on; files of a store are not opened, but for the merged catalogue."""
        changed_s = np.repeat(scan.changed_s, np.diff(self.planned.first))
        self.status[(self.read_s != changed_s) | ~scan.done] = _UNKNOWN
        self._read_merged(scan, changed_s)
        if not self.results.is_remote:
            catalogues, single = self._unread(scan)
            chosen = _spread(catalogues, most_files)
            chosen += _spread(single, most_files - len(chosen))
            if chosen:
                self._keep(self._read(chosen), scan.done, changed_s)
        known = self.status != _UNKNOWN
        unconverged = np.flatnonzero(self.status == int(Status.NOT_CONVERGED))
        return Known(unconverged, int(known.sum()))

    def _unread(self, scan: Scan) -> tuple[list[str], list[str]]:
        """Tiles' catalogues that are as new as their results, and results of the other tiles."""
        unknown = scan.done & (self.status == _UNKNOWN)
        per_tile = np.add.reduceat(unknown, self.planned.first[:-1])
        catalogues, single = [], []
        made_s = _times(self.results.path("tiles"))
        for tile in np.flatnonzero(per_tile):
            tile_id = int(self.planned.tile_ids[tile])
            if made_s.get(f"{tile_id}.parquet", -1.0) >= scan.changed_s[tile]:
                catalogues.append(self.results.path(f"tiles/{tile_id}.parquet"))
                continue
            first, after = self.planned.first[tile : tile + 2]
            for place in first + np.flatnonzero(unknown[first:after]):
                name = self.planned.name(int(place))
                single.append(self.results.path(f"subtiles/{name}.parquet"))
        return catalogues, single

    def _read_merged(self, scan: Scan, changed_s: NDArray[np.float64]) -> None:
        path = self.results.path("catalogue/shear.parquet")
        made_s = np.inf if self.results.is_remote else _time(path)
        fresh = scan.done & (changed_s <= made_s)
        if not fresh.any():
            return
        try:
            with open_file(path) as file:
                table = parquet.read_table(file.stream, columns=list(COLUMNS))
        except (InputError, OSError, pa.ArrowInvalid, pa.ArrowKeyError):
            return  # not there yet, or not one: the files that it is made of are
        self._keep(table, fresh, changed_s)

    def _read(self, paths: Sequence[str]) -> pa.Table:
        """The rows of many small files; one that cannot be read tells nothing."""
        try:
            return dataset.dataset(list(paths), schema=_SCHEMA, format="parquet").to_table()
        except (OSError, pa.ArrowInvalid):
            if len(paths) == 1:
                return _SCHEMA.empty_table()
        middle = len(paths) // 2
        return pa.concat_tables([self._read(paths[:middle]), self._read(paths[middle:])])

    def _keep(
        self, table: pa.Table, wanted: NDArray[np.bool_], changed_s: NDArray[np.float64]
    ) -> None:
        if table.num_rows == 0:
            return
        tile_ids, rows, cols, status = (table[name].to_numpy() for name in COLUMNS)
        places, known = self.planned.places(tile_ids, rows, cols)
        known &= wanted[places]
        self.status[places[known]] = status[known]
        self.read_s[places[known]] = changed_s[places[known]]


def _spread(items: Sequence[str], n: int) -> list[str]:
    """At most n of the items, evenly from first to last."""
    if len(items) <= n:
        return list(items)
    return [items[k] for k in np.linspace(0, len(items) - 1, max(n, 0)).astype(int)]


def _times(folder: str) -> dict[str, float]:
    """When each file of a folder was last written, s since the epoch."""
    try:
        with os.scandir(folder) as entries:
            return {entry.name: entry.stat().st_mtime for entry in entries}
    except FileNotFoundError:
        return {}


def _time(path: str) -> float:
    try:
        return Path(path).stat().st_mtime
    except FileNotFoundError:
        return -1.0
