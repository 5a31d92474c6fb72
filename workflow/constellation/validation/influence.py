"""How much each galaxy moves the shear of a result: what bootstrap errors over galaxies rest on.

The posterior's mode x = (g1, g2, log sigma) solves sum_i s_i(x) = 0 with the scores s_i of the
blends' evidences (and the prior's, which counts once). If blend i counted w_i times, the mode would
move by sum_i (w_i - 1) H^-1 s_i to first order, H being minus the Hessian: the influences
H^-1 s_i (Hampel 1974), from which a bootstrap needs no second inference.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from shine.evidence import Evidence
from shine.population import ShapePrior
from shine.reinference import shape_samples

Floats = NDArray[np.float64]

STEP = np.array([3e-3, 3e-3, 2e-2])  # of finite differences, by g1, g2 and log sigma


@dataclass(frozen=True)
class Influences:
    """Of each galaxy that has samples, on the shear of all."""

    object_id: NDArray[np.int64]  # (n,)
    shear: Floats  # (n, 2)


def influences(sources: pa.Table, shear: Floats, prior: ShapePrior) -> Influences:
    """The influences of a source file's galaxies on the `shear` that was inferred from them.

    `prior.ellipticity_sigma` is the dispersion at the mode; where `prior.infer_sigma`, it answers
    too. No galaxies of one blend may be among them.
    """
    table = sources.filter(pa.compute.is_valid(sources["SAMPLE_LOG_WEIGHT"]))
    samples = shape_samples(table)
    free = 3 if prior.infer_sigma else 2
    here = np.array([*shear, np.log(prior.ellipticity_sigma)])

    alone = np.arange(len(samples.shape))
    known = Evidence(samples.shape, samples.log_weight, alone)

    def evidence(x: Floats) -> Floats:
        log_total, correction = known.terms(
            np.tile(x[:2], (len(alone), 1)), np.full(len(alone), np.exp(x[2]))
        )
        return log_total + correction

    unit = np.diag(STEP)[:free]
    up = np.stack([evidence(here + step) for step in unit])
    down = np.stack([evidence(here - step) for step in unit])
    score = (up - down) / (2.0 * STEP[:free, None])
    middle = evidence(here)
    hessian = np.diag((up + down - 2.0 * middle).sum(axis=1) / STEP[:free] ** 2)
    for i in range(free):
        for j in range(i):
            # central: one-sided ones would have every unit's answer in log sigma move the shear
            mixed = evidence(here + unit[i] + unit[j]) + evidence(here - unit[i] - unit[j])
            mixed -= evidence(here + unit[i] - unit[j]) + evidence(here - unit[i] + unit[j])
            hessian[i, j] = hessian[j, i] = mixed.sum() / (4.0 * STEP[i] * STEP[j])
    moved = np.linalg.solve(-hessian, score)
    return Influences(table["OBJECT_ID"].to_numpy(), moved[:2].T)
