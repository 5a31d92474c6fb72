"""What other codes are told of a block's images: places and PSF, each in the form they take."""

from __future__ import annotations

from functools import cached_property

import galsim
import numpy as np
from astropy.wcs import WCS
from numpy.typing import NDArray

from constellation.mock_survey.scene import quadrant_wcs
from constellation.validation.drawing.listed import catalogue
from constellation.validation.drawing.psfs import psf_profile
from constellation.validation.drawing.scene import GridScene

Floats = NDArray[np.float64]


class Told:
    """The facts of one block that its images share; arrays are in the order of the galaxies."""

    def __init__(self, scene: GridScene):
        self.scene = scene
        self.wcs = quadrant_wcs(scene.frame)
        self._psfs: dict[tuple[int, int], Floats] = {}

    @cached_property
    def listed_radec(self) -> tuple[Floats, Floats]:
        """Right ascension and declination (n,) in the very catalogue that shine reads, deg."""
        columns, _ = catalogue(self.scene)
        return columns["RIGHT_ASCENSION"], columns["DECLINATION"]

    @cached_property
    def listed_xy(self) -> Floats:
        """0-based pixel positions (n, 2) of the catalogue's entries."""
        radec = (np.radians(angle) for angle in self.listed_radec)
        return np.column_stack(self.wcs.radecToxy(*radec, units="rad")) - 1.0

    @cached_property
    def fits_wcs(self) -> WCS:
        """The WCS as Astropy reads it."""
        return WCS(self.scene.frame.header())

    @cached_property
    def to_sky(self) -> tuple[NDArray[np.complex128], NDArray[np.complex128]]:
        """What turns ellipticities from the pixels' axes to the sky's, galaxy by galaxy.

        A factor (n,) for e1 + i e2, and the shear (n,) that the WCS adds, which images drawn on the
        pixels' grid have lost. The factor is the local roll's: the quadrant has no other parity.
        """
        parts = [
            self.wcs.local(galsim.PositionD(x + 1, y + 1)).getDecomposition()
            for x, y in self.scene.pixel_xy
        ]
        assert not any(flipped for *_, flipped in parts)
        roll = np.array([turn / galsim.radians for _, _, turn, _ in parts])
        return np.exp(2j * roll), np.array([shear.shear for _, shear, _, _ in parts])

    def psf(self, side_px: int, samples_per_px: int) -> Floats:
        """The effective PSF (pixel included) of light 1 at the image's centre, on its pixels.

        Drawn from the true profile, as wide as a code asks, centred on element
        (side // 2, side // 2) of the array (side, side), side being side_px * samples_per_px. Drawn
        once for each pair of arguments.
        """
        key = side_px, samples_per_px
        if key not in self._psfs:
            self._psfs[key] = self._draw_psf(*key)
        return self._psfs[key]

    def _draw_psf(self, side_px: int, samples_per_px: int) -> Floats:
        middle = 0.5 * (self.scene.settings.side_px + 1)
        local = self.wcs.local(galsim.PositionD(middle, middle))
        seen = galsim.Convolve(
            psf_profile(self.scene.settings.psf), local.toWorld(galsim.Pixel(1.0))
        )
        side = side_px * samples_per_px
        image = seen.drawImage(
            nx=side + 1,
            ny=side + 1,
            wcs=galsim.JacobianWCS(*(local.getMatrix().ravel() / samples_per_px)),
            method="no_pixel",
            dtype=float,
        )
        return image.array[:side, :side] / image.array[:side, :side].sum()
