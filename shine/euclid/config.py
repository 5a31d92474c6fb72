"""The two configuration sections that `shine` reads: `inference` and `gal`."""

from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import Field, NonNegativeInt, ValidationError, field_validator

from shine.config import Exponential, Priors, Profile, Strict
from shine.errors import ConfigurationError, list_problems
from shine.euclid.background import Background
from shine.euclid.flags import BAD_PIXELS
from shine.euclid.selection_config import SelectionConfig
from shine.inference_config import InferenceSettings
from shine.yaml_files import read_yaml


class PsfConfig(Strict):
    """How the PSF grid's stamps are read, and what lies between their samples."""

    model: Literal["optics", "native", "oversampled"] = Field(
        "optics",
        description="optics: stamps at the detector's sampling, super-resolved by a fitted model "
        "of the telescope, which goes on beyond their edges; native: the same, taken as if they "
        "were well sampled; oversampled: stamps with two samples per pixel",
    )
    pixel: Literal["included", "to_convolve"] = Field(
        "included", description="whether the stamps hold the response of the pixel already"
    )
    grid_order: Literal["rows", "columns"] = Field(
        "rows",
        description="rows: stamps side by side in the file lie side by side in x; columns: "
        "one above the other in y",
    )
    grid_nodes: Literal["centres", "edges"] = Field(
        "centres",
        description="centres: the stamps are those of the centres of 9 x 9 cells; edges: "
        "the outer ones are those of the quadrant's corners and edges",
    )


class InferenceConfig(InferenceSettings):
    """How the shear is inferred from the pixels of Euclid's quadrants."""

    stamp_light_outside: Annotated[float, Field(gt=0, lt=0.2)] = Field(
        0.005, description="largest fraction of a source's light that may fall outside its stamp"
    )
    psf: PsfConfig = PsfConfig()
    background: Background = Field(
        "file",
        description="file: the background frames; else a level per quadrant from its own pixels: "
        "their sigma-clipped median, or a constant fitted with their errors",
    )
    bad_flags: NonNegativeInt = Field(
        int(BAD_PIXELS), description="bits of the FLG layer that take a pixel out of the fit"
    )


class GalConfig(Strict):
    """What a galaxy is, which galaxies carry shear, and what is known of them beforehand."""

    profile: Profile = Field(
        Exponential(), description="light profile of all galaxies", discriminator="type"
    )
    priors: Priors = Priors()
    selection: SelectionConfig = SelectionConfig()

    @field_validator("profile", mode="before")
    @classmethod
    def _name_is_enough(cls, value: object) -> object:
        return {"type": value} if isinstance(value, str) else value


class EuclidConfig(Strict):
    """The configuration of one run of `shine` on Euclid data."""

    inference: InferenceConfig = InferenceConfig()
    gal: GalConfig = GalConfig()


def load_config(path: Path | str) -> EuclidConfig:
    """Read a YAML file with the sections `inference` and `gal`.

    Raises `ConfigurationError` naming the file and the key.
    """
    path = Path(path)
    try:
        content = read_yaml(path) or {}
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot read the configuration: {error}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: not valid YAML: {error}") from error
    try:
        return EuclidConfig.model_validate(content)
    except ValidationError as error:
        raise ConfigurationError(f"{path}: {list_problems(error)}. Correct the file.") from error
