"""The summary figure: one sub-tile's pixels, the shear map against the truth, and the pulls."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib import image as images
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from constellation.summary import Summary
from shine.atomic import write_atomically

# Okabe and Ito's colours, told apart by colour-blind readers too
INFERRED, TRUE, SECOND = "#0072B2", "#D55E00", "#E69F00"


def plot_summary(summary: Summary, panels: Path | None, path: Path) -> None:
    """Write the figure as PNG, atomically.

    `panels` is the observed | model | chi image that shine wrote for one sub-tile, shown on top.
    """
    from io import BytesIO

    figure = Figure(figsize=(12, 9.5 if panels else 5), layout="constrained", dpi=120)
    if panels:
        top, bottom = figure.subfigures(2, 1, height_ratios=[1.0, 1.1])
        _draw_panels(top.subplots(), panels)
    else:
        bottom = figure
    left, middle, right = bottom.subplots(1, 3, width_ratios=[1.25, 1.0, 1.0])
    _draw_map(left, summary)
    _draw_comparison(middle, summary)
    _draw_pulls(right, summary)
    buffer = BytesIO()
    # no software version or date in it: the same catalogue gives the same bytes
    figure.savefig(buffer, format="png", metadata={"Software": None})
    write_atomically(path, buffer.getvalue())


def _draw_panels(axes: Axes, panels: Path) -> None:
    axes.imshow(images.imread(panels), interpolation="antialiased")
    axes.set_axis_off()
    axes.set_title(f"sub-tile {panels.stem}: observed, model, chi", fontsize=10)


def _draw_map(axes: Axes, summary: Summary) -> None:
    """Whiskers along the direction of stretching; east is left, as on the sky."""
    ra0 = summary.ra[0]
    east = (np.mod(summary.ra - ra0 + 180.0, 360.0) - 180.0) * 60.0
    east *= np.cos(np.deg2rad(summary.dec))
    north = (summary.dec - summary.dec.mean()) * 60.0
    east -= east.mean()
    reach = 1.3 * max(np.abs(east).max(), np.abs(north).max(), 1.0)
    largest = np.nanmax(np.hypot(*np.nan_to_num(summary.shear).T), initial=0.02)
    scale = 0.35 * reach / largest
    for shear, colour, label, width in (
        (summary.truth, TRUE, "truth", 5.0),
        (summary.shear, INFERRED, "inferred", 2.0),
    ):
        _whiskers(axes, east, north, shear * scale, {"color": colour, "lw": width, "label": label})
    failed = ~np.isfinite(summary.shear[:, 0])
    if failed.any():
        axes.plot(east[failed], north[failed], "x", color="0.4", label="no shear")
    key = 0.5 * 10 ** np.floor(np.log10(largest) + 0.3)
    axes.plot([-reach * 0.9, -reach * 0.9 + scale * key], [-reach * 0.92] * 2, "k-", lw=2)
    axes.text(-reach * 0.9 + scale * key, -reach * 0.9, f"|g| = {key:.2g}", va="bottom", ha="right")
    axes.set(xlim=(reach, -reach), ylim=(-reach, reach), aspect="equal", title="shear map")
    axes.set(xlabel="east [arcmin]", ylabel="north [arcmin]")
    axes.legend(loc="upper right", fontsize=8)


def _whiskers(axes: Axes, east: np.ndarray, north: np.ndarray, shear: np.ndarray, style) -> None:
    length = np.hypot(*shear.T)
    # g1 > 0 is east-west; g2 > 0 is along u = v, and u is west
    angle = 0.5 * np.arctan2(shear[:, 1], shear[:, 0])
    half_east, half_north = -0.5 * length * np.cos(angle), 0.5 * length * np.sin(angle)
    ends = (
        np.array([east - half_east, east + half_east]),
        np.array([north - half_north, north + half_north]),
    )
    label = style.pop("label")
    lines = axes.plot(*ends, solid_capstyle="round", **style)
    lines[0].set_label(label)


def _draw_comparison(axes: Axes, summary: Summary) -> None:
    has_truth = np.isfinite(summary.truth).all(axis=1)
    for n, (name, colour, marker) in enumerate((("g1", INFERRED, "o"), ("g2", SECOND, "s"))):
        x = summary.truth[:, n] if has_truth.any() else np.arange(len(summary.names), dtype=float)
        style = {"fmt": marker, "color": colour, "capsize": 2, "ms": 5, "label": name}
        axes.errorbar(x, summary.shear[:, n], yerr=summary.error[:, n], **style)
    if has_truth.any():
        low, high = np.nanmin(summary.truth) - 0.01, np.nanmax(summary.truth) + 0.01
        axes.plot([low, high], [low, high], "k--", lw=1, label="inferred = true")
        axes.set(xlabel="true shear", title="inferred against true")
    else:
        axes.set(xlabel="sub-tile", title="inferred shear")
    axes.set_ylabel("inferred shear")
    axes.legend(fontsize=8)


def _draw_pulls(axes: Axes, summary: Summary) -> None:
    pulls = summary.pulls[np.isfinite(summary.pulls)]
    axes.set(xlabel="pull = (inferred - true) / error", ylabel="number", title="pulls")
    if len(pulls) == 0:
        axes.text(0.5, 0.5, "no truth to compare with", ha="center", transform=axes.transAxes)
        return
    reach = max(4.0, float(np.ceil(np.abs(pulls).max())))
    bins = np.linspace(-reach, reach, 4 * round(reach) + 1)
    axes.hist(pulls, bins, color=INFERRED, alpha=0.75, label=f"rms {summary.pull_rms:.2f}")
    x = np.linspace(-reach, reach, 200)
    normal = np.exp(-0.5 * x**2) / np.sqrt(2.0 * np.pi)
    axes.plot(x, normal * len(pulls) * (bins[1] - bins[0]), color=TRUE, lw=2, label="N(0, 1)")
    axes.legend(fontsize=8)
