"""The VIS focal plane on the sky: 6 x 6 CCDs of four quadrants, each with its TPV WCS.

Focal-plane axes coincide with (u west, v north) at roll 0 and turn with the roll from north to
east. On a CCD, E and F lie at the bottom (left, right), G and H at the top (right, left). G and H
are rotated by 180 deg against E and F, and CCDs of rows 4 to 6 against those of rows 1 to 3. Public
documents do not say which quadrants of the real files are turned: readers must use the CD matrix.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from astropy.io import fits
from numpy.typing import ArrayLike

from .config import MockSurveyConfig
from .sky import Array, area_corners, convex_overlap, deproject, project

PIXEL_ARCSEC = 0.1
GRID = 6
QUADRANT_LETTERS = "EFGH"
# CCD gaps that bring 36 CCDs of 409.6" x 413.2" to the published field of 0.709 x 0.787 deg^2.
GAP_ARCSEC = (19.0, 70.0)
# Rows of the charge-injection structure between the lower and the upper quadrants.
INJECTION_ROWS = 4
# Distortion of a few pixels over the focal plane: quadratic terms (1/deg) in z^2, |z|^2, conj(z)^2
# with z = f_x + i f_y, and the cubic radial term (1/deg^2).
QUADRATIC = (1.2e-4 + 0.5e-4j, -0.9e-4 + 0.7e-4j, 0.6e-4 - 0.8e-4j)
CUBIC = 6.7e-4


@dataclass(frozen=True)
class QuadrantFrame:
    """One quadrant of one exposure: where it sits in the focal plane and on the sky."""

    name: str
    exposure: int
    shape: tuple[int, int]
    pointing: tuple[float, float]
    roll_deg: float
    # Position of the quadrant's centre in the focal plane, in pixels, and +1 or -1 where turned.
    centre_px: tuple[float, float]
    parity: int

    @property
    def index(self) -> int:
        """Place of the quadrant among the focal plane's 144."""
        row, column = int(self.name[0]) - 1, int(self.name[2]) - 1
        return (row * GRID + column) * 4 + QUADRANT_LETTERS.index(self.name[4])

    @property
    def crpix(self) -> Array:
        """FITS pixel (1-based x, y) of the focal plane's centre, far outside the quadrant."""
        size = np.array([self.shape[1], self.shape[0]])
        return (size + 1) / 2 - self.parity * np.array(self.centre_px)

    @cached_property
    def cd(self) -> Array:
        """CD matrix in deg/pixel towards (xi east, eta north)."""
        scale = self.parity * PIXEL_ARCSEC / 3600
        cos, sin = np.cos(np.deg2rad(self.roll_deg)), np.sin(np.deg2rad(self.roll_deg))
        return scale * np.array([[-cos, sin], [sin, cos]])

    @cached_property
    def pv(self) -> tuple[dict[int, float], dict[int, float]]:
        """TPV coefficients of both axes: the focal plane's distortion, turned by the roll."""
        turn = np.exp(1j * np.deg2rad(self.roll_deg))
        a, b, c = QUADRATIC[0] / turn, QUADRATIC[1] * turn, QUADRATIC[2] * turn**3
        uu, uv, vv = a + b + c, 2j * (a - c), b - a - c
        # xi = -u turns the sign of odd powers of u and of the whole first axis.
        first = {1: 1.0, 4: -uu.real, 5: uv.real, 6: -vv.real, 7: CUBIC, 9: CUBIC}
        second = {1: 1.0, 4: vv.imag, 5: -uv.imag, 6: uu.imag, 7: CUBIC, 9: CUBIC}
        unused = dict.fromkeys((2, 8, 10), 0.0)
        return first | unused, second | unused

    def to_sky(self, x: ArrayLike, y: ArrayLike) -> tuple[Array, Array]:
        """Right ascension and declination (deg) of 0-based pixel positions."""
        offset = np.stack([np.asarray(x, float), np.asarray(y, float)], axis=-1) + 1 - self.crpix
        linear = offset @ self.cd.T
        xi, eta = self._distort(linear[..., 0], linear[..., 1])
        return deproject(xi, eta, *self.pointing)

    def to_pixel(self, ra: ArrayLike, dec: ArrayLike) -> tuple[Array, Array]:
        """0-based pixel positions of directions in degrees; NaN far from the pointing."""
        xi, eta = project(ra, dec, *self.pointing)
        far = ~(np.hypot(xi, eta) < 2.0)
        xi, eta = np.where(far, np.nan, xi), np.where(far, np.nan, eta)
        x, y = xi, eta
        # The distortion is below 1e-3, so each turn gains three digits.
        for _ in range(7):
            moved_x, moved_y = self._distort(x, y)
            x, y = x + xi - moved_x, y + eta - moved_y
        pixel = np.stack([x, y], axis=-1) @ np.linalg.inv(self.cd).T + self.crpix - 1
        return pixel[..., 0], pixel[..., 1]

    def corners(self) -> tuple[Array, Array]:
        """Sky positions (deg) of the four outer corners, in order."""
        rows, columns = self.shape
        return self.to_sky(
            np.array([0, columns, columns, 0]) - 0.5, np.array([0, 0, rows, rows]) - 0.5
        )

    def header(self) -> fits.Header:
        """The WCS as FITS cards."""
        cards = [("CTYPE1", "RA---TPV"), ("CTYPE2", "DEC--TPV"), ("CUNIT1", "deg")]
        cards += [("CUNIT2", "deg"), ("CRVAL1", self.pointing[0]), ("CRVAL2", self.pointing[1])]
        cards += [("CRPIX1", float(self.crpix[0])), ("CRPIX2", float(self.crpix[1]))]
        cards += [(f"CD{i + 1}_{j + 1}", float(self.cd[i, j])) for i in (0, 1) for j in (0, 1)]
        for axis, coefficients in enumerate(self.pv, start=1):
            cards += [(f"PV{axis}_{k}", float(coefficients[k])) for k in sorted(coefficients)]
        cards += [("RADESYS", "ICRS"), ("EQUINOX", 2000.0)]
        return fits.Header(cards)

    def focal_position(self, x: ArrayLike, y: ArrayLike) -> tuple[Array, Array]:
        """Focal-plane position of 0-based pixels, about -1..1 across the focal plane."""
        rows, columns = self.shape
        half_x, half_y = _pitch_px(self.shape)
        f_x = self.centre_px[0] + self.parity * (np.asarray(x, float) - (columns - 1) / 2)
        f_y = self.centre_px[1] + self.parity * (np.asarray(y, float) - (rows - 1) / 2)
        return f_x / (half_x * GRID / 2), f_y / (half_y * GRID / 2)

    def _distort(self, x: Array, y: Array) -> tuple[Array, Array]:
        first, second = self.pv
        r2 = x**2 + y**2
        xi = x + first[4] * x**2 + first[5] * x * y + first[6] * y**2 + CUBIC * x * r2
        eta = y + second[4] * y**2 + second[5] * x * y + second[6] * x**2 + CUBIC * y * r2
        return xi, eta


