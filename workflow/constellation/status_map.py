"""The sky map of a campaign: where it is done, runs, failed or waits."""

from __future__ import annotations

import time
from io import BytesIO
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from constellation.plan import Plan
from constellation.status import Snapshot, State
from constellation.tiling import CORE_SIZE_ARCMIN, Floats, Grid, TangentPlane
from shine.atomic import write_atomically

WIDE_DEG = 20.0  # beyond, the whole sky is shown
MOST_POLYGONS = 20_000  # beyond, tiles are drawn instead of their sub-tiles
PARTLY = len(State)  # a tile: some sub-tiles done, others pending
# Okabe and Ito's colours, told apart by colour-blind readers too; the gravest comes first
COLOURS = {
    State.FAILED: ("#D55E00", "failed"),
    State.NOT_CONVERGED: ("#E69F00", "not converged"),
    State.RUNNING: ("#0072B2", "running"),
    State.DONE: ("#009E73", "done"),
    PARTLY: ("#8FD3BF", "partly done"),
    State.PENDING: ("#D0D0D0", "pending"),
}


def draw_map(found: Snapshot, plan: Plan, path: Path) -> None:
    """Write the map as PNG, atomically: the whole sky for a wide survey, else a tangent plane."""
    tile_ids = found.planned.tile_ids
    places = np.array([plan.tiles.position(int(tile_id)) for tile_id in tile_ids])
    centres = plan.tiles.centres[places]
    middle = centres.mean(axis=0)
    length = np.linalg.norm(middle)
    # where directions cancel there is no middle, and the survey is wide anyway
    middle = middle / length if length > 1e-3 else np.array([1.0, 0.0, 0.0])
    radius_deg = np.rad2deg(np.arccos(np.clip(centres @ middle, -1.0, 1.0)).max())
    figure = Figure(figsize=(11.0, 6.5), dpi=130, layout="constrained")
    if 2.0 * radius_deg > WIDE_DEG:
        axes = figure.add_subplot(projection="mollweide")
        per_tile = tile_states(found)
        _draw_sky(axes, plan.tiles.ra[places], plan.tiles.dec[places], per_tile)
        shown, unit = per_tile, "tile, by the gravest of its sub-tiles"
    else:
        axes = figure.add_subplot()
        shown, unit = _draw_plane(axes, found, plan, middle)
    handles = [
        Patch(color=colour, label=f"{label}: {count:,}")
        for state, (colour, label) in COLOURS.items()
        if (count := int((shown == state).sum()))
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=6, fontsize=9)
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(found.now_s))
    figure.suptitle(
        f"{found.n_done:,} of {len(found.state):,} sub-tiles done, {when}; colour per {unit}"
    )
    buffer = BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    write_atomically(path, buffer.getvalue())


def tile_states(found: Snapshot) -> NDArray[np.int8]:
    """One state per tile, (t,): the gravest of its sub-tiles, or PARTLY."""
    first = found.planned.first
    has = {state: np.logical_or.reduceat(found.state == state, first[:-1]) for state in State}
    done, pending = has[State.DONE], has[State.PENDING]
    result = np.where(done & pending, PARTLY, np.where(done, State.DONE, State.PENDING))
    for state in (State.RUNNING, State.NOT_CONVERGED, State.FAILED):
        result = np.where(has[state], state, result)
    return result.astype(np.int8)


def _draw_sky(axes: Axes, ra: Floats, dec: Floats, states: NDArray[np.int8]) -> None:
    """Tiles as markers of their size on the whole sky, RA growing to the left."""
    ra_0 = _middle_ra(ra)
    x = -np.deg2rad(np.mod(ra - ra_0 + 180.0, 360.0) - 180.0)
    axes.figure.canvas.draw()  # now the size of the axes is known
    width_pt = axes.get_window_extent().width * 72.0 / axes.figure.dpi
    # twice their size: no gaps between tiles of hardly two pixels
    side_pt = 2.0 * CORE_SIZE_ARCMIN / 60.0 / 360.0 * width_pt
    for state in reversed(COLOURS):  # the gravest on top
        chosen = states == state
        style = {"s": side_pt**2, "color": COLOURS[state][0], "marker": "s", "linewidths": 0}
        axes.scatter(x[chosen], np.deg2rad(dec[chosen]), **style)
    ticks = np.arange(-150, 151, 30)
    axes.set_xticks(
        np.deg2rad(ticks), [f"{(ra_0 - tick) % 360:.0f}°" for tick in ticks], fontsize=8
    )
    axes.set(xlabel="right ascension [deg]", ylabel="declination [deg]")
    axes.grid(alpha=0.3)


def _middle_ra(ra: Floats) -> float:
    """A multiple of 30 deg near the middle of the survey; 0 for one all around the sky."""
    mean = np.exp(1j * np.deg2rad(ra)).mean()
    return float(np.round(np.rad2deg(np.angle(mean)) / 30.0) * 30.0) if abs(mean) > 0.1 else 0.0


def _draw_plane(
    axes: Axes, found: Snapshot, plan: Plan, middle: Floats
) -> tuple[NDArray[np.int8], str]:
    """Sub-tiles (of very many: tiles) as polygons, east to the left; returns what is shown."""
    ra, dec = np.arctan2(middle[1], middle[0]), np.arcsin(np.clip(middle[2], -1.0, 1.0))
    ra_deg, dec_deg = float(np.rad2deg(ra) % 360.0), float(np.rad2deg(dec))
    by_tile = len(found.state) > MOST_POLYGONS
    corners, states = [], tile_states(found) if by_tile else found.state
    for tile_id, cells in zip(found.planned.tile_ids, found.planned.cells, strict=True):
        grid = plan.grid(int(tile_id))
        if by_tile:
            corners.append(Grid(grid.tiles, grid.place, (1, 1), grid.margin_rad).core_corners(0, 0))
        else:
            corners += [grid.core_corners(row, col) for row, col in cells]
    plane = TangentPlane.at(ra_deg, dec_deg)
    offsets = np.rad2deg(plane.project(np.array(corners).reshape(-1, 3))).T.reshape(-1, 4, 2)
    low, high = offsets.min(axis=(0, 1)), offsets.max(axis=(0, 1))
    in_arcmin = (high - low).max() < 2.0
    scale, unit = (60.0, "arcmin") if in_arcmin else (1.0, "deg")
    colours = [COLOURS[int(state)][0] for state in states]
    thin = {"edgecolor": "white", "linewidth": 0.3 if len(states) < 5000 else 0.0}
    axes.add_collection(PolyCollection(list(offsets * scale), facecolors=colours, **thin))
    (x_low, y_low), (x_high, y_high) = low * scale, high * scale
    edge = 0.03 * max(x_high - x_low, y_high - y_low)
    axes.set(xlim=(x_high + edge, x_low - edge), ylim=(y_low - edge, y_high + edge))
    axes.set(aspect="equal", xlabel=f"ΔRA cos(Dec) [{unit}]", ylabel=f"ΔDec [{unit}]")
    axes.set_title(f"around RA {ra_deg:.3f}°, Dec {dec_deg:+.3f}°", fontsize=10)
    return np.asarray(states), "tile, by the gravest of its sub-tiles" if by_tile else "sub-tile"
