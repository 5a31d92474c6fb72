"""Configuration of the model: light profile and priors of a galaxy's parameters.

Every default lives here, in `shine.inference_config` or in `shine.euclid.config`; nothing else
supplies one.
"""

from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    model_validator,
)


class Strict(BaseModel):
    """A frozen model that refuses unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Normal(Strict):
    """Gaussian prior; `center: catalog` takes each source's catalogue value."""

    type: Literal["Normal"] = "Normal"
    center: float | Literal["catalog"] = "catalog"
    sigma: PositiveFloat


class LogNormal(Strict):
    """Gaussian prior on the natural logarithm; `sigma` is that of the logarithm."""

    type: Literal["LogNormal"] = "LogNormal"
    center: PositiveFloat | Literal["catalog"] = "catalog"
    sigma: PositiveFloat


class Uniform(Strict):
    """Flat prior between `low` and `high`, in the parameter's own unit."""

    type: Literal["Uniform"] = "Uniform"
    low: float
    high: float

    @model_validator(mode="after")
    def _ordered(self) -> "Uniform":
        if not self.low < self.high:
            raise ValueError(f"low ({self.low}) must be below high ({self.high})")
        return self


class PositiveUniform(Uniform):
    """Flat prior on a quantity that cannot be negative."""

    low: PositiveFloat


class CentredNormal(Strict):
    """Gaussian prior around zero, the same for both components."""

    type: Literal["Normal"] = "Normal"
    sigma: PositiveFloat


FluxPrior = Annotated[Normal | LogNormal | PositiveUniform, Field(discriminator="type")]
SizePrior = Annotated[LogNormal | PositiveUniform, Field(discriminator="type")]


class Priors(Strict):
    """Priors of one galaxy's six parameters and of the sub-tile's shear."""

    flux: FluxPrior = Field(LogNormal(sigma=1.0), description="total flux, uJy")
    half_light_radius: SizePrior = Field(
        LogNormal(sigma=0.5), description="circularised half-light radius, arcsec"
    )
    ellipticity: CentredNormal = Field(
        CentredNormal(sigma=0.25),
        description="each component of the intrinsic ellipticity |e| = (a-b)/(a+b) < 1",
    )
    offset: CentredNormal = Field(
        CentredNormal(sigma=0.1),
        description="each component of the offset from the catalogue position, arcsec",
    )
    shear: CentredNormal = Field(
        CentredNormal(sigma=3.0),
        description="each component of the sub-tile's reduced shear, by the area that lensing "
        "leaves unchanged; wide, since it scales the shear by 1 - (error / sigma)^2",
    )


class Exponential(Strict):
    """Exponential disc (Freeman 1970)."""

    type: Literal["exponential"] = "exponential"


class Gaussian(Strict):
    """Gaussian."""

    type: Literal["gaussian"] = "gaussian"


class DeVaucouleurs(Strict):
    """de Vaucouleurs (1948) spheroid."""

    type: Literal["de_vaucouleurs"] = "de_vaucouleurs"


class Sersic(Strict):
    """Sersic (1968) profile."""

    type: Literal["sersic"] = "sersic"
    index: Annotated[float, Field(ge=0.3, le=6.2)] = Field(description="Sersic index n")


class Spergel(Strict):
    """Spergel (2010) profile."""

    type: Literal["spergel"] = "spergel"
    index: Annotated[float, Field(ge=-0.85, le=4.0)] = Field(description="Spergel index nu")


class BulgeDisc(Strict):
    """de Vaucouleurs bulge and exponential disc; half_light_radius is the disc's."""

    type: Literal["bulge_disc"] = "bulge_disc"
    index: Annotated[float, Field(ge=0.0, le=1.0)] = Field(description="bulge's share of the light")


Profile = Exponential | Gaussian | DeVaucouleurs | Sersic | Spergel | BulgeDisc
