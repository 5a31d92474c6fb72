"""The PSF grid: which stamp belongs where, and how positions between the nodes get theirs."""

import numpy as np
import pytest

from shine.errors import InputError
from shine.euclid.config import PsfConfig
from shine.euclid.psf import PsfGrid

FRAME = (2066, 2048)


def grid_image(size=21):
    """Every pixel of the stamp at (row j, column i) holds 1 + j + 10 i, but for a marked corner."""
    image = np.zeros((9 * size, 9 * size), ">f4")  # big-endian, as FITS has it
    for j, i in np.ndindex(9, 9):
        image[j * size : (j + 1) * size, i * size : (i + 1) * size] = 1 + j + 10 * i
        image[j * size, i * size + 1] = 500.0
    return image


def read(image):
    return PsfGrid.from_image(image, FRAME, "psf.fits[3-4.F]")


def test_rows_go_with_y_and_columns_with_x():
    grid = read(grid_image())
    assert grid.stamps.dtype == np.float32
    assert grid.stamps.dtype.isnative
    assert grid.stamps.shape == (9, 9, 21, 21)
    assert grid.stamps[2, 7, 10, 10] == 1 + 2 + 70
    assert (grid.stamps[:, :, 0, 1] == 500.0).all()  # the stamps are not transposed


def test_nodes_are_cell_centres():
    grid = read(grid_image())
    assert grid.x_nodes[0] == pytest.approx(0.5 * 2048 / 9 - 0.5)
    assert grid.y_nodes[8] == pytest.approx(8.5 * 2066 / 9 - 0.5)
    assert grid.x_nodes.mean() == pytest.approx((2048 - 1) / 2)


def test_the_grid_is_arranged_as_the_configuration_says():
    image = grid_image()
    image[3 * 21 : 4 * 21, 6 * 21 : 7 * 21] = np.nan  # row 3, column 6
    grid = read(image)
    assert grid.arranged(PsfConfig()) is grid
    turned = grid.arranged(PsfConfig(grid_order="columns"))
    assert turned.stamps[7, 2, 10, 10] == 1 + 2 + 70
    assert (turned.stamps[0, :, 0, 1] == 500.0).all()
    np.testing.assert_array_equal(np.argwhere(~turned.usable), [[6, 3]])
    wide = grid.arranged(PsfConfig(grid_nodes="edges"))
    assert (wide.x_nodes[0], wide.x_nodes[8]) == pytest.approx((-0.5, 2047.5))
    assert (wide.y_nodes[0], wide.y_nodes[8]) == pytest.approx((-0.5, 2065.5))
    np.testing.assert_allclose(wide.at([2047.5], [-0.5])[0, 10, 10], 1 + 80)


def test_bilinear_between_nodes_and_exact_on_them():
    grid = read(grid_image())
    x, y = np.meshgrid(grid.x_nodes, grid.y_nodes)
    at_nodes = grid.at(x.ravel(), y.ravel()).reshape(9, 9, 21, 21)
    np.testing.assert_allclose(at_nodes, grid.stamps, rtol=1e-5)
    step = grid.x_nodes[1] - grid.x_nodes[0]
    between = grid.at([grid.x_nodes[3] + 0.25 * step], [grid.y_nodes[5]])
    assert between[0, 10, 10] == pytest.approx(1 + 5 + 10 * 3.25)
    step = grid.y_nodes[1] - grid.y_nodes[0]
    between = grid.at([grid.x_nodes[3]], [grid.y_nodes[5] + 0.75 * step])
    assert between[0, 10, 10] == pytest.approx(1 + 5.75 + 30)


def test_constant_beyond_the_outer_nodes():
    grid = read(grid_image())
    corners = grid.at([-500.0, 5000.0, -500.0], [-500.0, 5000.0, 5000.0])
    np.testing.assert_allclose(corners[:, 10, 10], [1, 1 + 8 + 80, 1 + 8], rtol=1e-6)


def test_sums_are_kept():
    image = np.full((189, 189), 0.95 / 441, np.float32)
    assert read(image).at([700.0], [300.0]).sum() == pytest.approx(0.95, rel=1e-5)


def test_other_odd_stamp_sizes_and_no_position_at_all():
    grid = read(np.ones((9 * 63, 9 * 63), np.float32))
    assert grid.at([1.0, 2.0], [3.0, 4.0]).shape == (2, 63, 63)
    assert grid.at([], []).shape == (0, 63, 63)


def test_positions_must_be_known():
    with pytest.raises(ValueError, match="not finite"):
        read(grid_image()).at([np.nan], [1.0])


def spoilt(j, i, value):
    image = np.ones((189, 189), np.float32)
    image[j * 21 : (j + 1) * 21, i * 21 : (i + 1) * 21] = value
    return image


@pytest.mark.parametrize(
    ("image", "problem"),
    [
        (np.ones((190, 190)), "190 x 190 pixels, expected a square grid"),
        (np.ones((189, 180)), "189 x 180 pixels"),
        (np.ones((180, 180)), "180 x 180 pixels"),  # stamps of even size have no middle pixel
        (np.zeros((189, 189)), "no stamp that is finite and has a positive sum"),
        (np.full((189, 189), np.nan), "no stamp that is finite"),
    ],
)
def test_unusable_grids_are_named(image, problem):
    with pytest.raises(InputError, match=problem) as caught:
        read(image)
    assert "psf.fits[3-4.F]" in str(caught.value)


@pytest.mark.parametrize("value", [np.nan, 0.0, -1.0])
def test_a_broken_stamp_is_known_where_it_would_be_used(value):
    grid = read(spoilt(4, 6, value))
    assert np.argwhere(~grid.usable).tolist() == [[4, 6]]
    x, y = grid.x_nodes, grid.y_nodes
    # at the node, between it and the next, at the next, and beyond
    at = [x[6], 0.5 * (x[6] + x[7]), x[7], x[8]]
    assert grid.knows(at, np.full(4, y[4])).tolist() == [False, False, True, True]
    assert np.isfinite(grid.stamps).all()
