"""The pixels of objects in MER segmentation maps, read from the rows around them alone.

A map covers a tile with 19,200 x 19,200 integers (2.7 GB): 0 is sky, the pixels of an object hold
its SEGMENTATION_MAP_ID. No public source says whether that is the whole number or its last six
digits, without the tile's index in front; so the value at the object's own position tells, and an
object whose position holds neither is not taken to have a segment.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import BinaryIO, NamedTuple

import numpy as np
from astropy.io import fits
from astropy.utils.exceptions import AstropyWarning
from numpy.typing import NDArray

from shine.errors import InputError, explain
from shine.euclid import fits_files
from shine.euclid.wcs import QuadrantWCS

Floats = NDArray[np.float64]

IDS_PER_TILE = 1_000_000  # SEGMENTATION_MAP_ID = tile index * this + number in the tile
REACH_PX = 256  # no object's pixels are looked for farther from it
ROWS_AT_ONCE = 256  # 39 MB of a tile's map


class Objects(NamedTuple):
    """The objects whose pixels are wanted, (n,) each."""

    segment_id: NDArray[np.int64]  # SEGMENTATION_MAP_ID
    ra: Floats  # deg
    dec: Floats  # deg


def outline(paths: Iterable[str], objects: Objects) -> tuple[NDArray[np.bool_], Floats]:
    """Which objects (n,) have a segment in one of the maps, and the pixels of all (m, 2: ra, dec).

    Positions in degrees are of the centres of the maps' pixels. InputError names the file that is
    missing, damaged, or no map of integers.
    """
    found, places = np.zeros(len(objects.ra), bool), [np.empty((0, 2))]
    for path in paths:
        with fits_files.open_binary(path) as stream:
            here, pixels = _outline_in(path, stream, objects)
        found |= here
        places.append(pixels)
    return found, np.concatenate(places)


def _outline_in(path: str, stream: BinaryIO, objects: Objects) -> tuple[NDArray[np.bool_], Floats]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AstropyWarning)
            with fits.open(stream, memmap=False, lazy_load_hdus=True) as hdus:
                image = _first_image(hdus, path)
                wcs = QuadrantWCS.from_header(image.header, image.shape, path)
                x, y = wcs.to_pixel(objects.ra, objects.dec)
                columns, rows, inside = _cells(x, y, image.shape)
                if not inside.any():
                    return inside, np.empty((0, 2))
                box = _Box.around(columns[inside], rows[inside], image.shape)
                labels = box.read(image)
    except fits_files.DAMAGE as error:
        found = f"a damaged map ({' '.join(str(error).split())})"
        raise InputError(
            explain(path, found, "a readable segmentation map", fits_files.FETCH_AGAIN)
        ) from error
    label = np.zeros(len(inside), np.int64)
    label[inside] = labels[rows[inside] - box.bottom, columns[inside] - box.left]
    own = (label == objects.segment_id) | (label == objects.segment_id % IDS_PER_TILE)
    own &= label > 0
    lit_rows, lit_columns = np.nonzero(labels)
    wanted = np.isin(labels[lit_rows, lit_columns], label[own])
    ra, dec = wcs.to_sky(lit_columns[wanted] + box.left, lit_rows[wanted] + box.bottom)
    return own, np.column_stack([ra, dec])


def _first_image(hdus: fits.HDUList, path: str) -> fits.ImageHDU:
    for hdu in hdus:
        if hdu.is_image and len(hdu.shape) == 2:
            if hdu.header["BITPIX"] < 0:
                found = f"values of type BITPIX {hdu.header['BITPIX']}"
                action = "Check segmentation_map in the manifest."
                raise InputError(explain(path, found, "integers", action))
            return hdu
    action = "Check segmentation_map in the manifest."
    raise InputError(explain(path, "no two-dimensional image", "a segmentation map", action))


def _cells(
    x: Floats, y: Floats, shape: tuple[int, int]
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.bool_]]:
    """Column and row of the pixel around each position, and which of them are in the image."""
    height, width = shape
    inside = (x > -0.5) & (x < width - 0.5) & (y > -0.5) & (y < height - 0.5)  # NaN: far away
    columns, rows = (np.rint(np.where(inside, v, 0.0)).astype(np.intp) for v in (x, y))
    return columns, rows, inside


class _Box(NamedTuple):
    """A part of an image, in pixels."""

    left: int
    right: int
    bottom: int
    top: int

    @classmethod
    def around(
        cls, columns: NDArray[np.intp], rows: NDArray[np.intp], shape: tuple[int, int]
    ) -> _Box:
        return cls(
            max(int(columns.min()) - REACH_PX, 0),
            min(int(columns.max()) + REACH_PX + 1, shape[1]),
            max(int(rows.min()) - REACH_PX, 0),
            min(int(rows.max()) + REACH_PX + 1, shape[0]),
        )

    def read(self, image: fits.ImageHDU) -> NDArray[np.int64]:
        """Whole rows, which lie together in the file, and of them the columns of the box."""
        labels = np.empty((self.top - self.bottom, self.right - self.left), np.int64)
        for start in range(self.bottom, self.top, ROWS_AT_ONCE):
            stop = min(start + ROWS_AT_ONCE, self.top)
            block = image.section[start:stop]
            labels[start - self.bottom : stop - self.bottom] = block[:, self.left : self.right]
        return labels
