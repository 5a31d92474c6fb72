"""One validation image in Euclid's geometry: galaxies in units of eight that cancel noise.

A unit is one galaxy eight times: with the intrinsic shapes e and -e (turned by 90 degrees), ie and
-ie (by 45 and 135), and for each of the two pairs pixel noise n of its own, and -n. With its shape,
noise and place within the pixel turn by 90 degrees, a turn that the pixels' grid allows. All images
of a block show the same units with the same noise under different shears. So the mean over a unit
has no shape noise (Massey et al. 2007), and of the pixels' only what an anisotropic PSF or an
estimator without that symmetry make of it; of the difference between opposite shears (Pujol et al.
2019), what is odd in noise, and what is linear in it times shape, cancels.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property

import galsim
import numpy as np
from numpy.typing import NDArray

from constellation.mock_survey.config import Area, Exposure, MerTile, MockSurveyConfig
from constellation.mock_survey.detector import Frame
from constellation.mock_survey.focal_plane import QuadrantFrame, quadrant_frames
from constellation.mock_survey.lensing_config import ConstantShear
from constellation.mock_survey.population import Sources, draw_population
from constellation.mock_survey.psf import GRID_NODES, STAMP_PIXELS
from constellation.mock_survey.scene import adu_per_ujy, pixel_noise_adu, quadrant_wcs

from .psfs import psf_profile
from .settings import GalaxySettings, SceneSettings

Array = NDArray[np.float64]

UNIT = 8
TURN = np.array([1, 1, -1, -1, 1j, 1j, -1j, -1j])  # of the ellipticity
WITH_PIXELS = np.array([0, 0, 1, 1, 0, 0, 1, 1], bool)  # noise and place turn by 90 degrees
QUADRANT = "3-4.F"
TILE = MerTile(tile_index=102018665, ra=57.3828797, dec=-51.0)
LARGEST_ELLIPTICITY = 0.99
DRAWN_PX = 96  # light beyond is left out; the cells of neighbours begin earlier
SNR_STAMP_PX = 120
# the catalogue lists every galaxy and nothing else: these images are about shear alone
LIST_ALL = {
    "detection_snr": 1e-3,
    "nir_only_fraction": 0.0,
    "deblend_arcsec": 0.0,
    "spurious_fraction": 0.0,
}


class Purpose(IntEnum):
    """What a block's random numbers are for, each from a stream of its own."""

    PLACES = 1
    NOISE = 2
    SCATTER = 3  # of fluxes and sizes
    SHEAR = 4  # of a scene for coverage
    GALAXIES = 5  # that are taken from a sample
    ANGLES = 6  # by which they are turned
    ADDED_NOISE = 7  # that another code asks for
    RANKS = 8  # of truths between two samples
    CATALOGUE = 9  # of its positions' errors


