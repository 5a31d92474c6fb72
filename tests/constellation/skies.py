"""Tile lists and sources all over the sky, for property-based tests."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from astropy_healpix import level_ipix_to_uniq, xyz_to_healpix
from hypothesis import strategies as st

from constellation.sphere import RADIANS_PER_ARCMIN, TangentPlane
from constellation.tile_cores import FINEST_LEVEL, TileCores
from constellation.tile_lists import sky_tiles
from constellation.tiling import Grid, Tiles

N_SOURCES = 300
CORE_LEVEL = 9  # cells of 6.9 arcmin
EITHER = st.booleans()
PLACES = [(ra, dec) for ra in (0.0, 359.9, 123.4) for dec in (-90, -89.8, -51, 0, 47.3, 89.6, 90)]


@dataclass(frozen=True)
class Sky:
    """Tiles, sources as unit vectors (n, 3), and how the tiles are cut."""

    tiles: Tiles
    vectors: np.ndarray
    shape: tuple[int, int]
    margin_rad: float

    def grids(self) -> list[Grid]:
        """The grid of each tile."""
        places = range(len(self.tiles.index))
        return [Grid(self.tiles, place, self.shape, self.margin_rad) for place in places]


@st.composite
def skies(draw, with_cores=EITHER):
    """A few tiles and sources around a place: poles and 0h included, any grid and margin."""
    ra0, dec0 = draw(st.sampled_from(PLACES))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    plane = TangentPlane.at(ra0, dec0)
    layout = draw(st.sampled_from([square, shaken, rows, single]))
    centres = layout(plane, rng)
    spread = np.deg2rad(draw(st.sampled_from([0.4, 1.0])))
    vectors = plane.unproject(*(rng.normal(size=(2, N_SOURCES)) * spread))
    index = rng.permutation(1000)[: len(centres)]
    cores = random_cores(centres, index, rng) if draw(with_cores) else None
    tiles = Tiles.from_columns(index, *angles(centres), cores)
    side = st.sampled_from([1, 2, 3, 4, 12, 60, 128])
    margin = draw(st.sampled_from([0.3, 1.0, 9.0])) * RADIANS_PER_ARCMIN
    return Sky(tiles, vectors, (draw(side), draw(side)), margin)


def square(plane, rng):
    """Centres (n, 3) on a square lattice, a part of which is missing: gaps."""
    cells = np.array([(i, j) for i in range(3) for j in range(3)]) - 1.0
    kept = rng.permutation(9)[: rng.integers(2, 10)]
    return plane.unproject(*(cells[kept].T * np.deg2rad(0.5)))


def shaken(plane, rng):
    """The same, moved at random."""
    centres = square(plane, rng)
    centres += np.deg2rad(0.1) * rng.normal(size=centres.shape)
    return centres / np.linalg.norm(centres, axis=1, keepdims=True)


def rows(plane, rng):
    """Centres in rows of declination with unequal steps of right ascension, some missing."""
    near = SKY.near(plane.centre, np.deg2rad(1.2))
    return SKY.centres[rng.permutation(near)[: rng.integers(2, len(near) + 1)]]


def single(plane, rng):
    """One centre."""
    return plane.unproject(*rng.uniform(-0.003, 0.003, (2, 1)))


def random_cores(centres, index, rng):
    """Cores that differ from the nearest-centre regions, with gaps and overlaps, some empty."""
    spread = np.deg2rad(1.2)
    middle = centres.mean(axis=0)
    ra, dec = angles((middle / np.linalg.norm(middle))[None])
    points = TangentPlane.at(ra[0], dec[0]).unproject(*rng.uniform(-spread, spread, (2, 5000)))
    shift = 0.002 * rng.normal(size=3)
    distance = np.linalg.norm(points[:, None] - (centres + shift), axis=2)
    cell = xyz_to_healpix(*points.T, nside=2**CORE_LEVEL, order="nested")
    cell, first = np.unique(cell, return_index=True)
    owner, runner_up = np.argsort(distance[first], axis=1)[:, [0, -1 if len(centres) < 2 else 1]].T
    reachable = distance[first].min(axis=1) < np.deg2rad(1.0)
    taken = reachable & (rng.uniform(size=len(cell)) > 0.1)
    shared = taken & (rng.uniform(size=len(cell)) < 0.1)
    cells = [
        merged(np.concatenate([cell[taken & (owner == n)], cell[shared & (runner_up == n)]]))
        for n in range(len(index))
    ]
    return TileCores.from_lists(cells)


def merged(cell):
    """NUNIQ numbers of cells of `CORE_LEVEL`, four of them as one of the next level if complete."""
    found = []
    for level in range(CORE_LEVEL, 5, -1):
        cell = np.unique(cell)
        parent, inverse, count = np.unique(cell >> 2, return_inverse=True, return_counts=True)
        whole = count == 4
        found.append(level_ipix_to_uniq(level, cell[~whole[inverse]]))
        cell = parent[whole]
    found.append(level_ipix_to_uniq(5, cell))
    return np.concatenate(found).astype(np.int64)


def holders(tiles, vectors):
    """Which tiles' cores hold each source, tried cell by cell: flags (n, n_tiles)."""
    place = xyz_to_healpix(*vectors.T, nside=2**FINEST_LEVEL, order="nested")
    levels = np.arange(FINEST_LEVEL + 1)
    numbers = (place[:, None] >> 2 * (FINEST_LEVEL - levels)) + 4 ** (levels + 1)
    cores = [tiles.cores.of(place) for place in range(len(tiles.index))]
    return np.stack([np.isin(numbers, core).any(axis=1) for core in cores], axis=1)


def angles(vectors):
    """Right ascension and declination, deg."""
    ra = np.mod(np.rad2deg(np.arctan2(vectors[:, 1], vectors[:, 0])), 360.0)
    return ra, np.rad2deg(np.arctan2(vectors[:, 2], np.hypot(vectors[:, 0], vectors[:, 1])))


SKY = sky_tiles()
