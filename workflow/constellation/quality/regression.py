"""Linear models of the shear of many sub-tiles, with errors from how the sub-tiles scatter.

The errors of the shear hold shape noise and pixel noise alone. Sub-tiles scatter more: the lensing
of the large-scale structure differs from one to the next. So the weights take in a scatter that the
residuals ask for (DerSimonian & Laird 1986, in its multivariate form), and the errors of the
coefficients are scaled to the residuals (Hartung & Knapp 2001), with Student's distribution. With
enough tiles, whose sub-tiles share structure and PSFs, the tiles' own scatter takes their place
(the sandwich of Liang & Zeger 1986).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]

LEAST_TILES = 50  # below, their scatter is too uncertain
_LEAST_DOF = 2
_SINGULAR = 1e-4  # of the normalised columns: below, the data do not tell the coefficients apart


@dataclass(frozen=True)
class ShearData:
    """The shear of n sub-tiles: (n, 2), its covariance (n, 2, 2), and the tile of each (n,)."""

    shear: Floats
    covariance: Floats
    tile: NDArray[np.int64]

    def select(self, chosen: NDArray[np.bool_]) -> ShearData:
        """Some of the sub-tiles."""
        return ShearData(self.shear[chosen], self.covariance[chosen], self.tile[chosen])

    def __len__(self) -> int:
        return len(self.shear)


@dataclass(frozen=True)
class Fit:
    """Coefficients (p,) and their covariance (p, p), with the degrees of freedom of their errors.

    `scatter` is the standard deviation per component that the sub-tiles have beyond their errors.
    """

    values: Floats
    covariance: Floats
    dof: int
    scatter: float
    by_tile: bool

    def value(self, k: int) -> float:
        """A coefficient."""
        return float(self.values[k])

    def error(self, k: int) -> float:
        """Its standard deviation."""
        return float(np.sqrt(self.covariance[k, k]))

    def reach(self, false_alarm: float) -> float:
        """Errors that a coefficient of zero exceeds, to either side, with this probability."""
        return float(stats.t.isf(false_alarm / 2.0, self.dof))


def fit_shear(data: ShearData, design: Floats) -> Fit | str:
    """Fit shear = design @ coefficients, design (n, 2, p); a string says why it cannot be done."""
    n, p = len(data), design.shape[-1]
    dof = 2 * n - p
    if dof < _LEAST_DOF:
        return f"{n} sub-tiles with shear are too few"
    if _is_degenerate(design, data.covariance):
        return "the sub-tiles do not tell it apart from a mean shear"
    tau2 = _excess_variance(data, design)
    weights = np.linalg.inv(data.covariance + tau2 * np.eye(2))
    values, inverse, residual = _solve(data, design, weights)
    tiles, member = np.unique(data.tile, return_inverse=True)
    by_tile = len(tiles) >= LEAST_TILES
    if by_tile:
        score = np.zeros((len(tiles), p))
        np.add.at(score, member, np.einsum("nip,nij,nj->np", design, weights, residual))
        correction = len(tiles) / (len(tiles) - 1) * (2 * n - 1) / dof
        covariance = correction * inverse @ (score.T @ score) @ inverse
        dof = len(tiles) - 1
    else:
        scale = np.einsum("ni,nij,nj->", residual, weights, residual) / dof
        covariance = scale * inverse
    return Fit(values, covariance, dof, float(np.sqrt(tau2)), by_tile)


def _solve(data: ShearData, design: Floats, weights: Floats) -> tuple[Floats, Floats, Floats]:
    """Coefficients, the inverse of their normal matrix, and the residuals (n, 2)."""
    weighted = weights @ design
    inverse = np.linalg.inv(np.einsum("nip,niq->pq", design, weighted))
    values = inverse @ np.einsum("nip,ni->p", weighted, data.shear)
    return values, inverse, data.shear - design @ values


def _excess_variance(data: ShearData, design: Floats) -> float:
    """Variance per component beyond the errors, by moments; never negative."""
    weights = np.linalg.inv(data.covariance)
    _, inverse, residual = _solve(data, design, weights)
    excess = np.einsum("ni,nij,nj->", residual, weights, residual) - (residual.size - len(inverse))
    weighted = weights @ design
    lost = np.trace(inverse @ np.einsum("nip,niq->pq", weighted, weighted))
    return max(0.0, float(excess / (np.trace(weights, axis1=1, axis2=2).sum() - lost)))


def _is_degenerate(design: Floats, covariance: Floats) -> bool:
    white = np.linalg.solve(np.linalg.cholesky(covariance), design).reshape(-1, design.shape[-1])
    length = np.linalg.norm(white, axis=0)
    if not (length > 0.0).all():
        return True
    size = np.linalg.svd(white / length, compute_uv=False)
    return bool(size[-1] < _SINGULAR * size[0])
