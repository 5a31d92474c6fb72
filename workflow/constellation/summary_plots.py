"""The summary figure: one sub-tile's pixels, the shear map against the truth, and the pulls."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
from matplotlib import image as images
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from mpl_toolkits.axes_grid1.anchored_artists import AnchoredSizeBar
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from constellation.summary import Floats, Summary
from shine.atomic import write_atomically
from shine.errors import InputError, Status, explain

# Okabe and Ito's colours, told apart by colour-blind readers too
INFERRED, TRUE, SECOND = "#0072B2", "#D55E00", "#E69F00"
WIDTH_INCH, PLOTS_INCH, DPI = 13.5, 5.0, 110
GAP_PX = 14


def plot_summary(summary: Summary, panels: Path | None, path: Path) -> None:
    """Write the figure as PNG, atomically; the same summary gives the same bytes.

    `panels` is the observed | model | chi image that shine wrote for one sub-tile, shown on top,
    pixel by pixel. Raises `InputError` if it is no image.
    """
    top = np.zeros((0, round(WIDTH_INCH * DPI), 4)) if panels is None else _read_panels(panels)
    dpi = top.shape[1] / WIDTH_INCH
    plots_px = round(PLOTS_INCH * dpi)
    height_px = plots_px + top.shape[0]
    figure = Figure(figsize=(WIDTH_INCH, height_px / dpi), dpi=dpi, layout="constrained")
    figure.get_layout_engine().set(rect=(0.0, 0.0, 1.0, plots_px / height_px))
    if len(top):
        figure.figimage(top, yo=plots_px)
    left, middle, right = figure.subplots(1, 3)
    _draw_map(left, summary)
    _draw_comparison(middle, summary)
    _draw_pulls(right, summary)
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    write_atomically(path, buffer.getvalue())


def _read_panels(path: Path) -> NDArray:
    """The image (rows, columns, rgba) with its wide empty stripes narrowed."""
    try:
        image = images.imread(path)
    except (OSError, SyntaxError) as error:  # SyntaxError is how Pillow reports a damaged PNG
        raise InputError(
            explain(path, f"no readable image ({error})", "a PNG", "Run the sub-tile again.")
        ) from error
    empty = 0
    kept = []
    for row, is_empty in enumerate((image == 1.0).all(axis=(1, 2))):
        empty = empty + 1 if is_empty else 0
        if empty <= GAP_PX:
            kept.append(row)
    return image[kept]


def _draw_map(axes: Axes, summary: Summary) -> None:
    """Whiskers along the direction of stretching; east is left, as on the sky."""
    places, (ra, dec) = _offsets_arcmin(summary)
    sizes = np.hypot(*np.nan_to_num(np.concatenate([summary.shear, summary.truth])).T)
    largest = max(sizes.max(initial=0.0), 0.01)
    spacing = _spacing(places)
    scale = 0.9 * spacing / largest
    _whiskers(axes, places, summary.truth * scale, {"color": TRUE, "lw": 6.0, "label": "true"})
    style = {"color": INFERRED, "lw": 2.0, "label": "inferred"}
    _whiskers(axes, places, summary.shear * scale, style)
    absent = ~np.isfinite(summary.shear).all(axis=1)
    doubtful = ~absent & (np.array(summary.status) != Status.OK)
    for chosen, marker, label in ((absent, "x", "no shear"), (doubtful, "o", "not converged")):
        if chosen.any():
            style = {"color": "0.4", "mfc": "none", "ms": 9, "label": label}
            axes.plot(*places[chosen].T, marker, **style)
    key = max(n * 10.0**k for k in range(-3, 1) for n in (1, 2, 5) if n * 10.0**k <= largest)
    bar = {"size": key * scale, "label": f"|g| = {key:g}", "loc": "upper left", "sep": 4}
    axes.add_artist(AnchoredSizeBar(axes.transData, **bar, pad=0.6, frameon=False))
    axes.legend(loc="upper right", fontsize=8, ncols=2)
    reach = max(np.abs(places).max() + 0.7 * spacing, 1.5 * spacing)
    # a strip on top for key and legend, clear of the whiskers
    axes.set(xlim=(reach, -reach), ylim=(-reach, 1.3 * reach), aspect="equal")
    axes.set(xlabel="ΔRA cos(Dec) [arcmin]", ylabel="ΔDec [arcmin]")
    axes.set_title(f"shear around RA {ra:.4f}°, Dec {dec:+.4f}°")


def _offsets_arcmin(summary: Summary) -> tuple[Floats, tuple[float, float]]:
    """East and north (n, 2) of the sub-tiles from their middle, and its RA and Dec in degrees."""
    first = summary.ra[0]
    ra = first + np.mod(summary.ra - first + 180.0, 360.0) - 180.0  # no jump at 0h
    middle = 0.5 * (ra.min() + ra.max()), 0.5 * (summary.dec.min() + summary.dec.max())
    east = (ra - middle[0]) * np.cos(np.deg2rad(summary.dec))
    places = 60.0 * np.stack([east, summary.dec - middle[1]], axis=-1)
    return places, (middle[0] % 360.0, middle[1])


def _spacing(places: Floats) -> float:
    """Typical distance between neighbours, arcmin; 1 for a single one."""
    if len(places) == 1:
        return 1.0
    return float(np.median(cKDTree(places).query(places, k=2)[0][:, 1]))


def _whiskers(axes: Axes, places: Floats, shear: Floats, style: dict) -> None:
    length = np.hypot(*shear.T)
    # g1 > 0 is east-west; g2 > 0 is along u = v, and u is west
    angle = 0.5 * np.arctan2(shear[:, 1], shear[:, 0])
    half = 0.5 * length[:, None] * np.stack([-np.cos(angle), np.sin(angle)], axis=-1)
    known = np.isfinite(half).all(axis=1)
    if known.any():
        ends = np.stack([places - half, places + half], axis=1)[known]
        axes.add_collection(LineCollection(ends, capstyle="round", **style))


def _draw_comparison(axes: Axes, summary: Summary) -> None:
    has_truth = np.isfinite(summary.truth).any()
    for n, (name, colour, marker) in enumerate((("g1", INFERRED, "o"), ("g2", SECOND, "s"))):
        x = summary.truth[:, n] if has_truth else np.arange(len(summary.names), dtype=float)
        style = {"fmt": marker, "color": colour, "capsize": 2, "ms": 5, "label": name}
        axes.errorbar(x, summary.shear[:, n], yerr=summary.error[:, n], **style)
    if has_truth:
        low, high = np.nanmin(summary.truth) - 0.01, np.nanmax(summary.truth) + 0.01
        axes.plot([low, high], [low, high], "k--", lw=1, label="inferred = true")
        axes.set(xlabel="true shear", title="inferred against true shear")
    else:
        axes.set(xlabel="sub-tile", title="inferred shear")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=not has_truth))
    axes.set_ylabel("inferred shear")
    axes.legend(fontsize=8, loc="upper left")


def _draw_pulls(axes: Axes, summary: Summary) -> None:
    pulls = summary.pulls[np.isfinite(summary.pulls)]
    axes.set(xlabel="pull = (inferred - true) / error", ylabel="number per bin")
    axes.set_title(f"pulls of g1 and g2, n = {len(pulls)}")
    if len(pulls) == 0:
        axes.text(0.5, 0.5, "no truth to compare with", ha="center", transform=axes.transAxes)
        axes.set(xticks=(), yticks=())
        return
    reach = max(4.0, float(np.ceil(np.abs(pulls).max())))
    bins = np.linspace(-reach, reach, 4 * round(reach) + 1)
    style = {"color": INFERRED, "alpha": 0.75, "edgecolor": "white"}
    axes.hist(pulls, bins, label=f"rms {summary.pull_rms:.2f}", **style)
    x = np.linspace(-reach, reach, 200)
    normal = np.exp(-0.5 * x**2) / np.sqrt(2.0 * np.pi)
    axes.plot(x, normal * len(pulls) * (bins[1] - bins[0]), color=TRUE, lw=2, label="N(0, 1)")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(fontsize=8, loc="upper right")
