"""Building a `Scene` quadrant by quadrant on the host, keeping only the pixels under stamps."""

import math
from dataclasses import dataclass, field

import numpy as np

from shine.render import PROFILES, StampFrame, psf_transform
from shine.scene import Scene, Tier

STAMP_SIZES = (32, 48, 64, 96, 128, 192, 256)
_OUTSIDE = -1


@dataclass(frozen=True)
class QuadrantView:
    """How one quadrant sees the v sources near it."""

    source: np.ndarray  # (v,) int, row of each source in the sub-tile's list
    x: np.ndarray  # (v,) pixel position; may lie beyond the edge
    y: np.ndarray
    jacobian: np.ndarray  # (v, 2, 2) d(u, v)/d(x, y), arcsec per pixel
    psf: np.ndarray  # (v, p, p) effective PSF (pixel included) at each source
    adu_per_ujy: float
    exposure: str


@dataclass
class _TierParts:
    frames: list[tuple] = field(default_factory=list)
    source: list[np.ndarray] = field(default_factory=list)
    pixel: list[np.ndarray] = field(default_factory=list)


class SceneBuilder:
    """Collects quadrants one at a time, so that a single full frame is held in memory."""

    def __init__(self, stamp_size: np.ndarray, blend: np.ndarray, profile: str) -> None:
        """`stamp_size` (n,) is each source's stamp width, one of `STAMP_SIZES`.

        `blend` (n,) numbers the blends (`shine.blends`).
        """
        self._stamp_size = np.asarray(stamp_size)
        self._blend = np.asarray(blend)
        self._profile = PROFILES[profile]
        self._tiers = {size: _TierParts() for size in STAMP_SIZES}
        self._data: list[np.ndarray] = []
        self._weight: list[np.ndarray] = []
        self._n_pixels = 0
        self._seen_in: dict[str, np.ndarray] = {}

    def add_quadrant(
        self, image_adu: np.ndarray, weight: np.ndarray, view: QuadrantView
    ) -> np.ndarray:
        """Take over the pixels (ny, nx) under the stamps of the sources in view.

        Pixels of weight 0 are left out, whatever their value; a source without any other pixel
        here is not paired with this quadrant. Returns the place of each pixel (ny, nx) in the
        scene's vector, negative where it has none.
        """
        height, width = image_adu.shape
        size = self._stamp_size[view.source]
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
        for n in np.unique(size[seen]):
            chosen = np.flatnonzero(seen & (size == n))
            corner = np.column_stack([x0[chosen], y0[chosen]])
            self._add_pairs(int(n), view, chosen, corner, place)
        self._data.append(image_adu[covered])
        self._weight.append(weight[covered])
        self._n_pixels += n_new
        none = np.zeros(len(self._stamp_size), bool)
        self._seen_in.setdefault(view.exposure, none)[view.source[seen]] = True
        return place

    @property
    def n_exposures(self) -> np.ndarray:
        """(n,) exposures with a usable pixel of each source."""
        none = np.zeros(len(self._stamp_size), np.int16)
        return sum(self._seen_in.values(), start=none)

    def build(self) -> Scene:
        """Pad everything to bucket sizes, so that sub-tiles share compiled programs."""
        n_sources = bucket(len(self._stamp_size) + 1)
        n_pixels = bucket(self._n_pixels + 1)
        dump, padding_source = n_pixels - 1, n_sources - 1
        tiers = tuple(
            _padded_tier(parts, dump, padding_source)
            for parts in self._tiers.values()
            if parts.source
        )
        return Scene(
            tiers=tiers,
            data_adu=_padded(self._data, n_pixels),
            weight=_padded(self._weight, n_pixels),
            # padding is a blend of its own
            blend=np.append(self._blend, np.full(n_sources - len(self._blend), padding_source)),
            n_sources=n_sources,
            profile=self._profile,
        )

    def _add_pairs(self, size, view, chosen, corner, place) -> None:
        parts = self._tiers[size]
        pixel = np.full((len(chosen), size, size), _OUTSIDE, np.int32)
        for stamp, (x0, y0) in zip(pixel, corner, strict=True):
            rows, columns = _window((x0, y0), size, place.shape)
            stamp[rows.start - y0 : rows.stop - y0, columns.start - x0 : columns.stop - x0] = place[
                rows, columns
            ]
        parts.pixel.append(pixel.reshape(len(chosen), -1))
        parts.source.append(view.source[chosen])
        parts.frames.append(
            (
                np.linalg.inv(view.jacobian[chosen]),
                np.column_stack([view.x[chosen], view.y[chosen]]) - corner,
                np.full(len(chosen), view.adu_per_ujy),
                psf_transform(view.psf[chosen], size),
            )
        )


def choose_stamp_sizes(radius_px: np.ndarray) -> np.ndarray:
    """The smallest stamp that holds a disc of each radius (pixels); the largest where none does."""
    index = np.searchsorted(np.array(STAMP_SIZES) / 2 - 1, radius_px)
    return np.array(STAMP_SIZES)[np.minimum(index, len(STAMP_SIZES) - 1)]


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
    result = np.zeros(length, np.float32)
    joined = np.concatenate(parts) if parts else np.zeros(0, np.float32)
    result[: len(joined)] = joined
    return result


def _padded_tier(parts: _TierParts, dump: int, padding_source: int) -> Tier:
    source = np.concatenate(parts.source).astype(np.int32)
    pixel = np.concatenate(parts.pixel)
    pixel[pixel == _OUTSIDE] = dump
    extra = bucket(len(source)) - len(source)
    inverse, centre, adu_per_ujy, psf_hat = (
        np.concatenate(column) for column in zip(*parts.frames, strict=True)
    )
    repeat = np.concatenate([np.arange(len(source)), np.zeros(extra, int)])  # any valid geometry
    return Tier(
        frame=StampFrame(
            inverse_jacobian=inverse[repeat].astype(np.float32),
            centre=centre[repeat].astype(np.float32),
            adu_per_ujy=adu_per_ujy[repeat].astype(np.float32),
            psf_hat=psf_hat[repeat],
        ),
        source=np.concatenate([source, np.full(extra, padding_source, np.int32)]),
        pixel=np.concatenate([pixel, np.full((extra, pixel.shape[1]), dump, np.int32)]),
    )
