"""The background from a quadrant's own pixels, on scenes that GalSim draws."""

import galsim
import numpy as np
import pytest

from shine.errors import InputError
from shine.euclid.background import measure_background
from shine.euclid.flags import VisFlag

SKY_ADU, SIGMA_ADU, SIDE = 101.3, 4.0, 400
N_PIXELS = SIDE * SIDE


@pytest.fixture(scope="module")
def light() -> np.ndarray:
    """Galaxies as many and as bright as on the sky, without noise (ADU)."""
    rng = np.random.default_rng(4)
    image = galsim.ImageF(SIDE, SIDE, scale=0.1)
    psf = galsim.Moffat(beta=3.0, fwhm=0.16)
    for _ in range(30):
        galaxy = galsim.Exponential(half_light_radius=0.3, flux=rng.pareto(1.5) * 3e3 + 3e3)
        place = galsim.PositionD(*rng.uniform(-SIDE / 2, SIDE / 2, 2) * 0.1)
        galsim.Convolve(galaxy.shear(g1=0.2), psf).shift(place).drawImage(image, add_to_image=True)
    return image.array


def measure(method, image, flags=None, weight=None):
    weight = np.full(image.shape, SIGMA_ADU**-2.0, np.float32) if weight is None else weight
    flags = np.zeros(image.shape, np.int32) if flags is None else flags
    return measure_background(
        method, image.astype(np.float32), weight, flags, "DET.fits[3-4.F.SCI]"
    )


def noisy(light, seed=0):
    return SKY_ADU + light + np.random.default_rng(seed).normal(0.0, SIGMA_ADU, light.shape)


@pytest.mark.parametrize("method", ["median", "constant"])
def test_the_sky_is_found_between_flagged_sources(light, method):
    flags = np.where(light > 0.01 * SIGMA_ADU, int(VisFlag.OBJECTS), 0).astype(np.int32)
    levels = [measure(method, noisy(light, seed), flags) for seed in range(8)]
    # the error of a median is a quarter larger than that of a mean
    error = 1.3 * SIGMA_ADU / np.sqrt(8 * (flags == 0).sum())
    assert np.mean(levels) == pytest.approx(SKY_ADU, abs=4.0 * error + 0.005 * SIGMA_ADU)


@pytest.mark.parametrize("method", ["median", "constant"])
def test_sources_that_no_flag_tells_of_hardly_move_it(light, method):
    level = measure(method, noisy(light))
    assert abs(level - SKY_ADU) < 0.1 * SIGMA_ADU < light.mean()


def test_the_constant_trusts_pixels_by_their_errors(light):
    """Half of the frame is a hundred times noisier: a plain mean would not see the sky."""
    rng = np.random.default_rng(1)
    sigma = np.where(np.arange(SIDE) < SIDE // 2, SIGMA_ADU, 100.0 * SIGMA_ADU)
    image = SKY_ADU + rng.normal(0.0, 1.0, light.shape) * sigma
    weight = np.broadcast_to(sigma**-2.0, light.shape).astype(np.float32)
    error = SIGMA_ADU / np.sqrt(N_PIXELS / 2)
    assert measure("constant", image, weight=weight) == pytest.approx(SKY_ADU, abs=4.0 * error)


@pytest.mark.parametrize("method", ["median", "constant"])
def test_masked_pixels_do_not_count(light, method):
    image, weight = noisy(light), np.full(light.shape, SIGMA_ADU**-2.0, np.float32)
    clean = measure(method, image)
    image[:30], weight[:30] = 0.0, 0.0
    assert measure(method, image, weight=weight) == pytest.approx(clean, abs=0.05 * SIGMA_ADU)


def test_a_quadrant_without_free_pixels_is_named():
    flags = np.full((20, 20), int(VisFlag.STARSIGNAL), np.int32)
    flags[0, :50] = 0
    with pytest.raises(
        InputError, match=r"DET.fits\[3-4.F.SCI\]: found 20 pixels that are neither"
    ):
        measure("median", np.ones((20, 20)), flags)
