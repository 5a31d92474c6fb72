"""What a validation image shows: the only place of its defaults."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from constellation.mock_survey.config import Settings

Ellipticity = Annotated[float, Field(gt=-0.3, lt=0.3)]


class PsfSettings(Settings):
    """The PSF on the sky, the same over the image; the pixel is integrated when it is drawn."""

    kind: Literal["telescope", "polychromatic", "moffat"] = Field(
        "telescope",
        description="telescope: obscured aperture of 1.2 m at 750 nm, with jitter; polychromatic: "
        "the same with struts and aberrations, summed over the VIS band; moffat: a Moffat profile",
    )
    jitter_arcsec: PositiveFloat = Field(0.045, description="rms per axis, of the telescopes")
    fwhm_arcsec: PositiveFloat = Field(0.14, description="of the Moffat profile")
    beta: Annotated[float, Field(gt=1.1, le=6)] = Field(2.5, description="of the Moffat profile")
    e1: Ellipticity = Field(0.03, description="shear that the round PSF gets (u west, v north)")
    e2: Ellipticity = -0.02


class GalaxySettings(Settings):
    """The galaxies: all of about one flux and size, or those of a deep survey."""

    population: Literal["uniform", "survey"] = "uniform"
    snr: PositiveFloat = Field(
        40.0, description="matched-filter signal-to-noise of the round galaxy (uniform)"
    )
    hlr_arcsec: PositiveFloat = Field(0.3, description="of the round galaxy (uniform)")
    flux_scatter: PositiveFloat = Field(0.05, description="rms of ln(flux) (uniform)")
    hlr_scatter: PositiveFloat = Field(0.05, description="rms of ln(half-light radius) (uniform)")
    position_scatter_arcsec: PositiveFloat = Field(
        0.7, description="rms error of the catalogue's positions, per axis, at S/N 1 (uniform)"
    )
    bright_magnitude: float = Field(21.0, description="AB (survey)")
    faint_magnitude: float = Field(24.5, description="AB (survey)")
    ellipticity_sigma: PositiveFloat = Field(0.25, description="per component, intrinsic")
    profile: Literal["exponential", "sersic", "bulge_disc", "real"] = "exponential"
    sersic_index: Annotated[float, Field(ge=0.3, le=6.2)] = Field(1.0, description="of sersic")
    bulge_fraction: Annotated[float, Field(ge=0, le=1)] = Field(
        0.3, description="light of bulge_disc in a de Vaucouleurs bulge of half the disc's radius"
    )
    sample: Path | None = Field(None, description="of real: folder of GalSim's COSMOS sample")

    @model_validator(mode="after")
    def _check(self) -> GalaxySettings:
        if (self.profile == "real") != (self.sample is not None):
            raise ValueError("sample: needed for the profile real, and for no other")
        return self


class SceneSettings(Settings):
    """An image of isolated galaxies on a grid, each at its own place within a pixel."""

    galaxies: GalaxySettings = GalaxySettings()
    psf: PsfSettings = PsfSettings()
    cells: Annotated[PositiveInt, Field(multiple_of=8)] = Field(
        32, description="galaxies along each side of the image"
    )
    spacing_px: PositiveInt = Field(64, description="width of the cell around each galaxy")
    margin_px: int = Field(
        16, description="from the outer cells to the image's edge; negative: they are cut"
    )
    roll_deg: float = Field(37.0, description="position angle of the image's y axis, N to E")
    noise: bool = Field(True, description="false: the pixels have none, and are said to")
    independent: bool = Field(
        False, description="every galaxy has a shape and noise of its own: nothing cancels"
    )
    shear: Annotated[float, Field(gt=0, lt=0.2)] = Field(
        0.02, description="size of each component of the reduced shear"
    )

    @model_validator(mode="after")
    def _check(self) -> SceneSettings:
        if self.spacing_px + 2 * self.margin_px <= 0:
            raise ValueError("margin_px: the outer galaxies would lie outside the image")
        return self

    @property
    def side_px(self) -> int:
        """Width and height of the image."""
        return self.cells * self.spacing_px + 2 * self.margin_px


class FieldSettings(Settings):
    """Full scenes of the mock survey: blends, stars, faint galaxies, cosmic rays, four dithers."""

    width_arcmin: PositiveFloat = Field(3.0, description="of the field, which one quadrant covers")
    core_margin_arcsec: PositiveFloat = Field(
        12.0, description="from the field's edge to the galaxies that carry shear"
    )
    rolls_deg: tuple[float, ...] = Field((2.0, 95.0, 183.0, 272.0), description="of the exposures")
    dithers_arcsec: tuple[float, ...] = Field((0.0, 7.0, -5.0, 3.0), description="north and west")
    population: dict[str, float] = Field({}, description="as the mock survey's section population")
    detector: dict[str, float] = Field({}, description="as the mock survey's section detector")
    psf: dict[str, float] = Field({}, description="as the mock survey's section psf")
    dark: tuple[Literal["faint", "hidden"], ...] = Field(
        (),
        description="what gives no light, everything else being the same: sources too faint for "
        "the catalogue, or those that it takes for a part of a brighter neighbour",
    )
    shear: Annotated[float, Field(gt=0, lt=0.2)] = 0.02
