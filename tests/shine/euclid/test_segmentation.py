"""Segments of masked objects: found in maps of either numbering, and taken out of the weights."""

from pathlib import Path

import galsim
import numpy as np
import pytest
from astropy.io import fits

from shine.errors import InputError
from shine.euclid import segmentation
from shine.euclid.segmentation import Objects, outline
from shine.euclid.sky_mask import SkyMask
from shine.euclid.wcs import QuadrantWCS
from tests.shine.euclid.subtile import galsim_wcs
from tests.shine.survey_files import wcs_header

TILE = 102018665
SHAPE = NY, NX = 900, 700
# column, row and half-width of square segments
PLACES = {7: (600, 120, 4), 8: (614, 121, 6), 900_001: (80, 700, 2)}
HEADER = wcs_header("TAN", roll_deg=12.0)


def sky_of(x, y) -> np.ndarray:
    """GalSim's own positions (ra, dec) in degrees of 0-based pixels."""
    wcs = galsim_wcs(HEADER)
    world = [wcs.toWorld(galsim.PositionD(*xy)) for xy in zip(x, y, strict=True)]
    return np.array([[place.ra.deg % 360.0, place.dec.deg] for place in world])


def objects(numbers, shift_px=0.0) -> Objects:
    x, y, _ = np.array([PLACES[n] for n in numbers], float).T
    ra, dec = sky_of(x + shift_px, y).T
    return Objects(TILE * 1_000_000 + np.array(numbers), ra, dec)


def label_map(whole_ids: bool = True) -> np.ndarray:
    labels = np.zeros(SHAPE, np.int64 if whole_ids else np.int32)
    for number, (x, y, half) in PLACES.items():
        labels[y - half : y + half + 1, x - half : x + half + 1] = (
            TILE * 1_000_000 * whole_ids + number
        )
    return labels


def write_map(path: Path, labels: np.ndarray, compressed: bool = False) -> str:
    hdus = [fits.PrimaryHDU(labels, HEADER)]
    if compressed:
        tiles = fits.CompImageHDU(labels, HEADER, compression_type="GZIP_2")
        hdus = [fits.PrimaryHDU(), tiles]
    fits.HDUList(hdus).writeto(path)
    return str(path)


@pytest.mark.parametrize("whole_ids", [True, False])
@pytest.mark.parametrize(("name", "compressed"), [("a.fits", 0), ("a.fits.gz", 0), ("a.fits", 1)])
def test_an_objects_pixels_are_where_galsim_puts_them(tmp_path, whole_ids, name, compressed):
    labels = label_map(whole_ids)
    path = write_map(tmp_path / name, labels, bool(compressed))
    found, pixels = outline([path], objects([8, 900_001], shift_px=1.3))
    assert found.all()
    rows, columns = np.nonzero((labels % 1_000_000 == 8) | (labels % 1_000_000 == 900_001))
    expected = sky_of(columns, rows)
    assert len(pixels) == len(expected) == 13**2 + 5**2
    difference = (pixels - expected) * [np.cos(np.radians(-51.0)), 1.0] * 3600.0
    assert np.abs(difference).max() < 1e-6


def test_an_object_beside_its_segment_has_none(tmp_path):
    path = write_map(tmp_path / "a.fits", label_map())
    off = objects([7], shift_px=30.0)  # on the sky
    on_another = Objects(objects([7]).segment_id, *objects([8])[1:])
    unknown = Objects(np.array([0]), *objects([8])[1:])
    elsewhere = Objects(objects([7]).segment_id, np.array([120.0]), np.array([10.0]))
    for what in (off, on_another, unknown, elsewhere):
        found, pixels = outline([path], what)
        assert not found.any()
        assert pixels.shape == (0, 2)


def test_each_tile_has_a_map(tmp_path):
    labels = label_map()
    halves = [np.where(np.arange(NX) < 400, labels, 0), np.where(np.arange(NX) < 400, 0, labels)]
    paths = [write_map(tmp_path / f"{k}.fits", half) for k, half in enumerate(halves)]
    found, pixels = outline(paths, objects([7, 900_001]))
    assert found.all()
    assert len(pixels) == 9**2 + 5**2


def test_only_the_rows_around_the_objects_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(segmentation, "REACH_PX", 10)
    path = write_map(tmp_path / "a.fits", label_map())
    before = bytes_read()
    outline([path], objects([7]))
    assert bytes_read() - before < 0.15 * Path(path).stat().st_size


def bytes_read() -> int:
    """By this process, from files, in all its life."""
    return int(Path("/proc/self/io").read_text().split()[1])


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (np.zeros(SHAPE, np.float32), "values of type BITPIX -32, expected integers"),
        (np.zeros((2, 5, 5), np.int32), "no two-dimensional image"),
    ],
)
def test_what_is_no_map_is_named(tmp_path, content, problem):
    path = write_map(tmp_path / "a.fits", content)
    with pytest.raises(InputError, match=problem) as caught:
        outline([path], objects([7]))
    assert path in str(caught.value)


def test_missing_and_damaged_maps_are_named(tmp_path):
    with pytest.raises(InputError, match=r"gone.fits: found No such file"):
        outline([str(tmp_path / "gone.fits")], objects([7]))
    path = Path(write_map(tmp_path / "a.fits", label_map()))
    path.write_bytes(path.read_bytes()[:300_000])
    with pytest.raises(InputError, match=r"a.fits: found a"):
        outline([str(path)], objects([900_001]))
    (tmp_path / "b.fits").write_bytes(b"no FITS at all" * 1000)
    with pytest.raises(InputError, match=r"b\.fits"):
        outline([str(tmp_path / "b.fits")], objects([7]))


@pytest.mark.parametrize("roll_deg", [0.0, 33.0, 45.0])
def test_a_segment_leaves_no_hole_in_a_rolled_quadrant_and_little_beside_it(roll_deg):
    """The segment's outline in the quadrant's pixels, by GalSim's transformations alone."""
    labels = label_map()
    rows, columns = np.nonzero(labels % 1_000_000 == 8)
    header = wcs_header("TPV", roll_deg=roll_deg)
    target, mosaic = galsim.FitsWCS(header=header), galsim_wcs(HEADER)
    middle = target.toImage(mosaic.toWorld(galsim.PositionD(614, 121)))
    header["CRPIX1"] += 60.2 - middle.x
    header["CRPIX2"] += 40.7 - middle.y
    wcs = QuadrantWCS.from_header(header, (100, 120), "here")
    weight = SkyMask(pixels=sky_of(columns, rows)).applied(np.ones((100, 120), np.float32), wcs)
    target = galsim_wcs(header)
    for y, x in np.ndindex(*weight.shape):
        place = mosaic.toImage(target.toWorld(galsim.PositionD(x, y)))
        outside = max(abs(place.x - 614), abs(place.y - 121)) - 6.5
        if outside < 0.0:
            assert weight[y, x] == 0.0
        if outside > 1.5:
            assert weight[y, x] == 1.0


def test_segments_at_the_edges_of_a_quadrant_are_clipped():
    wcs = QuadrantWCS.from_header(HEADER, SHAPE, "here")
    corners = sky_of([-0.7, NX - 0.3, 350.0, -5.0], [-0.7, NY - 0.3, 450.0, 10.0])
    weight = SkyMask(pixels=corners).applied(np.ones(SHAPE, np.float32), wcs)
    masked = {(int(y), int(x)) for y, x in np.argwhere(weight == 0.0)}
    inner = {(row, column) for row in (449, 450, 451) for column in (349, 350, 351)}
    assert masked - inner == {(0, 0), (NY - 1, NX - 1)}
    assert (450, 350) in masked
