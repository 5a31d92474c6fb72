"""A full scene: one field of the mock survey, seen by a quadrant in each of a few exposures.

A block's surveys differ in the sign of the shear and in whether the galaxies are turned by 90
degrees; positions, stars, noise, sky and defects are the same in all.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from constellation.mock_survey.catalogue import build_catalogue
from constellation.mock_survey.config import Area, Exposure, MockSurveyConfig
from constellation.mock_survey.focal_plane import QuadrantFrame, overlapping_frames, quadrant_frames
from constellation.mock_survey.lensing_config import ConstantShear
from constellation.mock_survey.population import Sources, draw_population
from constellation.mock_survey.sky import project

from .scene import LARGEST_ELLIPTICITY, QUADRANT, TILE
from .settings import FieldSettings


@dataclass(frozen=True)
class FieldScene:
    """The galaxies and stars of one block; `seed` and `block` decide everything random."""

    settings: FieldSettings
    seed: int
    block: int

    def survey(self, shear: tuple[float, float], turned: bool) -> MockSurveyConfig:
        """The settings of the mock survey of one member of the block."""
        return self._config(shear, turned, self._exposures)

    @cached_property
    def reference(self) -> MockSurveyConfig:
        """The survey without shear, whose catalogue is that of all members."""
        return self.survey((0.0, 0.0), turned=False)

    @cached_property
    def frames(self) -> list[QuadrantFrame]:
        """One quadrant of each exposure."""
        return overlapping_frames(self.reference)

    @cached_property
    def listable(self) -> Sources:
        """The sources that the catalogue is made of, unsheared."""
        return draw_population(self.reference)

    def shining(self, survey: MockSurveyConfig) -> Sources:
        """The sources of one member's survey, as they are drawn.

        Sources without light keep their places, so that all others keep their random numbers.
        """
        sources = draw_population(survey)
        return replace(sources, flux_ujy=np.where(self._dark, 0.0, sources.flux_ujy))

    @cached_property
    def _dark(self) -> np.ndarray:
        """Which sources give no light (n,)."""
        dark = np.zeros(len(self.listable.flux_ujy), bool)
        if self.settings.dark:
            _, _, listed = build_catalogue(self.reference, self.listable, self.frames)
            whole = self.reference.catalogue.model_copy(update={"deblend_arcsec": 0.0})
            apart = self.reference.model_copy(update={"catalogue": whole})
            _, _, bright = build_catalogue(apart, self.listable, self.frames)
            kinds = {"faint": ~bright, "hidden": bright & ~listed}
            for kind in self.settings.dark:
                dark |= kinds[kind]
        return dark

    def in_core(self, ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
        """Which positions (n,) lie far enough from the field's edge."""
        xi, eta = project(ra, dec, TILE.ra, TILE.dec)
        half = self.settings.width_arcmin / 120 - self.settings.core_margin_arcsec / 3600
        return (np.abs(xi) < half) & (np.abs(eta) < half)

    @cached_property
    def _exposures(self) -> tuple[Exposure, ...]:
        """Pointings that put the quadrant on the field, but for the dithers."""
        found = []
        rolls = self.settings.rolls_deg
        for roll, dither in zip(rolls, self.settings.dithers_arcsec, strict=True):
            config = self._config((0.0, 0.0), False, (Exposure(roll_deg=roll),))
            [frame] = [f for f in quadrant_frames(config, 0) if f.name == QUADRANT]
            rows, columns = frame.shape
            xi, eta = project(*frame.to_sky((columns - 1) / 2, (rows - 1) / 2), TILE.ra, TILE.dec)
            found.append(
                Exposure(
                    roll_deg=roll,
                    offset_east_arcsec=float(-3600 * xi) - dither,
                    offset_north_arcsec=float(-3600 * eta) + dither,
                )
            )
        return tuple(found)

    def _config(self, shear, turned, exposures) -> MockSurveyConfig:
        width = self.settings.width_arcmin
        population = {"ellipticity_max": LARGEST_ELLIPTICITY, **self.settings.population}
        return MockSurveyConfig(
            seed=int(np.random.SeedSequence((self.seed, self.block)).generate_state(1)[0]),
            tiles=(TILE,),
            area=Area(ra=TILE.ra, dec=TILE.dec, width_arcmin=width, height_arcmin=width),
            exposures=exposures,
            shear=ConstantShear(type="constant", g1=shear[0], g2=shear[1]),
            detector={**self.settings.detector, "quadrants": (QUADRANT,), "noise": "gaussian"},
            psf=self.settings.psf,
            population={**population, "turned": turned},
        )
