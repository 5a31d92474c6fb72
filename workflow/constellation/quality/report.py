"""All checks of a catalogue, and the gate that lets it pass or not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from constellation.catalogue.published import PublishedCatalogue
from constellation.plan import Plan
from constellation.quality.catalogue_checks import CatalogueChecks
from constellation.quality.check import Check
from constellation.quality.settings import QualityConfig
from constellation.quality.sources import Truth
from constellation.quality.statistics import ShearStatistics
from constellation.summary import TRUTH_SCHEMA
from constellation.tables import read_table
from shine.errors import InputError


@dataclass(frozen=True)
class Quality:
    """What the checks say, and what they were made with."""

    checks: list[Check]
    catalogue: CatalogueChecks
    shear: ShearStatistics


def check_catalogue(
    folder: Path, plan: Plan, settings: QualityConfig, truth: Path | None = None
) -> Quality:
    """Make all checks of a published catalogue; `truth` is a table with OBJECT_ID, G1, G2.

    A check that fails is no error. Raises `InputError` for tables that cannot be read.
    """
    known = None
    if truth is not None:
        known = Truth.of(read_table(truth, TRUTH_SCHEMA, "Check data.truth."))
    catalogue = CatalogueChecks(PublishedCatalogue(folder), plan, settings, known)
    shear = ShearStatistics(catalogue.subtiles, catalogue.true_shear, settings)
    return Quality([*catalogue.checks(), *shear.checks(plan.tiles)], catalogue, shear)


def refuse(checks: Sequence[Check], stop_on: Sequence[str], where: Path) -> None:
    """Raise `InputError` with a line for each failed check that is to stop the workflow."""
    stopping = [c for c in checks if c.outcome == "failed" and c.name in stop_on]
    if stopping:
        lines = "".join(f"\n  {check.line()}" for check in stopping)
        raise InputError(
            f"{where}: found {len(stopping)} failed quality checks, expected none of those in "
            f"quality.stop_on to fail. Look at the catalogue (docs/quality.md); it is kept.{lines}"
        )
