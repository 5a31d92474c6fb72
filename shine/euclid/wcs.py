"""Sky <-> pixel for one detector quadrant, through its full WCS (TPV, TAN, TAN-SIP).

Pixel (0, 0) is the centre of the first pixel. u = west, v = north, in arcsec on the plane tangent
at the point in question: GalSim's convention. Nothing here compares right ascensions, so 0h and
the poles are like any other place.
"""

from __future__ import annotations

import re
import warnings
from typing import Self

import numpy as np
from astropy import wcs as astropy_wcs
from astropy.io import fits
from numpy.typing import ArrayLike, NDArray

from shine.errors import InputError, explain

Floats = NDArray[np.float64]

ARCSEC_PER_RADIAN = 180.0 * 3600.0 / np.pi
# A polynomial distortion says nothing far outside the frame that it was fitted in, and inverting
# it there can land anywhere: positions farther than this from the centre have no pixel.
REACH_IN_FRAME_RADII = 3.0
DIFFERENCE_STEP_PX = 1.0  # the WCS is smooth over a pixel; round-off is 1e-9 of it
INVERSION_TOLERANCE_PX = 1e-7
MAX_NEWTON_STEPS = 20

# Only these keys reach the WCS library: dates, telescopes and the like only cause warnings.
_NUMBER_KEY = r"(CRVAL|CRPIX|CDELT|CROTA)\d|(CD|PC|PV)\d_\d+|(A|B|AP|BP)_(ORDER|\d_\d)"
_WCS_KEY = re.compile(_NUMBER_KEY + r"|WCSAXES|C(TYPE|UNIT)\d|LONPOLE|LATPOLE|RADESYS|EQUINOX")


