"""LensMC's posterior means of ellipticity, bulge and disc fitted (Congedo et al. 2024).

`lensmc` is the weighted mean of these, `lensmc_mode` that of the modes from which its chains start:
the same galaxies and weights without the noise of 200 correlated samples.

Its defaults but for what these images make certain: every source is a galaxy (no cut in size), the
neighbours lie outside the galaxy's own cell (the rest of the stamp, whose width LensMC prescribes,
is masked), background and noise are known, and the PSF is the true one, three samples per pixel and
128 pixels wide. Its weight is 1 / (variance of a component + shape_noise^2), with the dispersion of
the population. Surveys calibrate its shear by simulations, which is not done here.
"""

from __future__ import annotations

import time

import numpy as np
from lensmc import measure_shear
from lensmc.galaxy_model import alloc_working_arrays
from lensmc.image import Image
from lensmc.psf import PSF
from numpy.typing import NDArray

from constellation.mock_survey.detector import Frame
from constellation.validation.peers.estimate import Shapes
from constellation.validation.peers.told import Told

STAMP_PX = 384  # the narrowest that LensMC takes
OBJECT_PX = 20  # radius within which no pixel is clipped as an outlier
PSF_PX, SAMPLES_PER_PX = 128, 3
ONE = 1  # id of the stamp's only object


class Stamp(Image):
    """An image that is a stamp already: LensMC 25.10 cannot cut one under numpy 2.4."""

    __slots__ = ()

    def extract_postage_stamp(self, *_args, **_settings):
        """Itself, and that no exposure was left out."""
        return self, []


def measure(told: Told, image: Frame) -> list[Shapes]:
    """Measure all galaxies, one after the other, from their listed places.

    The seconds are those from an image to ellipticities, for the mean and the mode together: stamps
    cut, modes found, chains run. They contain neither the drawing of the PSF nor what LensMC keeps
    between galaxies, its working arrays. A galaxy's chains have the same random numbers under both
    shears, others in every block.
    """
    scene = told.scene
    arrays = alloc_working_arrays(1.0, 1.0, oversampling=SAMPLES_PER_PX)
    light = (image.sci - image.bkg).astype(np.float32)
    psf = told.psf(PSF_PX, SAMPLES_PER_PX).astype(np.float32)
    right_ascension, declination = told.listed_radec
    n = len(right_ascension)
    mean, mode = np.zeros((2, n), complex)
    weight, chi2 = np.zeros((2, n))
    started = time.process_time()
    for i in range(n):
        found = measure_shear(
            cut(told, light, i),
            id_=ONE,
            ra=right_ascension[i],
            dec=declination[i],
            psf=PSF(psf, oversampling=SAMPLES_PER_PX),
            working_arrays=arrays,
            seed=scene.block * n + i,
            shape_noise=scene.settings.galaxies.ellipticity_sigma,
            r_sg=0.0,
            dilate_mask=False,
            dilate_segmentation=False,
            copy=False,
        )
        if found.has_values and np.isfinite(found.w):
            mean[i] = found.e1 + 1j * found.e2
            mode[i] = found.e1_max + 1j * found.e2_max
            weight[i], chi2[i] = found.w, found.chi2
    seconds, settled = time.process_time() - started, weight > 0.0
    about = weight, settled, float(chi2[settled].sum() / max(settled.sum(), 1)), seconds
    return [
        Shapes("lensmc", weight * mean, *about),
        Shapes("lensmc_mode", weight * mode, *about),
    ]


def cut(told: Told, image: NDArray[np.float32], i: int) -> Stamp:
    """The stamp of galaxy `i` of an image without background, its own cell unmasked."""
    half, reach = STAMP_PX // 2, told.scene.settings.spacing_px // 2
    x, y = np.rint(told.listed_xy[i]).astype(int)
    rows, columns = image.shape
    y_from, y_to = max(y - reach, 0), min(y + reach, rows)
    x_from, x_to = max(x - reach, 0), min(x + reach, columns)
    inside = np.s_[y_from - y + half : y_to - y + half, x_from - x + half : x_to - x + half]
    light = np.zeros((STAMP_PX, STAMP_PX), np.float32)
    light[inside] = image[y_from:y_to, x_from:x_to]
    good = np.zeros(light.shape, bool)
    good[inside] = True
    down, right = np.ogrid[-half:half, -half:half]
    return Stamp(
        light,
        mask=good,
        seg=np.where(down**2 + right**2 <= OBJECT_PX**2, ONE, 0),
        dc=0.0,
        rms=told.scene.noise_adu,
        wcs=told.fits_wcs,
        x_origin=x - half,
        y_origin=y - half,
    )
