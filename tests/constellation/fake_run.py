"""A run of a few tiles with made-up results, to be assembled and published."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from constellation.catalog_assembler import assemble
from constellation.catalogue.published import PublishedCatalogue
from constellation.catalogue.subtile_results import PlannedTile
from constellation.plan import SubTile
from constellation.run_layout import Run
from shine.errors import Kind

from .fake_results import Result, place

TILES = {11: (10.0, 0.0), 12: (10.5, 0.0), 13: (359.9, -60.0)}


@dataclass(frozen=True)
class FakeRun:
    """Tiles of 1 x 2 sub-tiles in a folder with `config.yaml`."""

    folder: Path

    @classmethod
    def create(cls, folder: Path, tiles: Sequence[int] = (11, 12)) -> FakeRun:
        """A run of some of the tiles, with two sources in each sub-tile and nothing assembled."""
        folder.mkdir(parents=True, exist_ok=True)
        made = cls(folder)
        made.plan(tiles)
        for subtile in made.run.plan.subtiles:
            made.write(subtile)
        return made

    def plan(self, tiles: Sequence[int], **settings: Any) -> None:
        """Write the configuration, and the list of the tiles."""
        rows = [f"{tile},{TILES[tile][0]},{TILES[tile][1]}" for tile in tiles]
        (self.folder / "tiles.csv").write_text("\n".join(["tile_index,ra,dec", *rows, ""]))
        tiling = {"tiles": str(self.folder / "tiles.csv"), "sub_tile_grid": [1, 2]} | settings
        config = {
            "tiling": tiling,
            "data": {"survey": "nowhere"},
            "output": {"results": str(self.folder / "results")},
        }
        (self.folder / "config.yaml").write_text(yaml.safe_dump(config))

    @property
    def run(self) -> Run:
        """As it is configured now."""
        return Run.from_config(self.folder / "config.yaml")

    @property
    def results(self) -> Path:
        """The folder of everything."""
        return self.folder / "results"

    def subtiles(self, tile: int) -> Path:
        """The folder of the results of a tile's sub-tiles."""
        return self.results / "subtiles" / str(tile)

    def write(self, subtile: SubTile, result: Result | None = None) -> Path:
        """Write a result, by default one that is well."""
        ids = {10 * (10 * subtile.tile_id + subtile.col) + n: Kind.GALAXY for n in (2, 1)}
        placed = place(self.run.plan, result or Result(subtile, ids))
        if result is None:
            placed = replace(placed, radec=placed.middle)
        return placed.write(self.subtiles(subtile.tile_id))

    def log(self, subtile: SubTile, text: str) -> Path:
        """Write the log of a sub-tile's job."""
        path = self.results / "logs/subtiles" / str(subtile.tile_id) / f"{subtile.stem}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def middle(self, subtile: SubTile) -> tuple[float, float]:
        """Where the plan has a sub-tile."""
        return PlannedTile.of(self.run.plan, subtile.tile_id).middles[subtile]

    def assemble(self, allow_failed: bool = False) -> list[str]:
        """Assemble and publish by hand; returns what is told."""
        return list(assemble(self.run, allow_failed))

    @property
    def published(self) -> PublishedCatalogue:
        """The catalogue as it is now."""
        return PublishedCatalogue(self.results / "catalogue")

    def files(self, folder: str) -> dict[str, bytes]:
        """The content of a folder's files."""
        top = self.results / folder
        return {
            str(path.relative_to(top)): path.read_bytes()
            for path in sorted(top.rglob("*"))
            if path.is_file()
        }

    def inodes(self, folder: str) -> dict[str, tuple[int, int]]:
        """Which file each name of a folder stands for.

        An inode that was freed may be given to the next file: their times tell these apart.
        """
        top = self.results / folder
        found = {path.relative_to(top): path.stat() for path in top.rglob("*") if path.is_file()}
        return {str(name): (stat.st_ino, stat.st_mtime_ns) for name, stat in found.items()}
