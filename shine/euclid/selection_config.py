"""Which catalogue sources carry shear, which are only modelled, and which are masked."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
Probability = Annotated[float, Field(ge=0.0, le=1.0)]


class SelectionConfig(BaseModel):
    """Cuts on the MER catalogue; a cut set to null is not made and needs no column."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    min_snr: Positive | None = Field(
        default=10.0,
        description="smallest FLUX_DETECTION_TOTAL / FLUXERR_DETECTION_TOTAL; fainter galaxies are "
        "modelled but carry no shear",
    )
    require_vis_det: bool = Field(
        default=True, description="drop sources that were not detected in VIS (VIS_DET = 0)"
    )
    reject_spurious_flag: bool = Field(
        default=True, description="drop sources with SPURIOUS_FLAG = 1"
    )
    max_spurious_prob: Probability | None = Field(
        default=0.5, description="drop sources with a larger SPURIOUS_PROB"
    )
    max_point_like_prob: Probability | None = Field(
        default=0.96,
        description="model sources with a larger POINT_LIKE_PROB as stars; the probability and not "
        "POINT_LIKE_FLAG, which is null for blended or saturated stars",
    )
    min_mumax_minus_mag: Annotated[float, Field(allow_inf_nan=False)] | None = Field(
        default=-2.5,
        description="model sources with a smaller MUMAX_MINUS_MAG (mag / arcsec^2) as stars",
    )
    det_quality_mask: Annotated[int, Field(ge=0, lt=2**31)] = Field(
        default=0x78C,
        description="galaxies with any of these DET_QUALITY_FLAG bits are modelled but carry no "
        "shear: 4 saturated, 8 border, 128 and 256 bright-star masks, 512 extended object, "
        "1024 deblending skipped; 1 and 2 are kept because blends are modelled jointly",
    )
    min_semimajor_axis_px: Positive | None = Field(
        default=1.0,
        description="smallest SEMIMAJOR_AXIS (PSF-convolved, pixels of the MER mosaic); smaller "
        "galaxies are modelled but carry no shear. The PSF alone measures psf_rms_px; 1.0 is a "
        "half-light radius of about 0.06 arcsec",
    )
    mer_pixel_arcsec: Positive = Field(
        default=0.1, description="pixel of the MER mosaic, the unit of SEMIMAJOR_AXIS"
    )
    psf_rms_px: Positive = Field(
        default=0.8,
        description="rms width per axis of the MER mosaic's PSF (FWHM 0.16 to 0.2 arcsec), which "
        "is taken out of SEMIMAJOR_AXIS",
    )
    min_hlr_arcsec: Positive = Field(
        default=0.05, description="smallest half-light radius that a fit starts from"
    )
    fallback_hlr_arcsec: Positive = Field(
        default=0.3, description="half-light radius that a fit starts from if none was measured"
    )
    excluded: Literal["modelled", "masked"] = Field(
        default="modelled",
        description="what becomes of stars and of galaxies that fail the selection: modelled along "
        "with the others, or their pixels masked: those of their segment where the manifest has a "
        "segmentation map, else within excluded_mask_hlr; never ignored",
    )
    excluded_mask_hlr: Positive = Field(
        default=3.0,
        description="radius masked around what is excluded, in half-light radii (at least that of "
        "fallback_hlr_arcsec)",
    )
    saturated_mask_radius_arcsec: Positive = Field(
        default=3.0,
        description="radius masked around a saturated object of saturated_mask_flux_ujy or less; "
        "it grows with the cube root of the flux, as a diffraction pattern's wings do",
    )
    saturated_mask_flux_ujy: Positive = Field(
        default=150.0, description="flux at which a star begins to saturate (18.5 mag)"
    )
