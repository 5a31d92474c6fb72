"""Which exposures of the index are used: by date, by a list, and how many of each source."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import csv

from constellation.config import ExposureConfig
from constellation.spherical import Polygons
from constellation.tiling import Flags, Floats, Integers
from shine.errors import InputError, explain

LIST_COLUMNS = ("OBS_ID", "DITHER")
# Detectors are up to 70 arcsec apart: so far beyond one, a source still counts as in its field.
GAP_ARCSEC = 40.0
_GAP_RAD = float(np.deg2rad(GAP_ARCSEC / 3600.0))


@dataclass(frozen=True)
class ExposureChoice:
    """What the configuration's section data.exposures asks for."""

    config: ExposureConfig

    @property
    def takes_all(self) -> bool:
        """Whether a source may have any number of exposures."""
        return self.config.most_per_source is None

    def used(self, table: pa.Table, index: Path) -> Flags:
        """Which rows (n,) of the table of an index are of exposures that are used.

        Raises `InputError` if there is a limit of date and the index has no date of an exposure.
        """
        used = ~np.isin(_keys(*(table[name].to_numpy() for name in LIST_COLUMNS)), self._left_out)
        first, last = self.config.first_mjd, self.config.last_mjd
        if first is None and last is None:
            return used
        mjd = _dates(table)
        if not np.isfinite(mjd[used]).all():
            frame = table["FRAME"][int(np.flatnonzero(used & ~np.isfinite(mjd))[0])]
            action = "Leave the exposure out by data.exposures.left_out, or set no dates."
            raise InputError(
                explain(f"{index}, column MJD of {frame}", "none", "the key MJD-OBS", action)
            )
        low, high = (-np.inf if first is None else first), (np.inf if last is None else last)
        return used & (mjd >= low) & (mjd <= high)

    def needed(self, table: pa.Table, polygons: Polygons, sources: Floats) -> Flags:
        """Which rows (n,) are needed for sources at unit vectors (m, 3).

        Of the exposures whose field covers a source, the earliest `most_per_source` count; gaps
        between detectors belong to the field. A quadrant is needed if it holds a source for which
        its exposure counts: so none goes without that could be seen, and a source beside such a
        one may have more exposures. Without a limit, and without sources, all are needed.
        """
        most = self.config.most_per_source
        if most is None or len(sources) == 0 or len(table) == 0:
            return np.ones(len(table), dtype=bool)
        exposures = _in_time_order(table)
        n_exposures = exposures.max() + 1
        covered = np.zeros((n_exposures, len(sources)), dtype=bool)
        np.logical_or.at(covered, exposures, polygons.holding(sources, _GAP_RAD))
        counts = covered & (np.cumsum(covered, axis=0) <= most)
        return (polygons.holding(sources) & counts[exposures]).any(axis=1)

    @cached_property
    def _left_out(self) -> Integers:
        if self.config.left_out is None:
            return np.array([], dtype=np.int64)
        return _keys(*read_exposure_list(self.config.left_out))


def read_exposure_list(path: Path) -> tuple[Integers, Integers]:
    """OBS_ID and DITHER of each exposure in a CSV file with such columns (others are ignored).

    Raises `InputError` that names the file and the column.
    """
    action = "Correct it, or data.exposures.left_out."
    try:
        table = csv.read_csv(path)
    except (OSError, pa.ArrowInvalid) as error:
        problem = " ".join(str(error).split())
        expected = f"CSV with the columns {', '.join(LIST_COLUMNS)}"
        raise InputError(
            explain(path, f"no readable table ({problem})", expected, action)
        ) from error
    columns = []
    for name in LIST_COLUMNS:
        where = f"{path}, column {name}"
        if name not in table.column_names:
            raise InputError(explain(where, f"only {', '.join(table.column_names)}", name, action))
        column = table[name]
        if (len(column) and not pa.types.is_integer(column.type)) or column.null_count:
            found = "a missing value" if column.null_count else f"{column.type}"
            raise InputError(explain(where, found, "integers", action))
        columns.append(column.cast(pa.int64()).to_numpy())
    return columns[0], columns[1]


def _keys(obs_id: Integers, dither: Integers) -> Integers:
    return obs_id.astype(np.int64) << 16 | dither.astype(np.int64)


def _dates(table: pa.Table) -> Floats:
    """MJD (n,); NaN where unknown."""
    return table["MJD"].to_numpy()


def _in_time_order(table: pa.Table) -> Integers:
    """The number of each row's exposure (n,), in the order of time, then of OBS_ID and DITHER.

    Exposures without a date come last.
    """
    names = ("OBS_ID", "DITHER", "KIND")
    rows = np.stack([_dates(table), *(table[name].to_numpy().astype(float) for name in names)])
    rows[0] = np.where(np.isfinite(rows[0]), rows[0], np.inf)
    return np.unique(rows, axis=1, return_inverse=True)[1].reshape(-1)
