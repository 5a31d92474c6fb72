"""One block of a case: images drawn, run through shine from files to files, and what it answered.

The images are deleted; the same seed draws them again.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from constellation.validation.campaign import Campaign, Case
from constellation.validation.fields import run_field
from constellation.validation.grids import run_coverage, run_grid
from constellation.validation.reals import run_real
from constellation.validation.records import Block


def run_block(campaign: Campaign, case: Case, block: int, scratch: Path) -> Block:
    """Draw and measure one block; everything is made below `scratch`, and removed."""
    run = run_grid
    if case.field is not None:
        run = run_field
    elif case.coverage is not None:
        run = run_coverage
    elif case.scene.galaxies.profile == "real":
        run = run_real
    with tempfile.TemporaryDirectory(prefix="validation-", dir=scratch) as folder:
        # a manifest counts paths from its own folder
        return run(campaign, case, block, Path(folder).resolve())
