"""Independent random streams, one for each purpose and each piece of the survey.

A stream depends on the survey's seed and on what it is for, never on the order of the work.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Stream(IntEnum):
    """What a random stream is used for."""

    POPULATION = 1
    CATALOGUE = 2
    SPURIOUS = 3
    SKY = 4
    PIXEL_NOISE = 5
    COSMIC_RAYS = 6
    BAD_PIXELS = 7


def generator(seed: int, stream: Stream, *indices: int) -> np.random.Generator:
    """Random generator of one stream, e.g. of the pixel noise of (exposure, quadrant)."""
    return np.random.default_rng(
        np.random.SeedSequence(entropy=seed, spawn_key=(int(stream), *indices))
    )
