"""Catalogues from elsewhere: FITS or Parquet tables with a position in each row."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from astropy import units
from astropy.table import Column, Table
from numpy.typing import NDArray
from pyarrow import parquet

from constellation.sphere import unit_vectors
from shine.errors import InputError, explain

_CHECK = "Check the path and the file."


@dataclass(frozen=True)
class OtherCatalogue:
    """All rows of a catalogue; those without a position have NaN for it."""

    path: Path
    table: pa.Table
    ra_deg: NDArray[np.float64]  # (n,)
    dec_deg: NDArray[np.float64]  # (n,)

    @classmethod
    def read(cls, path: Path, ra_column: str, dec_column: str) -> OtherCatalogue:
        """Read a .parquet, else a FITS table; raises `InputError` naming file and column."""
        table = _read_parquet(path) if path.suffix == ".parquet" else _read_fits(path)
        ra, dec = (_degrees(table, name, path) for name in (ra_column, dec_column))
        bad = np.flatnonzero(np.abs(dec) > 90.0)
        if len(bad):
            where = f"{path}, column {dec_column}, row {bad[0]}"
            action = "Say which column it is with --dec-column."
            raise InputError(explain(where, f"{dec[bad[0]]:g}", "a declination in deg", action))
        return cls(path, table, ra, dec)

    @property
    def vectors(self) -> NDArray[np.float64]:
        """Unit vectors (n, 3) of the rows; NaN where there is no position."""
        return unit_vectors(self.ra_deg, self.dec_deg)


def _read_parquet(path: Path) -> pa.Table:
    try:
        return parquet.read_table(path)
    except (OSError, pa.ArrowException) as error:
        problem = " ".join(str(error).split())
        found = f"no readable table ({problem})"
        raise InputError(explain(path, found, "Parquet", _CHECK)) from error


def _read_fits(path: Path) -> pa.Table:
    """The first table of a FITS file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", units.UnitsWarning)  # units that only people read
            table = Table.read(path, format="fits")
    except (OSError, ValueError, TypeError) as error:
        problem = " ".join(str(error).split())
        found = f"no readable table ({problem})"
        raise InputError(explain(path, found, "a FITS table or .parquet", _CHECK)) from error
    table.convert_bytestring_to_unicode()
    columns = {name: _arrow(table[name]) for name in table.colnames}
    fields = [
        pa.field(name, columns[name].type, True, _metadata(table[name])) for name in table.colnames
    ]
    return pa.table(list(columns.values()), schema=pa.schema(fields))


def _metadata(column: Column) -> dict[str, str]:
    return {"unit": str(column.unit or ""), "description": column.description or ""}


def _arrow(column: Column) -> pa.Array:
    """A column of a FITS table; what is masked becomes null."""
    values = np.ma.asarray(column)
    data, mask = values.data, np.ma.getmaskarray(values)
    if data.dtype.kind == "O":  # lists of any length
        return pa.array([None if item is None else np.asarray(item).tolist() for item in data])
    data = data.astype(data.dtype.newbyteorder("="), copy=False)
    if data.ndim == 1:
        return pa.array(data, mask=mask)
    size = int(np.prod(data.shape[1:]))
    flat = pa.array(data.ravel(), mask=mask.ravel())
    return pa.FixedSizeListArray.from_arrays(flat, size)


def _degrees(table: pa.Table, name: str, path: Path) -> NDArray[np.float64]:
    """A column of angles as numbers in degrees, NaN where there is none."""
    where = f"{path}, column {name}"
    if name not in table.column_names:
        shown = ", ".join(table.column_names[:12]) + (" ..." if table.num_columns > 12 else "")
        action = "Say which one with --ra-column and --dec-column."
        raise InputError(explain(where, f"no such column among {shown}", "a position", action))
    field = table.schema.field(name)
    unit = (field.metadata or {}).get(b"unit", b"").decode()
    if unit and unit not in ("deg", "degree", "degrees"):
        action = "Convert it, or name another column."
        raise InputError(explain(where, f"the unit {unit}", "deg", action))
    if not (pa.types.is_floating(field.type) or pa.types.is_integer(field.type)):
        action = "Convert it, or name another column."
        raise InputError(explain(where, str(field.type), "numbers in deg", action))
    return table[name].cast(pa.float64()).to_numpy()
