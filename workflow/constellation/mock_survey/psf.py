"""The mock PSF: a continuous profile that varies over the focal plane, and its grid of stamps."""

from __future__ import annotations

from functools import lru_cache

import galsim
import numpy as np
from numpy.typing import NDArray

from .config import PsfConfig
from .focal_plane import QuadrantFrame
from .sky import Array

GRID_NODES = 9
STAMP_PIXELS = 21
# Brightness errors below 1e-4 of a galaxy's peak (checked against a ten times finer setting).
GSPARAMS = galsim.GSParams(folding_threshold=0.01, maxk_threshold=0.001)


@lru_cache
def _round_profile(settings: PsfConfig) -> galsim.GSObject:
    core = galsim.Moffat(
        beta=settings.beta,
        fwhm=settings.fwhm_arcsec,
        flux=1 - settings.halo_fraction,
        gsparams=GSPARAMS,
    )
    if settings.halo_fraction == 0:
        return core
    halo = galsim.Exponential(
        half_light_radius=settings.halo_hlr_arcsec,
        flux=settings.halo_fraction,
        gsparams=GSPARAMS,
    )
    return galsim.Sum(core, halo)


def psf_shapes(
    settings: PsfConfig, frame: QuadrantFrame, x: Array, y: Array
) -> tuple[Array, Array, Array]:
    """Relative width and sky-frame (u west, v north) shear (e1, e2) of the PSF at 0-based pixels.

    The pattern belongs to the focal plane and turns with it.
    """
    f_x, f_y = frame.focal_position(x, y)
    z = f_x + 1j * f_y
    width = 1 + settings.fwhm_variation * (
        0.5 * np.abs(z) ** 2 + 0.2 * f_x - 0.1 * f_y + 0.4 * np.sin(6 * f_x - 5 * f_y)
    )
    mean = settings.ellipticity * np.exp(2j * np.deg2rad(settings.ellipticity_angle_deg))
    varying = 0.5 * z**2 + 0.3 * np.conj(z) + 0.4 * np.exp(1j * (5 * f_x + 4 * f_y))
    shape = mean + settings.ellipticity_variation * varying
    shape = shape * np.exp(2j * np.deg2rad(frame.roll_deg))
    return width, shape.real, shape.imag


def psf_profiles(
    settings: PsfConfig, frame: QuadrantFrame, x: Array, y: Array
) -> list[galsim.GSObject]:
    """PSF profiles on the sky, without the pixel, at 0-based pixel positions."""
    base = _round_profile(settings)
    return [
        base.dilate(float(width)).shear(g1=float(e1), g2=float(e2))
        for width, e1, e2 in zip(*psf_shapes(settings, frame, x, y), strict=True)
    ]


def node_positions(frame: QuadrantFrame) -> tuple[Array, Array]:
    """0-based pixel positions of the grid's nodes, the cell centres: x (9,), y (9,)."""
    cells = (np.arange(GRID_NODES) + 0.5) / GRID_NODES
    rows, columns = frame.shape
    return cells * columns - 0.5, cells * rows - 0.5


@lru_cache(maxsize=16)  # surveys that differ in their galaxies have the same
def psf_image(
    settings: PsfConfig, frame: QuadrantFrame, wcs: galsim.BaseWCS
) -> NDArray[np.float32]:
    """The quadrant's 9 x 9 stamps of 21 x 21 pixels, side by side: (189, 189), row-major.

    A stamp is the effective PSF (pixel included) centred on its central pixel; light beyond the
    stamp is lost, not renormalised.
    """
    x_nodes, y_nodes = node_positions(frame)
    x, y = (axis.ravel() for axis in np.meshgrid(x_nodes, y_nodes))
    size = GRID_NODES * STAMP_PIXELS
    image = np.zeros((size, size), dtype=np.float32)
    profiles = psf_profiles(settings, frame, x, y)
    for node, profile in enumerate(profiles):
        local = wcs.local(galsim.PositionD(x[node] + 1, y[node] + 1))
        stamp = profile.drawImage(nx=STAMP_PIXELS, ny=STAMP_PIXELS, wcs=local, dtype=float)
        row, column = (STAMP_PIXELS * place for place in divmod(node, GRID_NODES))
        image[row : row + STAMP_PIXELS, column : column + STAMP_PIXELS] = stamp.array
    image.flags.writeable = False
    return image
