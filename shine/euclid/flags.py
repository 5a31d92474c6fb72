"""Bits of the VIS flag map (extensions `r-c.Q.FLG`), from the Euclid data product description."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from shine.errors import MeaningfulFlag


class VisFlag(MeaningfulFlag):
    """What the VIS pipeline knows about a pixel; `meaning` is the one-line explanation."""

    INVALID = 1 << 0, "unusable: the pipeline's union of the defects"
    HOT = 1 << 1, "hot pixel: excess dark current"
    COLD = 1 << 2, "cold pixel: low response"
    SAT = 1 << 3, "saturated"
    COSMIC = 1 << 4, "hit by a cosmic ray"
    GHOST = 1 << 5, "ghost of a bright star (dichroic reflection)"
    QUADEDGE = 1 << 6, "at the quadrant's edge"
    BAD_COLUMN = 1 << 7, "bad column"
    BAD_CLUSTER = 1 << 8, "cluster of bad pixels"
    CR_REGION = 1 << 9, "around a cosmic ray"
    OVRCOL = 1 << 12, "overscan column"
    EXTOBJ = 1 << 13, "part of an extended object"
    SCATLIGHT = 1 << 14, "scattered light"
    CHARINJ = 1 << 15, "charge injection line"
    SATXTALKGHOST = 1 << 17, "cross-talk ghost of a saturated pixel"
    STARSIGNAL = 1 << 18, "light of a bright star"
    SATURATEDSTAR = 1 << 19, "part of a saturated star"
    CTICORRECTION = 1 << 20, "corrected for charge transfer inefficiency"
    ADCMAX = 1 << 21, "at the converter's maximum"
    NO_DATA = 1 << 22, "no data"
    STITCHBLOCK = 1 << 23, "at a detector stitching boundary"
    OBJECTS = 1 << 24, "part of a detected object"


# INVALID should contain all the others; they are listed so that a frame in which it does not
# is masked all the same.
BAD_PIXELS = (
    VisFlag.INVALID
    | VisFlag.HOT
    | VisFlag.COLD
    | VisFlag.SAT
    | VisFlag.COSMIC
    | VisFlag.GHOST
    | VisFlag.BAD_COLUMN
    | VisFlag.BAD_CLUSTER
    | VisFlag.CR_REGION
    | VisFlag.OVRCOL
    | VisFlag.CHARINJ
    | VisFlag.SATXTALKGHOST
    | VisFlag.ADCMAX
    | VisFlag.NO_DATA
)


def has_any(flags: NDArray[np.integer], bits: int) -> NDArray[np.bool_]:
    """Which elements of a flag map (of any integer type) have one of the bits."""
    return (flags & flags.dtype.type(int(bits) & np.iinfo(flags.dtype).max)) != 0
