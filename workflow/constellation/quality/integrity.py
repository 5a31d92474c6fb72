"""What is impossible in a row of the catalogue: values missing, not numbers, or out of range."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from constellation.catalogue.schema import SHEAR, SOURCES
from constellation.quality.check import Check
from constellation.quality.settings import CheckName
from constellation.quality.subtiles import SHEAR_VALUES, floats, integers
from constellation.sphere import Flags
from shine.errors import Kind, Status
from shine.result_schema import PARAMETERS

ERRORS = tuple(f"{name}_ERR" for name in PARAMETERS)
FITTED = (*PARAMETERS, *ERRORS)
_UNIT = 1.0 + 1e-6  # rounding of float32
Violations = Iterator[tuple[str, Flags]]


@dataclass
class Tally:
    """Counts what is wrong, by what it is, with the first rows as examples."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    def add(self, violations: Iterable[tuple[str, Flags]], names: pa.ChunkedArray) -> None:
        """Count violations (what, which rows); `names` (n,) tell the rows."""
        for what, rows in violations:
            count = int(np.count_nonzero(rows))
            if count:
                self.counts[what] += count
                self.examples.setdefault(what, names[int(np.argmax(rows))].as_py())

    def check(self, name: CheckName, meaning: str) -> Check:
        """The check that there is none."""
        found = [f"{what}: {n}, first {self.examples[what]}" for what, n in self.counts.items()]
        return Check.none_of(name, meaning, found, self.counts.total())


def missing_in_shear(table: pa.Table) -> Violations:
    """Nulls of the shear table where none may be, values where none may be, and NaN."""
    yield from _nulls_and_nans(table, SHEAR)
    status = integers(table, "STATUS")
    absent = np.stack([_is_null(table, name) for name in SHEAR_VALUES])
    yield "no shear though STATUS is OK", (status == Status.OK) & absent.any(axis=0)
    may_have = np.isin(status, (Status.OK, Status.NOT_CONVERGED))
    yield "shear though STATUS has none", ~may_have & ~absent.all(axis=0)


def missing_in_sources(table: pa.Table) -> Violations:
    """The same of source rows."""
    yield from _nulls_and_nans(table, SOURCES)
    fitted = integers(table, "N_PIXELS", 0) > 0
    for name in PARAMETERS:
        yield f"no {name} though fitted", fitted & _is_null(table, name)
    unfit = ~fitted & np.any([~_is_null(table, name) for name in FITTED], axis=0)
    yield "parameters though not fitted", unfit
    halves = [_is_null(table, name) & ~_is_null(table, f"{name}_ERR") for name in PARAMETERS]
    yield "an error without a value", np.any(halves, axis=0)


def impossible_in_shear(table: pa.Table) -> Violations:
    """Values of the shear table that no sub-tile can have."""
    g1, g2, e1, e2, cross = (floats(table, name) for name in SHEAR_VALUES)
    yield from _not_on_the_sky(table)
    yield "|g| >= 1", np.hypot(g1, g2) >= 1.0
    yield "error not positive", (e1 <= 0.0) | (e2 <= 0.0)
    with np.errstate(invalid="ignore"):
        most = _UNIT * e1 * e2
        yield "covariance beyond the errors", (e1 > 0.0) & (e2 > 0.0) & (np.abs(cross) > most)
    yield "unknown STATUS", ~np.isin(integers(table, "STATUS"), [int(s) for s in Status])
    for name in ("N_SOURCES", "N_MODELLED", "N_QUADRANTS", "N_PIXELS"):
        yield f"{name} negative", integers(table, name, 0) < 0
    for name in ("CHI2", "CONVERGENCE"):
        yield f"{name} negative", floats(table, name) < 0.0
    yield from _impossible_psf(table)
    yield from _infinite(table)


def impossible_in_sources(table: pa.Table) -> Violations:
    """The same of source rows."""
    yield from _not_on_the_sky(table)
    yield "ellipticity >= 1", np.hypot(floats(table, "E1"), floats(table, "E2")) > _UNIT
    yield "size not positive", floats(table, "HALF_LIGHT_RADIUS") < 0.0
    for name in ERRORS:
        yield f"{name} negative", floats(table, name) < 0.0
    for name in ("N_PIXELS", "N_EXPOSURES"):
        yield f"{name} negative", integers(table, name, 0) < 0
    yield "CHI2 negative", floats(table, "CHI2") < 0.0
    yield "unknown KIND", ~np.isin(integers(table, "KIND"), [-1, *(int(kind) for kind in Kind)])
    yield from _impossible_psf(table)
    yield from _infinite(table)


def _nulls_and_nans(table: pa.Table, schema: pa.Schema) -> Violations:
    for entry in schema:
        if entry.name not in table.column_names:
            continue
        if not entry.nullable and table[entry.name].null_count:
            yield f"{entry.name} null", _is_null(table, entry.name)
        if pa.types.is_floating(entry.type):
            values = pc.fill_null(pc.is_nan(table[entry.name]), False).to_numpy()
            yield f"{entry.name} NaN", values


def _infinite(table: pa.Table) -> Violations:
    for entry in table.schema:
        if pa.types.is_floating(entry.type):
            yield f"{entry.name} infinite", np.isinf(floats(table, entry.name))


def _not_on_the_sky(table: pa.Table) -> Violations:
    ra, dec = floats(table, "RA"), floats(table, "DEC")
    yield "RA or DEC not on the sky", (ra < 0.0) | (ra >= 360.0) | (np.abs(dec) > 90.0)


def _impossible_psf(table: pa.Table) -> Violations:
    yield "PSF ellipticity >= 1", np.hypot(floats(table, "PSF_E1"), floats(table, "PSF_E2")) >= 1.0
    yield "PSF_FWHM not positive", floats(table, "PSF_FWHM") <= 0.0


def _is_null(table: pa.Table, name: str) -> Flags:
    return table[name].is_null().to_numpy()
