"""Places on the sky whose pixels are left out of the fit."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from shine.euclid.wcs import QuadrantWCS

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class SkyMask:
    """Discs, and single pixels of a mosaic, around objects that are not modelled."""

    discs: Floats = field(default_factory=lambda: np.empty((0, 3)))  # ra, dec deg; radius arcsec
    pixels: Floats = field(default_factory=lambda: np.empty((0, 2)))  # ra, dec deg of centres

    def applied(self, weight: NDArray[np.float32], wcs: QuadrantWCS) -> NDArray[np.float32]:
        """The weight map (ny, nx) of a quadrant with what is masked at 0; the argument is kept."""
        if not (len(self.discs) or len(self.pixels)):
            return weight
        weight = weight.copy()
        self._apply_discs(weight, wcs)
        self._apply_pixels(weight, wcs)
        return weight

    def _apply_discs(self, weight: NDArray[np.float32], wcs: QuadrantWCS) -> None:
        height, width = weight.shape
        x, y = wcs.to_pixel(self.discs[:, 0], self.discs[:, 1])
        known = np.isfinite(x) & np.isfinite(y)
        x, y, radii_arcsec = x[known], y[known], self.discs[known, 2]
        scale = np.sqrt(np.abs(np.linalg.det(wcs.jacobian(x, y))))
        for xc, yc, radius in zip(x, y, radii_arcsec / scale, strict=True):
            rows = slice(max(int(yc - radius), 0), max(min(int(yc + radius) + 2, height), 0))
            columns = slice(max(int(xc - radius), 0), max(min(int(xc + radius) + 2, width), 0))
            dy = np.arange(rows.start, rows.stop)[:, None] - yc
            dx = np.arange(columns.start, columns.stop)[None, :] - xc
            weight[rows, columns][dx**2 + dy**2 <= radius**2] = 0.0

    def _apply_pixels(self, weight: NDArray[np.float32], wcs: QuadrantWCS) -> None:
        """All four pixels around each place: of two grids of one pitch, none slips through."""
        height, width = weight.shape
        x, y = wcs.to_pixel(self.pixels[:, 0], self.pixels[:, 1])
        near = (x > -1.0) & (x < width) & (y > -1.0) & (y < height)  # NaN: far away
        left, below = np.floor(x[near]).astype(int), np.floor(y[near]).astype(int)
        for columns, rows in (
            (left, below),
            (left + 1, below),
            (left, below + 1),
            (left + 1, below + 1),
        ):
            inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
            weight[rows[inside], columns[inside]] = 0.0
