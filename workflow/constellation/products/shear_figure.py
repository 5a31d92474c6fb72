"""The figure of a shear map: whiskers on a tangent plane, or the whole sky."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from mpl_toolkits.axes_grid1.anchored_artists import AnchoredSizeBar
from scipy.spatial import cKDTree

from constellation.products.frames import middle
from constellation.products.saving import save_figure
from constellation.sphere import Floats, TangentPlane, unit_vectors

_WIDE_DEG = 20.0  # beyond, the whole sky is shown
_MOST_SIGMA = 5.0


def plot_shear(table: pa.Table, path: Path) -> None:
    """Write the figure of a shear map as PNG, atomically."""
    ra, dec = table["RA"].to_numpy(), table["DEC"].to_numpy()
    centre = middle(ra, dec)
    plane = TangentPlane.at(*centre)
    vectors = unit_vectors(ra, dec)
    radius_deg = np.rad2deg(np.arccos(np.clip((vectors @ plane.centre).min(), -1.0, 1.0)))
    if 2.0 * radius_deg > _WIDE_DEG:
        figure = Figure(figsize=(9.0, 9.5), dpi=120, layout="constrained")
        _draw_sky(figure, table, centre[0])
    else:
        figure = Figure(figsize=(7.5, 7.5), dpi=120, layout="constrained")
        xi, eta = plane.project(vectors)
        _draw_plane(figure, table, np.rad2deg(np.stack([xi, eta], axis=-1)))
    galaxies = sum(table["N_SOURCES"].to_pylist())
    figure.suptitle(
        f"shear of {table.num_rows:,} cells, {galaxies:,} galaxies, "
        f"around RA {centre[0]:.3f}°, Dec {centre[1]:+.3f}°",
        fontsize=11,
    )
    save_figure(figure, path)


def _draw_plane(figure: Figure, table: pa.Table, places_deg: Floats) -> None:
    """Whiskers (east, north of the middle), coloured by their significance."""
    axes = figure.add_subplot()
    in_arcmin = np.ptp(places_deg, axis=0).max() < 2.0
    places, unit = (60.0 * places_deg, "arcmin") if in_arcmin else (places_deg, "deg")
    g, sigma = _shear(table), _significance(table)
    size = np.hypot(*g.T)
    spacing = 1.0
    if len(places) > 1:
        spacing = float(np.median(cKDTree(places).query(places, k=2)[0][:, 1]))
    # the noisiest cells may cross their neighbours
    largest = max(float(np.quantile(size, 0.9)), 1e-3)
    scale = 0.9 * spacing / largest
    angle = 0.5 * np.arctan2(g[:, 1], g[:, 0])
    # u is west, and the axis counts to east
    half = 0.5 * scale * size[:, None] * np.stack([-np.cos(angle), np.sin(angle)], axis=-1)
    lines = LineCollection(np.stack([places - half, places + half], axis=1), cmap="viridis_r")
    lines.set(array=sigma, clim=(0.0, _MOST_SIGMA), linewidth=2.0, capstyle="round")
    axes.add_collection(lines)
    figure.colorbar(lines, ax=axes, label="significance of the shear [σ]", extend="max", shrink=0.7)
    key = max(n * 10.0**k for k in range(-4, 1) for n in (1, 2, 5) if n * 10.0**k <= largest)
    bar = {"size": key * scale, "label": f"|g| = {key:g}", "loc": "upper left", "sep": 4}
    axes.add_artist(AnchoredSizeBar(axes.transData, **bar, pad=0.6, frameon=True))
    low, high = places.min(axis=0) - 0.8 * spacing, places.max(axis=0) + 0.8 * spacing
    axes.set(xlim=(high[0], low[0]), ylim=(low[1], high[1] + 0.08 * (high[1] - low[1])))
    axes.set(aspect="equal", xlabel=f"ΔRA cos(Dec) [{unit}]", ylabel=f"ΔDec [{unit}]")


def _draw_sky(figure: Figure, table: pa.Table, ra_0: float) -> None:
    ra, dec, g = table["RA"].to_numpy(), table["DEC"].to_numpy(), _shear(table)
    x = -np.deg2rad(np.mod(ra - ra_0 + 180.0, 360.0) - 180.0)
    reach = float(np.quantile(np.abs(g), 0.98))
    for n, name in enumerate(("g1", "g2")):
        axes: Axes = figure.add_subplot(2, 1, n + 1, projection="mollweide")
        style = {"cmap": "PuOr", "vmin": -reach, "vmax": reach, "s": 6.0, "linewidths": 0.0}
        points = axes.scatter(x, np.deg2rad(dec), c=g[:, n], **style)
        figure.colorbar(points, ax=axes, label=name, extend="both", shrink=0.8)
        ticks = np.arange(-120, 121, 60)
        labels = [f"{(ra_0 - tick) % 360:.0f}°" for tick in ticks]
        axes.set_xticks(np.deg2rad(ticks), labels, fontsize=8)
        axes.grid(alpha=0.3)


def _shear(table: pa.Table) -> Floats:
    return np.stack([table["G1"].to_numpy(), table["G2"].to_numpy()], axis=-1)


def _significance(table: pa.Table) -> Floats:
    """By how many errors each shear is off zero: the root of its chi-square less its two
    degrees of freedom."""
    one, two = (table[name].to_numpy() ** 2 for name in ("G1_ERR", "G2_ERR"))
    both = table["G1G2_COV"].to_numpy()
    g = _shear(table)
    chi2 = (two * g[:, 0] ** 2 + one * g[:, 1] ** 2 - 2.0 * both * g[:, 0] * g[:, 1]) / (
        one * two - both**2
    )
    return np.sqrt(np.maximum(chi2 - 2.0, 0.0))
