"""Images of a field: square pixels of a tangent plane, columns to west and rows to north."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from astropy.wcs import WCS

from constellation.products.frames import middle, positions
from constellation.products.reading import POSITION, Galaxies
from constellation.sphere import RADIANS_PER_ARCMIN, Floats, Integers, TangentPlane, unit_vectors
from shine.errors import ConfigurationError, InputError, explain

_MOST_PIXELS = 4096  # along a side
_MOST_DEG = 20.0  # beyond, a plane distorts


@dataclass(frozen=True)
class Grid:
    """Pixels around a position in degrees; `shape` is (rows, columns)."""

    ra: float
    dec: float
    pixel_arcmin: float
    shape: tuple[int, int]

    @classmethod
    def of_area(cls, area: tuple[float, float, float, float], pixel_arcmin: float) -> Grid:
        """Cover an area: RA and Dec in degrees, width and height in arcmin.

        Raises `ConfigurationError` if it is too wide for a plane, or for the pixels.
        """
        ra, dec, *size = area
        shape = tuple(max(1, int(np.ceil(x / pixel_arcmin - 1e-9))) for x in reversed(size))
        where = f"an image of {size[0]:g} by {size[1]:g} arcmin"
        if max(size) > 60.0 * _MOST_DEG:
            expected = f"at most {_MOST_DEG:g} degrees"
            raise ConfigurationError(explain(where, "a curved sky", expected, "Choose an --area."))
        if max(shape) > _MOST_PIXELS:
            found, expected = f"{max(shape)} pixels along a side", f"at most {_MOST_PIXELS}"
            raise ConfigurationError(explain(where, found, expected, "Choose larger pixels."))
        return cls(ra, dec, pixel_arcmin, shape)

    @classmethod
    def of_all(cls, galaxies: Galaxies, pixel_arcmin: float) -> Grid:
        """Cover all galaxies of a catalogue."""
        shear = galaxies.converged
        ra, dec = middle(np.asarray(shear["RA"]), np.asarray(shear["DEC"]))
        plane, reach = TangentPlane.at(ra, dec), np.zeros(2)
        for table in galaxies.catalogue.sources_by_file(POSITION):
            found = table.filter(table["HEALPIX"].is_valid())
            at = plane.project(unit_vectors(np.asarray(found["RA"]), np.asarray(found["DEC"])))
            reach = np.maximum(reach, np.abs(at).max(axis=1, initial=0.0))
        if not np.isfinite(reach).all():
            where = str(galaxies.catalogue.folder)
            expected = f"at most {_MOST_DEG:g} degrees"
            raise InputError(explain(where, "the whole sky", expected, "Choose an --area."))
        width, height = 2.0 * reach / RADIANS_PER_ARCMIN * (1.0 + 1e-9)
        return cls.of_area((ra, dec, width, height), pixel_arcmin)

    @property
    def near(self) -> tuple[float, float, float]:
        """A circle around it all: RA, Dec and radius in degrees."""
        half = np.hypot(*self.shape) * self.pixel_arcmin / 2.0 / 60.0
        return self.ra, self.dec, float(half)

    @cached_property
    def wcs(self) -> WCS:
        """The sky's coordinates of its pixels, as FITS has them."""
        wcs = WCS(naxis=2)
        wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
        wcs.wcs.cunit = ["deg", "deg"]
        wcs.wcs.crval = [self.ra, self.dec]
        wcs.wcs.crpix = [(n + 1) / 2.0 for n in reversed(self.shape)]
        wcs.wcs.cdelt = [-self.pixel_arcmin / 60.0, self.pixel_arcmin / 60.0]
        wcs.wcs.radesys = "ICRS"
        return wcs

    @property
    def description(self) -> dict[str, str]:
        """What to say of it in a file's metadata."""
        return {
            "centre_ra_deg": repr(self.ra),
            "centre_dec_deg": repr(self.dec),
            "pixel_arcmin": f"{self.pixel_arcmin:g}",
            "rows": str(self.shape[0]),
            "columns": str(self.shape[1]),
        }

    def pixels(self, ra: Floats, dec: Floats) -> Integers:
        """Which pixel, row by row, holds each position (n,) in degrees; -1 beyond the image."""
        at = TangentPlane.at(self.ra, self.dec).project(unit_vectors(ra, dec))
        xi, eta = np.clip(at, -1e3, 1e3)  # some are infinite
        side = self.pixel_arcmin * RADIANS_PER_ARCMIN
        rows, columns = self.shape
        x, y = np.floor(-xi / side + columns / 2.0), np.floor(eta / side + rows / 2.0)
        inside = (x >= 0) & (x < columns) & (y >= 0) & (y < rows)
        return np.where(inside, y * columns + x, -1).astype(np.int64)

    def positions(self, x: Integers, y: Integers) -> tuple[Floats, Floats]:
        """RA and Dec of the centres of pixels, by column and row."""
        side = self.pixel_arcmin * RADIANS_PER_ARCMIN
        xi = -(x + 0.5 - self.shape[1] / 2.0) * side
        eta = (y + 0.5 - self.shape[0] / 2.0) * side
        return positions(TangentPlane.at(self.ra, self.dec).unproject(xi, eta))
