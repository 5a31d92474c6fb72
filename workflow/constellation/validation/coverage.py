"""Whether the intervals hold the truth as often as they say, and whether ranks are even."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chisquare, norm

from constellation.validation.records import Block

LEVELS = {"68": 1.0, "95": 2.0}  # of Gaussian errors
BINS = 10
FINEST = 5e-5  # ranks are rounded to twice that


class Covered(NamedTuple):
    """How often intervals hold the truth, with the binomial error of what they promise."""

    level: str
    promised: float
    found: float
    error: float
    n: int


def covered(blocks: list[Block], method: str) -> list[Covered]:
    """The coverage of both components' intervals over blocks with independent scenes."""
    pulls = []
    for block in blocks:
        for answer in block.answers:
            if answer.method == method:
                variance = np.array([answer.covariance[0], answer.covariance[2]])
                away = np.array(answer.shear) - np.array(answer.true_shear)
                pulls.append(away / np.sqrt(variance))
    inside = np.abs(np.array(pulls))
    found = []
    for level, limit in LEVELS.items():
        promised = float(2.0 * norm.cdf(limit) - 1.0)
        error = float(np.sqrt(promised * (1.0 - promised) / inside.size))
        found.append(Covered(level, promised, float((inside < limit).mean()), error, inside.size))
    return found


class Ranks(NamedTuple):
    """The ranks of n truths in their posteriors, and what calibration makes 0 and 1 of them.

    Ranks are uniform if posteriors have the shape they are taken for. The mean and the variance of
    their Gaussian deviates are 0 and 1 for calibrated means and errors of posteriors of any shape,
    wherever the ranks are those of Gaussians: of flux and size, whose posteriors are skew.
    """

    counts: NDArray[np.int64]  # (BINS,)
    chance: float  # of a histogram as uneven
    mean: float
    mean_err: float
    variance: float
    variance_err: float


def rank_tests(blocks: list[Block]) -> dict[str, Ranks]:
    """The ranks in all blocks, by parameter."""
    found = {}
    for name in sorted({name for block in blocks for name in block.ranks}):
        ranks = np.concatenate([block.ranks[name] for block in blocks])
        counts = np.histogram(ranks, BINS, (0.0, 1.0))[0]
        deviate = norm.ppf(np.clip(ranks, FINEST, 1.0 - FINEST))
        mean, variance, n = float(deviate.mean()), float(deviate.var()), len(ranks)
        chance = float(chisquare(counts).pvalue)
        found[name] = Ranks(counts, chance, mean, n**-0.5, variance, float(np.sqrt(2.0 / n)))
    return found