def _pitch_px(shape: tuple[int, int]) -> tuple[float, float]:
    return (
        2 * shape[1] + GAP_ARCSEC[0] / PIXEL_ARCSEC,
        2 * shape[0] + INJECTION_ROWS + GAP_ARCSEC[1] / PIXEL_ARCSEC,
    )


def quadrant_frames(config: MockSurveyConfig, exposure: int) -> list[QuadrantFrame]:
    """All 144 quadrants of one exposure, in the order of their names."""
    settings, shape = config.exposures[exposure], config.detector.quadrant_shape
    pointing = deproject(
        settings.offset_east_arcsec / 3600,
        settings.offset_north_arcsec / 3600,
        config.area.ra,
        config.area.dec,
    )
    pitch_x, pitch_y = _pitch_px(shape)
    frames = []
    for row in range(GRID):
        for column in range(GRID):
            for letter in QUADRANT_LETTERS:
                top, right = letter in "GH", letter in "FG"
                x = (column - (GRID - 1) / 2) * pitch_x + (1 if right else -1) * shape[1] / 2
                y = (row - (GRID - 1) / 2) * pitch_y
                y += (1 if top else -1) * (shape[0] + INJECTION_ROWS) / 2
                frames.append(
                    QuadrantFrame(
                        name=f"{row + 1}-{column + 1}.{letter}",
                        exposure=exposure,
                        shape=shape,
                        pointing=(float(pointing[0]), float(pointing[1])),
                        roll_deg=settings.roll_deg,
                        centre_px=(x, y),
                        parity=-1 if top != (row >= GRID // 2) else 1,
                    )
                )
    return frames


def overlapping_frames(config: MockSurveyConfig) -> list[QuadrantFrame]:
    """The quadrants that the survey writes: those that overlap the area, exposure by exposure."""
    area, wanted = config.area, config.detector.quadrants
    chosen = []
    for exposure in range(len(config.exposures)):
        for frame in quadrant_frames(config, exposure):
            if wanted is not None and frame.name not in wanted:
                continue
            xi, eta = project(*frame.corners(), area.ra, area.dec)
            footprint = np.stack([xi, eta], axis=1)
            if np.isfinite(footprint).all() and convex_overlap(footprint, area_corners(area)):
                chosen.append(frame)
    return chosen
