"""Galaxies that Hubble saw, in the place of galaxies with a formula.

The sample is that of Mandelbaum et al. (2012), in the form that GalSim reads: cut-outs of the
COSMOS field in ACS's F814W, each with the PSF of its place, from which GalSim takes the galaxy
before the PSF. A unit is one galaxy turned by 0, 90, 45 and 135 degrees.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import galsim
import numpy as np

from constellation.mock_survey.scene import adu_per_ujy

from .psfs import psf_profile
from .scene import SNR_STAMP_PX, TURN, GridScene, Purpose

CATALOGUE = "real_galaxy_catalog_23.5_example.fits"
# of the sizes of Euclid's lensing galaxies; larger ones reach beyond their cut-outs
SMALLEST_ARCSEC, LARGEST_ARCSEC = 0.12, 0.6


@lru_cache
def cosmos(sample: Path) -> galsim.COSMOSCatalog:
    """The galaxies of fitting size whose cut-outs and fits are sound, by GalSim's own criteria."""
    return galsim.COSMOSCatalog(
        CATALOGUE, dir=str(sample), min_hlr=SMALLEST_ARCSEC, max_hlr=LARGEST_ARCSEC
    )


@dataclass(frozen=True)
class RealScene(GridScene):
    """As `GridScene`, of galaxies of one signal-to-noise, drawn from the sample at random."""

    def _bodies(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Fluxes, half-light radii and ellipticities (n,); the latter two are of Sersic fits."""
        number = self._numbers
        fits = self._sample.param_cat[self._sample.orig_index]
        q, angle = fits["sersicfit"][number, 3], fits["sersicfit"][number, 7]
        shape = (1.0 - q) / (1.0 + q) * np.exp(2j * (angle + self._angles))
        per_ujy = adu_per_ujy(self.survey.exposures[0]) / self.noise_adu
        snr = {k: per_ujy * self._norm(k) for k in np.unique(number).tolist()}
        flux = self.settings.galaxies.snr / np.array([snr[k] for k in number.tolist()])
        return flux, fits["hlr"][number, 0], shape

    def intrinsic(self, i: int) -> galsim.GSObject:
        """Galaxy i without shear and without Hubble's PSF, of any flux."""
        return self._galaxy(int(self._numbers[i])).rotate(self._angles[i] * galsim.radians)

    @property
    def _sample(self) -> galsim.COSMOSCatalog:
        return cosmos(self.settings.galaxies.sample)

    @cached_property
    def _numbers(self) -> np.ndarray:
        """Which galaxy of the sample each one is (n,)."""
        n_units = self.settings.cells**2 // self.unit
        return np.repeat(
            self.rng(Purpose.GALAXIES).integers(len(self._sample), size=n_units), self.unit
        )

    @cached_property
    def _angles(self) -> np.ndarray:
        """By how much each one is turned (n,), radians from west to north."""
        n_units = self.settings.cells**2 // self.unit
        first = self.rng(Purpose.ANGLES).uniform(0.0, 2.0 * np.pi, n_units)
        # 135 degrees and not -45: with the pixels, a lopsided galaxy turns by 90, not by -90
        within = np.tile(0.5 * (np.angle(TURN[: self.unit]) % (2.0 * np.pi)), n_units)
        return np.repeat(first, self.unit) + within

    def _galaxy(self, number: int) -> galsim.GSObject:
        # nothing around the cut-out: padding with noise would be another one at each call
        galaxy = self._sample.makeGalaxy(number, gal_type="real", noise_pad_size=0)
        return galaxy.withFlux(1.0)

    def _norm(self, number: int) -> float:
        """Root of the sum of the squared pixels, for light 1."""
        seen = galsim.Convolve(self._galaxy(number), psf_profile(self.settings.psf))
        stamp = seen.drawImage(nx=SNR_STAMP_PX, ny=SNR_STAMP_PX, scale=0.1).array
        return float(np.sqrt(np.sum(stamp.astype(float) ** 2)))
