"""Bits of the VIS flag maps that the mock survey sets (Euclid data product description)."""

from __future__ import annotations

from enum import IntFlag


class Flag(IntFlag):
    """Defects carry INVALID too; the others describe good pixels."""

    INVALID = 1 << 0
    HOT = 1 << 1
    COLD = 1 << 2
    SAT = 1 << 3
    COSMIC = 1 << 4
    QUADEDGE = 1 << 6
    BAD_COLUMN = 1 << 7
    BAD_CLUSTER = 1 << 8
    STARSIGNAL = 1 << 18
    SATURATEDSTAR = 1 << 19
    NO_DATA = 1 << 22
    OBJECTS = 1 << 24
