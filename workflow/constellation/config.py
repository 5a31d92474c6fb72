"""The pipeline's configuration: one YAML file, checked completely before anything runs.

The sections `inference` and `gal` belong to shine: they are validated by shine's own models and
handed on unopened.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)

from constellation.lakehouse.settings import IcebergConfig
from constellation.quality.settings import QualityConfig
from constellation.shards import MERGE, Shard
from shine.atomic import write_atomically
from shine.errors import ConfigurationError, list_problems
from shine.euclid.config import GalConfig, InferenceConfig
from shine.s3_settings import S3Settings
from shine.stamps import FARTHEST_ARCSEC, STAMP_SIZES
from shine.yaml_files import read_yaml

GridSize = Annotated[int, Field(ge=1, le=128)]  # rows and columns are int8 in the results
LEAST_MARGIN_ARCMIN = math.ceil(FARTHEST_ARCSEC / 60.0 * 1000.0) / 1000.0
Name = Annotated[str, Field(min_length=1, pattern=r"^[^\s'\"]+$")]
S3_PATTERN = r"^s3://[^/\s]+(/\S*)?$"
S3Uri = Annotated[str, Field(pattern=S3_PATTERN)]
Model = TypeVar("Model", bound=BaseModel)


class Section(BaseModel):
    """A frozen model that refuses unknown keys."""

    # `list_problems` tells what was found, but for secrets
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Area(Section):
    """A box on the plane tangent at its centre."""

    ra: Annotated[float, Field(ge=0, lt=360, description="centre, deg")]
    dec: Annotated[float, Field(ge=-90, le=90, description="centre, deg")]
    width_arcmin: PositiveFloat = Field(description="east-west, arcmin")
    height_arcmin: PositiveFloat = Field(description="north-south, arcmin")


class TilingConfig(Section):
    """How the sky is cut into tiles and sub-tiles."""

    tiles: Path = Field(
        description="CSV or Parquet table with columns tile_index, ra, dec (deg), "
        "such as `constellation tiles` makes"
    )
    sub_tile_grid: tuple[GridSize, GridSize] = Field(
        (4, 4), description="rows (north) and columns (east) over the 30 arcmin core of a tile"
    )
    margin_arcmin: Annotated[float, Field(ge=0, le=10)] = Field(
        1.0,
        description="sources so far outside a sub-tile's core are modelled as well; at least half "
        f"the largest stamp, {LEAST_MARGIN_ARCMIN} arcmin",
    )
    area: Area | None = Field(
        None, description="only sub-tiles with their core's centre in this box are planned"
    )

    @field_validator("margin_arcmin")
    @classmethod
    def _holds_the_largest_stamp(cls, margin_arcmin: float) -> float:
        """A source at the edge of a core needs all that is on its stamp to be modelled.

        That much is known before any catalogue is read. Bright neighbours and blends reach further
        still: two of the largest stamps overlap up to twice this distance.
        """
        if margin_arcmin < LEAST_MARGIN_ARCMIN:
            raise ValueError(
                f"expected at least {LEAST_MARGIN_ARCMIN}, half the largest stamp "
                f"({STAMP_SIZES[-1]} pixels), or sources at the edge of a core lack the neighbours "
                "on their stamps; enlarge it"
            )
        return margin_arcmin


class ExposureConfig(Section):
    """Which of the indexed exposures are used; a change costs new manifests, not a new index."""

    first_mjd: float | None = Field(None, description="leave out exposures before, MJD-OBS, d")
    last_mjd: float | None = Field(None, description="leave out exposures after, MJD-OBS, d")
    left_out: Path | None = Field(
        None, description="CSV table with columns OBS_ID, DITHER of exposures to leave out"
    )
    most_per_source: PositiveInt | None = Field(
        None,
        description="of the exposures whose field covers a source only the earliest so many count; "
        "quadrants that no source of a sub-tile needs are left out of it",
    )

    @model_validator(mode="after")
    def _dates_ascend(self) -> Self:
        first, last = self.first_mjd, self.last_mjd
        if first is not None and last is not None and first > last:
            raise ValueError(f"first_mjd {first} is after last_mjd {last}: expected it before")
        return self


class DataConfig(Section):
    """Where the survey is."""

    survey: S3Uri | Path = Field(
        description="folder with the sub-folders VIS, PSF and MER, or s3://bucket/prefix with them",
        union_mode="left_to_right",
    )
    mock_survey: Path | None = Field(
        None, description="settings of a mock survey, which is then written to `survey` first"
    )
    truth: Path | None = Field(
        None, description="Parquet table of true shears by OBJECT_ID, to compare with"
    )
    exposure_kinds: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = Field(
        (1,), description="kinds of exposure to use, by the digit in the file name (1: nominal)"
    )
    exposures: ExposureConfig = ExposureConfig()
    morphology: bool = Field(
        False, description="start sizes from the Sersic radii of the morphology catalogues"
    )
    segmentation: bool = Field(
        False, description="mask excluded objects by the segments of the MER segmentation maps"
    )
    s3: S3Settings = S3Settings()

    @field_validator("survey", mode="before")
    @classmethod
    def _is_folder_or_s3(cls, place: Any) -> Any:
        if "://" in str(place) and not re.match(S3_PATTERN, str(place)):
            raise ValueError("expected a folder or s3://bucket/prefix")
        return place

    @model_validator(mode="after")
    def _mock_survey_is_local(self) -> Self:
        if self.mock_survey is not None and isinstance(self.survey, str):
            raise ValueError("a mock survey is written to a folder: survey must not be a URI")
        return self


class OutputConfig(Section):
    """Where results go."""

    results: Path = Field(Path("results"), description="folder of everything that is derived")
    manifests: Literal["yaml", "yaml.gz"] = Field(
        "yaml", description="form of the manifests; yaml.gz takes a third of the space"
    )


class ComputeConfig(Section):
    """What a sub-tile's job may use, and what it asks of a cluster."""

    threads: PositiveInt = Field(1, description="threads of one sub-tile's job")
    mem_mb: PositiveInt = Field(
        8000,
        description="memory of one sub-tile's job, MB, and as much again for each retry; "
        "a 4 x 4 grid takes 6000 at most",
    )
    runtime_minutes: PositiveInt = Field(
        60,
        description="longest time of one sub-tile's job, minutes, and as much again for each retry",
    )
    jax_cache: Path | None = Field(
        None, description="folder of compiled programs; default: jax_cache in the results folder"
    )
    partition: Name | None = Field(None, description="SLURM partition of the sub-tiles' jobs")
    account: Name | None = Field(None, description="SLURM account of the sub-tiles' jobs")
    constraint: Name | None = Field(
        None, description="SLURM node features of the sub-tiles' jobs, such as a100|h100"
    )
    require_gpu: bool = Field(
        False, description="refuse to infer shear where JAX sees no graphics card"
    )
    share_gpu: bool = Field(
        False, description="let several processes use one graphics card at a time"
    )
    gpu_memory_fraction: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.75, description="part of a graphics card's memory that each process takes at its start"
    )


