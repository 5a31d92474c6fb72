"""Building a `Scene` quadrant by quadrant on the host, keeping only the pixels under stamps."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from shine.profiles import PROFILES
from shine.psf import psf_transform
from shine.render import StampFrame
from shine.scene import Scene, Tier
from shine.stamps import BLEND_STAMP_SIZES, STAMP_SIZES

_RARE = 8  # blends
_OUTSIDE = -1


class ModelledSources(NamedTuple):
    """What a scene shows: n sources in b blends."""

    members: np.ndarray  # (b, most) rows of the sources, -1 where none
    stamp_size: np.ndarray  # (b,) stamp width of each blend, one of `STAMP_SIZES`
    slots: np.ndarray  # (b,) places for members on the stamp of each blend
    profile: str  # one of `shine.profiles.PROFILES`
    profile_index: np.ndarray  # (n,) of each source's profile, such as its Sersic index


@dataclass(frozen=True)
class QuadrantView:
    """How one quadrant sees the sources and the v blends near it."""

    blend: np.ndarray  # (v,) int
    x: np.ndarray  # (v,) pixel position of each blend's centre; may lie beyond the edge
    y: np.ndarray
    source_xy: np.ndarray  # (n, 2) pixel positions of all sources; of no meaning far outside
    jacobian: np.ndarray  # (v, 2, 2) d(u, v)/d(x, y), arcsec per pixel
    psf: np.ndarray  # (v, p, p) effective PSF (pixel included) at each blend
    psf_moments: np.ndarray  # (v, 2, 2) its adaptive moments on the sky, arcsec²; may be NaN
    psf_oversampling: int  # PSF samples per pixel
    adu_per_ujy: float
    exposure: str
    psf_margin: int = 0  # samples around what the file's stamps hold, filled by a model


@dataclass
class _TierParts:
    frames: list[tuple] = field(default_factory=list)
    blend: list[np.ndarray] = field(default_factory=list)
    pixel: list[np.ndarray] = field(default_factory=list)


class SceneBuilder:
    """Collects quadrants one at a time, so that a single full frame is held in memory."""

    def __init__(self, sources: ModelledSources) -> None:
        self._sources = sources
        self._slots = sources.slots
        self._tiers: dict[tuple[int, int], _TierParts] = {}
        self._data: list[np.ndarray] = []
        self._weight: list[np.ndarray] = []
        self._n_pixels = 0
        self._seen_in: dict[str, np.ndarray] = {}
        self._moments = np.zeros((len(sources.slots), 2, 2))
        self._n_moments = np.zeros(len(sources.slots), int)

    def add_quadrant(
        self, image_adu: np.ndarray, weight: np.ndarray, view: QuadrantView
    ) -> np.ndarray:
        """Take over the pixels (ny, nx) under the stamps of the blends in view.

        Pixels of weight 0 are left out, whatever their value; a blend without any other pixel
        here is not paired with this quadrant. Returns the place of each pixel (ny, nx) in the
        scene's vector, negative where it has none.
        """
        height, width = image_adu.shape
        size = self._sources.stamp_size[view.blend]
        x0 = np.floor(view.x + 0.5).astype(int) - size // 2
        y0 = np.floor(view.y + 0.5).astype(int) - size // 2
        seen = (x0 < width) & (y0 < height) & (x0 + size > 0) & (y0 + size > 0)
        valid = weight > 0
        covered = np.zeros(image_adu.shape, bool)
        for i in np.flatnonzero(seen):
            window = _window((x0[i], y0[i]), size[i], image_adu.shape)
            seen[i] = valid[window].any()
            covered[window] = True
        covered &= valid
        place = np.full(image_adu.shape, _OUTSIDE, np.int32)
        n_new = int(covered.sum())
        place[covered] = np.arange(self._n_pixels, self._n_pixels + n_new, dtype=np.int32)
        slots = self._slots[view.blend]
        for key in sorted({*zip(size[seen].tolist(), slots[seen].tolist(), strict=True)}):
            chosen = np.flatnonzero(seen & (size == key[0]) & (slots == key[1]))
            self._add_views(key, view, (chosen, np.column_stack([x0, y0])[chosen]), place)
        self._data.append(image_adu[covered])
        self._weight.append(weight[covered])
        self._n_pixels += n_new
        none = np.zeros(len(self._slots), bool)
        self._seen_in.setdefault(view.exposure, none)[view.blend[seen]] = True
        known = seen & np.isfinite(view.psf_moments).all(axis=(1, 2))
        self._moments[view.blend[known]] += view.psf_moments[known]
        self._n_moments[view.blend[known]] += 1
        return place

    @property
    def n_exposures(self) -> np.ndarray:
        """(b,) exposures with a usable pixel of each blend."""
        none = np.zeros(len(self._slots), np.int16)
        return sum(self._seen_in.values(), start=none)

    @property
    def psf_moments(self) -> np.ndarray:
        """(b, 2, 2) mean adaptive moments, arcsec², of the PSFs that a blend is fitted with.

        NaN where no quadrant with a usable pixel of it has any.
        """
        count = self._n_moments[:, None, None]
        return np.where(count > 0, self._moments / np.maximum(count, 1), np.nan)

    def build(self) -> Scene:
        """Put the parts together, padded to sizes that sub-tiles share; the builder ends empty."""
        n_pixels = bucket(self._n_pixels + 1)
        profile = PROFILES[self._sources.profile]
        return Scene(
            tiers=tuple(
                _joined(key[0], self._tiers.pop(key), dump=n_pixels - 1)
                for key in sorted(self._tiers)
            ),
            data_adu=_padded(self._data, n_pixels),
            weight=_padded(self._weight, n_pixels),
            members=self._sources.members,
            coefficients=profile.coefficients(self._sources.profile_index),
            profile=profile,
        )

    def _add_views(self, key, view, placed, place) -> None:
        size, slots = key
        chosen, corner = placed
        parts = self._tiers.setdefault(key, _TierParts())
        pixel = np.full((len(chosen), size, size), _OUTSIDE, np.int32)
        for stamp, (x0, y0) in zip(pixel, corner, strict=True):
            rows, columns = _window((x0, y0), size, place.shape)
            stamp[rows.start - y0 : rows.stop - y0, columns.start - x0 : columns.stop - x0] = place[
                rows, columns
            ]
        members = self._sources.members[view.blend[chosen], :slots]
        # where a slot is empty, any position inside the stamp does
        centre = np.where(
            members[..., None] >= 0,
            view.source_xy[members] - corner[:, None],
            size / 2,
        )
        parts.pixel.append(pixel.reshape(len(chosen), -1))
        parts.blend.append(view.blend[chosen])
        parts.frames.append(
            (
                np.linalg.inv(view.jacobian[chosen]).astype(np.float32),
                centre.astype(np.float32),
                np.full(len(chosen), view.adu_per_ujy, np.float32),
                psf_transform(view.psf[chosen], size, view.psf_oversampling),
            )
        )


def choose_stamps(radius_px: np.ndarray, slots: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The stamp width of each blend, and its places for members: both (b,).

    The smallest stamp that holds a disc of `radius_px` (pixels), the largest where none does, and
    the places that a blend needs (`Blends.slots`). Each combination is a program to compile, so
    blends have fewer widths to choose from, and the few of a rare combination get a larger one.
    """
    slots, sizes = slots.copy(), np.empty(len(radius_px), int)
    for several, allowed in ((False, STAMP_SIZES), (True, BLEND_STAMP_SIZES)):
        chosen = (slots > 1) == several
        index = np.searchsorted(np.array(allowed) / 2 - 1, radius_px[chosen])
        sizes[chosen] = np.array(allowed)[np.minimum(index, len(allowed) - 1)]
    for size, places in sorted({*zip(sizes.tolist(), slots.tolist(), strict=True)}):
        own = (sizes == size) & (slots == places)
        larger = sizes[(slots == places) & (sizes > size)]
        roomier = slots[(sizes == size) & (slots > places)]
        if own.sum() >= _RARE:
            continue
        if len(larger):
            sizes[own] = larger.min()
        elif len(roomier) and places > 1:
            slots[own] = roomier.min()
    return sizes, slots


