"""The true galaxies and stars of the area."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from .config import MockSurveyConfig, PopulationConfig
from .lensing import reduced_shear
from .seeds import Stream, generator
from .sky import Array, area_corners, deproject

AB_ZERO_POINT_UJY = 23.9


@dataclass(frozen=True)
class Sources:
    """True sources, one entry each; stars have no size, no ellipticity and no shear.

    `e1`, `e2` are intrinsic, |e| = (a-b)/(a+b), and `g1`, `g2` the reduced shear, both in (u west,
    v north). `hlr_arcsec` is that of the round galaxy before both.
    """

    ra: Array
    dec: Array
    is_star: NDArray[np.bool_]
    flux_ujy: Array
    hlr_arcsec: Array
    e1: Array
    e2: Array
    g1: Array
    g2: Array

    def __len__(self) -> int:
        return len(self.ra)

    def __getitem__(self, chosen: NDArray) -> Sources:
        return Sources(**{item.name: getattr(self, item.name)[chosen] for item in fields(self)})


def draw_population(config: MockSurveyConfig) -> Sources:
    """Draw the sources of the whole area from the survey's seed."""
    rng = generator(config.seed, Stream.POPULATION)
    settings, area = config.population, config.area
    square_arcmin = area.width_arcmin * area.height_arcmin
    n_galaxies = int(rng.poisson(settings.galaxy_density * square_arcmin))
    n_stars = int(rng.poisson(settings.star_density * square_arcmin))
    n = n_galaxies + n_stars
    is_star = np.arange(n) >= n_galaxies

    position = _positions(rng, config, n_galaxies, n)
    ra, dec = deproject(position[:, 0], position[:, 1], area.ra, area.dec)
    magnitude = np.concatenate(
        [
            _magnitudes(
                rng.random(n_galaxies),
                settings.counts_slope,
                (settings.bright_magnitude, settings.faint_magnitude),
            ),
            _magnitudes(
                rng.random(n_stars),
                settings.star_counts_slope,
                (settings.star_bright_magnitude, settings.faint_magnitude),
            ),
        ]
    )
    hlr = settings.hlr_arcsec * np.exp(
        settings.hlr_slope * (settings.hlr_magnitude - magnitude)
        + settings.hlr_scatter * rng.standard_normal(n)
    )
    hlr = np.clip(hlr, settings.hlr_min_arcsec, settings.hlr_max_arcsec)
    e1, e2 = _ellipticities(rng, settings, n)
    g1, g2 = reduced_shear(config.shear, ra, dec, area)
    return Sources(
        ra=ra,
        dec=dec,
        is_star=is_star,
        flux_ujy=10 ** (0.4 * (AB_ZERO_POINT_UJY - magnitude)),
        hlr_arcsec=np.where(is_star, 0.0, hlr),
        e1=np.where(is_star, 0.0, e1),
        e2=np.where(is_star, 0.0, e2),
        g1=np.where(is_star, 0.0, g1),
        g2=np.where(is_star, 0.0, g2),
    )


def _positions(
    rng: np.random.Generator, config: MockSurveyConfig, n_galaxies: int, n: int
) -> Array:
    """Tangent-plane positions (n, 2) in degrees: uniform, with a share of close pairs."""
    half = area_corners(config.area)[2]
    position = half * rng.uniform(-1, 1, size=(n, 2))
    settings = config.population
    n_pairs = min(int(settings.close_pair_fraction * n_galaxies / 2), n_galaxies // 2)
    low, high = settings.pair_separation_arcsec
    separation = rng.uniform(low, high, n_pairs) / 3600
    angle = rng.uniform(0, 2 * np.pi, n_pairs)
    shift = separation[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    # Neighbours lie towards the centre, so that they stay inside the area.
    inwards = np.where(shift * position[:n_pairs] > 0, -shift, shift)
    position[n_pairs : 2 * n_pairs] = position[:n_pairs] + inwards
    return position


def _magnitudes(uniform: Array, slope: float, limits: tuple[float, float]) -> Array:
    """Magnitudes with d log10 N / dm = slope between the limits (bright, faint)."""
    bright, faint = limits
    reach = 10 ** (slope * (faint - bright)) - 1
    return bright + np.log10(1 + uniform * reach) / slope


def _ellipticities(
    rng: np.random.Generator, settings: PopulationConfig, n: int
) -> tuple[Array, Array]:
    """Two Gaussian components, truncated in |e| by inverting the Rayleigh distribution."""
    uniform, angle = rng.random(n), rng.uniform(0, 2 * np.pi, n)
    if settings.ellipticity_sigma == 0:
        return np.zeros(n), np.zeros(n)
    largest = -np.expm1(-0.5 * (settings.ellipticity_max / settings.ellipticity_sigma) ** 2)
    size = settings.ellipticity_sigma * np.sqrt(-2 * np.log1p(-uniform * largest))
    size = -size if settings.turned else size
    return size * np.cos(angle), size * np.sin(angle)
