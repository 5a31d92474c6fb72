"""The inferred shear against the truth: one row per sub-tile, pulls, and their spread."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from constellation.catalogue.published import PublishedCatalogue
from constellation.catalogue.schema import KEY
from constellation.plan import SubTile
from constellation.tables import read_table
from shine.errors import Kind, Status

Floats = NDArray[np.float64]

TRUTH_SCHEMA = pa.schema([("OBJECT_ID", pa.int64()), ("G1", pa.float64()), ("G2", pa.float64())])
COMPONENTS = ("G1", "G2")


@dataclass(frozen=True)
class Summary:
    """What is known of each of n sub-tiles; missing numbers are NaN.

    `ra`, `dec` (n,) deg; `shear`, `error`, `truth` (n, 2) for g1, g2.
    """

    names: list[str]
    status: list[Status]
    n_sources: list[int]
    ra: Floats
    dec: Floats
    shear: Floats
    error: Floats
    truth: Floats
    convergence: Floats

    @property
    def pulls(self) -> Floats:
        """(inferred - true) / error, (n, 2)."""
        return (self.shear - self.truth) / self.error

    @property
    def pull_rms(self) -> float:
        """Root mean square of all pulls; NaN if there are none."""
        pulls = self.pulls[np.isfinite(self.pulls)]
        return float(np.sqrt(np.mean(pulls**2))) if len(pulls) else float("nan")


def summarise(catalogue: PublishedCatalogue, truth: Path | None) -> Summary:
    """Compare a catalogue with a truth table, sub-tile by sub-tile in the order of their names.

    The truth of a sub-tile is the mean true shear of the core galaxies that it rests on. Raises
    `InputError`.
    """
    by_name = [(name, "ascending") for name in KEY]
    rows = catalogue.shear.sort_by(by_name).to_pylist()
    subtiles = [SubTile(*(row[key] for key in KEY)) for row in rows]
    return Summary(
        names=[subtile.stem for subtile in subtiles],
        status=[Status(row["STATUS"]) for row in rows],
        n_sources=[row["N_SOURCES"] for row in rows],
        ra=_column(rows, "RA"),
        dec=_column(rows, "DEC"),
        shear=_pairs(rows, ""),
        error=_pairs(rows, "_ERR"),
        truth=_true_shear(catalogue, truth, subtiles),
        convergence=_column(rows, "CONVERGENCE"),
    )


def format_table(summary: Summary) -> str:
    """The summary as text: one line per sub-tile, then the spread of the pulls."""
    header = (
        f"{'sub-tile':<16} {'N':>5}  {'g1':>8} {'g2':>8}  {'g1_err':>7} {'g2_err':>7}  "
        f"{'g1_true':>8} {'g2_true':>8}  {'pull1':>6} {'pull2':>6}  "
        f"{'converg.':>8}  status"
    )
    lines = [header, "-" * len(header)]
    pulls = summary.pulls
    for n, name in enumerate(summary.names):
        lines.append(
            f"{name:<16} {summary.n_sources[n]:>5}  "
            f"{_number(summary.shear[n, 0], '+8.4f')} {_number(summary.shear[n, 1], '+8.4f')}  "
            f"{_number(summary.error[n, 0], '7.4f')} {_number(summary.error[n, 1], '7.4f')}  "
            f"{_number(summary.truth[n, 0], '+8.4f')} {_number(summary.truth[n, 1], '+8.4f')}  "
            f"{_number(pulls[n, 0], '+6.2f')} {_number(pulls[n, 1], '+6.2f')}  "
            f"{_number(summary.convergence[n], '8.1e')}  "
            f"{summary.status[n].name}"
        )
    return "\n".join([*lines, "", *_closing_lines(summary)]) + "\n"


def _closing_lines(summary: Summary) -> list[str]:
    finite = np.isfinite(summary.pulls)
    n_bad = sum(status is not Status.OK for status in summary.status)
    lines = []
    if finite.any():
        largest = np.abs(summary.pulls[finite]).max()
        lines.append(
            f"pulls: rms {summary.pull_rms:.2f} of {finite.sum()} "
            f"(1 if the errors are right), largest |pull| {largest:.2f}"
        )
    else:
        lines.append("pulls: none, because there is no truth to compare with")
    if n_bad:
        lines.append(f"{n_bad} of {len(summary.names)} sub-tiles have no converged shear")
    return lines


def _number(value: float, form: str) -> str:
    width = int(form.lstrip("+").split(".")[0])
    return format(value, form) if np.isfinite(value) else "-".rjust(width)


def _column(rows: list[dict[str, Any]], name: str) -> Floats:
    return np.array([np.nan if row[name] is None else row[name] for row in rows], np.float64)


def _pairs(rows: list[dict[str, Any]], suffix: str) -> Floats:
    return np.stack([_column(rows, f"{name}{suffix}") for name in COMPONENTS], axis=-1)


def _true_shear(
    catalogue: PublishedCatalogue, path: Path | None, subtiles: list[SubTile]
) -> Floats:
    """Mean true shear (n, 2) of the core galaxies that carry shear."""
    if path is None:
        return np.full((len(subtiles), 2), np.nan)
    carriers = catalogue.sources([*KEY, "OBJECT_ID"], pc.field("KIND") == int(Kind.GALAXY))
    joined = carriers.join(_read_truth(path), "OBJECT_ID", "OBJECT_ID")
    means = joined.group_by(list(KEY)).aggregate([(name, "mean") for name in COMPONENTS])
    known = {
        SubTile(*(row[key] for key in KEY)): [row[f"{name}_mean"] for name in COMPONENTS]
        for row in means.to_pylist()
    }
    nothing = [None, None]
    return np.array([known.get(subtile, nothing) for subtile in subtiles], dtype=np.float64)


def _read_truth(path: Path) -> pa.Table:
    return read_table(path, TRUTH_SCHEMA, "Check data.truth.").select(TRUTH_SCHEMA.names)
