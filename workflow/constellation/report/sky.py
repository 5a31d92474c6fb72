"""Maps of a campaign: what of the sky it covers, its shear, its PSF; one map per field."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from constellation.plan import SubTile
from constellation.report.campaign import Campaign, Floats
from constellation.report.drawing import Chart, Scale, plain
from constellation.report.fields import FILLED, Field, Points, group_near
from constellation.sphere import TangentPlane, unit_vectors
from shine.errors import Status

MOST_FIELDS = 6  # of which maps are drawn
MOST_WHISKERS = 400  # beyond, one for each tile
N_SIZES = 5  # classes of the PSF's size
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
class Map:
    """A chart of one field and the words that go with it."""

    field: Field
    chart: Chart
    description: str
    what: str = "sub-tiles"  # are shown


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
        tiles = np.array([subtile.tile_id for subtile in self.campaign.subtiles], np.int64)
        return [self._field(ids[group], tiles) for group in group_near(centres)]

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
        """Whiskers along the direction of stretching, over the true ones if there is a truth.

        Of a large field each stands for a tile: the mean of its sub-tiles by their errors.
        """
        weight = 1.0 / np.mean(self.campaign.g_err**2, axis=1)
        fields = self.fields[:MOST_FIELDS]
        inferred = [self._points(field, self.campaign.g, weight) for field in fields]
        true = [self._points(field, self.campaign.truth, weight) for field in fields]
        largest = max(_largest([p.values for p in (*inferred, *true)]), 0.01)
        for field, points, expected in zip(fields, inferred, true, strict=True):
            chart, unit = _chart(field.project(self._boxes(field)))
            spacing = points.spacing_deg * unit.per_deg
            width = float(np.clip(0.25 * chart.units(spacing), 0.9, 1.8))
            for shown, colour, label, wide in (
                (expected, "orange wide", "true", 2.5 * width),
                (points, "blue", "inferred", width),
            ):
                if np.isfinite(shown.values).any():
                    starts, ends = shown.whiskers(largest)
                    chart.segments(starts * unit.per_deg, ends * unit.per_deg, colour, wide)
                    chart.legend.append((colour, label))
            _key(chart, "|g|", largest, spacing)
            _finish(chart, unit)
            sizes = np.hypot(*points.values.T)
            text = (
                f"Shear whiskers of {np.isfinite(sizes).sum():,} {points.what} {field.name}: "
                f"|g| {_range(sizes, '.4f')}, mean {_mean(sizes, '.4f')}."
            )
            yield Map(field, chart, text, points.what)

    @cached_property
    def psf(self) -> Floats:
        """PSF_E1, PSF_E2 and PSF_FWHM of each sub-tile (n, 3); NaN where they are not measured."""
        names = ("PSF_E1", "PSF_E2", "PSF_FWHM")
        return np.stack([self.campaign.numbers(name) for name in names], axis=-1)

    def psf_maps(self) -> Iterator[Map]:
        """Whiskers of the PSF's ellipticity, and its size as colour; none if nothing is known."""
        if not np.isfinite(self.psf).any():
            return
        fields = self.fields[:MOST_FIELDS]
        evenly = np.ones(len(self.psf))
        found = [self._points(field, self.psf, evenly) for field in fields]
        largest = max(_largest([points.values[:, :2] for points in found]), 1e-3)
        widths = np.concatenate([points.values[:, 2] for points in found])
        steps = np.nanquantile(widths, np.linspace(0.0, 1.0, N_SIZES + 1))
        for field, points in zip(fields, found, strict=True):
            chart, unit = _chart(field.project(self._boxes(field)))
            spacing = points.spacing_deg * unit.per_deg
            here, fwhm = points.positions * unit.per_deg, points.values[:, 2]
            size = float(np.clip(0.6 * chart.units(spacing), 2.5, 24.0))
            for step, (low, high) in enumerate(pairwise(steps)):
                is_last = step == N_SIZES - 1
                chosen = (fwhm >= low) & ((fwhm < high) | is_last)
                chart.dots(*here[chosen].T, f"size{step}", size)
                chart.legend.append((f"size{step}", f"≥ {low:.4f}″"))
            starts, ends = points.whiskers(largest)
            width = float(np.clip(0.2 * chart.units(spacing), 0.8, 1.6))
            for colour, wide in (("paper", 3.0 * width), ("ink", width)):  # stands out from dots
                chart.segments(starts * unit.per_deg, ends * unit.per_deg, colour, wide)
            _key(chart, "|e|", largest, spacing)
            _finish(chart, unit)
            text = (
                f"PSF of {np.isfinite(fwhm).sum():,} {points.what} {field.name}: FWHM "
                f"{_range(fwhm, '.4f')} arcsec, ellipticity "
                f"{_range(np.hypot(*points.values[:, :2].T), '.4f')}."
            )
            yield Map(field, chart, text, points.what)

    def _points(self, field: Field, values: Floats, weight: Floats) -> Points:
        """Values (n, k) of a field's sub-tiles or, if they are many, of its tiles."""
        places = field.places
        ra, dec = (self.campaign.numbers(name)[places] for name in ("RA", "DEC"))
        vectors, values, weight = unit_vectors(ra, dec), values[places], weight[places]
        what = "sub-tiles"
        if len(places) > MOST_WHISKERS:
            what = "tiles"
            ids = [self.campaign.subtiles[place].tile_id for place in places]
            tile = np.unique(ids, return_inverse=True)[1]
            known = np.isfinite(values).all(axis=1) & np.isfinite(weight)
            total = np.bincount(tile, np.where(known, weight, 0.0))
            sums = np.where(known[:, None], values * weight[:, None], 0.0)
            with np.errstate(invalid="ignore"):  # a tile without any value has none
                values = np.stack([np.bincount(tile, side) for side in sums.T], -1) / total[:, None]
            vectors = np.stack([np.bincount(tile, side) for side in vectors.T], axis=-1)
            vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
        return Points(field, vectors, values, what)

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


def _key(chart: Chart, name: str, largest: float, spacing: float) -> None:
    """A whisker of a round size; `spacing` of the points in units of the axes."""
    size = max(n * 10.0**k for k in range(-4, 1) for n in (1, 2, 5) if n * 10.0**k <= largest)
    chart.key(f"{name} = {size:g}", size / largest * FILLED * spacing)


def _largest(values: list[Floats]) -> float:
    """The size of the longest of vectors (n, 2)."""
    return float(np.nanmax(np.hypot(*np.concatenate([v[:, :2] for v in values]).T), initial=0.0))


def _mean(values: Floats, form: str) -> str:
    known = values[np.isfinite(values)]
    return format(known.mean(), form) if len(known) else "not known"


def _range(values: Floats, form: str) -> str:
    known = values[np.isfinite(values)]
    return f"{known.min():{form}} to {known.max():{form}}" if len(known) else "not known"
