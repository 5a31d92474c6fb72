"""Names of all files of a run: what the rules of the workflow connect."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from constellation.config import PipelineConfig, load_config
from constellation.plan import Plan, SubTile
from constellation.shards import MERGE, Shard
from constellation.survey_files import (
    EXPOSURES,
    MER_PRODUCTS,
    File,
    TileProduct,
    digest_of,
    list_exposure_files,
    list_objects,
    list_tile_files,
    match_tiles,
    pick_tiles,
    together,
)
from shine.errors import ConfigurationError, InputError, explain
from shine.provenance import digest
from shine.s3 import StoredObject

TileFiles = dict[str, dict[int, File]]  # by the names in MER_PRODUCTS, and by tile


@dataclass(frozen=True)
class SurveyFiles:
    """The files on disk that a run reads (or, with a mock survey, writes first).

    A survey in S3 has none but the truth: shine and constellation read its objects themselves, and
    the rules learn of changes by `Run.exposure_digest` and `Run.mer_digest`.
    """

    exposures: list[Path]
    mer: TileFiles
    truth: Path | None

    @property
    def mer_files(self) -> list[File]:
        """All MER files that the configuration asks for."""
        return [path for found in self.mer.values() for path in found.values()]


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
        return Plan.from_config(self.config.tiling, self.shard)

    @property
    def shard(self) -> Shard | None:
        """The part of the survey to run; None for all of it."""
        name = self.config.shard
        return None if name in (None, MERGE) else Shard.parse(name)

    @property
    def merges_only(self) -> bool:
        """Whether nothing is left to do but to merge the tiles."""
        return self.config.shard == MERGE

    @property
    def is_whole(self) -> bool:
        """Whether the survey is run as one: from its files to the merged catalogue."""
        return self.config.shard is None

    @cached_property
    def tiles_digest(self) -> str:
        """Changes with the tile list, of which a job elsewhere has a newer copy."""
        return digest([self.config.tiling.tiles.read_bytes()])

    @property
    def exposures(self) -> str:
        """Which exposures manifests are to name, for the command line."""
        return self.config.data.exposures.model_dump_json(exclude_none=True)

    @cached_property
    def left_out_digest(self) -> str | None:
        """Changes with the list of the exposures that are left out."""
        left_out = self.config.data.exposures.left_out
        if left_out is None:
            return None
        try:
            return digest([left_out.read_bytes()])
        except OSError as error:
            action = "Check data.exposures.left_out."
            raise InputError(
                explain(left_out, error.strerror or str(error), "a list of exposures", action)
            ) from error

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
        """The survey's files: those that the mock survey will write, or those in the folder.

        Those that a run looks at: for a shard none of the exposures, of which it is given the
        index, and for the merge none that would have to be listed.
        """
        data = self.config.data
        if data.mock_survey is None:
            if isinstance(data.survey, str) or self.merges_only:
                return SurveyFiles([], {}, data.truth)
            return SurveyFiles(
                list_exposure_files(data.survey) if self.is_whole else [],
                self._by_tile(list_tile_files(data.survey, self._mer_products)),
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
            self._by_tile(files.all_paths()),
            data.truth or files.truth,
        )

    @property
    def truth(self) -> Path | None:
        """Table of true shears to compare with."""
        return self.survey.truth if self.config.data.mock_survey else self.config.data.truth

    def mer_files(self, tile_id: int) -> dict[str, list[File]]:
        """The MER files that a tile's manifests need, by the names in MER_PRODUCTS.

        Raises `InputError` naming a tile that lacks one.
        """
        if tile_id not in self._mer_of_tile:  # a rule asks for its inputs, then for its options
            tiles = self.plan.catalogue_tiles(tile_id)
            self._mer_of_tile[tile_id] = {
                name: pick_tiles(found, tiles, MER_PRODUCTS[name], self.config.data.survey)
                for name, found in self._mer.items()
            }
        return self._mer_of_tile[tile_id]

    def mer_options(self, tile_id: int) -> list[str]:
        """How `constellation manifests` is told of them."""
        files = self.mer_files(tile_id)
        return [word for name in files for word in (f"--{name}", *map(str, files[name]))]

    def local_mer_files(self, tile_id: int) -> list[File]:
        """Those of them that a rule can have as inputs: none for a survey in S3."""
        if isinstance(self.config.data.survey, str):
            return []
        return [path for paths in self.mer_files(tile_id).values() for path in paths]

    def exposure_digest(self) -> str | None:
        """For a survey in S3: changes with its frames, backgrounds, weights and PSFs."""
        if not isinstance(self.config.data.survey, str):
            return None
        return digest_of(self._exposure_objects.values())

    def mer_digest(self, tile_id: int) -> str | None:
        """For a survey in S3: changes with the MER files that a tile's manifests need."""
        if not isinstance(self.config.data.survey, str):
            return None
        files = self.mer_files(tile_id).values()
        return digest_of(self._mer_objects[uri] for uris in files for uri in uris)

    @property
    def _wanted(self) -> list[str]:
        """The names in MER_PRODUCTS of what manifests shall name."""
        data = self.config.data
        optional = {"morphology": data.morphology, "segmentation": data.segmentation}
        return ["catalogues", *(name for name, on in optional.items() if on)]

    @property
    def _mer_products(self) -> list[TileProduct]:
        return [MER_PRODUCTS[name] for name in self._wanted]

    def _by_tile(self, paths: Iterable[File]) -> TileFiles:
        paths = list(paths)
        return {name: match_tiles(paths, MER_PRODUCTS[name]) for name in self._wanted}

    @cached_property
    def _mer_of_tile(self) -> dict[int, dict[str, list[File]]]:
        return {}

    @cached_property
    def _mer(self) -> TileFiles:
        if isinstance(self.config.data.survey, str):
            return self._by_tile(self._mer_objects)
        return self.survey.mer

    @cached_property
    def _exposure_objects(self) -> dict[str, StoredObject]:
        return list_objects(str(self.config.data.survey), EXPOSURES)

    @cached_property
    def _mer_objects(self) -> dict[str, StoredObject]:
        return list_objects(str(self.config.data.survey), together(self._mer_products))

    @property
    def subtile_resources(self) -> dict[str, str | int]:
        """What a sub-tile's job asks of a cluster beyond threads, memory and time."""
        compute = self.config.compute
        wanted = {
            "slurm_partition": compute.partition,
            "slurm_account": compute.account,
            "constraint": compute.constraint,
            "gpu": 1 if compute.require_gpu else None,
        }
        return {name: value for name, value in wanted.items() if value is not None}

    @property
    def device_flags(self) -> list[str]:
        """How shine's command is told what it may compute on."""
        compute = self.config.compute
        wanted = {"--require-gpu": compute.require_gpu, "--share-gpu": compute.share_gpu}
        return [flag for flag, on in wanted.items() if on]

    def subtile(self, subtile: SubTile, suffix: str) -> str:
        """A result file of a sub-tile, such as suffix `.parquet`."""
        return self._of_subtile("subtiles", str(subtile.tile_id), subtile.stem, suffix)

    def subtiles(self, suffix: str, tile_id: int | None = None) -> list[str]:
        """Such a file of every planned sub-tile (of one tile)."""
        planned = self.plan.subtiles if tile_id is None else self.plan.by_tile[tile_id]
        return [self.subtile(subtile, suffix) for subtile in planned]

    def pattern(self, folder: str, suffix: str) -> str:
        """The files of a folder with one per sub-tile, with wildcards tile, row and col."""
        return self._of_subtile(folder, "{tile}", "{tile}_{row}_{col}", suffix)

    def manifest(self, subtile: SubTile) -> str:
        """The manifest of a sub-tile."""
        return self._of_subtile(
            "manifests", str(subtile.tile_id), subtile.stem, self.manifest_suffix
        )

    @property
    def manifest_suffix(self) -> str:
        """How the names of manifests end."""
        return f".{self.config.output.manifests}"

    def tile_catalogues(self) -> list[str]:
        """Shear and sources of every planned tile, assembled from its sub-tiles."""
        folder, suffixes = f"{self.results}/tiles", (".parquet", "_sources.parquet")
        return [f"{folder}/{tile}{suffix}" for tile in self.plan.tile_ids for suffix in suffixes]

    def manifests(self) -> list[str]:
        """The manifest of every planned sub-tile."""
        return [self.manifest(subtile) for subtile in self.plan.subtiles]

    def records(self) -> list[str]:
        """What each sub-tile's run measured: not with its results, for it differs each time."""
        return [
            self._of_subtile("runs", str(subtile.tile_id), subtile.stem, ".run.json")
            for subtile in self.plan.subtiles
        ]

    def benchmarks(self) -> list[str]:
        """What Snakemake measured of each sub-tile's job."""
        return [
            self._of_subtile("benchmarks", str(subtile.tile_id), subtile.stem, ".tsv")
            for subtile in self.plan.subtiles
        ]

    def _of_subtile(self, folder: str, tile: str, stem: str, suffix: str) -> str:
        return f"{self.results}/{folder}/{tile}/{stem}{suffix}"
