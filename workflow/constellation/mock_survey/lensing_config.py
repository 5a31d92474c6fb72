"""Settings of the shear field: a constant, a sinusoid or an NFW cluster."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat

ShearComponent = Annotated[float, Field(gt=-0.5, lt=0.5)]


class _Field(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ConstantShear(_Field):
    """The same reduced shear everywhere, in each source's own (u west, v north) frame."""

    type: Literal["constant"]
    g1: ShearComponent = 0.0
    g2: ShearComponent = 0.0


class SinusoidShear(_Field):
    """A plane wave without B modes: g1 + i g2 = amplitude cos(2 pi s / wavelength) e^(2i angle).

    s is the distance from the area's centre along `angle_deg`, counted from west to north.
    """

    type: Literal["sinusoid"]
    amplitude: Annotated[float, Field(ge=0, lt=0.5)]
    wavelength_arcmin: PositiveFloat
    angle_deg: float = 0.0
    phase_deg: float = 0.0


class NfwShear(_Field):
    """Reduced shear of one NFW halo (`galsim.NFWHalo`)."""

    type: Literal["nfw"]
    mass_msun_h: PositiveFloat = Field(description="M200 in solar masses / h")
    concentration: PositiveFloat = 4.0
    redshift: PositiveFloat = 0.3
    source_redshift: PositiveFloat = 1.0
    ra: Annotated[float, Field(ge=0, lt=360)]
    dec: Annotated[float, Field(ge=-90, le=90)]
    max_shear: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.5, description="|g| is capped here, near and inside the critical curve"
    )


ShearConfig = Annotated[ConstantShear | SinusoidShear | NfwShear, Field(discriminator="type")]
