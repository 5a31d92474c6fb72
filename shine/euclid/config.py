"""The two configuration sections that `shine` reads: `inference` and `gal`."""

from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import Field, NonNegativeInt, ValidationError

from shine.config import Priors, SolverConfig, Strict
from shine.errors import ConfigurationError, list_problems
from shine.euclid.flags import BAD_PIXELS
from shine.euclid.selection_config import SelectionConfig


class InferenceConfig(Strict):
    """How the shear is inferred from the pixels."""

    method: Literal["map"] = Field(
        "map", description="map: the joint mode by Gauss-Newton, with Laplace errors"
    )
    seed: NonNegativeInt = Field(0, description="seed of everything random in the inference")
    solver: SolverConfig = SolverConfig()
    stamp_light_outside: Annotated[float, Field(gt=0, lt=0.2)] = Field(
        0.005, description="largest fraction of a source's light that may fall outside its stamp"
    )
    bad_flags: NonNegativeInt = Field(
        int(BAD_PIXELS), description="bits of the FLG layer that take a pixel out of the fit"
    )


class GalConfig(Strict):
    """What a galaxy is, which galaxies carry shear, and what is known of them beforehand."""

    profile: Literal["exponential"] = Field("exponential", description="light profile")
    priors: Priors = Priors()
    selection: SelectionConfig = SelectionConfig()


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
        content = yaml.safe_load(path.read_text()) or {}
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot read the configuration: {error}") from error
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{path}: not valid YAML: {error}") from error
    try:
        return EuclidConfig.model_validate(content)
    except ValidationError as error:
        raise ConfigurationError(f"{path}: {list_problems(error)}. Correct the file.") from error
