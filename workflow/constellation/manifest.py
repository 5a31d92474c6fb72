"""Manifests of a tile's sub-tiles: who is core, who is modelled, which quadrants see them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import numpy as np
from lsst import sphgeom

from constellation.exposure_headers import rebased
from constellation.mer_catalogue import Sources, read_sources
from constellation.plan import Plan, SubTile
from constellation.quadrant_index import Footprints, QuadrantIndex
from constellation.spherical import convex_polygon
from constellation.survey_files import (
    MER_PRODUCTS,
    File,
    as_file,
    match_tiles,
    pick_tiles,
)
from constellation.tiling import Flags, Floats, Grid
from shine.errors import InputError
from shine.manifest import Manifest, QuadrantFiles, SkyBounds, read_manifest, write_manifest

FORMS = ("yaml", "yaml.gz")  # endings of manifests: as text, or compressed


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
    members = [
        _Members(
            subtile,
            sources,
            core=(rows == subtile.row) & (cols == subtile.col),
            extended=in_row[:, subtile.row] & in_col[:, subtile.col],
        )
        for subtile in plan.by_tile.get(tile_id, [])
    ]
    if not members:
        return []
    areas = np.stack([each.area(grid) for each in members])
    found = _Files(index.near(areas), files, tiles, folder)
    return [_manifest(each, area, grid, found) for each, area in zip(members, areas, strict=True)]


def write_manifests(manifests: Iterable[Manifest], folder: Path, form: str = "yaml") -> list[Path]:
    """Write manifests as `{stem}.{form}` into a folder; returns the paths.

    What there is of a manifest in another of the FORMS is removed.
    """
    written = []
    for manifest in manifests:
        written.append(folder / f"{manifest.stem}.{form}")
        write_manifest(manifest, written[-1])
        for other in FORMS:
            if other != form:
                (folder / f"{manifest.stem}.{other}").unlink(missing_ok=True)
    return written


def list_manifests(folder: Path) -> list[Path]:
    """All manifests in a folder, whatever their form."""
    return sorted(path for form in FORMS for path in folder.glob(f"*.{form}"))


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
    subtile: SubTile
    sources: Sources
    core: Flags
    extended: Flags

    def area(self, grid: Grid) -> Floats:
        """Corners (4, 3) of the box around the extended area."""
        vectors = self.sources.vectors[self.extended]
        return grid.extended_corners(self.subtile.row, self.subtile.col, vectors)


@dataclass(frozen=True)
class _Files:
    footprints: Footprints
    mer: TileFiles
    tiles: list[int]  # by the number of the catalogue in `Sources`
    folder: Path

    def of_tiles(self, found: Mapping[int, File] | None, numbers: list[int]) -> list[str] | None:
        """Files of the tiles with some numbers, with paths from this folder."""
        if found is None:
            return None
        return [rebased(found[self.tiles[number]], self.folder) for number in numbers]

    @cached_property
    def quadrants(self) -> list[QuadrantFiles]:
        """Files of all footprints, with paths from this folder; neighbours share most of them."""

        @cache
        def moved(path: str | None) -> str | None:
            return path and rebased(self.footprints.locate(path), self.folder)

        listed = []
        for row in self.footprints.table.to_pylist():
            frame = moved(row["FRAME"])
            listed.append(
                QuadrantFiles(
                    sci_path=frame,
                    rms_path=frame,
                    flg_path=frame,
                    psf_path=moved(row["PSF"]),
                    bkg_path=moved(row["BACKGROUND"]),
                    wgt_path=moved(row["WEIGHT"]),
                    quadrant=row["QUADRANT"],
                    version=row["DATASUM"],
                )
            )
        return listed


def _manifest(members: _Members, area: Floats, grid: Grid, files: _Files) -> Manifest:
    subtile, sources, extended = members.subtile, members.sources, members.extended
    core_ra, core_dec = core_bounds(grid, subtile)
    extended_ra, extended_dec = _bounds(area)
    contributing = sorted({0, *sources.catalogue[extended].tolist()})
    needed = files.footprints.needed(area, sources.vectors[extended])
    return Manifest(
        tile_id=subtile.tile_id,
        sub_tile_row=subtile.row,
        sub_tile_col=subtile.col,
        sky_bounds=SkyBounds(
            core_ra=core_ra, core_dec=core_dec, extended_ra=extended_ra, extended_dec=extended_dec
        ),
        quadrants=[files.quadrants[row] for row in needed],
        source_catalog=files.of_tiles(files.mer.catalogues, contributing),
        morphology_catalog=files.of_tiles(files.mer.morphology, contributing),
        segmentation_map=files.of_tiles(files.mer.segmentation, contributing),
        source_ids=sources.object_id[extended].tolist(),
        core_source_ids=sources.object_id[members.core].tolist(),
    )


def core_bounds(grid: Grid, subtile: SubTile) -> tuple[tuple[float, float], tuple[float, float]]:
    """The ranges of right ascension and declination of a sub-tile's core area, degrees."""
    return _bounds(grid.core_corners(subtile.row, subtile.col))


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
