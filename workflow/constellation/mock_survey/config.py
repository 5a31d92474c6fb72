"""Settings of a mock survey: the only place of its defaults."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

from .errors import MockSurveyError
from .lensing_config import ShearConfig

Fraction = Annotated[float, Field(ge=0, le=1)]
RightAscension = Annotated[float, Field(ge=0, lt=360)]
Declination = Annotated[float, Field(ge=-90, le=90)]
QuadrantName = Annotated[str, Field(pattern=r"^[1-6]-[1-6]\.[EFGH]$")]


class Settings(BaseModel):
    """Frozen settings that refuse unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class MerTile(Settings):
    """Centre of a MER tile, in degrees."""

    tile_index: PositiveInt
    ra: RightAscension
    dec: Declination


class Area(Settings):
    """Rectangle in the tangent plane at its centre (degrees) that sources and images cover."""

    ra: RightAscension
    dec: Declination
    width_arcmin: PositiveFloat = Field(description="extent along right ascension")
    height_arcmin: PositiveFloat = Field(description="extent along declination")


class Exposure(Settings):
    """One dither: where the focal plane's centre points, how it is rolled, how it is calibrated."""

    offset_east_arcsec: float = Field(0.0, description="pointing minus centre of the area")
    offset_north_arcsec: float = 0.0
    roll_deg: float = Field(0.0, description="position angle of the focal plane's y axis, N to E")
    zero_point: Annotated[float, Field(gt=20, lt=30)] = Field(
        24.57, description="AB magnitude of 1 ADU/s"
    )
    exposure_time_s: PositiveFloat = 560.52


class DetectorConfig(Settings):
    """The focal plane's quadrants, their noise and their defects."""

    quadrant_shape: tuple[PositiveInt, PositiveInt] = Field(
        (2066, 2048), description="rows, columns"
    )
    quadrants: tuple[QuadrantName, ...] | None = Field(
        None, description="write only these, e.g. 3-4.F; null: all that overlap the area"
    )
    gain: PositiveFloat = Field(3.48, description="e-/ADU")
    read_noise_e: NonNegativeFloat = 4.4
    saturation_adu: PositiveFloat = 65535.0
    sky_adu: PositiveFloat = Field(46.0, description="mean sky of an exposure, per pixel")
    sky_gradient: Fraction = Field(0.04, description="change of the sky over a quadrant")
    noise: Literal["poisson", "gaussian"] = Field(
        "poisson",
        description="gaussian: of the same variance, and of the same sign in each pixel in surveys "
        "that differ in their galaxies' shapes alone",
    )
    cosmic_rays_per_megapixel: NonNegativeFloat = 900.0
    hot_pixels_per_megapixel: NonNegativeFloat = 20.0
    bad_columns_per_quadrant: NonNegativeInt = 3


class PsfConfig(Settings):
    """Moffat core and wide exponential halo, varying smoothly over the focal plane."""

    fwhm_arcsec: PositiveFloat = Field(0.14, description="core, before the pixel")
    beta: Annotated[float, Field(gt=1.1, le=6)] = Field(
        2.5, description="Moffat index; half-integers draw fastest"
    )
    halo_fraction: Fraction = Field(0.08, description="light in the halo")
    halo_hlr_arcsec: PositiveFloat = 1.0
    ellipticity: Annotated[float, Field(ge=0, lt=0.3)] = Field(0.03, description="mean |e|")
    ellipticity_angle_deg: float = Field(20.0, description="in the focal plane's frame")
    ellipticity_variation: Annotated[float, Field(ge=0, lt=0.3)] = Field(
        0.04, description="|e| added at the focal plane's edge"
    )
    fwhm_variation: Annotated[float, Field(ge=0, lt=0.5)] = Field(
        0.06, description="relative growth of the width at the focal plane's edge"
    )


