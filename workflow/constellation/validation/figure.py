"""The campaign in one figure: m and c of every case, with Euclid's requirements."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from shine.atomic import write_atomically

if TYPE_CHECKING:
    from constellation.validation.outcomes import Calibration, Outcome

# what Euclid requires, in the unit that is drawn
PANELS = (("m", 2.0, 1e3, "10⁻³"), ("c", 1.0, 1e4, "10⁻⁴"))
COLOURS = {  # Okabe-Ito
    "marginal": "#0072B2",
    "marginal_inferred": "#56B4E9",
    "marginal_alone": "#F0E442",
    "marginal_blended": "#E69F00",
    "marginal_halves": "#000000",
    "map": "#D55E00",
    "vi": "#009E73",
    "nuts": "#CC79A7",
}
ROW_INCHES = 0.3


def draw_figure(found: list[Outcome], path: Path) -> None:
    """Draw m and c of all outcomes into a PNG file, one row for each case and method."""
    _draw(found, "", "Shear bias on GalSim images", path)


def draw_differences(found: list[Outcome], path: Path) -> None:
    """Draw by how much the cases differ from those that they are compared with, in the same way."""
    rows = [item for item in found if item.against is not None]
    _draw(rows, "delta_", "What the bias depends on: the same galaxies and noise", path)


def _draw(found: list[Outcome], prefix: str, title: str, path: Path) -> None:
    n = len(found)
    figure = Figure(figsize=(11, 1.6 + ROW_INCHES * n), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, (name, required, scale, unit) in zip((left, right), PANELS, strict=True):
        axes.axvspan(-required, required, color="0.85", zorder=0)
        axes.axvline(0.0, color="0.5", lw=0.8)
        for row, item in enumerate(found):
            for component, marker in ((1, "o"), (2, "s")):
                key = f"{prefix}{name}{component}"
                axes.errorbar(
                    scale * item.numbers[key],
                    row + 0.16 * (2 * component - 3),
                    xerr=scale * (item.numbers[f"{key}_err"] or 0.0),
                    marker=marker,
                    ms=4,
                    color=COLOURS[item.measured.method],
                    mfc="white" if component == 2 else None,
                    lw=1.2,
                )
        axes.set_xscale("symlog", linthresh=2.0 * required, linscale=2.0)
        marks = required * np.array([-100.0, -10.0, -1.0, 0.0, 1.0, 10.0, 100.0])
        axes.set_xticks(marks, [f"{mark:g}" for mark in marks])
        axes.minorticks_off()
        change = "change of " if prefix else ""
        axes.set_xlabel(f"{change}{name} [{unit}] (grey: |{name}| < {required:g})")
        axes.grid(axis="x", color="0.92")
    left.set_yticks(np.arange(n), [_label(item, bool(prefix)) for item in found], fontsize=8)
    left.set_ylim(n - 0.5, -0.5)
    figure.suptitle(f"{title} (full circles: g1, open squares: g2)", fontsize=11)
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    sink = io.BytesIO()
    figure.savefig(sink, format="png", dpi=110, metadata={"Software": None})
    write_atomically(path, sink.getvalue())


def draw_calibration(item: Calibration, path: Path) -> None:
    """Draw coverage and ranks, with the binomial errors of what calibration promises."""
    figure = Figure(figsize=(11, 3.4), layout="constrained")
    first, *others = figure.subplots(1, 1 + max(len(item.ranks), 1))
    for row, (method, levels) in enumerate(item.covered.items()):
        for level in levels:
            first.errorbar(
                row, level.found, yerr=level.error, marker="o", color=COLOURS[method], ms=4
            )
    for level in next(iter(item.covered.values())):
        first.axhline(level.promised, color="0.4", lw=0.8)
        first.axhspan(
            level.promised - level.error, level.promised + level.error, color="0.88", zorder=0
        )
    names = [name.replace("_", ",\n") for name in item.covered]
    first.set_xticks(range(len(names)), names, fontsize=8)
    first.set_xlim(-0.6, len(names) - 0.4)
    first.set_ylabel("intervals of g that hold the truth")
    for axes, (name, ranks) in zip(others, item.ranks.items(), strict=False):
        counts = ranks.counts
        share = 1.0 / len(counts)
        error = np.sqrt(counts.sum() * share * (1.0 - share))
        axes.axhspan(counts.mean() - error, counts.mean() + error, color="0.88", zorder=0)
        axes.stairs(counts, np.linspace(0.0, 1.0, len(counts) + 1), color=COLOURS["marginal"])
        axes.set_ylim(0.0, 1.6 * counts.mean())
        axes.set_title(f"{name}, p = {ranks.chance:.2g}", fontsize=9)
        axes.set_xlabel("rank of the truth")
    figure.suptitle(
        f"{item.case.shows}: {item.n_scenes} scenes (grey: binomial error)", fontsize=10
    )
    _save(figure, path)


def _label(item: Outcome, compared: bool) -> str:
    minus = f" − {item.minus}" if compared else ""
    method = item.measured.method.replace("_", ", ")
    return f"{item.case.level}  {item.case.shows}{minus}: {method}"
