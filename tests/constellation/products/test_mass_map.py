"""Mass maps: what GalSim's NFW halo weighs, where it stands, and no B mode but noise."""

from __future__ import annotations

import galsim
import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from scipy.ndimage import gaussian_filter

from constellation.mock_survey.lensing import reduced_shear
from constellation.products.fits_files import write_images
from constellation.products.frames import great_circles
from constellation.products.grid import Grid
from constellation.products.mass_map import kaiser_squires, mass_map
from shine.errors import ConfigurationError, InputError
from tests.constellation.products.simulated import SIGMA_E, carried, galsim_shear, publish, shapes
from tests.constellation.products.test_profile import halo

CLUSTER = galsim.NFWHalo(mass=4e14, conc=4.0, redshift=0.3, halo_pos=galsim.PositionD(90.0, -150.0))


def axes(n, side_arcsec):
    x = (np.arange(n) - (n - 1) / 2.0) * side_arcsec
    return np.meshgrid(x, x)  # columns to west, rows to north


def test_the_inversion_of_galsims_shear_is_galsims_convergence():
    west, north = axes(256, 6.0)
    g1, g2 = galsim_shear(CLUSTER, west.ravel(), north.ravel(), reduced=False)
    shear = (g1 + 1j * g2).reshape(west.shape)
    kappa = kaiser_squires(shear)
    true = CLUSTER.getConvergence((west.ravel(), north.ravel()), 1.0).reshape(west.shape)
    smooth = [gaussian_filter(x, 2.0) for x in (kappa.real, kappa.imag, true)]
    away = np.hypot(west - 90.0, north + 150.0)
    near = (away > 20.0) & (away < 200.0)
    # up to the mean of the field, which no shear tells
    offset = np.mean(smooth[2][near] - smooth[0][near])
    assert 0.0 < offset < 0.03
    np.testing.assert_allclose(smooth[0][near] + offset, smooth[2][near], atol=0.012)
    assert np.ptp(smooth[2][near]) > 0.2
    assert np.abs(smooth[1][near]).max() < 0.006
    row, column = np.unravel_index(np.argmax(smooth[0]), away.shape)
    assert (west[row, column], north[row, column]) == pytest.approx((90.0, -150.0), abs=6.0)


def test_a_b_mode_is_the_imaginary_part():
    west, north = axes(128, 10.0)
    g1, g2 = galsim_shear(CLUSTER, west.ravel(), north.ravel(), reduced=False)
    shear = (g1 + 1j * g2).reshape(west.shape)
    kappa, turned = kaiser_squires(shear), kaiser_squires(1j * shear)
    np.testing.assert_allclose(turned, 1j * kappa, atol=1e-12)


@pytest.mark.parametrize("place", [(57.0, -51.0), (0.0, -85.0)])
def test_pixels_have_the_coordinates_of_their_header(place, tmp_path):
    grid = Grid.of_area((*place, 30.0, 20.0), 0.7)
    assert grid.shape == (29, 43)
    rows = np.arange(29 * 43).reshape(grid.shape).astype(float)
    write_images({"N": (rows, "numbers")}, grid.wcs, tmp_path / "n.fits")
    with fits.open(tmp_path / "n.fits") as hdus:
        wcs, image = WCS(hdus["N"].header), hdus["N"].data
    rng = np.random.default_rng(0)
    x, y = rng.uniform(-0.49, 42.49, 200), rng.uniform(-0.49, 28.49, 200)
    sky = wcs.pixel_to_world(x, y)
    found = grid.pixels(sky.ra.deg, sky.dec.deg)
    assert found.tolist() == image[np.rint(y).astype(int), np.rint(x).astype(int)].tolist()
    ra, dec = grid.positions(np.arange(43), np.full(43, 3))
    expected = wcs.pixel_to_world(np.arange(43), np.full(43, 3))
    assert great_circles(ra, dec, expected.ra.deg, expected.dec.deg).length.max() < 1e-11
    assert wcs.pixel_to_world(0, 0).directional_offset_by(0, 0).ra.deg > ra[-1] or place[0] == 0.0
    outside = grid.pixels(np.array([place[0] + 180.0, place[0]]), np.array([0.0, place[1] + 1.0]))
    assert outside.tolist() == [-1, -1]


@pytest.fixture(scope="module", params=[(57.0, -51.0), (0.0, -85.0)], ids=["57 -51", "0h -85"])
def field(request, tmp_path_factory):
    """20 arcmin of galaxies (as many as 20 per arcmin^2) with a cluster west and south of them."""
    place, rng = request.param, np.random.default_rng(7)
    grid = Grid.of_area((*place, 20.0, 20.0), 0.5)
    x, y = rng.uniform(-0.5, 39.5, (2, 8000))
    sky = grid.wcs.pixel_to_world(x, y)
    ra, dec = sky.ra.deg, sky.dec.deg
    centre = grid.wcs.pixel_to_world(27.0, 13.0)
    g1, g2 = reduced_shear(halo((centre.ra.deg, centre.dec.deg), 1e15), ra, dec, None)
    shear = np.where(np.hypot(g1, g2) > 0.45, 0.0, g1 + 1j * g2)
    samples = shapes(shear, rng, count=16, paired=False)
    folder = tmp_path_factory.mktemp("field") / "c"
    return publish(folder, ra, dec, samples), grid


