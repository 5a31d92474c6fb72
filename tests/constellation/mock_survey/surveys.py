"""Small mock surveys, what is in their files, and moments of images in sky coordinates."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import astropy.units as un
import numpy as np
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS
from numpy.typing import NDArray
from pyarrow import parquet

from constellation.mock_survey.config import MockSurveyConfig
from constellation.mock_survey.focal_plane import QuadrantFrame, quadrant_frames
from constellation.mock_survey.layout import SurveyFiles
from constellation.mock_survey.write import write_survey

SHAPE = (300, 280)
AREA = {"ra": 57.78, "dec": -51.0, "width_arcmin": 0.4, "height_arcmin": 0.4}
TILE = {"tile_index": 102018665, "ra": 57.3828797, "dec": -51.0}
NEXT_TILE = {"tile_index": 102018666, "ra": 58.1773936, "dec": -51.0}
BASE = {
    "seed": 11,
    "tiles": [TILE],
    "area": AREA,
    "exposures": [{"roll_deg": 0.0}],
    "shear": {"type": "constant"},
    "detector": {"quadrant_shape": SHAPE},
}
NO_SOURCES = {"galaxy_density": 0.0, "star_density": 0.0}
NO_DEFECTS = {
    "cosmic_rays_per_megapixel": 0.0,
    "hot_pixels_per_megapixel": 0.0,
    "bad_columns_per_quadrant": 0,
}
# Photon noise falls with the root of the gain.
NOISELESS = {**NO_DEFECTS, "gain": 400.0, "read_noise_e": 0.0, "saturation_adu": 1e7}
ROUND_PSF = {
    "halo_fraction": 0.0,
    "ellipticity": 0.0,
    "ellipticity_variation": 0.0,
    "fwhm_variation": 0.0,
}
# An area of 8" x 8" that holds one source on average, and for some seeds exactly one.
ONE_SOURCE_AREA = {**AREA, "width_arcmin": 8 / 60, "height_arcmin": 8 / 60}
ONE_GALAXY = {
    "galaxy_density": 56.0,
    "star_density": 0.0,
    "close_pair_fraction": 0.0,
    "bright_magnitude": 18.0,
    "faint_magnitude": 18.5,
    "hlr_arcsec": 0.6,
    "hlr_slope": 0.0,
    "hlr_scatter": 0.0,
    "ellipticity_sigma": 0.0,
}
ONE_STAR = {
    "galaxy_density": 0.0,
    "star_density": 56.0,
    "star_bright_magnitude": 17.0,
    "bright_magnitude": 17.0,
    "faint_magnitude": 17.2,
}
SEED_OF_ONE_SOURCE = 7


def merged(base: Mapping, changes: Mapping) -> dict:
    """A copy of nested settings with some changed; other mappings than settings are replaced."""
    both = dict(base)
    for key, value in changes.items():
        nested = isinstance(value, Mapping) and isinstance(both.get(key), Mapping)
        both[key] = merged(both[key], value) if nested and key != "shear" else value
    return both


def settings(**changes) -> MockSurveyConfig:
    """Settings of a survey of one small exposure, with changes."""
    return MockSurveyConfig.model_validate(merged(BASE, changes))


def frame_named(config: MockSurveyConfig, name: str, exposure: int = 0) -> QuadrantFrame:
    """One quadrant of an exposure."""
    return next(frame for frame in quadrant_frames(config, exposure) if frame.name == name)


def aimed(
    name: str, roll_deg: float = 0.0, shape: tuple[int, int] = SHAPE, area: Mapping = AREA
) -> dict[str, float]:
    """Exposure whose quadrant `name` has its centre at the centre of the area."""
    here = {"roll_deg": roll_deg}
    config = settings(exposures=[here], area=area, detector={"quadrant_shape": shape})
    rows, columns = shape
    sky = frame_named(config, name).to_sky((columns - 1) / 2, (rows - 1) / 2)
    u, v = offsets_arcsec(*sky, area["ra"], area["dec"])
    return {**here, "offset_east_arcsec": float(u), "offset_north_arcsec": -float(v)}


def one_quadrant(name: str, roll_deg: float = 0.0, **changes) -> MockSurveyConfig:
    """Settings of a survey that is one quadrant over a small area."""
    seen = {"exposures": [aimed(name, roll_deg)], "detector": {"quadrants": [name]}}
    return settings(**merged(merged({"area": ONE_SOURCE_AREA}, seen), changes))


def offsets_arcsec(ra, dec, ra0: float, dec0: float) -> tuple[NDArray, NDArray]:
    """(u west, v north) of directions in degrees, seen from (ra0, dec0), by astropy."""
    origin = SkyCoord(ra0 * un.deg, dec0 * un.deg)
    east, north = origin.spherical_offsets_to(SkyCoord(ra * un.deg, dec * un.deg))
    return -east.to_value(un.arcsec), north.to_value(un.arcsec)


@dataclass(frozen=True)
class Survey:
    """A written survey and what its files hold."""

    config: MockSurveyConfig
    root: Path
    files: SurveyFiles

    def header(self, hdu: str | int, exposure: int = 0, kind: str = "frames") -> fits.Header:
        """Header of one extension."""
        with fits.open(getattr(self.files, kind)[exposure]) as hdus:
            return hdus[hdu].header.copy()

    def image(self, hdu: str, exposure: int = 0, kind: str = "frames") -> NDArray:
        """Pixels of one extension."""
        with fits.open(getattr(self.files, kind)[exposure], memmap=False) as hdus:
            return hdus[hdu].data.copy()

    def light(self, name: str, exposure: int = 0) -> NDArray[np.float64]:
        """SCI minus BKG of a quadrant."""
        sci = self.image(f"{name}.SCI", exposure).astype(float)
        return sci - self.image(name, exposure, "backgrounds")

    def catalogue(self, tile: int = 0) -> NDArray:
        """Rows of a tile's catalogue."""
        with fits.open(self.files.catalogues[tile], memmap=False) as hdus:
            return hdus[1].data.copy()

    def truth(self) -> dict[str, NDArray]:
        """Columns of the truth table."""
        table = parquet.read_table(self.files.truth)
        return {name: table[name].to_numpy() for name in table.column_names}

    def only_source(self) -> dict:
        """The truth of the one source that was drawn."""
        truth = self.truth()
        assert len(truth["RA"]) == 1, "choose a seed that draws one source"
        return {name: values[0] for name, values in truth.items()}


