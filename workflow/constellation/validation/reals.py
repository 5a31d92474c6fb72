"""A block of galaxies that Hubble saw.

A module of its own, so that a change of how these are drawn repeats no others.
"""

from __future__ import annotations

from pathlib import Path

from constellation.validation.campaign import Campaign, Case
from constellation.validation.drawing.real import RealScene
from constellation.validation.grids import run_grid
from constellation.validation.records import Block


def run_real(campaign: Campaign, case: Case, block: int, root: Path) -> Block:
    """The same galaxies under opposite shears, one image each."""
    return run_grid(campaign, case, block, root, RealScene)
