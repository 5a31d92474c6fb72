"""What a survey costs to infer: arithmetic from what one sub-tile takes, without files.

Every input is a `Quantity` that knows where it comes from; nothing has a default here, so that no
invented number can pass for a measured one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

S_PER_HOUR = 3600.0


class Origin(Enum):
    """Where a number comes from."""

    MEASURED = "measured"
    GEOMETRY = "from geometry"
    ASSUMED = "assumed"


@dataclass(frozen=True)
class Quantity:
    """A number with its unit, its origin, and in `detail` who says so."""

    value: float
    unit: str
    origin: Origin
    detail: str


@dataclass(frozen=True)
class LinearLaw:
    """y = intercept + slope x, of which only ratios are used; `x_max` is the largest measured x."""

    intercept: float
    slope: float
    x_max: float

    @classmethod
    def fit(cls, points: Sequence[tuple[float, float]]) -> LinearLaw:
        """Least squares through points (x, y); proportional if one x, or a law that falls.

        Raises `ValueError` without points.
        """
        if not points:
            raise ValueError("a law needs a measured point")
        n = len(points)
        mean_x, mean_y = (sum(point[axis] for point in points) / n for axis in (0, 1))
        spread = sum((x - mean_x) ** 2 for x, _ in points)
        x_max = max(x for x, _ in points)
        if spread > 0.0:
            slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / spread
            intercept = mean_y - slope * mean_x
            # noise can tilt a short law: less than no time for nothing, or less for more, is none
            if slope >= 0.0 and intercept >= 0.0:
                return cls(intercept, slope, x_max)
        squares = sum(x * x for x, _ in points)
        return cls(0.0, sum(x * y for x, y in points) / squares, x_max)

    def ratio(self, x: float, measured_x: float) -> float:
        """How much longer x takes than `measured_x`; 1 if neither takes any time."""
        base = self.intercept + self.slope * measured_x
        return (self.intercept + self.slope * x) / base if base > 0.0 else 1.0

    def is_extrapolated(self, x: float) -> bool:
        """Whether x lies clearly beyond what was measured."""
        return x > self.x_max * 1.02  # within a law's own accuracy


@dataclass(frozen=True)
class Speed:
    """What one sub-tile takes with one method, seconds, on `n_cores` cores or one graphics card.

    `start_s` comes once per job: the start of the process and its imports. `peak_rss_mb` is None
    where it is not known.
    """

    name: str
    load_s: float
    compile_s: float
    solve_s: float
    rest_s: float
    start_s: float
    n_cores: int
    peak_rss_mb: float | None
    origin: Origin
    on_gpu: bool = False

    @property
    def subtile_s(self) -> float:
        """Seconds from manifest to result."""
        return self.load_s + self.compile_s + self.solve_s + self.rest_s

    def job_s(self, n_subtiles: float) -> float:
        """Seconds of a job that works on so many sub-tiles in turn."""
        return self.start_s + n_subtiles * self.subtile_s


@dataclass(frozen=True)
class Price:
    """What an hour of one core or of one card costs; `spot` is None where it is not given."""

    on_demand: float
    spot: float | None = None


@dataclass(frozen=True)
class Extent:
    """How much there is to do: whole numbers, and what all its sub-tiles read together, bytes."""

    name: str
    n_tiles: int
    n_subtiles: int
    n_jobs: int
    quadrants_read: float
    bytes_read: float

    @property
    def subtiles_per_job(self) -> float:
        """How many a job works on, on average."""
        return self.n_subtiles / self.n_jobs


@dataclass(frozen=True)
class Bill:
    """One extent with one speed: what it takes in all; costs are None without a price."""

    extent: Extent
    speed: Speed
    price: Price | None

    @property
    def busy_s(self) -> float:
        """Seconds of all jobs one after the other."""
        jobs = self.extent.n_jobs
        return jobs * self.speed.job_s(self.extent.subtiles_per_job)

    @property
    def unit_hours(self) -> float:
        """Core-hours, or GPU-hours."""
        return self.busy_s / S_PER_HOUR * self._units

    @property
    def cost_on_demand(self) -> float | None:
        """In the currency of the price."""
        return None if self.price is None else self.unit_hours * self.price.on_demand

    @property
    def cost_spot(self) -> float | None:
        """The same at the spot price, without what preempted jobs do twice."""
        if self.price is None or self.price.spot is None:
            return None
        return self.unit_hours * self.price.spot

    def wall_s(self, n_workers: int) -> float:
        """Seconds until the last job ends, with so many jobs at a time; each takes the mean."""
        rounds = math.ceil(self.extent.n_jobs / n_workers)
        return rounds * self.speed.job_s(self.extent.subtiles_per_job)

    def held_hours(self, n_workers: int) -> float:
        """Core- or GPU-hours if all workers are paid for until the last job ends."""
        busy = min(n_workers, self.extent.n_jobs)
        return busy * self.wall_s(n_workers) / S_PER_HOUR * self._units

    @property
    def _units(self) -> int:
        return 1 if self.speed.on_gpu else self.speed.n_cores


def break_even_s(speed: Speed, core_price: float, gpu_price: float) -> float:
    """Seconds per sub-tile below which a card is cheaper than the cores of `speed`."""
    return speed.subtile_s * speed.n_cores * core_price / gpu_price


def expected_overlaps(
    box: tuple[float, float], rectangle: tuple[float, float], pitch_area: float
) -> float:
    """How many rectangles of a regular pattern overlap a box at a random place and angle.

    `box` and `rectangle` are (width, height), `pitch_area` is the sky per rectangle, gaps
    included; all in one unit, which cancels. The mean measure of the places where one convex set
    meets another, over all angles, is A1 + A2 + P1 P2 / (2 pi), with areas A and perimeters P
    (Santalo, Integral Geometry, 1976).
    """
    (width, height), (a, b) = box, rectangle
    perimeters = 4.0 * (width + height) * (a + b)
    return (width * height + a * b + perimeters / (2.0 * math.pi)) / pitch_area