class QuadrantWCS:
    """The world coordinate system of one quadrant; all methods are vectorised, in float64."""

    def __init__(self, wcs: astropy_wcs.WCS, shape: tuple[int, int], key: str) -> None:
        """Wrap an astropy WCS (RA first) of an image of `shape` (ny, nx).

        `key` is the text that it was read from: equal texts are equal transformations.
        """
        self._wcs = wcs
        self.key = key
        self.shape = shape
        ny, nx = shape
        ra, dec = self.to_sky([(nx - 1) / 2], [(ny - 1) / 2])
        self._centre = unit_vectors(ra, dec)[0]
        self._west, self._north = (basis[0] for basis in _west_north(ra, dec))
        corners = unit_vectors(*self.footprint().T)
        self._reach = REACH_IN_FRAME_RADII * float(_angle(corners, self._centre).max())

    @classmethod
    def from_header(cls, header: fits.Header, shape: tuple[int, int], where: str) -> Self:
        """Read the WCS of a header; InputError, naming `where`, if there is no usable one."""
        relevant = fits.Header([card for card in header.cards if _WCS_KEY.fullmatch(card.keyword)])
        key = "\n".join(sorted(f"{card.keyword}={card.value!r}" for card in relevant.cards))
        action = "Check that this HDU is a calibrated quadrant frame."
        for card in relevant.cards:  # the WCS library would pass over them in silence
            if re.fullmatch(_NUMBER_KEY, card.keyword) and not isinstance(card.value, int | float):
                found = f"{card.value!r}"
                raise InputError(explain(f"{where} {card.keyword}", found, "a number", action))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", astropy_wcs.FITSFixedWarning)
                wcs = astropy_wcs.WCS(relevant)
        except (ValueError, KeyError, TypeError, MemoryError, fits.VerifyError) as error:
            problem = " ".join(str(error).split())
            raise InputError(
                explain(where, f"unreadable WCS keys ({problem})", "a celestial WCS", action)
            ) from error
        types = tuple(wcs.wcs.ctype)
        if wcs.naxis != 2 or not (types[0].startswith("RA--") and types[1].startswith("DEC-")):
            raise InputError(
                explain(where, f"CTYPE1, CTYPE2 = {types}", "RA---TPV, DEC--TPV", action)
            )
        try:
            quadrant = cls(wcs, shape, key)
        except (ValueError, astropy_wcs.WcsError) as error:  # a singular CD matrix shows up here
            problem = " ".join(str(error).split())
            raise InputError(
                explain(where, f"unusable WCS ({problem})", "an invertible one", action)
            ) from error
        ny, nx = shape
        area = np.linalg.det(quadrant.jacobian([(nx - 1) / 2], [(ny - 1) / 2]))[0]
        if not (quadrant._reach < np.pi / 2.0 and abs(area) > 0.0):  # NaN fails, too
            found = "pixels that have no position or extent on the sky, or span much of it"
            raise InputError(explain(where, found, "an invertible WCS", action))
        return quadrant

    def to_sky(self, x: ArrayLike, y: ArrayLike) -> tuple[Floats, Floats]:
        """Right ascension in [0, 360) and declination, deg, of 0-based pixel positions (n,)."""
        x, y = np.broadcast_arrays(np.asarray(x, np.float64), np.asarray(y, np.float64))
        ra, dec = np.full(x.shape, np.nan), np.full(x.shape, np.nan)
        usable = np.isfinite(x) & np.isfinite(y)
        if usable.any():
            ra[usable], dec[usable] = self._wcs.all_pix2world(x[usable], y[usable], 0)
        return np.mod(ra, 360.0), dec

    def to_pixel(self, ra_deg: ArrayLike, dec_deg: ArrayLike) -> tuple[Floats, Floats]:
        """0-based pixel positions (n,) of sky positions; NaN for positions far outside the frame.

        Far is more than three times the centre-to-corner distance from the centre. Nearer positions
        outside the frame get their (extrapolated) pixel. Newton's method on the forward
        transformation, from the linear solution, so that the branch is always the frame's own.
        """
        ra, dec = np.broadcast_arrays(
            np.asarray(ra_deg, np.float64), np.asarray(dec_deg, np.float64)
        )
        known = np.isfinite(ra) & np.isfinite(dec)
        target = unit_vectors(np.where(known, ra, 0.0).ravel(), np.where(known, dec, 0.0).ravel())
        near = known.ravel() & (_angle(target, self._centre) <= self._reach)
        pixels = np.full((target.shape[0], 2), np.nan)
        pixels[near] = self._invert(self._plane(target[near]))
        x, y = pixels.T.reshape(2, *ra.shape)
        return x.copy(), y.copy()

    def pixel_arcsec(self) -> float:
        """Width of a pixel at the centre of the quadrant."""
        ny, nx = self.shape
        [matrix] = self.jacobian([(nx - 1) / 2], [(ny - 1) / 2])
        return float(np.sqrt(np.abs(np.linalg.det(matrix))))

    def jacobian(self, x: ArrayLike, y: ArrayLike) -> Floats:
        """Local d(u, v)/d(x, y), (n, 2, 2) in arcsec per pixel, at 0-based positions (n,).

        Rows are u (west) and v (north) on the plane tangent at that very position.
        """
        x, y = np.broadcast_arrays(np.asarray(x, np.float64), np.asarray(y, np.float64))
        west, north = _west_north(*self.to_sky(x, y))
        columns = []
        for dx, dy in ((DIFFERENCE_STEP_PX, 0.0), (0.0, DIFFERENCE_STEP_PX)):
            ahead = unit_vectors(*self.to_sky(x + dx, y + dy))
            behind = unit_vectors(*self.to_sky(x - dx, y - dy))
            moved = (ahead - behind) * (ARCSEC_PER_RADIAN / (2.0 * DIFFERENCE_STEP_PX))
            columns.append(np.stack([(moved * west).sum(-1), (moved * north).sum(-1)], axis=-1))
        return np.stack(columns, axis=-1)

    def footprint(self) -> Floats:
        """Right ascension and declination, deg, of the outer corners, (4, 2), in pixel order."""
        ny, nx = self.shape
        x = np.array([-0.5, nx - 0.5, nx - 0.5, -0.5])
        y = np.array([-0.5, -0.5, ny - 0.5, ny - 0.5])
        return np.stack(self.to_sky(x, y), axis=-1)

    def _plane(self, vectors: Floats) -> Floats:
        """Orthographic coordinates (n, 2) about the frame's centre, in radian."""
        return np.stack([vectors @ self._west, vectors @ self._north], axis=-1)

    def _invert(self, target: Floats) -> Floats:
        ny, nx = self.shape
        position = np.broadcast_to([(nx - 1) / 2, (ny - 1) / 2], target.shape).copy()
        longest = 2.0 * REACH_IN_FRAME_RADII * float(np.hypot(nx, ny))
        error = np.full(len(target), np.inf)
        for _ in range(MAX_NEWTON_STEPS):
            step = self._newton_step(position, target)
            error = np.hypot(*step.T)
            position += np.where(error > longest, np.nan, 1.0)[:, None] * step
            if not (error > INVERSION_TOLERANCE_PX).any():  # NaN: lost, no use in going on
                break
        return np.where((error <= INVERSION_TOLERANCE_PX)[:, None], position, np.nan)

    def _newton_step(self, position: Floats, target: Floats) -> Floats:
        x, y = position.T
        probes = self.to_sky(np.stack([x, x + 1.0, x]), np.stack([y, y, y + 1.0]))
        here, right, up = (self._plane(v) for v in unit_vectors(*probes))
        (a, c), (b, d) = (right - here).T, (up - here).T
        du, dv = (target - here).T
        with np.errstate(divide="ignore", invalid="ignore"):
            determinant = a * d - b * c
            return np.stack([d * du - b * dv, a * dv - c * du], axis=-1) / determinant[:, None]


def unit_vectors(ra_deg: ArrayLike, dec_deg: ArrayLike) -> Floats:
    """Unit vectors (..., 3) of sky positions in degrees."""
    ra, dec = np.deg2rad(ra_deg), np.deg2rad(dec_deg)
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=-1)


def _west_north(ra_deg: Floats, dec_deg: Floats) -> tuple[Floats, Floats]:
    """Unit vectors (..., 3) that point west and north at sky positions."""
    ra, dec = np.deg2rad(ra_deg), np.deg2rad(dec_deg)
    west = np.stack([np.sin(ra), -np.cos(ra), np.zeros_like(ra)], axis=-1)
    north = np.stack([-np.sin(dec) * np.cos(ra), -np.sin(dec) * np.sin(ra), np.cos(dec)], axis=-1)
    return west, north


def _angle(vectors: Floats, centre: Floats) -> Floats:
    """Angles (n,) in radian, accurate for small ones and up to the antipode."""
    return 2.0 * np.arcsin(np.clip(np.linalg.norm(vectors - centre, axis=-1) / 2.0, 0.0, 1.0))
