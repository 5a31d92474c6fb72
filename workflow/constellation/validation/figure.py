"""The campaign in one figure: m and c of every case, with Euclid's requirements."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from shine.atomic import write_atomically

if TYPE_CHECKING:
    from constellation.validation.report import Outcome

REQUIRED_M, REQUIRED_C = 2e-3, 1e-4
COLOURS = {  # Okabe-Ito
    "marginal": "#0072B2",
    "marginal_inferred": "#56B4E9",
    "map": "#D55E00",
    "vi": "#009E73",
    "nuts": "#CC79A7",
}
ROW_INCHES = 0.3


def draw_figure(found: list[Outcome], path: Path) -> None:
    """Draw all outcomes into a PNG file, one row for each case and method."""
    n = len(found)
    figure = Figure(figsize=(11, 1.6 + ROW_INCHES * n), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    panels = ((left, "m", REQUIRED_M, "multiplicative bias m"), (right, "c", REQUIRED_C, "c"))
    for axes, name, required, label in panels:
        axes.axvspan(-required, required, color="0.85", zorder=0)
        axes.axvline(0.0, color="0.5", lw=0.8)
        for row, item in enumerate(found):
            for component, marker in ((1, "o"), (2, "s")):
                key = f"{name}{component}"
                axes.errorbar(
                    item.numbers[key],
                    row + 0.16 * (2 * component - 3),
                    xerr=item.numbers[f"{key}_err"] or 0.0,
                    marker=marker,
                    ms=4,
                    color=COLOURS[item.measured.method],
                    mfc="white" if component == 2 else None,
                    lw=1.2,
                )
        axes.set_xscale("symlog", linthresh=2.0 * required, linscale=2.0)
        axes.set_xlabel(f"{label} (grey: |{name}| < {required:g})")
        axes.grid(axis="x", color="0.92")
    left.set_yticks(np.arange(n), [_label(item) for item in found], fontsize=8)
    left.invert_yaxis()
    figure.suptitle("Shear bias on GalSim images (full circles: g1, open squares: g2)", fontsize=11)
    sink = io.BytesIO()
    figure.savefig(sink, format="png", dpi=110, metadata={"Software": None})
    write_atomically(path, sink.getvalue())


def _label(item: Outcome) -> str:
    return f"{item.case.level}  {item.case.shows}: {item.measured.method.replace('_', ', ')}"
