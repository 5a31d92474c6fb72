"""The plan of a run: which sub-tiles there are, known from the configuration alone."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from constellation.config import Area, TilingConfig
from constellation.tile_lists import read_tiles
from constellation.tiling import CORE_SIZE_ARCMIN, RADIANS_PER_ARCMIN, Grid, TangentPlane, Tiles
from shine.errors import InputError

# Real mosaics reach 40 arcmin: half their diagonal, from the centre.
CATALOGUE_REACH_ARCMIN = 28.0


@dataclass(frozen=True, order=True)
class SubTile:
    """One sub-tile; `stem` names its files."""

    tile_id: int
    row: int
    col: int

    @property
    def stem(self) -> str:
        """The name of its files without suffix: `{tile}_{row}_{col}`."""
        return f"{self.tile_id}_{self.row}_{self.col}"


@dataclass(frozen=True)
class Plan:
    """The tile list and the sub-tiles to run."""

    tiles: Tiles
    tiling: TilingConfig

    @classmethod
    def from_config(cls, tiling: TilingConfig) -> Plan:
        """Read the tile list and plan the sub-tiles; raises `InputError` if none is left."""
        plan = cls(read_tiles(tiling.tiles), tiling)
        if not plan.by_tile:
            raise InputError(
                f"{tiling.tiles}: no sub-tile has its centre in tiling.area; "
                "move or enlarge the area"
            )
        return plan

    @cached_property
    def by_tile(self) -> dict[int, list[SubTile]]:
        """The planned sub-tiles of each tile that has any, sorted."""
        planned = {}
        for tile_id in self._candidate_tiles():
            if cells := self._cells(tile_id):
                planned[tile_id] = [SubTile(tile_id, row, col) for row, col in cells]
        return planned

    @property
    def subtiles(self) -> list[SubTile]:
        """All planned sub-tiles, sorted."""
        return [subtile for subtiles in self.by_tile.values() for subtile in subtiles]

    @property
    def cell_sets(self) -> dict[tuple[tuple[int, int], ...], list[int]]:
        """The tiles that share one set of planned cells (row, col); usually all of them."""
        sets: dict[tuple[tuple[int, int], ...], list[int]] = {}
        for tile_id, subtiles in self.by_tile.items():
            sets.setdefault(tuple((s.row, s.col) for s in subtiles), []).append(tile_id)
        return sets

    def grid(self, tile_id: int) -> Grid:
        """The sub-tile grid of a tile; raises `InputError` if the tile list lacks it."""
        return Grid(
            self.tiles,
            self.tiles.position(tile_id),
            self.tiling.sub_tile_grid,
            self.tiling.margin_arcmin * RADIANS_PER_ARCMIN,
        )

    def catalogue_tiles(self, tile_id: int) -> list[int]:
        """Tiles whose catalogues may hold sources of a tile's planned sub-tiles, itself first."""
        grid = self.grid(tile_id)
        cell_diagonal = np.hypot(*(CORE_SIZE_ARCMIN / n for n in grid.shape)) / 2.0
        reach = grid.overhang_rad + (
            (cell_diagonal + self.tiling.margin_arcmin + CATALOGUE_REACH_ARCMIN)
            * RADIANS_PER_ARCMIN
        )
        places = {
            int(place)
            for subtile in self.by_tile.get(tile_id, [])
            for place in self.tiles.near(grid.centre(subtile.row, subtile.col), reach)
        }
        return [tile_id, *(int(self.tiles.index[p]) for p in sorted(places - {grid.place}))]

    def _candidate_tiles(self) -> list[int]:
        area = self.tiling.area
        if area is None:
            return [int(index) for index in self.tiles.index]
        half_diagonal = np.hypot(area.width_arcmin, area.height_arcmin) / 2.0
        reach = (half_diagonal + CORE_SIZE_ARCMIN) * RADIANS_PER_ARCMIN
        centre = TangentPlane.at(area.ra, area.dec).centre
        return [int(self.tiles.index[place]) for place in self.tiles.near(centre, reach)]

    def _cells(self, tile_id: int) -> list[tuple[int, int]]:
        grid = self.grid(tile_id)
        cells = [(row, col) for row in range(grid.shape[0]) for col in range(grid.shape[1])]
        if self.tiling.area is None:
            return cells
        inside = _in_area(self.tiling.area, np.array([grid.centre(*cell) for cell in cells]))
        return [cell for cell, keep in zip(cells, inside, strict=True) if keep]


def _in_area(area: Area, vectors: np.ndarray) -> np.ndarray:
    xi, eta = TangentPlane.at(area.ra, area.dec).project(vectors)
    half_width, half_height = (
        np.tan(size / 2.0 * RADIANS_PER_ARCMIN) for size in (area.width_arcmin, area.height_arcmin)
    )
    return (np.abs(xi) <= half_width) & (np.abs(eta) <= half_height)
