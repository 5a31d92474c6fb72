"""The plan of a run: which sub-tiles there are, known from the configuration alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from constellation.config import Area, TilingConfig
from constellation.shards import Shard
from constellation.tile_lists import read_tiles
from constellation.tiling import CORE_SIZE_ARCMIN, RADIANS_PER_ARCMIN, Grid, TangentPlane, Tiles
from shine.errors import InputError, explain

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
    """The tile list and the sub-tiles to run: all of them, or those of one shard.

    Each tile's sub-tiles are worked out when they are asked for: every job of a survey of 60,000
    tiles makes a plan, and most look at one tile.
    """

    tiles: Tiles
    tiling: TilingConfig
    shard: Shard | None = None

    @classmethod
    def from_config(cls, tiling: TilingConfig, shard: Shard | None = None) -> Plan:
        """Read the tile list and plan the sub-tiles; raises `InputError` if none is left."""
        plan = cls(read_tiles(tiling.tiles), tiling, shard)
        if not plan._all_tile_ids:
            raise InputError(
                f"{tiling.tiles}: no sub-tile has its centre in tiling.area; "
                "move or enlarge the area"
            )
        if not plan.tile_ids:
            raise InputError(
                explain(
                    f"shard {shard}",
                    f"no tile, for only {len(plan._all_tile_ids)} are planned",
                    "at least one in each shard",
                    "Choose fewer shards.",
                )
            )
        return plan

    @cached_property
    def tile_ids(self) -> list[int]:
        """The tiles that have planned sub-tiles, sorted."""
        return list(self.shard.of_items(self._all_tile_ids)) if self.shard else self._all_tile_ids

    @cached_property
    def by_tile(self) -> Mapping[int, list[SubTile]]:
        """The planned sub-tiles of each tile that has any, sorted."""
        return _SubTilesByTile(self)

    @property
    def subtiles(self) -> list[SubTile]:
        """All planned sub-tiles, sorted."""
        return [subtile for subtiles in self.by_tile.values() for subtile in subtiles]

    @property
    def middle(self) -> SubTile:
        """The sub-tile whose pixels a figure of the whole run shows."""
        subtiles = self.subtiles
        return subtiles[len(subtiles) // 2]

    @cached_property
    def cell_sets(self) -> dict[tuple[tuple[int, int], ...], list[int]]:
        """The tiles that share one set of planned cells (row, col); usually all of them."""
        if self.tiling.area is None:
            return {tuple(self._grid_cells): self.tile_ids}
        sets: dict[tuple[tuple[int, int], ...], list[int]] = {}
        for tile_id in self.tile_ids:
            sets.setdefault(tuple(self._cells(tile_id)), []).append(tile_id)
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

    @cached_property
    def _all_tile_ids(self) -> list[int]:
        """Those of all shards."""
        if self.tiling.area is None:
            return self.tiles.index.tolist()
        return list(self._cells_in_area)

    @cached_property
    def _grid_cells(self) -> list[tuple[int, int]]:
        n_rows, n_cols = self.tiling.sub_tile_grid
        return [(row, col) for row in range(n_rows) for col in range(n_cols)]

    @cached_property
    def _cells_in_area(self) -> dict[int, list[tuple[int, int]]]:
        """The cells in `tiling.area` of each tile that has any."""
        found = {}
        for tile_id in self._near_area(self.tiling.area):
            grid = self.grid(tile_id)
            centres = np.array([grid.centre(*cell) for cell in self._grid_cells])
            inside = _in_area(self.tiling.area, centres)
            if inside.any():
                found[tile_id] = [self._grid_cells[place] for place in np.flatnonzero(inside)]
        return found

    def _near_area(self, area: Area) -> list[int]:
        half_diagonal = np.hypot(area.width_arcmin, area.height_arcmin) / 2.0
        reach = (half_diagonal + CORE_SIZE_ARCMIN) * RADIANS_PER_ARCMIN
        centre = TangentPlane.at(area.ra, area.dec).centre
        return [int(self.tiles.index[place]) for place in self.tiles.near(centre, reach)]

    def _cells(self, tile_id: int) -> list[tuple[int, int]]:
        if self.tiling.area is None:
            return self._grid_cells
        return self._cells_in_area[tile_id]


class _SubTilesByTile(Mapping[int, list[SubTile]]):
    """The sub-tiles of each tile of a plan, made when they are first looked up."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._tile_ids = frozenset(plan.tile_ids)
        self._made: dict[int, list[SubTile]] = {}

    def __getitem__(self, tile_id: int) -> list[SubTile]:
        if tile_id not in self._tile_ids:
            raise KeyError(tile_id)
        if tile_id not in self._made:
            cells = self._plan._cells(tile_id)
            self._made[tile_id] = [SubTile(tile_id, row, col) for row, col in cells]
        return self._made[tile_id]

    def __contains__(self, tile_id: object) -> bool:
        return tile_id in self._tile_ids

    def __iter__(self) -> Iterator[int]:
        return iter(self._plan.tile_ids)

    def __len__(self) -> int:
        return len(self._plan.tile_ids)


def _in_area(area: Area, vectors: np.ndarray) -> np.ndarray:
    xi, eta = TangentPlane.at(area.ra, area.dec).project(vectors)
    half_width, half_height = (
        np.tan(size / 2.0 * RADIANS_PER_ARCMIN) for size in (area.width_arcmin, area.height_arcmin)
    )
    return (np.abs(xi) <= half_width) & (np.abs(eta) <= half_height)
