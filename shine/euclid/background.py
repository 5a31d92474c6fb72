"""The background level of a quadrant from its own pixels, where no background frame is to be used.

A level per quadrant ignores gradients and counts the light of undetected sources as sky: the
archive's background frames are better wherever there are some.
"""

from __future__ import annotations

import logging
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from shine.errors import InputError, explain
from shine.euclid.flags import VisFlag, has_any

logger = logging.getLogger(__name__)

Background = Literal["file", "median", "constant"]
CLIP_SIGMA = 3.0
MOST_ITERATIONS = 20
FEWEST_PIXELS = 100
# light of sources is no background
LIT = (
    VisFlag.OBJECTS
    | VisFlag.EXTOBJ
    | VisFlag.STARSIGNAL
    | VisFlag.SATURATEDSTAR
    | VisFlag.SCATLIGHT
)


def measure_background(
    method: Background,
    image_adu: NDArray[np.float32],
    weight: NDArray[np.float32],
    flags: NDArray[np.integer],
    where: str,
) -> float:
    """The level of the sky in ADU per pixel, from pixels of positive weight outside of sources.

    `median` is the sigma-clipped median; `constant` the inverse-variance weighted mean, clipped by
    the pixels' own errors. `where` names the science image in the InputError raised if almost no
    pixel is free.
    """
    free = (weight > 0.0) & ~has_any(flags, LIT)
    values = image_adu[free]
    if len(values) < FEWEST_PIXELS:
        found = f"{len(values)} pixels that are neither masked nor of sources"
        action = "Leave the quadrant out, or use inference.background: file."
        raise InputError(explain(where, found, f"at least {FEWEST_PIXELS}", action))
    if method == "median":
        from astropy.stats import sigma_clipped_stats  # half a second, and rarely needed

        level_adu = sigma_clipped_stats(values, sigma=CLIP_SIGMA, stdfunc="mad_std")[1]
    else:
        level_adu = _clipped_mean(values, weight[free])
    logger.info("%s: background %.3f ADU (%s of %d pixels)", where, level_adu, method, len(values))
    return float(level_adu)


def _clipped_mean(values: NDArray[np.float32], weight: NDArray[np.float32]) -> float:
    level = float(np.median(values))
    for _ in range(MOST_ITERATIONS):
        near = (values - level) ** 2 * weight < CLIP_SIGMA**2
        mean = float(np.average(values[near], weights=weight[near])) if near.any() else level
        if mean == level:
            break
        level = mean
    return level