class PopulationConfig(Settings):
    """Galaxies and stars: densities per arcmin^2 and distributions."""

    galaxy_density: NonNegativeFloat = Field(39.0, description="down to the faint limit")
    star_density: NonNegativeFloat = 2.5
    bright_magnitude: float = 19.5
    faint_magnitude: float = 26.0
    counts_slope: PositiveFloat = Field(0.30, description="d log10 N / d mag of galaxies")
    star_bright_magnitude: float = 16.5
    star_counts_slope: PositiveFloat = 0.10
    hlr_arcsec: PositiveFloat = Field(0.28, description="median half-light radius at hlr_magnitude")
    hlr_magnitude: float = 24.5
    hlr_slope: float = Field(0.20, description="-d ln(hlr) / d mag")
    hlr_scatter: NonNegativeFloat = Field(0.30, description="standard deviation of ln(hlr)")
    hlr_min_arcsec: PositiveFloat = 0.08
    hlr_max_arcsec: PositiveFloat = 1.5
    ellipticity_sigma: NonNegativeFloat = Field(0.25, description="per component, intrinsic")
    ellipticity_max: Annotated[float, Field(gt=0, lt=1)] = 0.8
    turned: bool = Field(False, description="every galaxy turned by 90 degrees before the shear")
    close_pair_fraction: Fraction = Field(
        0.06, description="galaxies given a neighbour on top of chance blends"
    )
    pair_separation_arcsec: tuple[PositiveFloat, PositiveFloat] = (0.6, 1.4)


class CatalogueConfig(Settings):
    """What the mock MER catalogue finds and how its columns scatter."""

    detection_snr: PositiveFloat = Field(6.5, description="faintest Kron S/N of VIS detections")
    nir_only_fraction: Fraction = Field(
        0.05, description="undetected galaxies listed with VIS_DET = 0"
    )
    deblend_arcsec: NonNegativeFloat = Field(
        0.4, description="nearer pairs are listed as their brighter member alone"
    )
    spurious_fraction: Fraction = Field(0.01, description="listed detections that are no sources")


class MockSurveyConfig(Settings):
    """A mock survey: same settings, same bytes."""

    seed: NonNegativeInt
    tiles: Annotated[tuple[MerTile, ...], Field(min_length=1)]
    area: Area
    exposures: Annotated[tuple[Exposure, ...], Field(min_length=1)]
    observation: Annotated[int, Field(ge=0, le=999999)] = 2704
    mjd_obs: PositiveFloat = Field(60600.25, description="start of the first exposure")
    profile: Literal["exponential"] = "exponential"
    shear: ShearConfig
    detector: DetectorConfig = DetectorConfig()
    psf: PsfConfig = PsfConfig()
    population: PopulationConfig = PopulationConfig()
    catalogue: CatalogueConfig = CatalogueConfig()

    @model_validator(mode="after")
    def _check(self) -> MockSurveyConfig:
        indices = [tile.tile_index for tile in self.tiles]
        if len(set(indices)) != len(indices):
            raise ValueError(f"tiles: tile_index repeated in {indices}")
        rolls = [exposure.roll_deg % 360 for exposure in self.exposures]
        if len(set(rolls)) != len(rolls):
            raise ValueError(f"exposures: roll_deg must all differ, found {rolls}")
        if self.population.bright_magnitude >= self.population.faint_magnitude:
            raise ValueError("population: bright_magnitude must be below faint_magnitude")
        return self


def load_mock_config(path: str | Path) -> MockSurveyConfig:
    """Read the settings of a mock survey from a YAML file.

    `tiles` is a list of {tile_index, ra, dec} or the name of a CSV file with these columns,
    relative to the YAML file. Raises `MockSurveyError` naming the file and the wrong key.
    """
    path = Path(path)
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise MockSurveyError(f"{path}: cannot read the mock survey's settings: {error}") from error
    except yaml.YAMLError as error:
        raise MockSurveyError(f"{path}: not valid YAML: {error}") from error
    if not isinstance(settings, dict):
        raise MockSurveyError(f"{path}: expected a mapping of settings, found {settings!r}")
    if isinstance(settings.get("tiles"), str):
        settings["tiles"] = _read_tiles(path.parent / settings["tiles"])
    try:
        return MockSurveyConfig.model_validate(settings)
    except ValidationError as error:
        raise MockSurveyError(f"{path}: {_problems(error)}") from error


def _read_tiles(path: Path) -> list[MerTile]:
    wanted = ("tile_index", "ra", "dec")
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise MockSurveyError(f"{path}: cannot read the list of tiles: {error}") from error
    tiles = []
    for number, row in enumerate(rows, start=2):
        try:
            tiles.append(
                MerTile.model_validate({name: row[name] for name in wanted if row.get(name)})
            )
        except ValidationError as error:
            raise MockSurveyError(
                f"{path}, line {number}: {_problems(error)}; "
                f"expected the columns {', '.join(wanted)}"
            ) from error
    return tiles


def _problems(error: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(str(part) for part in item['loc']) or 'settings'}: {item['msg']}"
        for item in error.errors()
    )
