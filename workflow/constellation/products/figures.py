"""The figures of mass maps, profiles and correlations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

from constellation.products.mass_map import MassMap
from constellation.products.saving import BLUE, GREEN, ORANGE, VERMILION, save_figure

_SIGMAS = (3.0, 4.0, 5.0, 7.0, 10.0)


def plot_mass(found: MassMap, path: Path) -> None:
    """Write the E and B modes side by side as PNG, atomically, with contours of significance."""
    rows, columns = found.grid.shape
    height = float(np.clip(5.0 * rows / columns, 3.0, 9.0)) + 1.0
    figure = Figure(figsize=(12.5, height), dpi=120, layout="constrained")
    side = found.grid.pixel_arcmin
    # columns grow to west, which is right; the axis counts to east
    extent = np.array([columns, -columns, -rows, rows]) * side / 2.0
    reach = np.nanmax(np.abs(np.where(found.known, found.kappa.real, np.nan)))
    for axes, image, name in zip(
        figure.subplots(1, 2), (found.kappa.real, found.kappa.imag), "EB", strict=True
    ):
        shown = np.where(found.known, image, np.nan)
        style = {"origin": "lower", "cmap": "PuOr_r", "vmin": -reach, "vmax": reach}
        drawn = axes.imshow(shown, extent=extent, interpolation="nearest", **style)
        significance = np.where(found.known, image / found.error, 0.0)
        levels = [sigma for sigma in _SIGMAS if sigma < significance.max()]
        if levels and min(found.grid.shape) > 1:
            lines = {"levels": levels, "colors": "black", "linewidths": 0.8}
            axes.contour(significance, extent=extent, **lines)
        axes.set(xlabel="ΔRA cos(Dec) [arcmin]", ylabel="ΔDec [arcmin]", facecolor="0.9")
        axes.set_title(f"κ, {name} mode; contours at {', '.join(f'{x:g}' for x in _SIGMAS)} σ")
        figure.colorbar(drawn, ax=axes, label=f"κ_{name}", shrink=0.8)
    grid = found.grid
    figure.suptitle(
        f"convergence around RA {grid.ra:.3f}°, Dec {grid.dec:+.3f}°, "
        f"smoothed by σ = {found.smoothing_arcmin:g} arcmin, {found.n_galaxies.sum():,.0f} galaxies"
    )
    save_figure(figure, path)


def plot_profile(table: pa.Table, path: Path) -> None:
    """Write a profile of the tangential and cross shear as PNG, atomically."""
    n = int(table.schema.metadata[b"positions"])
    where = f"around {n:,} position{'s' * (n > 1)}"
    style = {"left": "R_MIN", "mean": "R_MEAN", "right": "R_MAX", "unit": "separation [arcmin]"}
    series = [("G_T", "G_T_ERR", "tangential"), ("G_X", "G_X_ERR", "cross")]
    _plot(table, style, [series], path, f"reduced shear {where}")


def plot_correlations(table: pa.Table, path: Path) -> None:
    """Write correlation functions as PNG, atomically."""
    style = {"left": "THETA_MIN", "mean": "THETA", "right": "THETA_MAX", "unit": "θ [arcmin]"}
    if "G_T" in table.column_names:
        series = [[("G_T", "G_ERR", "tangential"), ("G_X", "G_ERR", "cross")]]
        title = "mean shear around positions"
    else:
        series = [[("XI_PLUS", "XI_PLUS_ERR", "ξ+"), ("XI_MINUS", "XI_MINUS_ERR", "ξ−")]]
        title = "shear correlation functions"
        if table["MAP_SQ"].null_count < table.num_rows:
            mass = [("MAP_SQ", "MAP_SQ_ERR", "⟨Map²⟩, E"), ("MX_SQ", "MAP_SQ_ERR", "⟨M×²⟩, B")]
            series.append(mass)
            title += "; aperture mass dispersion of radius θ"
    errors = table.schema.metadata[b"errors"].decode()
    _plot(table, style, series, path, f"{title}; errors of {errors}")


def _plot(table: pa.Table, style: dict, panels: list, path: Path, title: str) -> None:
    figure = Figure(figsize=(6.5 * len(panels) + 0.5, 4.8), dpi=120, layout="constrained")
    for axes, series in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for n, (name, error, label) in enumerate(series):
            _draw(axes, table, style, (name, error, label, n))
        axes.axhline(0.0, color="0.5", lw=0.8)
        axes.set(xlabel=style["unit"])
        if (table[style["left"]].to_numpy() > 0.0).all():
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter(LogFormatter())
            axes.xaxis.set_minor_formatter(LogFormatter(minor_thresholds=(1.5, 0.6)))
        axes.legend(fontsize=9, loc="upper right")
    figure.suptitle(title, fontsize=11)
    save_figure(figure, path)


def _draw(axes: Axes, table: pa.Table, style: dict, series: tuple[str, str, str, int]) -> None:
    name, error, label, n = series
    x = table[style["mean"]].to_numpy()
    x = x * (1.0 + 0.02 * n)  # side by side
    low, high = table[style["left"]].to_numpy(), table[style["right"]].to_numpy()
    colour, marker = ((BLUE, "o"), (VERMILION, "s"), (GREEN, "^"), (ORANGE, "D"))[n]
    look = {"fmt": marker, "color": colour, "ms": 5, "capsize": 2, "label": label}
    width = [np.maximum(x - low, 0.0), np.maximum(high - x, 0.0)] if n == 0 else None
    axes.errorbar(x, table[name].to_numpy(), table[error].to_numpy(), xerr=width, lw=1.0, **look)
