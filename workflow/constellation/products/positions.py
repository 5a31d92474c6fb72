"""Lists of positions on the sky that products are asked around."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import csv, parquet

from constellation.sphere import Floats
from shine.errors import InputError, explain


def read_positions(path: Path) -> tuple[Floats, Floats]:
    """RA and Dec in degrees from columns RA and DEC, in any case, of a CSV or Parquet table.

    Raises `InputError` naming file, column or row.
    """
    action = "Give RA and DEC in degrees, one position a row."
    try:
        table = csv.read_csv(path) if path.suffix == ".csv" else parquet.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        problem = f"no readable table ({' '.join(str(error).split())})"
        raise InputError(explain(path, problem, "CSV or Parquet", action)) from error
    names = {name.upper(): name for name in table.column_names}
    found = []
    for name, most in (("RA", np.inf), ("DEC", 90.0)):
        where = f"{path}, column {name}"
        if name not in names:
            raise InputError(explain(where, "no such column", "degrees", action))
        try:
            values = np.asarray(table[names[name]].cast(pa.float64()), float)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise InputError(explain(where, f"{error}", "degrees", action)) from error
        bad = np.flatnonzero(~(np.isfinite(values) & (np.abs(values) <= most)))
        if len(bad):
            what = f"{values[bad[0]]} in row {bad[0] + 1}"
            raise InputError(explain(where, what, "degrees", action))
        found.append(values)
    if not len(found[0]):
        raise InputError(explain(path, "no row", "positions", action))
    return found[0], found[1]
