"""The section `quality` of the configuration: thresholds, and which failures stop the workflow."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat

from shine.config import Strict

CheckName = Literal[
    "files",
    "planned",
    "duplicate_subtiles",
    "duplicate_sources",
    "nulls",
    "ranges",
    "positions",
    "source_counts",
    "failures",
    "convergence",
    "poor_fits",
    "source_density",
    "shear_outliers",
    "mean_shear_1",
    "mean_shear_2",
    "tangential_shear",
    "cross_shear",
    "leakage",
    "leakage_1",
    "leakage_2",
    "pull_mean_1",
    "pull_mean_2",
    "pull_rms",
]
Fraction = Annotated[float, Field(ge=0, le=1)]

# What a right catalogue cannot fail, whatever the sky: it is corrupt if it does. The others fail by
# what sky, telescope or chance bring about, and a person must look.
CORRUPT: tuple[CheckName, ...] = (
    "files",
    "planned",
    "duplicate_subtiles",
    "duplicate_sources",
    "nulls",
    "ranges",
    "positions",
    "source_counts",
)


class QualityConfig(Strict):
    """What the catalogue must be like; a change costs the checks alone."""

    stop_on: tuple[CheckName, ...] = Field(
        CORRUPT, description="checks whose failure fails the workflow; the others only warn"
    )
    false_alarm: Annotated[float, Field(gt=0, lt=0.5)] = Field(
        0.001,
        description="probability that a statistical check fails by chance where nothing is wrong, "
        "all its trials together",
    )
    min_converged: Fraction = Field(
        0.95, description="least part of the sub-tiles with something to infer that converge"
    )
    max_failures: Fraction = Field(
        0.01, description="largest part of the planned sub-tiles without a result"
    )
    max_poor_fits: Fraction = Field(
        0.05, description="largest part of the galaxies that are flagged POOR_FIT"
    )
    density_scatter: NonNegativeFloat = Field(
        0.3,
        description="relative scatter of the density of galaxies between sub-tiles that clustering "
        "and depth may cause, on top of Poisson noise",
    )
    mean_shear: NonNegativeFloat = Field(
        1e-4, description="mean, tangential and cross shear so large are tolerated"
    )
    leakage: NonNegativeFloat = Field(
        0.01, description="a slope of shear against PSF ellipticity so large is tolerated"
    )
    pull_rms: NonNegativeFloat = Field(
        0.05, description="errors wrong by so large a part are tolerated"
    )
