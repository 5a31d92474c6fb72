"""The PSFs of validation images, as GalSim profiles on the sky without the pixel."""

from __future__ import annotations

from functools import lru_cache

import galsim

from .settings import PsfSettings

DIAMETER_M, OBSCURATION = 1.2, 0.33
WAVELENGTH_NM = 750.0  # of `telescope`
# of `polychromatic`: wavelengths across the VIS band, and the light in each
BAND_NM, BAND_LIGHT = (580.0, 660.0, 740.0, 820.0), (0.22, 0.3, 0.28, 0.2)
STRUTS, STRUT_WIDTH = 3, 0.03
ABERRATIONS_NM = {"defocus": 20.0, "astig1": 15.0, "coma1": 15.0, "trefoil1": 10.0}


@lru_cache
def psf_profile(settings: PsfSettings) -> galsim.GSObject:
    """The PSF of light 1."""
    if settings.kind == "moffat":
        optics = galsim.Moffat(beta=settings.beta, fwhm=settings.fwhm_arcsec)
    else:
        jitter = galsim.Gaussian(sigma=settings.jitter_arcsec)
        optics = galsim.Convolve(_telescope(settings.kind == "polychromatic"), jitter)
    return optics.shear(g1=settings.e1, g2=settings.e2)


def _telescope(polychromatic: bool) -> galsim.GSObject:
    if not polychromatic:
        return galsim.Airy(lam=WAVELENGTH_NM, diam=DIAMETER_M, obscuration=OBSCURATION)
    colours = [
        galsim.OpticalPSF(
            lam=wavelength,
            diam=DIAMETER_M,
            obscuration=OBSCURATION,
            nstruts=STRUTS,
            strut_thick=STRUT_WIDTH,
            flux=light,
            **{name: size / wavelength for name, size in ABERRATIONS_NM.items()},
        )
        for wavelength, light in zip(BAND_NM, BAND_LIGHT, strict=True)
    ]
    # one table of the sum instead of four to look up for every galaxy
    fine = galsim.Sum(colours).drawImage(nx=256, ny=256, scale=0.02, method="no_pixel")
    return galsim.InterpolatedImage(fine, flux=1.0)
