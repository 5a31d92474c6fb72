"""The campaign's images: what cancels in them, and the priors that their galaxies follow."""

import numpy as np
import pytest
from astropy.table import Table
from scipy.stats import kstest

from constellation.validation.drawing.scene import UNIT, GridScene
from constellation.validation.drawing.settings import SceneSettings
from constellation.validation.files import write_catalogue
from constellation.validation.grids import known_priors
from constellation.validation.peers.told import Told
from shine.euclid.config import EuclidConfig


@pytest.fixture(scope="module")
def scene():
    return GridScene(SceneSettings(cells=8, margin_px=4), seed=3, block=0)


def cells(scene, image):
    """The image cell by cell (n, spacing, spacing)."""
    n, margin, size = scene.settings.cells, scene.settings.margin_px, scene.settings.spacing_px
    inner = image[margin : margin + n * size, margin : margin + n * size]
    return inner.reshape(n, size, n, size).swapaxes(1, 2).reshape(-1, size, size)


def test_a_unit_has_no_noise_left_and_no_shape(scene):
    image, light = scene.draw((0.0, 0.0)).sci, scene.light((0.0, 0.0))
    noise = cells(scene, image - light) - scene.survey.detector.sky_adu
    unit = noise[:UNIT]
    np.testing.assert_allclose(unit[0] + unit[1], 0.0, atol=1e-3)
    np.testing.assert_allclose(np.rot90(unit[0], -1), unit[2], atol=1e-3)
    assert np.abs(np.corrcoef(unit[0].ravel(), unit[4].ravel())[0, 1]) < 0.1
    shape = (scene.sources.e1 + 1j * scene.sources.e2).reshape(-1, UNIT)
    np.testing.assert_allclose(shape.sum(axis=1), 0.0, atol=1e-12)
    np.testing.assert_allclose((shape**2).sum(axis=1), 0.0, atol=1e-12)


def test_a_turned_galaxy_is_the_turned_image(scene):
    """With a round PSF: place, shape and pixels turn by 90 degrees together."""
    round_psf = scene.settings.psf.model_copy(update={"e1": 0.0, "e2": 0.0})
    settings = scene.settings.model_copy(update={"psf": round_psf})
    light = cells(scene, GridScene(settings, 3, 0).light((0.0, 0.0)))
    for unit in (0, 5):
        first = light[UNIT * unit]
        turned = light[UNIT * unit + 2]
        np.testing.assert_allclose(np.rot90(first, -1), turned, atol=2e-3 * first.max())
        assert np.abs(first - turned).max() > 0.02 * first.max()


def test_opposite_shears_have_the_same_noise(scene):
    one, other = scene.draw((0.02, 0.02)), scene.draw((-0.02, -0.02))
    change = scene.light((0.02, 0.02)) - scene.light((-0.02, -0.02))
    np.testing.assert_allclose(one.sci - other.sci, change, atol=2e-3)
    assert np.abs(change).max() > 0.1


def test_scenes_for_coverage_are_independent():
    settings = SceneSettings(cells=8, independent=True, galaxies={"snr": 30, "flux_scatter": 0.3})
    scene = GridScene(settings, seed=3, block=0)
    assert len(np.unique(scene.sources.e1)) == 64
    assert np.std(np.log(scene.sources.flux_ujy)) == pytest.approx(0.3, rel=0.35)
    light = scene.light((0.0, 0.0))
    total = cells(scene, light).sum(axis=(1, 2)) / scene.sources.flux_ujy
    np.testing.assert_allclose(total, total.mean(), rtol=0.02)  # each galaxy is where it should be
    noise = cells(scene, scene.draw((0.0, 0.0)).sci - light)
    flat = noise.reshape(64, -1)
    away = np.corrcoef(flat) - np.eye(64)
    assert np.abs(away).max() < 0.12


def test_galaxies_follow_the_priors_that_shine_is_told(tmp_path):
    settings = {"cells": 32, "independent": True}
    scene = GridScene(SceneSettings(galaxies={"snr": 10}, **settings), seed=4, block=0)
    told = EuclidConfig.model_validate(known_priors({}, scene)).gal.priors
    ids = write_catalogue(scene, tmp_path / "catalogue.fits")
    table = Table.read(tmp_path / "catalogue.fits")
    table.add_index("OBJECT_ID")
    table = table.loc[ids]
    np.testing.assert_array_equal(Told(scene).listed_radec[0], table["RIGHT_ASCENSION"])
    true = scene.sources
    north = 3600.0 * (table["DECLINATION"] - true.dec)
    west = 3600.0 * (true.ra - table["RIGHT_ASCENSION"]) * np.cos(np.radians(true.dec))
    drawn = {
        "flux": np.log(true.flux_ujy / told.flux.center) / told.flux.sigma,
        "half_light_radius": np.log(true.hlr_arcsec / told.half_light_radius.center)
        / told.half_light_radius.sigma,
        "west": west / told.offset.sigma,
        "north": north / told.offset.sigma,
    }
    for name, values in drawn.items():
        assert kstest(values, "norm").pvalue > 1e-3, name
    turned = np.exp(-0.5 * (true.e1**2 + true.e2**2) / told.ellipticity.sigma**2)
    assert kstest(turned, "uniform").pvalue > 1e-3
