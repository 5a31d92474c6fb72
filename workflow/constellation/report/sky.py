"""Maps of a campaign: what of the sky it covers, its shear, its PSF; one map per field.

A survey lies in fields far apart, so tiles near each other share a map. Maps are equal-area (ZEA,
Calabretta and Greisen 2002, section 5.1.7), east to the left.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from constellation.plan import SubTile
from constellation.report.campaign import Campaign, Floats
from constellation.report.drawing import WIDTH, Chart, Scale, plain
from constellation.sphere import TangentPlane, unit_vectors
from shine.errors import Status

LINK_DEG = 1.5  # tiles nearer than this lie in one field
MOST_FIELDS = 6  # of which maps are drawn
_STEP = 1e-4  # rad, to see which way a direction goes on the map
NOTHING = "no result"
# colour of each state, and which statuses it stands for
STATES = {
    "converged": ("green", (Status.OK,)),
    "not converged": ("orange", (Status.NOT_CONVERGED,)),
    "nothing to infer": ("grey", (Status.NO_SOURCES, Status.NO_QUADRANTS)),
    "failed": ("red", (Status.FAILED, Status.NOT_ATTEMPTED)),
    NOTHING: ("red", ()),
}


@dataclass(frozen=True)
class Field:
    """A part of the sky with a map of its own: its tiles, and places (n,) of its sub-tiles."""

    tile_ids: list[int]
    places: np.ndarray
    plane: TangentPlane
    name: str

    def project(self, vectors: Floats) -> Floats:
        """Map positions (..., 2) of unit vectors (..., 3), deg: to the west and to the north."""
        scale = np.sqrt(2.0 / np.maximum(1.0 + vectors @ self.plane.centre, 1e-12))
        sides = np.stack([-(vectors @ self.plane.east), vectors @ self.plane.north], axis=-1)
        return np.rad2deg(sides * scale[..., None])

    def directions(self, ra: Floats, dec: Floats, angle: Floats) -> Floats:
        """Unit vectors (n, 2) on the map of angles (n,) from the local west towards north, rad."""
        ra, dec = np.deg2rad(ra), np.deg2rad(dec)
        zero = np.zeros_like(ra)
        west = np.stack([np.sin(ra), -np.cos(ra), zero], axis=-1)
        north = np.stack(
            [-np.sin(dec) * np.cos(ra), -np.sin(dec) * np.sin(ra), np.cos(dec)], axis=-1
        )
        here = unit_vectors(np.rad2deg(ra), np.rad2deg(dec))
        there = here + _STEP * (np.cos(angle)[:, None] * west + np.sin(angle)[:, None] * north)
        there /= np.linalg.norm(there, axis=-1, keepdims=True)
        moved = self.project(there) - self.project(here)
        return moved / np.linalg.norm(moved, axis=-1, keepdims=True)


@dataclass(frozen=True)
class Map:
    """A chart of one field and the words that go with it."""

    field: Field
    chart: Chart
    description: str


@dataclass(frozen=True)
class Sky:
    """The maps of a campaign."""

    campaign: Campaign

    @cached_property
    def fields(self) -> list[Field]:
        """The fields, largest first."""
        plan = self.campaign.run.plan
        ids = np.array(plan.tile_ids)
        centres = plan.tiles.centres[[plan.tiles.position(int(tile)) for tile in ids]]
        near = cKDTree(centres).sparse_distance_matrix(
            cKDTree(centres), 2.0 * np.sin(np.deg2rad(LINK_DEG) / 2.0)
        )
        labels = connected_components(near, directed=False)[1]
        tiles = np.array([subtile.tile_id for subtile in self.campaign.subtiles], np.int64)
        groups = [ids[labels == label] for label in range(labels.max() + 1)]
        found = [self._field(group, tiles) for group in groups]
        return sorted(found, key=lambda field: -len(field.tile_ids))

    def _field(self, tile_ids: np.ndarray, tiles: np.ndarray) -> Field:
        corners = np.concatenate([self._corners(int(tile)) for tile in tile_ids]).reshape(-1, 3)
        middle = corners.mean(axis=0)
        ra = float(np.rad2deg(np.arctan2(middle[1], middle[0])) % 360.0)
        dec = float(np.rad2deg(np.arctan2(middle[2], np.hypot(*middle[:2]))))
        name = f"around RA {ra:.3f}°, Dec {plain(dec, '+.3f')}°"
        places = np.flatnonzero(np.isin(tiles, tile_ids))
        return Field([int(t) for t in tile_ids], places, TangentPlane.at(ra, dec), name)

    def _corners(self, tile_id: int) -> Floats:
        """Corners (n, 4, 3) of the planned sub-tiles of a tile."""
        plan = self.campaign.run.plan
        grid = plan.grid(tile_id)
        return np.array([grid.core_corners(s.row, s.col) for s in plan.by_tile[tile_id]])

    def coverage(self) -> Iterator[Map]:
        """What became of each planned sub-tile."""
        known = dict(zip(self.campaign.subtiles, self.campaign.status, strict=True))
        for field in self.fields[:MOST_FIELDS]:
            shapes = field.project(self._boxes(field))
            states = [state_of(known.get(subtile)) for subtile in self._planned(field)]
            chart, unit = _chart(shapes)
            told = []
            for state, (colour, _) in STATES.items():
                chosen = np.array([found == state for found in states])
                if chosen.any():
                    chart.polygons(shapes[chosen] * unit.per_deg, colour)
                    chart.legend.append((colour, f"{state}: {chosen.sum():,}"))
                    told.append(f"{chosen.sum():,} {state}")
            _finish(chart, unit)
            text = f"Map of the {len(states):,} planned sub-tiles {field.name}: {', '.join(told)}."
            yield Map(field, chart, text)

    def shear(self) -> Iterator[Map]:
        """Whiskers along the direction of stretching, over the true ones if there is a truth."""
        both = np.concatenate([self.campaign.g, self.campaign.truth])
        largest = max(float(np.nanmax(np.hypot(*both.T), initial=0.0)), 0.01)
        for field in self.fields[:MOST_FIELDS]:
            chart, unit, length = self._whisker_chart(field)
            for values, colour, label, width in (
                (self.campaign.truth, "orange wide", "true", 4.5),
                (self.campaign.g, "blue", "inferred", 1.8),
            ):
                if np.isfinite(values[field.places]).any():
                    self._whiskers(chart, field, values * length / largest, (colour, width, unit))
                    chart.legend.append((colour, label))
            _key(chart, "|g|", largest, length, unit)
            _finish(chart, unit)
            sizes = np.hypot(*self.campaign.g[field.places].T)
            mean = float(np.nanmean(sizes)) if np.isfinite(sizes).any() else np.nan
            text = (
                f"Shear whiskers of {np.isfinite(sizes).sum():,} sub-tiles {field.name}; "
                f"mean |g| {plain(mean, '.4f')}, largest {plain(largest, '.3f')}."
            )
            yield Map(field, chart, text)

    @cached_property
    def psf(self) -> Floats:
        """PSF_E1, PSF_E2 and PSF_FWHM of each sub-tile (n, 3); NaN where they are not measured."""
        names = ("PSF_E1", "PSF_E2", "PSF_FWHM")
        return np.stack([self.campaign.numbers(name) for name in names], axis=-1)

    def psf_maps(self) -> Iterator[Map]:
        """Whiskers of the PSF's ellipticity, and its size as colour; none if nothing is known."""
        if not np.isfinite(self.psf).any():
            return
        largest = max(float(np.nanmax(np.hypot(*self.psf[:, :2].T), initial=0.0)), 1e-3)
        steps = np.unique(np.nanquantile(self.psf[:, 2], np.linspace(0.0, 1.0, 6)))
        for field in self.fields[:MOST_FIELDS]:
            chart, unit, length = self._whisker_chart(field)
            here = self._positions(field) * unit.per_deg
            fwhm = self.psf[field.places, 2]
            bins = np.clip(np.searchsorted(steps, fwhm, "right") - 1, 0, max(len(steps) - 2, 0))
            for step in range(max(len(steps) - 1, 1)):
                chosen = np.isfinite(fwhm) & (bins == step)
                chart.dots(*here[chosen].T, f"size{step}", self._dot_size(field))
                chart.legend.append((f"size{step}", f"{steps[min(step, len(steps) - 1)]:.4f}″"))
            ellipticity = self.psf[:, :2] * length / largest
            self._whiskers(chart, field, ellipticity, ("ink", 1.4, unit))
            _key(chart, "|e|", largest, length, unit)
            _finish(chart, unit)
            text = (
                f"PSF of {np.isfinite(fwhm).sum():,} sub-tiles {field.name}: FWHM "
                f"{_range(fwhm, '.4f')} arcsec, ellipticity "
                f"{_range(np.hypot(*self.psf[field.places, :2].T), '.4f')}."
            )
            yield Map(field, chart, text)

    def _whisker_chart(self, field: Field) -> tuple[Chart, Unit, float]:
        """An empty map, its unit, and the length of the longest whisker on it, deg."""
        boxes = field.project(self._boxes(field))
        chart, unit = _chart(boxes)
        positions = self._positions(field)
        spacing = np.sqrt(np.median(np.abs(_areas(boxes))))
        if len(positions) > 1:
            spacing = float(np.median(cKDTree(positions).query(positions, k=2)[0][:, 1]))
        return chart, unit, 0.9 * spacing

    def _whiskers(
        self, chart: Chart, field: Field, values: Floats, style: tuple[str, float, Unit]
    ) -> None:
        """Lines as long as the values (n, 2) say, deg."""
        colour, width, unit = style
        chosen = field.places
        one, two = values[chosen].T
        # g1 > 0 is east-west, g2 > 0 along west = north
        angle = np.nan_to_num(0.5 * np.arctan2(two, one))
        ra, dec = self.campaign.numbers("RA")[chosen], self.campaign.numbers("DEC")[chosen]
        half = 0.5 * np.hypot(one, two)[:, None] * field.directions(ra, dec, angle)
        middle = self._positions(field)
        chart.segments(
            (middle - half) * unit.per_deg, (middle + half) * unit.per_deg, colour, width
        )

    def _positions(self, field: Field) -> Floats:
        ra, dec = (self.campaign.numbers(name)[field.places] for name in ("RA", "DEC"))
        return field.project(unit_vectors(ra, dec))

    def _dot_size(self, field: Field) -> float:
        return float(np.clip(150.0 / np.sqrt(max(len(field.places), 1)), 3.0, 26.0))

    def _planned(self, field: Field) -> list[SubTile]:
        return [s for tile in field.tile_ids for s in self.campaign.run.plan.by_tile[tile]]

    def _boxes(self, field: Field) -> Floats:
        return np.concatenate([self._corners(tile) for tile in field.tile_ids])


