"""The shears of a block's images."""

from __future__ import annotations


def shears(size: float, block: int) -> list[tuple[float, float]]:
    """The reduced shears of a block's images: opposite ones, on one diagonal or the other."""
    other = size if block % 2 == 0 else -size
    return [(size, other), (-size, -other)]
