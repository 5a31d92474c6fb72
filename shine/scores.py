"""What each blend says of the shear, to second order: terms that add up in anything.

The log evidence of a blend around a shear g0 is ln E(g) = ln E(g0) + q.(g - g0) - (g - g0).R.(g -
g0) / 2, so that galaxies that share a shear, binned in whatever way, have

    g = g0 + (sum R)^-1 sum q,     covariance (sum R)^-1

(Bernstein & Armstrong 2014, MNRAS 438, 1880, section 2). One blend's R need not be positive
definite (of a known |e| > 0.58 it is not): sum first, then divide. What lies beyond the second
order biases g by a share of some 1.3 |g - g0|^2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from shine.evidence import Evidence, Floats, Integers
from shine.population import ShapeSamples


@dataclass(frozen=True)
class ShapeScores:
    """Gradient and minus the Hessian of the log evidence of each of b blends at a shear."""

    blend: Integers  # (b,) as in the samples, sorted
    members: Integers  # (b,) galaxies in it
    gradient: Floats  # (b, 2) q
    response: Floats  # (b, 2, 2) R

    def shear(self) -> tuple[Floats, Floats]:
        """The shear (2,) that all share, from the expansion's own, and its covariance (2, 2)."""
        covariance = np.linalg.inv(self.response.sum(axis=0))
        return covariance @ self.gradient.sum(axis=0), covariance


def shape_scores(
    samples: ShapeSamples, ellipticity_sigma: float, shear: ArrayLike = (0.0, 0.0)
) -> ShapeScores:
    """Expand the log evidences around a shear: (2,) for all blends, or (b, 2), sorted by blend.

    `ellipticity_sigma` is the dispersion of each component of the intrinsic ellipticity. Members
    of a blend share one shear, and the finite number of samples is corrected for as in
    `infer_shear`.
    """
    blend, number, members = np.unique(samples.blend, return_inverse=True, return_counts=True)
    evidence = Evidence(samples.shape, samples.log_weight, number)
    at = np.broadcast_to(np.asarray(shear, float), (len(blend), 2))
    gradient, response = evidence.scores(at, np.full(len(blend), ellipticity_sigma))
    return ShapeScores(blend, members, gradient, response)
