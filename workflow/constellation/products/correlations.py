"""Two-point functions by TreeCorr (Jarvis, Bernstein & Jain 2004, MNRAS 352, 338).

Each blend enters with the shear q / R of its scores (`scores`) and the weight R, so that the mean
of a bin is sum q q / sum R R: single shears never stand alone. Blends count at the middle of their
members. TreeCorr's frame on the sky is the catalogue's own, west and north.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from constellation.products.reading import Galaxies
from constellation.products.saving import described_table
from constellation.products.scores import BlendScores, blend_scores
from constellation.sphere import Floats
from shine.errors import ConfigurationError, InputError, explain

_SLOP = 0.03
_LEAST_RADIUS, _MOST_RADIUS = 3.0, 0.25

_DESCRIPTIONS = {
    "THETA_MIN": ("arcmin", "least separation"),
    "THETA_MAX": ("arcmin", "greatest separation"),
    "THETA": ("arcmin", "mean separation of the pairs"),
    "XI_PLUS": ("", "correlation function xi+"),
    "XI_MINUS": ("", "correlation function xi-"),
    "XI_CROSS": ("", "imaginary part of xi-: zero by symmetry"),
    "XI_PLUS_ERR": ("", "standard deviation of XI_PLUS"),
    "XI_MINUS_ERR": ("", "standard deviation of XI_MINUS"),
    "MAP_SQ": (
        "",
        "aperture mass dispersion of the bin's middle as radius (Crittenden et al. 2002): E modes; "
        "null where separations that it needs are beyond the bins",
    ),
    "MX_SQ": ("", "its B modes: zero by lensing"),
    "MAP_SQ_ERR": ("", "standard deviation of each, by shapes and noise"),
    "G_T": ("", "mean tangential shear: positive around masses"),
    "G_X": ("", "mean cross shear: zero by lensing"),
    "G_ERR": ("", "standard deviation of each"),
    "N_PAIRS": ("", "pairs"),
}


@dataclass(frozen=True)
class Separations:
    """Logarithmic bins of separation in arcmin; `n_patches` for errors by jackknife, or 0."""

    least: float
    most: float
    n_bins: int
    n_patches: int = 0

    @property
    def _settings(self) -> dict[str, object]:
        settings = {"min_sep": self.least, "max_sep": self.most, "nbins": self.n_bins}
        jackknife = {"var_method": "jackknife", "cross_patch_weight": "match"}
        errors = jackknife if self.n_patches else {}
        # of the width of bins, and of angles: finer than TreeCorr's own choice for wide bins
        width = np.log(self.most / self.least) / self.n_bins
        slop = {"bin_slop": min(1.0, _SLOP / width), "angle_slop": _SLOP}
        return settings | {"sep_units": "arcmin", "metric": "Arc"} | slop | errors

    def correlation(self, kind: str):
        """TreeCorr's correlation of a kind such as GG."""
        return getattr(_treecorr(), f"{kind}Correlation")(**self._settings)


def shear_shear(galaxies: Galaxies, bins: Separations, ellipticity_sigma: float) -> pa.Table:
    """xi+ and xi- of all galaxies, and the aperture mass; bins without a pair are absent.

    The errors are of shapes and noise, or by jackknife with that of the sample. Raises
    `ConfigurationError` without TreeCorr.
    """
    field = _field(galaxies, ellipticity_sigma, bins)
    gg = bins.correlation("GG")
    gg.process(field)
    map_sq, _, mx_sq, _, variance = gg.calculateMapSq(R=gg.rnom)
    # it is an integral over separations from 0 to infinity, of which most must be there
    partial = (gg.rnom < _LEAST_RADIUS * bins.least) | (gg.rnom > _MOST_RADIUS * bins.most)
    values = {
        "XI_PLUS": gg.xip,
        "XI_MINUS": gg.xim,
        "XI_CROSS": gg.xim_im,
        "XI_PLUS_ERR": np.sqrt(gg.varxip),
        "XI_MINUS_ERR": np.sqrt(gg.varxim),
        "MAP_SQ": np.ma.array(map_sq, mask=partial),
        "MX_SQ": np.ma.array(mx_sq, mask=partial),
        "MAP_SQ_ERR": np.ma.array(np.sqrt(variance), mask=partial),
    }
    return _table(gg, values, bins)


def position_shear(
    galaxies: Galaxies, positions: tuple[Floats, Floats], bins: Separations, sigma: float
) -> pa.Table:
    """Mean tangential shear around positions: RA and Dec (p,) in degrees; as `shear_shear`.

    For weak shears and any number of positions; `tangential_profile` is for strong ones.
    """
    field = _field(galaxies, sigma, bins)
    patches = {"patch_centers": field.patch_centers} if bins.n_patches else {}
    around = _treecorr().Catalog(
        ra=positions[0], dec=positions[1], ra_units="deg", dec_units="deg", **patches
    )
    ng = bins.correlation("NG")
    ng.process(around, field)
    values = {"G_T": ng.xi, "G_X": ng.xi_im, "G_ERR": np.sqrt(ng.varxi)}
    return _table(ng, values, bins)


def _table(found, values: dict[str, Floats], bins: Separations) -> pa.Table:
    held = found.npairs > 0
    if not held.any():
        where = f"separations of {bins.least:g} to {bins.most:g} arcmin"
        raise InputError(explain(where, "no pair", "some", "Choose others."))
    places = {
        "THETA_MIN": found.left_edges,
        "THETA_MAX": found.right_edges,
        "THETA": found.meanr,
    }
    columns = places | values | {"N_PAIRS": found.npairs}
    errors = f"jackknife of {bins.n_patches} patches" if bins.n_patches else "shapes and noise"
    return described_table(
        {name: x[held] for name, x in columns.items()},
        _DESCRIPTIONS,
        {"errors": errors},
    )


def _field(galaxies: Galaxies, ellipticity_sigma: float, bins: Separations):
    """TreeCorr's catalogue of all blends."""
    treecorr = _treecorr()
    parts = [
        blend_scores(table, ellipticity_sigma) for table in galaxies.by_file() if table.num_rows
    ]
    if not parts:
        action = "Infer it with inference.method: marginal."
        where = galaxies.catalogue.folder
        raise InputError(explain(where, "no galaxy with samples", "at least one", action))
    scores = BlendScores(
        *(np.concatenate([getattr(part, name) for part in parts]) for name in _NAMES)
    )
    shear = scores.gradient / scores.response
    patches = {"npatch": bins.n_patches, "rng": np.random.default_rng(0)} if bins.n_patches else {}
    return treecorr.Catalog(
        ra=scores.ra,
        dec=scores.dec,
        ra_units="deg",
        dec_units="deg",
        g1=shear.real,
        g2=shear.imag,
        w=scores.response,
        wpos=np.ones(len(shear)),  # a response may be negative
        **patches,
    )


_NAMES = ("ra", "dec", "members", "gradient", "response")


def _treecorr():
    try:
        import treecorr
    except ModuleNotFoundError as error:
        action = 'Install the extra: pip install "shine-constellation[correlations]".'
        raise ConfigurationError(
            explain("two-point functions", "no module treecorr", "TreeCorr", action)
        ) from error
    return treecorr
