"""True reduced shear on the sky, in each source's (u west, v north) frame."""

from __future__ import annotations

import warnings

import galsim
import numpy as np

from .config import Area
from .lensing_config import NfwShear, ShearConfig, SinusoidShear
from .sky import Array, project, unit_vectors

CENTRE_ARCSEC = 1e-3


def reduced_shear(shear: ShearConfig, ra: Array, dec: Array, area: Area) -> tuple[Array, Array]:
    """Reduced shear (g1, g2) at directions in degrees; `area` gives the sinusoid its origin."""
    if isinstance(shear, NfwShear):
        return _nfw(shear, ra, dec)
    if isinstance(shear, SinusoidShear):
        return _sinusoid(shear, ra, dec, area)
    return np.full_like(ra, shear.g1), np.full_like(ra, shear.g2)


def _sinusoid(shear: SinusoidShear, ra: Array, dec: Array, area: Area) -> tuple[Array, Array]:
    xi, eta = project(ra, dec, area.ra, area.dec)
    angle = np.deg2rad(shear.angle_deg)
    distance_arcmin = 60 * (-xi * np.cos(angle) + eta * np.sin(angle))
    phase = 2 * np.pi * distance_arcmin / shear.wavelength_arcmin + np.deg2rad(shear.phase_deg)
    size = shear.amplitude * np.cos(phase)
    return size * np.cos(2 * angle), size * np.sin(2 * angle)


def _nfw(shear: NfwShear, ra: Array, dec: Array) -> tuple[Array, Array]:
    halo = galsim.NFWHalo(mass=shear.mass_msun_h, conc=shear.concentration, redshift=shear.redshift)
    # The shear at the very centre is undefined.
    separation = np.maximum(_separation_arcsec(ra, dec, shear.ra, shear.dec), CENTRE_ARCSEC)
    with warnings.catch_warnings():
        # GalSim 2.8 divides in a way that NumPy 2.4 warns of, for the sake of the centre.
        warnings.filterwarnings("ignore", "'where' used without 'out'", UserWarning)
        # On the x axis of GalSim's halo frame, tangential shear is -g1.
        on_axis, _ = halo.getShear(
            (separation, np.zeros_like(separation)), shear.source_redshift, reduced=True
        )
    tangential = np.clip(-np.asarray(on_axis), -shear.max_shear, shear.max_shear)
    # Inside the critical curve g exceeds 1 and changes sign: cap it where galaxies are distorted
    # beyond what weak lensing describes.
    tangential = np.where(np.isfinite(tangential), tangential, shear.max_shear)
    u, v = _direction(ra, dec, shear.ra, shear.dec)
    spin = -np.exp(2j * np.arctan2(v, u))
    return tangential * spin.real, tangential * spin.imag


def _separation_arcsec(ra: Array, dec: Array, ra0: float, dec0: float) -> Array:
    chord = np.linalg.norm(unit_vectors(ra, dec) - unit_vectors(ra0, dec0), axis=-1)
    return 3600 * np.rad2deg(2 * np.arcsin(np.clip(chord / 2, 0, 1)))


def _direction(ra: Array, dec: Array, ra0: float, dec0: float) -> tuple[Array, Array]:
    """Direction from each source to (ra0, dec0), as (west, north) components at the source."""
    delta, dec, dec0 = np.deg2rad(ra0 - ra), np.deg2rad(dec), np.deg2rad(dec0)
    east = np.cos(dec0) * np.sin(delta)
    north = np.cos(dec) * np.sin(dec0) - np.sin(dec) * np.cos(dec0) * np.cos(delta)
    return -east, north
