"""Small images drawn by GalSim, and the same scene in shine's terms."""

from dataclasses import dataclass

import galsim
import numpy as np

from shine.blends import BLEND_SIZES, enclosing_circle, find_blends
from shine.config import Priors
from shine.prior_utils import CatalogueValues, SourcePrior
from shine.scene import Scene
from shine.scene_builder import ModelledSources, QuadrantView, SceneBuilder, bucket

ADU_PER_UJY = 1000.0
PSF = galsim.Moffat(beta=3.5, fwhm=0.18).shear(g1=0.03, g2=-0.02)


def jacobian(roll_deg: float, flip: int = 1, scale: float = 0.1) -> np.ndarray:
    """d(u, v)/d(x, y) of a detector rolled by an angle, mirrored where `flip` is -1."""
    c, s = np.cos(np.radians(roll_deg)), np.sin(np.radians(roll_deg))
    return scale * np.array([[c, -s], [s, c]]) @ np.diag([flip, 1.0])


def psf_stamp(matrix: np.ndarray, psf: galsim.GSObject = PSF, size: int = 21) -> np.ndarray:
    """The effective PSF (GalSim integrates the pixel) on an odd stamp, centred."""
    wcs = galsim.JacobianWCS(*matrix.ravel())
    return psf.drawImage(nx=size, ny=size, wcs=wcs, dtype=float).array.astype(np.float32)


@dataclass(frozen=True)
class Galaxy:
    """One galaxy as it is drawn: position in pixels, (0, 0) being the first pixel's centre."""

    x: float
    y: float
    flux_ujy: float = 10.0
    hlr_arcsec: float = 0.3
    e1: float = 0.0
    e2: float = 0.0


def draw(
    galaxies: list[Galaxy], shear: tuple[float, float], matrix: np.ndarray, shape
) -> np.ndarray:
    """A noiseless GalSim image (ny, nx) in ADU."""
    wcs = galsim.JacobianWCS(*matrix.ravel())
    image = galsim.ImageD(shape[1], shape[0], xmin=0, ymin=0)
    for galaxy in galaxies:
        profile = galsim.Exponential(
            half_light_radius=galaxy.hlr_arcsec, flux=galaxy.flux_ujy * ADU_PER_UJY
        )
        profile = profile.shear(g1=galaxy.e1, g2=galaxy.e2).shear(g1=shear[0], g2=shear[1])
        stamp = galsim.Convolve(profile, PSF).drawImage(
            nx=120, ny=120, wcs=wcs, center=galsim.PositionD(galaxy.x, galaxy.y), dtype=float
        )
        overlap = stamp.bounds & image.bounds
        if overlap.isDefined():
            image[overlap] += stamp[overlap]
    return image.array


def noise_for_snr(snr: float, matrix: np.ndarray, galaxy: Galaxy) -> float:
    """Pixel rms at which a galaxy has this matched-filter signal-to-noise ratio."""
    centred = Galaxy(60.0, 60.0, galaxy.flux_ujy, galaxy.hlr_arcsec)
    return float(np.sqrt((draw([centred], (0.0, 0.0), matrix, (121, 121)) ** 2).sum()) / snr)


def build(
    galaxies: list[Galaxy],
    images: list[tuple[np.ndarray, np.ndarray, np.ndarray]],
    *,
    stamp_size: int = 64,
    priors: Priors | None = None,
    radius_px: float = 5.0,
    psf: galsim.GSObject = PSF,
    psf_size: int = 21,
) -> tuple[Scene, SourcePrior]:
    """A scene of `images` = (image, weight, Jacobian), catalogue values 10 % off the truth.

    Galaxies whose discs of `radius_px` touch are one blend.
    """
    n = len(galaxies)
    position = np.array([[galaxy.x, galaxy.y] for galaxy in galaxies], float)
    radius = np.full(n, radius_px)
    blends = find_blends(position, radius)
    b = len(blends.members)
    centre = np.array([enclosing_circle(position[rows], radius[rows])[0] for rows in blends.rows()])
    builder = SceneBuilder(
        ModelledSources(
            members=blends.members,
            stamp_size=np.full(b, stamp_size),
            slots=np.array(BLEND_SIZES)[np.searchsorted(BLEND_SIZES, blends.count)],
            profile="exponential",
            profile_index=np.zeros(n),
        )
    )
    for k, (image, weight, matrix) in enumerate(images):
        stamp = psf_stamp(matrix, psf, psf_size)
        builder.add_quadrant(
            image.astype(np.float32),
            weight.astype(np.float32),
            QuadrantView(
                blend=np.arange(b),
                x=centre[:, 0],
                y=centre[:, 1],
                source_xy=position,
                jacobian=np.broadcast_to(matrix, (b, 2, 2)),
                psf=np.broadcast_to(stamp, (b, *stamp.shape)),
                psf_moments=np.full((b, 2, 2), np.nan),
                psf_oversampling=1,
                adu_per_ujy=ADU_PER_UJY,
                exposure=f"{k}",
            ),
        )
    extra = bucket(n) - n
    prior = SourcePrior.build(
        priors or Priors(),
        CatalogueValues(
            flux_ujy=np.array([1.1 * g.flux_ujy for g in galaxies] + [1.0] * extra),
            hlr_arcsec=np.array([0.9 * g.hlr_arcsec for g in galaxies] + [1.0] * extra),
            lensed=np.arange(n + extra) < n,
            point=np.arange(n + extra) >= n,
        ),
    )
    return builder.build().on_device(), prior
