"""The figure of a plan: cost against wall-clock, for growing numbers of workers."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

from constellation.cost import Bill, Origin
from constellation.cost_inputs import Estimate
from shine.atomic import write_atomically

# Okabe and Ito's colours, told apart by colour-blind readers too
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9", "#000000")
MARKERS = "osD^vPX"


def plot_estimate(found: Estimate, n_workers: Sequence[int], path: Path) -> None:
    """Write the figure as PNG, atomically: one panel per extent, one line per method.

    Each point pays for its workers until the last job ends: on demand, or in hours if no price is
    given for any.
    """
    priced = found.given.core_price is not None or found.given.gpu_price is not None
    figure = Figure(figsize=(14.0, 5.2), dpi=110, layout="constrained")
    panels = figure.subplots(1, len(found.extents), squeeze=False)[0]
    for axes, extent in zip(panels, found.extents, strict=True):
        for n, bill in enumerate(found.bills(extent)):
            if not priced or bill.price is not None:
                _draw(axes, bill, sorted(n_workers), n)
        axes.set(xscale="log", yscale="log", xlabel="wall-clock [h]")
        axes.set_title(f"{extent.name}\n{extent.n_tiles:,} tiles, {extent.n_subtiles:,} sub-tiles")
        for axis in (axes.xaxis, axes.yaxis):  # plain numbers instead of powers
            axis.set_major_formatter(LogFormatter())
            axis.set_minor_formatter(LogFormatter(minor_thresholds=(1.0, 0.4)))
        axes.grid(alpha=0.3)
    unit = "cost, on demand [currency of the prices]" if priced else "core-hours, GPU-hours"
    panels[0].set_ylabel(f"{unit},\nworkers paid until the last job ends")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=9)
    figure.suptitle(
        "number of workers at the points; seconds per sub-tile as marked, prices assumed"
    )
    buffer = BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    write_atomically(path, buffer.getvalue())


def _draw(axes: Axes, bill: Bill, n_workers: Sequence[int], place: int) -> None:
    price = 1.0 if bill.price is None else bill.price.on_demand
    hours = [bill.wall_s(n) / 3600.0 for n in n_workers]
    costs = [bill.held_hours(n) * price for n in n_workers]
    assumed = bill.speed.origin is Origin.ASSUMED
    style = {
        "color": COLOURS[place % len(COLOURS)],
        "marker": MARKERS[place % len(MARKERS)],
        "linestyle": "--" if assumed else "-",
        "label": f"{bill.speed.name} ({bill.speed.origin.value})",
    }
    axes.plot(hours, costs, **style)
    for n, x, y in zip(n_workers, hours, costs, strict=True):
        offset = {"xytext": (0, 5), "textcoords": "offset points", "ha": "center"}
        axes.annotate(f"{n:,}", (x, y), fontsize=7, color=style["color"], **offset)