def test_a_cluster_stands_out_where_it_is(field):
    galaxies, grid = field
    found = mass_map(galaxies, grid, 1.0, SIGMA_E)
    x, y = found.peak()
    assert np.hypot(x - 27.0, y - 13.0) < 1.5
    assert found.kappa.real[y, x] > 0.2
    assert found.kappa.real[y, x] / found.error[y, x] > 8.0
    assert found.known.all() and found.n_galaxies.sum() == 8000
    pulls = found.kappa.imag / found.error
    inside = pulls[4:-4, 4:-4]
    assert np.std(inside) == pytest.approx(1.0, abs=0.35) and np.abs(inside).max() < 4.5


def test_a_large_shear_is_found_too(tmp_path):
    """One expansion around zero would be 8 per cent off at g = 0.25."""
    place, rng = (0.0, -89.5), np.random.default_rng(6)
    grid = Grid.of_area((*place, 30.0, 15.0), 0.5)
    sky = grid.wcs.pixel_to_world(*rng.uniform(-0.5, (59.5, 29.5), (2500, 2)).repeat(2, axis=0).T)
    ra, dec = sky.ra.deg, sky.dec.deg
    strong = 0.2 - 0.15j
    # one shear in the frame of the image's centre, by a rotation of the sphere
    own = strong * np.exp(-2j * carried(ra, dec, *place))
    galaxies = publish(tmp_path / "c", ra, dec, shapes(own, rng, count=24))
    found = mass_map(galaxies, grid, 2.0, SIGMA_E)
    inside = found.shear[6:-6, 6:-6]
    assert inside.mean() / strong == pytest.approx(1.0, abs=0.015)
    assert np.abs(inside / strong - 1.0).max() < 0.1


def test_the_error_is_the_scatter_of_maps_of_other_galaxies(tmp_path):
    rng = np.random.default_rng(9)
    grid = Grid.of_area((57.0, -51.0, 10.0, 10.0), 0.5)
    maps, errors = [], []
    for n in range(12):
        sky = grid.wcs.pixel_to_world(*rng.uniform(-0.5, 19.5, (2, 1200)))
        samples = shapes(np.zeros(1200, complex), rng, count=16, paired=False)
        galaxies = publish(tmp_path / str(n), sky.ra.deg, sky.dec.deg, samples)
        found = mass_map(galaxies, grid, 1.0, SIGMA_E)
        maps += [found.kappa.real, found.kappa.imag]
        errors.append(found.error)
    inside = (slice(4, -4), slice(4, -4))
    scatter = np.sqrt(np.mean(np.square(maps), axis=0))[inside]
    assert scatter.mean() == pytest.approx(np.mean(errors, axis=0)[inside].mean(), rel=0.12)


def test_where_there_are_no_galaxies_there_is_no_map(tmp_path):
    rng = np.random.default_rng(9)
    grid = Grid.of_area((57.0, -51.0, 20.0, 10.0), 0.5)
    sky = grid.wcs.pixel_to_world(rng.uniform(-0.5, 19.5, 1000), rng.uniform(-0.5, 19.5, 1000))
    samples = shapes(np.zeros(1000, complex), rng, count=8)
    galaxies = publish(tmp_path / "c", sky.ra.deg, sky.dec.deg, samples)
    found = mass_map(galaxies, grid, 0.7, SIGMA_E)
    assert found.known[:, :18].all() and not found.known[:, 24:].any()
    table = found.table()
    assert table.num_rows == found.known.sum()
    row = table.to_pylist()[100]
    assert row["KAPPA_E"] == found.kappa.real[row["Y"], row["X"]]
    image = found.images()["KAPPA_E"][0]
    assert np.isnan(image).sum() == (~found.known).sum()
    with pytest.raises(InputError, match="nowhere 5 galaxies"):
        mass_map(galaxies, Grid.of_area((60.0, -51.0, 5.0, 5.0), 0.5), 0.7, SIGMA_E)


def test_an_image_of_all_galaxies_holds_them_all(tmp_path):
    rng = np.random.default_rng(9)
    ra, dec = (359.9 + rng.uniform(0.0, 0.2, 500)) % 360.0, rng.uniform(-60.1, -59.9, 500)
    galaxies = publish(tmp_path / "c", ra, dec, shapes(np.zeros(500, complex), rng, count=4))
    grid = Grid.of_all(galaxies, 0.5)
    assert (grid.pixels(ra, dec) >= 0).all()
    assert grid.shape[0] <= 26 and grid.shape[1] <= 14


@pytest.mark.parametrize(
    ("size", "message"), [(1500.0, "at most 20 degrees"), (1000.0, "5000 pixels along a side")]
)
def test_an_image_that_is_too_large_is_refused(size, message):
    with pytest.raises(ConfigurationError, match=message):
        Grid.of_area((0.0, 0.0, size, 1.0), 0.2)