def bucket(n: int) -> int:
    """The next of the sizes 32 x (4, 5, 6, 7) x 2^k: few shapes, all multiples of 32.

    At most 25 % of padding (for n > 128), 11 % on average.
    """
    if n <= 128:
        return 32 * max(1, math.ceil(n / 32))
    unit = 2 ** (math.ceil(math.log2(n)) - 3)
    return unit * math.ceil(n / unit)


def _window(corner: tuple[int, int], size: int, shape: tuple[int, int]) -> tuple[slice, slice]:
    x0, y0 = corner
    height, width = shape
    return (
        slice(max(y0, 0), min(y0 + size, height)),
        slice(max(x0, 0), min(x0 + size, width)),
    )


def _padded(parts: list[np.ndarray], length: int) -> np.ndarray:
    """The parts one after the other, each given up as it is copied, and zeros behind."""
    joined, start = np.zeros(length, np.float32), 0
    for part in _given_up(parts):
        joined[start : start + len(part)] = part
        start += len(part)
    return joined


def _given_up(parts: list[np.ndarray]) -> Iterator[np.ndarray]:
    """The parts in order, of which the list keeps none: together they are most of the memory."""
    parts.reverse()
    while parts:
        yield parts.pop()


def _joined(size: int, parts: _TierParts, dump: int) -> Tier:
    """The views of a tier, those of one blend next to each other, and padding behind."""
    blend = np.concatenate(parts.blend)
    order = np.argsort(blend, kind="stable")
    place = np.empty_like(order)
    place[order] = np.arange(len(order))  # where each view goes
    length = bucket(len(order) + 1)
    pixel = _placed(parts.pixel, place, length)
    pixel[len(order) :] = _OUTSIDE
    pixel[pixel == _OUTSIDE] = dump
    blends, first = np.unique(blend[order], return_index=True)
    columns = [list(column) for column in zip(*parts.frames, strict=True)]
    parts.frames.clear()
    return Tier(
        size=size,
        frame=StampFrame(*(_placed(column, place, length) for column in columns)),
        pixel=pixel,
        blend=blends,
        first=np.append(first, len(order)),
    )


def _placed(parts: list[np.ndarray], place: np.ndarray, length: int) -> np.ndarray:
    """The rows of all parts at their places, and behind them copies of the first that came."""
    rows = np.empty((length, *parts[0].shape[1:]), parts[0].dtype)
    rows[len(place) :] = parts[0][:1]  # any valid geometry
    start = 0
    for part in _given_up(parts):
        rows[place[start : start + len(part)]] = part
        start += len(part)
    return rows