Writer = Callable[[MockSurveyConfig], Survey]


def write(config: MockSurveyConfig, root: Path, workers: int = 1) -> Survey:
    """Write a survey into a folder."""
    return Survey(config, root, write_survey(config, root, workers))


def adu_per_ujy(header: fits.Header) -> float:
    """m_AB = -2.5 log10(ADU) + MAGZEROP + 2.5 log10(EXPTIME), and 1 uJy has magnitude 23.9."""
    zero_point = float(header["MAGZEROP"]) + 2.5 * np.log10(header["EXPTIME"])
    return 10 ** ((zero_point - 23.9) / 2.5)


def cut_around(
    image: NDArray, header: fits.Header, position: tuple[float, float], half: int = 50
) -> tuple[NDArray, NDArray, NDArray]:
    """Pixels around a direction (deg), and their (u west, v north) from there in arcsec."""
    wcs = WCS(header)
    x0, y0 = (round(float(p)) for p in wcs.all_world2pix(*position, 0))
    y, x = np.mgrid[y0 - half : y0 + half + 1, x0 - half : x0 + half + 1]
    u, v = offsets_arcsec(*wcs.all_pix2world(x, y, 0), *position)
    cut = image[y0 - half : y0 + half + 1, x0 - half : x0 + half + 1]
    return cut, u, v


@dataclass(frozen=True)
class Moments:
    """Adaptive Gaussian moments: centre, shape |g| = (a-b)/(a+b), size det^(1/4)."""

    u: float
    v: float
    g1: float
    g2: float
    size: float


def sky_moments(image: NDArray, u: NDArray, v: NDArray, start: float = 0.3) -> Moments:
    """Moments under the elliptical Gaussian weight that matches them."""
    centre, matrix = np.zeros(2), np.eye(2) * start**2
    for _ in range(60):
        offset = np.stack([u - centre[0], v - centre[1]])
        inside = np.einsum("i...,ij,j...->...", offset, np.linalg.inv(matrix), offset)
        weighted = image * np.exp(-0.5 * inside)
        total = weighted.sum()
        centre = centre + 2 * (weighted * offset).sum(axis=(1, 2)) / total
        matrix = 2 * (weighted * offset[:, None] * offset).sum(axis=(2, 3)) / total
    size_squared = np.sqrt(np.linalg.det(matrix))
    trace = matrix[0, 0] + matrix[1, 1] + 2 * size_squared
    g1, g2 = (matrix[0, 0] - matrix[1, 1]) / trace, 2 * matrix[0, 1] / trace
    return Moments(*centre, g1, g2, np.sqrt(size_squared))
