"""Galaxies from cut-outs, against the same galaxies drawn from their formula."""

from pathlib import Path

import galsim
import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from constellation.mock_survey.scene import adu_per_ujy, quadrant_wcs
from constellation.validation import cosmos_sample
from constellation.validation.campaign import Case
from constellation.validation.cosmos_sample import FILES
from constellation.validation.drawing.psfs import psf_profile
from constellation.validation.drawing.real import CATALOGUE, RealScene
from constellation.validation.drawing.scene import UNIT
from constellation.validation.drawing.settings import GalaxySettings, SceneSettings
from shine.errors import InputError

SCALE = 0.03
GALAXIES = ((0.3, 0.5, 0.4), (0.4, 0.8, -0.9))  # half-light radius (arcsec), axis ratio, angle


def galaxy(number: int) -> galsim.GSObject:
    """A disc; the second one has a companion within it, so that half a turn makes another."""
    companion = galsim.Gaussian(sigma=0.1, flux=0.2).shift(0.25, 0.1)
    return exponential(number) + number * companion


def exponential(number: int) -> galsim.GSObject:
    hlr, q, angle = GALAXIES[number]
    return galsim.Exponential(half_light_radius=hlr).shear(q=q, beta=angle * galsim.radians)


@pytest.fixture(scope="module")
def sample(tmp_path_factory) -> Path:
    """A sample of two discs, in the format of the COSMOS one."""
    folder = tmp_path_factory.mktemp("cosmos")
    hubble = galsim.Gaussian(fwhm=0.11)
    images, psfs = fits.HDUList(), fits.HDUList()
    for number in range(len(GALAXIES)):
        for hdus, light, size in (
            (images, galsim.Convolve(galaxy(number), hubble), 256),
            (psfs, hubble, 41),
        ):
            stamp = light.drawImage(nx=size, ny=size, scale=SCALE, method="no_pixel").array
            hdus.append(fits.PrimaryHDU(stamp) if not hdus else fits.ImageHDU(stamp))
    images.writeto(folder / "real_galaxy_images.fits")
    psfs.writeto(folder / "real_galaxy_PSF_images.fits")
    noise = np.zeros((81, 81))
    noise[40, 40] = 1.0
    fits.PrimaryHDU(noise).writeto(folder / "acs_I_unrot_sci_20_cf.fits")
    n = len(GALAXIES)
    ident = np.arange(n) + 100
    hlr, q, angle = np.array(GALAXIES).T
    names = [f"real_galaxy_{kind}.fits" for kind in ("images", "PSF_images")]
    tables = {
        CATALOGUE: {
            "IDENT": ident, "RA": np.zeros(n), "DEC": np.zeros(n), "MAG": np.full(n, 22.0),
            "BAND": ["F814W"] * n, "WEIGHT": np.ones(n), "GAL_FILENAME": names[:1] * n,
            "PSF_FILENAME": names[1:] * n, "GAL_HDU": np.arange(n), "PSF_HDU": np.arange(n),
            "PIXEL_SCALE": np.full(n, SCALE), "NOISE_MEAN": np.zeros(n),
            "NOISE_VARIANCE": np.full(n, 1e-5),  # nothing that is drawn may hang on it
            "NOISE_FILENAME": ["acs_I_unrot_sci_20_cf.fits"] * n, "stamp_flux": np.ones(n),
        },
        "real_galaxy_catalog_23.5_example_fits.fits": {
            "IDENT": ident, "mag_auto": np.full(n, 22.0), "flux_radius": hlr / SCALE,
            "zphot": np.ones(n),
            "sersicfit": np.column_stack(
                [np.ones(n), hlr / SCALE / np.sqrt(q), np.ones(n), q] + [np.zeros(n)] * 3 + [angle]
            ),
            "bulgefit": np.zeros((n, 16)), "fit_status": np.ones((n, 5), int),
            "fit_mad_s": np.zeros(n), "fit_mad_b": np.zeros(n), "fit_dvc_btt": np.zeros(n),
            "use_bulgefit": np.zeros(n, int), "viable_sersic": np.ones(n, int),
            "hlr": np.column_stack([hlr, 0 * hlr, 0 * hlr]),
            "flux": np.column_stack([np.ones(n)] + [np.zeros(n)] * 3),
        },
        "real_galaxy_catalog_23.5_example_selection.fits": {
            "IDENT": ident, "dmag": np.zeros(n), "sn_ellip_gauss": np.full(n, 300.0),
            "min_mask_dist_pixels": np.full(n, 60.0),
            "average_mask_adjacent_pixel_count": np.zeros(n),
            "peak_image_pixel_count": np.ones(n),
        },
    }  # fmt: skip
    for name, columns in tables.items():
        Table(columns).write(folder / name)
    assert {path.name for path in folder.iterdir()} == set(FILES)
    return folder