class PipelineConfig(Section):
    """The whole configuration of a pipeline run."""

    tiling: TilingConfig
    data: DataConfig
    inference: InferenceConfig = InferenceConfig()
    gal: GalConfig = GalConfig()
    output: OutputConfig = OutputConfig()
    compute: ComputeConfig = ComputeConfig()
    iceberg: IcebergConfig | None = Field(
        None, description="publish the catalogue to these Iceberg tables at the end of each run"
    )
    quality: QualityConfig = QualityConfig()
    shard: str | None = Field(
        None,
        description="part of the survey to run, such as 3/60, given the quadrant index; "
        "merge: put the tiles of all parts together",
    )

    @field_validator("shard")
    @classmethod
    def _is_shard(cls, text: str | None) -> str | None:
        if text not in (None, MERGE):
            Shard.parse(text)
        return text


def load_config(source: Path | str | Mapping[str, Any]) -> PipelineConfig:
    """Read and check the pipeline's configuration from a YAML file or a mapping.

    Raises `ConfigurationError` that names the file and the path of the key.
    """
    if isinstance(source, Mapping):
        return validated(PipelineConfig, source, "configuration")
    return validated(PipelineConfig, _read(source), source)


def load_whole(source: str) -> PipelineConfig:
    """Read the configuration from JSON text `{...}`, or from a pipeline YAML."""
    if source.lstrip().startswith("{"):
        return validated(PipelineConfig, _from_json(source, "configuration"), "configuration")
    return load_config(source)


def load_section(model: type[Model], name: str, source: str) -> Model:
    """Read one section: from JSON text `{...}`, or from the section `name` of a pipeline YAML.

    A section within another has a name such as data.exposures.
    """
    if source.lstrip().startswith("{"):
        return validated(model, _from_json(source, name), name)
    return attrgetter(name)(load_config(source))


def schema_json() -> str:
    """Return the JSON schema of the configuration, as stored in config/schema.json."""
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **PipelineConfig.model_json_schema(),
    }
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def write_shine_config(sections: str, path: Path) -> None:
    """Write shine's own configuration file: the sections `inference` and `gal`, unopened.

    `sections` is a pipeline YAML, or JSON text with just these two keys. Raises
    `ConfigurationError`.
    """
    if sections.lstrip().startswith("{"):
        content = _from_json(sections, "sections")
    else:
        load_config(sections)
        whole = _read(sections)
        content = {key: whole.get(key) or {} for key in ("inference", "gal")}
    if set(content) != {"inference", "gal"}:
        raise ConfigurationError(
            f"sections: found the keys {sorted(content)}, expected inference and gal"
        )
    text = yaml.safe_dump(content, sort_keys=True)
    write_atomically(path, text.encode("utf-8"))


def _from_json(text: str, name: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigurationError(f"{name}: not valid JSON: {error}") from error


def _read(path: Path | str) -> Any:
    """Read a YAML file; raises `ConfigurationError` naming it."""
    try:
        return read_yaml(Path(path)) or {}
    except OSError as error:
        raise ConfigurationError(
            f"{path}: cannot read the configuration: {error.strerror}"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"{path}: not valid YAML: {' '.join(str(error).split())}"
        ) from error


def validated(model: type[Model], content: Any, where: object) -> Model:
    """Return `content` as `model`; raises `ConfigurationError` naming `where` and each key."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise ConfigurationError(f"{where}: {list_problems(error)}") from error
