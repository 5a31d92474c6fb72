"""Charts as inline SVG: a frame, ticks, and few but long paths, so that a page stays light.

Colours are names that the page's style sheet resolves, so that a chart follows light and dark.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from markupsafe import Markup, escape
from matplotlib.ticker import LogLocator, MaxNLocator
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

WIDTH = 340.0  # of every chart, in units that are about a pixel of a phone
LEFT, RIGHT, TOP, BOTTOM = 56.0, 8.0, 26.0, 42.0
MINUS = "\N{MINUS SIGN}"
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_LETTER, _LINE, _KEY = 6.7, 17.0, 70.0  # typical sizes of a letter, a line and a key


@dataclass(frozen=True)
class Scale:
    """The range of an axis, linear or logarithmic."""

    low: float
    high: float
    log: bool = False
    whole: bool = False  # of whole numbers

    @classmethod
    def around(cls, values: ArrayLike, log: bool = False) -> Scale:
        """The range of the finite (for `log`, positive) values with some space around it."""
        known = np.asarray(values, np.float64).ravel()
        known = known[np.isfinite(known) & ((known > 0.0) | (not log))]
        if len(known) == 0:
            return cls(0.1, 1.0, log) if log else cls(0.0, 1.0)
        low, high = float(known.min()), float(known.max())
        if log:
            return cls(low / 1.3, high * 1.3, True)
        space = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
        return cls(low - space, high + space)

    def part(self, values: ArrayLike) -> Floats:
        """Where values lie between the ends, 0 to 1; NaN where the logarithm has no place."""
        values = np.asarray(values, np.float64)
        low, high = self.low, self.high
        if self.log:
            values = np.log(np.where(values > 0.0, values, np.nan))
            low, high = np.log(low), np.log(high)
        return (values - low) / (high - low)

    def ticks(self) -> list[tuple[float, str]]:
        """At most some six values with their labels."""
        if self.log:
            found = LogLocator(numticks=6).tick_values(self.low, self.high)
            if np.sum((found >= self.low) & (found <= self.high)) < 2:
                found = LogLocator(subs=(1.0, 2.0, 5.0)).tick_values(self.low, self.high)
        else:
            steps = [1, 2, 5, 10] if self.whole else [1, 2, 2.5, 5, 10]
            locator = MaxNLocator(5, steps=steps, integer=self.whole)
            found = locator.tick_values(self.low, self.high)
        part = self.part(found)
        inside = found[(part >= -1e-9) & (part <= 1.0 + 1e-9)]
        return [(float(value), _label(float(value))) for value in inside]


@dataclass
class Chart:
    """One chart being drawn; `x` and `y` are its axes, sizes are in units of `WIDTH`."""

    x: Scale
    y: Scale
    height: float = 260.0
    parts: list[str] = field(default_factory=list)
    legend: list[tuple[str, str]] = field(default_factory=list)  # colour, text
    has_key: bool = False

    @classmethod
    def square(cls, x: Scale, y: Scale) -> Chart:
        """A chart with the same scale along both axes, as high as it needs to be."""
        wide = WIDTH - LEFT - RIGHT
        high = wide * (y.high - y.low) / (x.high - x.low)
        if high > 1.15 * wide:  # a tall field: leave space at its sides
            half = 0.5 * (y.high - y.low) / 1.15
            middle = 0.5 * (x.low + x.high)
            x, high = Scale(middle - half, middle + half), 1.15 * wide
        elif high < 0.4 * wide:
            half = 0.2 * (x.high - x.low)
            middle = 0.5 * (y.low + y.high)
            y, high = Scale(middle - half, middle + half), 0.4 * wide
        return cls(x, y, high + TOP + BOTTOM)

    def place(self, x: ArrayLike, y: ArrayLike) -> Floats:
        """Positions (n, 2) on the chart."""
        across = LEFT + (WIDTH - LEFT - RIGHT) * self.x.part(x)
        down = self.height - BOTTOM - (self.height - TOP - BOTTOM) * self.y.part(y)
        return np.stack(np.broadcast_arrays(across, down), axis=-1)

    def units(self, length: float) -> float:
        """A length along `x` in units of the chart."""
        return length / (self.x.high - self.x.low) * (WIDTH - LEFT - RIGHT)

    def dots(self, x: ArrayLike, y: ArrayLike, colour: str, size: float = 5.0) -> None:
        """Round marks: lines of no length with round ends, all in one path."""
        known = _finite(self.place(x, y))
        self._path("".join(f"M{_pair(point)}h0" for point in known), "dot", colour, size)

    def segments(self, starts: Floats, ends: Floats, colour: str, width: float = 1.5) -> None:
        """Straight lines between positions (n, 2) in units of the axes."""
        pairs = np.concatenate([self.place(*starts.T), self.place(*ends.T)], axis=-1)
        pairs = pairs[np.isfinite(pairs).all(axis=-1)]
        lines = (f"M{_pair(p[:2])}l{_pair(p[2:] - p[:2])}" for p in pairs)
        self._path("".join(lines), "line", colour, width)

    def lines(
        self, curves: Iterable[tuple[ArrayLike, ArrayLike]], colour: str, width: float = 1.5
    ) -> None:
        """Curves, all in one path; points without a place are left out."""
        paths = []
        for x, y in curves:
            known = _finite(self.place(x, y))
            if len(known):
                paths.append("M" + "L".join(_pair(point) for point in known))
        self._path("".join(paths), "line", colour, width)

    def polygons(self, corners: Floats, colour: str) -> None:
        """Filled polygons (n, k, 2) in units of the axes."""
        placed = self.place(corners[..., 0], corners[..., 1])
        shapes = ("M" + "L".join(_pair(p) for p in shape) + "z" for shape in placed)
        self._path("".join(shapes), "cell", colour, 1.0 if len(corners) < 1000 else 0.2)

    def bars(self, edges: Floats, counts: ArrayLike, colour: str) -> None:
        """A histogram: `counts` (n,) between `edges` (n + 1,)."""
        tops = np.repeat(np.asarray(counts, np.float64), 2)
        sides = np.repeat(edges, 2)[1:-1]
        placed = self.place([edges[0], *sides, edges[-1]], [self.y.low, *tops, self.y.low])
        self._path("M" + "L".join(_pair(p) for p in placed) + "z", "area", colour, 0.0)

    def diagonal(self) -> None:
        """The line of equal values, where both axes have it."""
        ends = max(self.x.low, self.y.low), min(self.x.high, self.y.high)
        self.lines([(ends, ends)], "grey dashed", 1.2)

    def frame(self, x_label: str, y_label: str, negate_x: bool = False) -> None:
        """The axes with ticks and labels; `negate_x` for an axis that grows to the left."""
        right, low = WIDTH - RIGHT, self.height - BOTTOM
        texts, marks = [], []
        for value, label in self.x.ticks():
            across = self.place(value, self.y.low)[0]
            marks.append(f"M{_number(across)} {_number(low)}v4")
            shown = _label(-value) if negate_x else label
            texts.append(_text(across, low + 16, "middle", shown))
        for value, label in self.y.ticks():
            down = self.place(self.x.low, value)[1]
            marks.append(f"M{_number(LEFT)} {_number(down)}h-4")
            texts.append(_text(LEFT - 7, down + 4, "end", label))
        box = f"M{LEFT:g} {TOP:g}H{right:g}V{_number(low)}H{LEFT:g}z"
        self._path(box + "".join(marks), "line", "frame", 1.0)
        texts.append(_text((LEFT + right) / 2.0, self.height - 6, "middle", x_label))
        middle = _number((TOP + low) / 2.0)
        turned = f'<text transform="translate(13 {middle})rotate(-90)" text-anchor="middle">'
        texts.append(f"{turned}{escape(y_label)}</text>")
        self.parts += texts

    def key(self, text: str, length: float) -> None:
        """What a line of a length in units of `x` means, in the upper right corner."""
        self.has_key = True
        right = WIDTH - RIGHT
        across = self.units(length)
        self.parts.append(_text(right, 17.0, "end", text))
        self._path(f"M{_number(right - across)} 22h{_number(across)}", "line", "ink", 2.0)

    def markup(self, description: str) -> Markup:
        """The SVG element; `description` is what a screen reader says in its place."""
        parts, top = [*self.parts, *self._legend()], -_LINE * (len(self._legend_rows()) - 1)
        return Markup(
            f'<svg xmlns="http://www.w3.org/2000/svg" role="img" viewBox="0 {top:g} {WIDTH:g} '
            f'{_number(self.height - top)}" aria-label="{escape(description)}">'
            f"{''.join(parts)}</svg>"
        )

    def _legend_rows(self) -> list[list[tuple[float, str, str]]]:
        """The legend in as many rows as it needs: where, colour and text."""
        rows, across = [[]], LEFT
        room = WIDTH - RIGHT - (_KEY if self.has_key else 0.0)
        for colour, text in self.legend:
            length = 26.0 + _LETTER * len(text)
            if across + length > room + 12.0 and rows[-1]:
                rows.append([])
                across = LEFT
            rows[-1].append((across, colour, text))
            across += length
        return rows

    def _legend(self) -> Iterator[str]:
        for n, row in enumerate(reversed(self._legend_rows())):
            down = 13.0 - _LINE * n
            for across, colour, text in row:
                dot = f"M{across + 5.0:g} {down:g}h0"
                yield f'<path class="dot {colour}" stroke-width="9" d="{dot}"/>'
                yield _text(across + 14.0, down + 4.0, "start", text)

    def _path(self, d: str, kind: str, colour: str, width: float) -> None:
        if d:
            style = f'class="{kind} {colour}" stroke-width="{width:g}"'
            self.parts.append(f'<path {style} d="{d}"/>')


def histogram(values: Floats, label: str, colour: str, what: str = "sub-tiles") -> Chart:
    """How finite values are spread over at most 30 bins."""
    known = values[np.isfinite(values)]
    n_bins = int(np.clip(np.sqrt(len(known)) * 2.0, 4, 30))
    low, high = (known.min(), known.max()) if len(known) else (0.0, 1.0)
    if high - low <= 1e-9 * max(abs(high), 1.0):
        low, high = low - 0.5 * (abs(low) or 1.0), high + 0.5 * (abs(high) or 1.0)
    edges = np.linspace(low, high, n_bins + 1)
    counts = np.histogram(known, edges)[0]
    chart = Chart(Scale.around(edges), Scale(0.0, 1.12 * max(counts.max(), 1), whole=True), 210.0)
    chart.bars(edges, counts, colour)
    chart.frame(label, f"{what} per bin")
    return chart


def signed(value: float, digits: int) -> str:
    """A number with its sign, a true minus; a dash if there is none."""
    return f"{value:+.{digits}f}".replace("-", MINUS) if np.isfinite(value) else "–"


def plain(value: float, form: str) -> str:
    """A formatted number; a dash if there is none."""
    return format(value, form).replace("-", MINUS) if np.isfinite(value) else "–"


def _finite(points: Floats) -> Floats:
    points = points.reshape(-1, 2)
    return points[np.isfinite(points).all(axis=-1)]


def _pair(point: Sequence[float] | Floats) -> str:
    return f"{_number(point[0])} {_number(point[1])}"


def _number(value: float) -> str:
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def _label(value: float) -> str:
    if value != 0.0 and not 1e-3 <= abs(value) < 1e4:
        factor, power = f"{value:.6e}".split("e")
        factor = factor.rstrip("0").rstrip(".").replace("-", MINUS)
        raised = str(int(power)).translate(_RAISED)
        return f"10{raised}" if factor == "1" else f"{factor}×10{raised}"
    return f"{round(value, 10) + 0.0:g}".replace("-", MINUS)


def _text(x: float, y: float, anchor: str, text: str) -> str:
    return f'<text x="{_number(x)}" y="{_number(y)}" text-anchor="{anchor}">{escape(text)}</text>'
