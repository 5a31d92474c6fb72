"""All checks of a catalogue."""

from __future__ import annotations

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