@dataclass(frozen=True)
class Unit:
    """What the axes of a map are in."""

    name: str
    per_deg: float


def state_of(status: Status | None) -> str:
    """The name in `STATES` of a sub-tile's status, None for one that has no row."""
    found = (name for name, (_, statuses) in STATES.items() if status in statuses)
    return next(found, NOTHING)


def _chart(shapes: Floats) -> tuple[Chart, Unit]:
    """An empty map that holds the shapes (n, 4, 2), deg, and the unit of its axes."""
    low, high = shapes.reshape(-1, 2).min(axis=0), shapes.reshape(-1, 2).max(axis=0)
    unit = Unit("arcmin", 60.0) if (high - low).max() < 2.0 else Unit("deg", 1.0)
    x, y = (Scale.around(side * unit.per_deg) for side in shapes.reshape(-1, 2).T)
    return Chart.square(x, y), unit


def _finish(chart: Chart, unit: Unit) -> None:
    chart.frame(f"ΔRA cos(Dec) [{unit.name}]", f"ΔDec [{unit.name}]", negate_x=True)


def _key(chart: Chart, name: str, largest: float, length_deg: float, unit: Unit) -> None:
    """A whisker of a round size, in the upper right corner."""
    size = max(n * 10.0**k for k in range(-4, 1) for n in (1, 2, 5) if n * 10.0**k <= largest)
    long = size / largest * length_deg * unit.per_deg
    x = chart.x.high - 0.03 * (chart.x.high - chart.x.low)
    y = chart.y.high - 0.04 * (chart.y.high - chart.y.low)
    chart.segments(np.array([[x - long, y]]), np.array([[x, y]]), "ink", 2.0)
    chart.label(WIDTH - 38.0, 17.0, f"{name} = {size:g}")


def _areas(boxes: Floats) -> Floats:
    """Areas (n,) of quadrangles (n, 4, 2), by the shoelace formula."""
    x, y = boxes[..., 0], boxes[..., 1]
    return 0.5 * np.sum(x * np.roll(y, -1, axis=-1) - y * np.roll(x, -1, axis=-1), axis=-1)


def _range(values: Floats, form: str) -> str:
    known = values[np.isfinite(values)]
    return f"{known.min():{form}} to {known.max():{form}}" if len(known) else "not known"