def test_a_galaxy_from_a_cut_out_is_that_galaxy(sample):
    galaxies = GalaxySettings(snr=40.0, profile="real", sample=sample)
    scene = RealScene(SceneSettings(cells=8, galaxies=galaxies), seed=4, block=0)
    shear = (0.04, -0.03)
    light, sources = scene.light(shear), scene.sources
    wcs, psf = quadrant_wcs(scene.frame), psf_profile(scene.settings.psf)
    scale = adu_per_ujy(scene.survey.exposures[0])
    seen = set()
    for i in range(0, len(sources), 2):
        x, y = scene.pixel_xy[i]
        number = int(np.argmin(np.abs(sources.hlr_arcsec[i] - np.array(GALAXIES)[:, 0])))
        seen.add(number)
        if number == 1:  # more than a disc
            continue
        # the catalogue's shape, turned with the galaxy
        disc = galsim.Exponential(half_light_radius=float(sources.hlr_arcsec[i]))
        disc = disc.shear(g1=float(sources.e1[i]), g2=float(sources.e2[i]))
        true = disc.shear(g1=shear[0], g2=shear[1]).withFlux(float(sources.flux_ujy[i]) * scale)
        stamp = galsim.Convolve(true, psf).drawImage(
            nx=40, ny=40, wcs=wcs.local(galsim.PositionD(x + 1, y + 1)),
            center=galsim.PositionD(x, y), dtype=float,
        )  # fmt: skip
        bounds = stamp.bounds
        found = light[bounds.ymin : bounds.ymax + 1, bounds.xmin : bounds.xmax + 1]
        np.testing.assert_allclose(found, stamp.array, atol=5e-3 * stamp.array.max())
        norm = np.sqrt((stamp.array**2).sum()) / scene.noise_adu
        assert norm == pytest.approx(40.0, rel=0.05)  # matched-filter S/N
    assert seen == {0, 1}


def test_equal_settings_draw_equal_galaxies(sample):
    settings = SceneSettings(cells=8, galaxies=GalaxySettings(profile="real", sample=sample))
    one, other = (RealScene(settings, seed=4, block=0).light((0.0, 0.02)) for _ in range(2))
    np.testing.assert_array_equal(one, other)


def test_a_turned_galaxy_is_the_turned_image(sample):
    """With a round PSF, also of a galaxy that half a turn changes."""
    settings = SceneSettings(
        cells=8,
        galaxies=GalaxySettings(profile="real", sample=sample),
        psf={"e1": 0.0, "e2": 0.0},
        margin_px=4,
    )
    scene = RealScene(settings, seed=4, block=0)
    light = scene.light((0.0, 0.0))[4:-4, 4:-4].reshape(8, 64, 8, 64).swapaxes(1, 2)
    cells = light.reshape(-1, 64, 64)
    lopsided = np.abs(scene.sources.hlr_arcsec - GALAXIES[1][0]) < 1e-6
    for first in range(0, 64, UNIT):
        for before, after in ((0, 2), (4, 6)):
            one, turned = cells[first + before], cells[first + after]
            np.testing.assert_allclose(np.rot90(one, -1), turned, atol=5e-3 * one.max())
            if lopsided[first]:
                assert np.abs(np.rot90(one, 1) - turned).max() > 0.05 * one.max()
    assert lopsided.any()


def test_a_unit_of_real_galaxies_has_no_shape(sample):
    galaxies = GalaxySettings(profile="real", sample=sample)
    scene = RealScene(SceneSettings(cells=8, galaxies=galaxies), seed=4, block=0)
    shape = (scene.sources.e1 + 1j * scene.sources.e2).reshape(-1, UNIT)
    assert np.abs(shape).min() > 0.1
    np.testing.assert_allclose(shape.sum(axis=1), 0.0, atol=1e-12)


def test_a_case_of_real_galaxies_names_their_sample():
    scene = {"galaxies": {"profile": "real"}}
    with pytest.raises(ValueError, match="sample: needed for the profile real"):
        Case(name="a", level=4, shows="x", blocks=1, scene=scene)


def test_a_sample_that_cannot_be_had_says_why(tmp_path, monkeypatch):
    def create(folder: Path, with_pip: bool) -> None:
        python = folder / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.write_text("#!/bin/sh\necho ERROR: No matching distribution found\nexit 1\n")
        python.chmod(0o755)

    monkeypatch.setattr(cosmos_sample.venv, "create", create)
    with pytest.raises(InputError, match=r"No matching distribution found.*galsim==2\.0\.7"):
        cosmos_sample.fetch_sample(tmp_path / "cosmos")
    assert not (tmp_path / "cosmos").exists()
