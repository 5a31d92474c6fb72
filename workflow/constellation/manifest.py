"""Manifests of a tile's sub-tiles: who is core, who is modelled, which quadrants see them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from lsst import sphgeom

from constellation.discovery import QuadrantIndex, convex_polygon
from constellation.exposure_headers import rebased
from constellation.mer_catalogue import Sources, read_sources
from constellation.plan import Plan, SubTile
from constellation.survey_files import (
    MER_PRODUCTS,
    File,
    as_file,
    match_tiles,
    pick_tiles,
)
from constellation.tiling import Flags, Floats, Grid, Integers
from shine.errors import InputError
from shine.manifest import Manifest, QuadrantFiles, SkyBounds, read_manifest, write_manifest


@dataclass(frozen=True)
class TileFiles:
    """The MER files of some tiles; None for a kind that the manifests shall not name."""

    catalogues: Mapping[int, File]
    morphology: Mapping[int, File] | None = None
    segmentation: Mapping[int, File] | None = None

    @classmethod
    def of(cls, given: Mapping[str, Sequence[str] | None], tiles: Sequence[int]) -> TileFiles:
        """The files of some tiles among those `given` by kind.

        Raises `InputError` naming a tile that lacks one of a kind that is given at all.
        """
        picked = {}
        for kind, product in MER_PRODUCTS.items():
            if given[kind]:
                found = match_tiles(map(as_file, given[kind]), product)
                files = pick_tiles(found, tiles, product, f"--{kind}")
                picked[kind] = dict(zip(tiles, files, strict=True))
        return cls(**picked)


def build_manifests(
    plan: Plan, tile_id: int, index: QuadrantIndex, files: TileFiles, folder: Path
) -> list[Manifest]:
    """Return the manifests of a tile's planned sub-tiles, with paths relative to `folder`.

    `files` gives those of each of `plan.catalogue_tiles(tile_id)`.
    """
    tiles = plan.catalogue_tiles(tile_id)
    sources = read_sources(files.catalogues[tile] for tile in tiles)
    grid = plan.grid(tile_id)
    rows, cols = grid.core_cells(sources.vectors)
    in_row, in_col = grid.extended_cells(sources.vectors)
    return [
        _manifest(
            subtile,
            _Members(
                sources,
                core=(rows == subtile.row) & (cols == subtile.col),
                extended=in_row[:, subtile.row] & in_col[:, subtile.col],
            ),
            grid,
            _Files(index, files, tiles, folder),
        )
        for subtile in plan.by_tile.get(tile_id, [])
    ]


def write_manifests(manifests: Iterable[Manifest], folder: Path) -> list[Path]:
    """Write manifests as `{stem}.yaml` into a folder; returns the paths."""
    written = []
    for manifest in manifests:
        written.append(folder / f"{manifest.stem}.yaml")
        write_manifest(manifest, written[-1])
    return written


def check_unique(paths: Iterable[Path]) -> None:
    """Raise `InputError`, naming both files, if two manifests describe one sub-tile."""
    seen: dict[SubTile, Path] = {}
    for path in sorted(paths):
        manifest = read_manifest(path)
        key = SubTile(manifest.tile_id, manifest.sub_tile_row, manifest.sub_tile_col)
        if key in seen:
            raise InputError(
                f"{seen[key]} and {path}: both are manifests of sub-tile {key.stem}, "
                "expected one; remove the wrong one"
            )
        seen[key] = path


@dataclass(frozen=True)
class _Members:
    sources: Sources
    core: Flags
    extended: Flags


@dataclass(frozen=True)
class _Files:
    index: QuadrantIndex
    mer: TileFiles
    tiles: list[int]  # by the number of the catalogue in `Sources`
    folder: Path

    def of_tiles(self, found: Mapping[int, File] | None, numbers: list[int]) -> list[str] | None:
        """Files of the tiles with some numbers, with paths from this folder."""
        if found is None:
            return None
        return [rebased(found[self.tiles[number]], self.folder) for number in numbers]

    def quadrants(self, rows: Integers) -> list[QuadrantFiles]:
        """Files of some rows of the index, with paths from this folder."""
        listed = []
        for row in self.index.table.take(rows).to_pylist():
            frame, background, psf, weight = (
                None if row[name] is None else rebased(self.index.locate(row[name]), self.folder)
                for name in ("FRAME", "BACKGROUND", "PSF", "WEIGHT")
            )
            listed.append(
                QuadrantFiles(
                    sci_path=frame,
                    rms_path=frame,
                    flg_path=frame,
                    psf_path=psf,
                    bkg_path=background,
                    wgt_path=weight,
                    quadrant=row["QUADRANT"],
                    version=row["DATASUM"],
                )
            )
        return listed


def _manifest(subtile: SubTile, members: _Members, grid: Grid, files: _Files) -> Manifest:
    sources = members.sources
    extended = grid.extended_corners(subtile.row, subtile.col, sources.vectors[members.extended])
    core_ra, core_dec = _bounds(grid.core_corners(subtile.row, subtile.col))
    extended_ra, extended_dec = _bounds(extended)
    contributing = sorted({0, *sources.catalogue[members.extended].tolist()})
    return Manifest(
        tile_id=subtile.tile_id,
        sub_tile_row=subtile.row,
        sub_tile_col=subtile.col,
        sky_bounds=SkyBounds(
            core_ra=core_ra, core_dec=core_dec, extended_ra=extended_ra, extended_dec=extended_dec
        ),
        quadrants=files.quadrants(files.index.overlapping(extended)),
        source_catalog=files.of_tiles(files.mer.catalogues, contributing),
        morphology_catalog=files.of_tiles(files.mer.morphology, contributing),
        segmentation_map=files.of_tiles(files.mer.segmentation, contributing),
        source_ids=sources.object_id[members.extended].tolist(),
        core_source_ids=sources.object_id[members.core].tolist(),
    )


def _bounds(corners: Floats) -> tuple[tuple[float, float], tuple[float, float]]:
    """Right ascension (lo > hi across 0h) and declination ranges of a polygon, degrees."""
    polygon = convex_polygon(corners)
    latitude = polygon.getBoundingBox().getLat()
    declinations = _rounded(latitude.getA().asDegrees()), _rounded(latitude.getB().asDegrees())
    if any(polygon.contains(sphgeom.UnitVector3d(0.0, 0.0, pole)) for pole in (-1.0, 1.0)):
        return (0.0, 360.0), declinations
    # not from the bounding box, which is the full circle for a polygon across 0h
    ra = np.rad2deg(np.arctan2(corners[:, 1], corners[:, 0]))
    from_first = np.mod(ra - ra[0] + 180.0, 360.0) - 180.0
    west, east = (np.mod(ra[0] + edge, 360.0) for edge in (from_first.min(), from_first.max()))
    return (_rounded(west), _rounded(east)), declinations


def _rounded(degrees: float) -> float:
    return round(float(degrees), 7)  # 0.4 milli-arcsec: for people and plots