@dataclass(frozen=True)
class GridScene:
    """The galaxies of one block; `seed` and `block` decide everything random."""

    settings: SceneSettings
    seed: int
    block: int

    @property
    def unit(self) -> int:
        """Cells that show one galaxy."""
        return 1 if self.settings.independent else UNIT

    @cached_property
    def survey(self) -> MockSurveyConfig:
        """The settings of the survey that the image's files belong to."""
        galaxies, n_units = self.settings.galaxies, self.settings.cells**2 // self.unit
        # an area with galaxies enough; only their properties are used
        width = 10.0
        density = (n_units + 8.0 * np.sqrt(n_units) + 20.0) / width**2
        return MockSurveyConfig(
            seed=int(np.random.SeedSequence((self.seed, self.block)).generate_state(1)[0]),
            tiles=(TILE,),
            area=Area(ra=TILE.ra, dec=TILE.dec, width_arcmin=width, height_arcmin=width),
            exposures=(Exposure(roll_deg=self.settings.roll_deg),),
            shear=ConstantShear(type="constant"),
            detector={"quadrant_shape": (self.settings.side_px,) * 2, "sky_gradient": 0.0},
            population={
                "galaxy_density": density,
                "star_density": 0.0,
                "close_pair_fraction": 0.0,
                "bright_magnitude": galaxies.bright_magnitude,
                "faint_magnitude": galaxies.faint_magnitude,
                "ellipticity_sigma": galaxies.ellipticity_sigma,
                "ellipticity_max": LARGEST_ELLIPTICITY,
            },
            catalogue=LIST_ALL,
        )

    @cached_property
    def frame(self) -> QuadrantFrame:
        """The quadrant's place in the focal plane."""
        [frame] = [f for f in quadrant_frames(self.survey, 0) if f.name == QUADRANT]
        return frame

    @cached_property
    def pixel_xy(self) -> Array:
        """0-based pixel positions (n, 2), unit by unit."""
        cells, spacing = self.settings.cells, self.settings.spacing_px
        rows, columns = np.divmod(np.arange(cells**2), cells)
        centre = self.settings.margin_px + spacing * (np.stack([columns, rows], 1) + 0.5) - 0.5
        x, y = self.rng(Purpose.PLACES).uniform(-0.5, 0.5, (2, cells**2 // self.unit, 1))
        turned = WITH_PIXELS[: self.unit]
        within = np.stack([np.where(turned, -y, x), np.where(turned, x, y)], axis=2)
        return centre + within.reshape(-1, 2)

    @cached_property
    def sources(self) -> Sources:
        """The true galaxies without shear, unit by unit."""
        flux, hlr, shape = self._bodies()
        ra, dec = self.frame.to_sky(*self.pixel_xy.T)
        n = len(shape)
        zero = np.zeros(n)
        return Sources(
            ra=ra,
            dec=dec,
            is_star=np.zeros(n, bool),
            flux_ujy=flux,
            hlr_arcsec=hlr,
            e1=shape.real,
            e2=shape.imag,
            g1=zero,
            g2=zero,
        )

    @property
    def typical_flux_ujy(self) -> float:
        """Flux of the uniform population's galaxies, of which they may scatter."""
        return self.settings.galaxies.snr / self._snr_per_ujy()

    @property
    def position_scatter_arcsec(self) -> float:
        """Of the catalogue's positions of the uniform population's galaxies, rms of an axis."""
        return self.settings.galaxies.position_scatter_arcsec / self.settings.galaxies.snr

    @property
    def noise_adu(self) -> float:
        """Pixel rms."""
        return pixel_noise_adu(self.survey)

    def random_shear(self) -> tuple[float, float]:
        """A shear for this block alone, each component between -`shear` and `shear`."""
        size = self.settings.shear
        g1, g2 = self.rng(Purpose.SHEAR).uniform(-size, size, 2)
        return float(g1), float(g2)

    def draw(self, shear: tuple[float, float]) -> Frame:
        """The image under a reduced shear (u west, v north), with its noise and background."""
        side, noise = self.settings.side_px, np.float32(self.noise_adu)
        sky = np.full((side, side), self.survey.detector.sky_adu, np.float32)
        sci = self.light(shear).astype(np.float32) + sky
        if self.settings.noise:
            sci += noise * self._noise()
        return Frame(sci, np.full_like(sky, noise), np.zeros((side, side), np.int32), sky)

    def rng(self, purpose: Purpose) -> np.random.Generator:
        """Random numbers for a purpose, from their beginning at each call."""
        return np.random.default_rng((self.seed, self.block, int(purpose)))

    def _bodies(self) -> tuple[Array, Array, NDArray[np.complex128]]:
        """Fluxes (uJy), half-light radii (arcsec) and ellipticities (n,) each."""
        galaxies, n_units = self.settings.galaxies, self.settings.cells**2 // self.unit
        unit = np.repeat(np.arange(n_units), self.unit)
        drawn = draw_population(self.survey)[unit]
        shape = (drawn.e1 + 1j * drawn.e2) * np.tile(TURN[: self.unit], n_units)
        if galaxies.population == "survey":
            return drawn.flux_ujy, drawn.hlr_arcsec, shape
        scatter = np.exp(self.rng(Purpose.SCATTER).standard_normal((2, n_units)))[:, unit]
        flux = self.typical_flux_ujy * scatter[0] ** galaxies.flux_scatter
        return flux, galaxies.hlr_arcsec * scatter[1] ** galaxies.hlr_scatter, shape

    def intrinsic(self, i: int) -> galsim.GSObject:
        """Galaxy i without shear, of any flux."""
        sources = self.sources
        light = profile(self.settings.galaxies, float(sources.hlr_arcsec[i]))
        return light.shear(g1=float(sources.e1[i]), g2=float(sources.e2[i]))

    def light(self, shear: tuple[float, float]) -> Array:
        """Noiseless light of the galaxies (side, side), ADU."""
        image = galsim.ImageD(self.settings.side_px, self.settings.side_px, xmin=0, ymin=0)
        wcs, sources = quadrant_wcs(self.frame), self.sources
        scale = adu_per_ujy(self.survey.exposures[0])
        psf = psf_profile(self.settings.psf)
        alike = min(self.unit, 2)  # neighbours that differ by the sign of their noise alone
        for i in range(0, len(sources), alike):
            x, y = self.pixel_xy[i]
            galaxy = self.intrinsic(i).shear(g1=shear[0], g2=shear[1])
            galaxy = galaxy.withFlux(sources.flux_ujy[i] * scale)
            stamp = galsim.Convolve(galaxy, psf).drawImage(
                nx=DRAWN_PX,
                ny=DRAWN_PX,
                wcs=wcs.local(galsim.PositionD(x + 1, y + 1)),
                center=galsim.PositionD(x, y),
                dtype=float,
            )
            for _ in range(alike):
                overlap = stamp.bounds & image.bounds
                if overlap.isDefined():
                    image[overlap] += stamp[overlap]
                stamp.shift(self.settings.spacing_px, 0)
        return image.array

    def psf_stamps(self) -> NDArray[np.float32]:
        """The grid of effective PSFs (189, 189), as the survey's files have it."""
        cells = (np.arange(GRID_NODES) + 0.5) / GRID_NODES * self.settings.side_px - 0.5
        wcs, psf = quadrant_wcs(self.frame), psf_profile(self.settings.psf)
        rows = [
            np.hstack(
                [
                    psf.drawImage(
                        nx=STAMP_PIXELS,
                        ny=STAMP_PIXELS,
                        wcs=wcs.local(galsim.PositionD(x + 1, y + 1)),
                        dtype=float,
                    ).array
                    for x in cells
                ]
            )
            for y in cells
        ]
        return np.vstack(rows).astype(np.float32)

    def _noise(self) -> NDArray[np.float32]:
        """Unit noise (side, side), cell by cell that of its unit; independent in the margin."""
        side, spacing, cells = self.settings.side_px, self.settings.spacing_px, self.settings.cells
        rng = self.rng(Purpose.NOISE)
        if self.settings.independent:
            return rng.standard_normal((side, side), dtype=np.float32)
        own = rng.standard_normal((cells**2 // 4, spacing, spacing), dtype=np.float32)
        turned = np.rot90(own, -1, axes=(1, 2))  # anticlockwise, rows being y upwards
        patches = np.stack([own, -own, turned, -turned], axis=1)
        grid = patches.reshape(cells, cells, spacing, spacing).swapaxes(1, 2)
        grid = grid.reshape(cells * spacing, cells * spacing)
        margin = self.settings.margin_px
        if margin < 0:
            return grid[-margin:margin, -margin:margin]
        image = rng.standard_normal((side, side), dtype=np.float32)
        image[margin : side - margin, margin : side - margin] = grid
        return image

    def _snr_per_ujy(self) -> float:
        """Matched-filter signal-to-noise of a round galaxy of 1 uJy."""
        settings = self.settings
        light = profile(settings.galaxies, settings.galaxies.hlr_arcsec)
        seen = galsim.Convolve(light, psf_profile(settings.psf))
        stamp = seen.drawImage(nx=SNR_STAMP_PX, ny=SNR_STAMP_PX, scale=0.1).array
        scale = adu_per_ujy(self.survey.exposures[0])
        return float(scale * np.sqrt(np.sum(stamp.astype(float) ** 2)) / self.noise_adu)


def profile(galaxies: GalaxySettings, hlr_arcsec: float) -> galsim.GSObject:
    """A round galaxy of light 1."""
    if galaxies.profile == "real":
        raise ValueError("real galaxies are drawn from their cut-outs, see RealScene")
    if galaxies.profile == "sersic":
        return galsim.Sersic(n=galaxies.sersic_index, half_light_radius=hlr_arcsec)
    disc = galsim.Exponential(half_light_radius=hlr_arcsec)
    if galaxies.profile == "exponential":
        return disc
    bulge = galsim.DeVaucouleurs(half_light_radius=0.5 * hlr_arcsec)
    return galaxies.bulge_fraction * bulge + (1.0 - galaxies.bulge_fraction) * disc
