"""Names of all files of a run: what the rules of the workflow connect."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from constellation.config import PipelineConfig, load_config
from constellation.plan import Plan, SubTile
from constellation.survey_files import (
    list_catalogues,
    list_exposure_files,
    match_catalogues,
    pick_catalogues,
)
from shine.errors import ConfigurationError


@dataclass(frozen=True)
class SurveyFiles:
    """The files that a run reads (or, with a mock survey, writes first)."""

    exposures: list[Path]
    catalogues: dict[int, Path]
    truth: Path | None


@dataclass(frozen=True)
class Run:
    """One run of the pipeline: its configuration, its plan, and where things are."""

    config: PipelineConfig

    @classmethod
    def from_config(cls, source: Path | str | Mapping[str, Any]) -> Run:
        """Check the configuration; raises `ConfigurationError`."""
        return cls(load_config(source))

    @cached_property
    def plan(self) -> Plan:
        """The planned sub-tiles; raises `InputError` if the tile list is bad."""
        return Plan.from_config(self.config.tiling)

    @property
    def results(self) -> Path:
        """Folder of everything that is derived."""
        return self.config.output.results

    @property
    def jax_cache(self) -> Path:
        """Folder of compiled programs."""
        return self.config.compute.jax_cache or self.results / "jax_cache"

    @cached_property
    def survey(self) -> SurveyFiles:
        """The survey's files: those that the mock survey will write, or those in the folder."""
        data = self.config.data
        if data.mock_survey is None:
            return SurveyFiles(
                list_exposure_files(data.survey),
                match_catalogues(list_catalogues(data.survey)),
                data.truth,
            )
        from constellation.mock_survey.config import load_mock_config
        from constellation.mock_survey.errors import MockSurveyError
        from constellation.mock_survey.layout import expected_files

        try:
            files = expected_files(load_mock_config(data.mock_survey), data.survey)
        except MockSurveyError as error:  # the simulator knows nothing of shine's errors
            raise ConfigurationError(str(error)) from error
        return SurveyFiles(
            [*files.frames, *files.backgrounds, *files.psfs],
            match_catalogues(files.catalogues),
            data.truth or files.truth,
        )

    def catalogues(self, tile_id: int) -> list[Path]:
        """The catalogues that a tile's manifests need; raises `InputError` if one is missing."""
        tiles = self.plan.catalogue_tiles(tile_id)
        return pick_catalogues(self.survey.catalogues, tiles, self.config.data.survey)

    def subtile(self, subtile: SubTile, suffix: str) -> str:
        """A result file of a sub-tile, such as suffix `.parquet`."""
        return str(self.results / "subtiles" / str(subtile.tile_id) / f"{subtile.stem}{suffix}")

    def subtile_pattern(self, suffix: str) -> str:
        """The same with wildcards tile, row and col."""
        return str(self.results / "subtiles" / "{tile}" / f"{{tile}}_{{row}}_{{col}}{suffix}")

    def subtiles(self, suffix: str, tile_id: int | None = None) -> list[str]:
        """Such a file of every planned sub-tile (of one tile)."""
        planned = self.plan.subtiles if tile_id is None else self.plan.by_tile[tile_id]
        return [self.subtile(subtile, suffix) for subtile in planned]
