"""The sub-tile in which each source of a whole survey is core."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from constellation.sphere import Integers, unit_vectors
from constellation.tiling import Tiles
from shine.errors import InputError

CHUNK = 2**17  # sources: 60 MB of temporary arrays for each thread


class Assignment(NamedTuple):
    """Where each of n sources is core: `tile_index` int64, `row` and `col` int8, all (n,)."""

    tile_index: Integers
    row: NDArray[np.int8]
    col: NDArray[np.int8]


def assign(
    tiles: Tiles, ra_deg: ArrayLike, dec_deg: ArrayLike, shape: tuple[int, int], threads: int = 1
) -> Assignment:
    """Assign sources, (n,) positions in degrees, to the sub-tiles of grids of one `shape`.

    The same as `Grid.core_cells` finds tile by tile; memory beyond arguments and result does not
    grow with the number of sources. Raises `InputError` on a position that is not finite.
    """
    ra, dec = np.asarray(ra_deg, np.float64), np.asarray(dec_deg, np.float64)
    n = len(ra)
    found = Assignment(np.empty(n, np.int64), np.empty(n, np.int8), np.empty(n, np.int8))

    def fill(start: int) -> None:
        part = slice(start, start + CHUNK)
        vectors = unit_vectors(ra[part], dec[part])
        bad = ~np.isfinite(vectors).all(axis=1)
        if bad.any():
            raise InputError(
                f"source {start + int(np.argmax(bad))} is at ({ra[part][bad][0]}, "
                f"{dec[part][bad][0]}), expected degrees; leave it out"
            )
        owner, found.row[part], found.col[part] = tiles.cells(vectors, shape)
        found.tile_index[part] = tiles.index[owner]

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(fill, range(0, n, CHUNK)))
    return found
