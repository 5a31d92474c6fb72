"""The figure of the quality checks: what people would rather look at than read."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy import stats

from constellation.quality.check import Check
from constellation.quality.report import Quality
from constellation.quality.statistics import ShearStatistics
from constellation.sphere import Floats
from shine.atomic import write_atomically
from shine.errors import Status

# Okabe and Ito's colours, told apart by colour-blind readers too
FIRST, SECOND, MODEL, LIMIT = "#0072B2", "#E69F00", "#D55E00", "#000000"
MOST_POINTS = 3000  # beyond, means of bins are drawn instead of sub-tiles
BINS = 20
_IN_ERRORS = (
    "mean_shear_1", "mean_shear_2", "tangential_shear", "cross_shear",
    "leakage", "leakage_1", "leakage_2", "pull_mean_1", "pull_mean_2",
)  # fmt: skip


def plot_quality(quality: Quality, path: Path) -> None:
    """Write the figure as PNG, atomically; the same checks give the same bytes."""
    figure = Figure(figsize=(14.0, 8.4), dpi=110, layout="constrained")
    axes = figure.subplots(2, 3).ravel()
    _draw_leakage(axes[0], quality.shear)
    _draw_pulls(axes[1], quality.shear)
    _draw_zeros(axes[2], quality.checks)
    _draw_outliers(axes[3], quality.shear)
    _draw_density(axes[4], quality)
    _draw_convergence(axes[5], quality.shear)
    failed = [check.name for check in quality.checks if check.outcome == "failed"]
    made = sum(check.outcome != "not checked" for check in quality.checks)
    title = f"{made - len(failed)} of {made} quality checks passed"
    figure.suptitle(title + (f"; failed: {', '.join(failed)}" if failed else ""), wrap=True)
    buffer = BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    write_atomically(path, buffer.getvalue())


def _draw_leakage(axes: Axes, shear: ShearStatistics) -> None:
    axes.set_title("shear against PSF ellipticity")
    chosen = shear.has_psf
    if not chosen.any():
        _say(axes, "no sub-tile with shear and PSF ellipticity")
        return
    data, psf = shear.data_of(chosen), shear.subtiles.psf[chosen]
    error = np.sqrt(np.diagonal(data.covariance, axis1=1, axis2=2))
    for k, (colour, marker) in enumerate(((FIRST, "o"), (SECOND, "s"))):
        x, y, dy = _binned(psf[:, k], data.shear[:, k], error[:, k])
        style = {"fmt": marker, "color": colour, "ms": 4, "lw": 1, "alpha": 0.8}
        axes.errorbar(x, y, yerr=dy, label=f"component {k + 1}", **style)
        if not isinstance(shear.leakage, str):
            ends = np.array([x.min(), x.max()])
            line = shear.leakage.value(k) + shear.leakage.value(2) * ends
            axes.plot(ends, line, color=colour, lw=2)
    if not isinstance(shear.leakage, str):
        slope = f"slope {shear.leakage.value(2):+.3f} ± {shear.leakage.error(2):.3f}"
        axes.plot([], [], color="0.3", lw=2, label=slope)
    axes.axhline(0.0, color="0.7", lw=1, zorder=0)
    axes.set(xlabel="PSF ellipticity of the sub-tile", ylabel=shear.of_what)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    _leave_room(axes)
    axes.legend(fontsize=7, loc="upper center", ncols=3, columnspacing=1.0, handlelength=1.5)


def _draw_pulls(axes: Axes, shear: ShearStatistics) -> None:
    what = "pulls against the truth" if shear.has_truth else "shear in its errors"
    axes.set(title=what, xlabel=f"{shear.of_what} / error", ylabel="number per bin")
    if not len(shear.data):
        _say(axes, "no sub-tile with shear")
        return
    pulls = shear.pulls
    reach = min(max(4.0, float(np.ceil(np.abs(pulls).max()))), 12.0)
    bins = np.linspace(-reach, reach, 4 * round(reach) + 1)
    labels = [f"g{k + 1}, rms {np.sqrt(np.mean(pulls[:, k] ** 2)):.2f}" for k in range(2)]
    style = {"color": [FIRST, SECOND], "stacked": True, "edgecolor": "white", "label": labels}
    axes.hist(np.clip(pulls, -reach, reach), bins, **style)
    _draw_normal(axes, bins, pulls.size)


def _draw_zeros(axes: Axes, checks: Sequence[Check]) -> None:
    """What should be zero, in units of its error."""
    axes.set(title="what should be zero", xlabel="value / error")
    shown = [c for c in checks if c.name in _IN_ERRORS and c.value is not None and c.error]
    if not shown:
        _say(axes, "nothing was checked")
        return
    for y, check in enumerate(shown):
        failed = check.outcome == "failed"
        colour, marker = (MODEL, "X") if failed else (FIRST, "o")
        axes.errorbar(check.value / check.error, y, xerr=1.0, fmt=marker, color=colour, capsize=3)
    axes.axvline(0.0, color="0.7", lw=1, zorder=0)
    places = np.arange(len(shown))
    names = [f"{c.name} (failed)" if c.outcome == "failed" else c.name for c in shown]
    axes.set_yticks(places, names, fontsize=8)
    axes.set(ylim=(len(shown) - 0.5, -0.5))


def _draw_outliers(axes: Axes, shear: ShearStatistics) -> None:
    axes.set(title="sub-tiles far from the others", xlabel="distance in sigma (two components)")
    n = len(shear.data)
    if not n:
        _say(axes, "no sub-tile with shear")
        return
    distance = shear.outlier_sigma
    reach = max(np.ceil(1.1 * shear.outlier_limit), float(np.ceil(distance.max())))
    bins = np.linspace(0.0, reach, round(4 * reach) + 1)
    axes.hist(distance, bins, color=FIRST, alpha=0.75, edgecolor="white")
    x = np.linspace(0.0, reach, 200)
    rayleigh = x * np.exp(-0.5 * x**2) * n * (bins[1] - bins[0])
    axes.plot(x, rayleigh, color=MODEL, lw=2, label="expected by chance")
    axes.axvline(shear.outlier_limit, color=LIMIT, ls="--", lw=1.5, label="limit")
    axes.set_ylabel("sub-tiles per bin")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(fontsize=8, loc="upper right")


def _draw_density(axes: Axes, quality: Quality) -> None:
    axes.set(title="density of galaxies that carry shear", ylabel="sub-tiles per bin")
    areas, counts = quality.catalogue.areas_arcmin2, quality.catalogue.counts
    known = np.isfinite(quality.catalogue.density_sigma)
    axes.set_xlabel("galaxies per arcmin²")
    if not known.any():
        _say(axes, "no sub-tile of known area")
        return
    density = counts.n_boxed[quality.catalogue.place][known] / areas[known]
    axes.hist(
        density, max(5, min(40, known.sum() // 4)), color=FIRST, alpha=0.75, edgecolor="white"
    )
    middle = float(np.median(density))
    axes.axvline(middle, color=MODEL, lw=2, label=f"median {middle:.1f}")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    _leave_room(axes)
    axes.legend(fontsize=8, loc="upper right")


def _draw_convergence(axes: Axes, shear: ShearStatistics) -> None:
    subtiles = shear.subtiles
    counts = [(s.name, int((subtiles.status == s).sum())) for s in Status]
    told = ", ".join(f"{name} {count}" for name, count in counts if count)
    axes.set(title=f"convergence ({told})", xlabel="CONVERGENCE, in errors of the shear")
    axes.set_ylabel("sub-tiles per bin")
    value = subtiles.convergence
    known = np.isfinite(value) & (value > 0.0)
    if not known.any():
        _say(axes, "no sub-tile with CONVERGENCE")
        return
    low, high = np.floor(np.log10(value[known].min())), np.ceil(np.log10(value[known].max()))
    bins = np.logspace(low, max(high, low + 1.0), 25)
    good = subtiles.status == Status.OK
    parts = [value[known & good], value[known & ~good]]
    style = {"color": [FIRST, MODEL], "stacked": True, "edgecolor": "white"}
    axes.hist(parts, bins, label=["OK", "others"], **style)
    axes.set_xscale("log")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    _leave_room(axes)
    axes.legend(fontsize=8, loc="upper right")


def _leave_room(axes: Axes) -> None:
    """Above the data, for the legend."""
    low, high = axes.get_ylim()
    axes.set_ylim(low, high + 0.15 * (high - low))


def _draw_normal(axes: Axes, bins: Floats, n: int) -> None:
    x = np.linspace(bins[0], bins[-1], 200)
    expected = stats.norm.pdf(x) * n * (bins[1] - bins[0])
    axes.plot(x, expected, color=MODEL, lw=2, label="N(0, 1)")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(fontsize=8, loc="upper right")


def _binned(x: Floats, y: Floats, error: Floats) -> tuple[Floats, Floats, Floats]:
    """The points, or where they are many their weighted means in bins of equal number."""
    if len(x) <= MOST_POINTS:
        return x, y, error
    weight = error**-2.0
    rows = np.array_split(np.argsort(x), BINS)
    total = np.array([weight[r].sum() for r in rows])
    means = [np.array([(v[r] * weight[r]).sum() for r in rows]) / total for v in (x, y)]
    return means[0], means[1], total**-0.5


def _say(axes: Axes, text: str) -> None:
    axes.text(0.5, 0.5, text, ha="center", transform=axes.transAxes)
    axes.set(xticks=(), yticks=())
