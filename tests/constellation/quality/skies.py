"""Catalogues without fault, and what spoils them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from constellation.config import TilingConfig
from constellation.plan import Plan
from constellation.quality.subtiles import SubTiles
from constellation.sphere import TangentPlane
from shine.errors import Status
from shine.result_schema import PARAMETERS, SHEAR_SCHEMA, SOURCE_SCHEMA
from tests.constellation.fake_catalogue import publish_plainly

GRID = (3, 3)
DENSITY = 3000  # sources per tile
TRUE_SHEAR = (0.03, -0.02)


@dataclass(frozen=True)
class Sky:
    """A plan, the rows of a catalogue of it, and the true shears."""

    plan: Plan
    shear: pa.Table
    sources: pa.Table
    truth: pa.Table

    def publish(self, folder: Path) -> Path:
        return publish_plainly(folder, self.shear, self.sources)

    def with_shear(self, column: str, rows: Any, value: Any) -> Sky:
        """Other values in some rows of the shear table."""
        return replace(self, shear=changed(self.shear, column, rows, value))

    def with_sources(self, column: str, rows: Any, value: Any) -> Sky:
        """Other values in some rows of the sources."""
        return replace(self, sources=changed(self.sources, column, rows, value))


def changed(table: pa.Table, column: str, rows: Any, value: Any) -> pa.Table:
    """The table with other values in some rows."""
    values = np.array(table[column].to_pylist(), dtype=object)
    values[rows] = value
    place = table.schema.get_field_index(column)
    kind = table.schema.field(column)
    return table.set_column(place, kind, pa.array(values.tolist(), kind.type))


def plan_of_tiles(folder: Path, n: int) -> Plan:
    """Tiles side by side on a circle of declination, 29 arcmin apart: their boxes overlap."""
    path = folder / "tiles.csv"
    ra = 359.8 + np.arange(n) * 29.0 / 60.0 / np.cos(np.radians(20.0))
    rows = [f"{100 + k},{value % 360.0},-20.0" for k, value in enumerate(ra)]
    path.write_text("\n".join(["tile_index,ra,dec", *rows]) + "\n")
    return Plan.from_config(TilingConfig(tiles=path, sub_tile_grid=GRID))


def make_sky(folder: Path, seed: int = 0, n_tiles: int = 2) -> Sky:
    """A catalogue that has nothing wrong with it, all sources with the same true shear."""
    rng = np.random.default_rng(seed)
    plan = plan_of_tiles(folder, n_tiles)
    sources = pa.concat_tables([_sources(plan, tile, rng) for tile in plan.tile_ids])
    truth = pa.table({"OBJECT_ID": sources["OBJECT_ID"]})
    for name, value in zip(("G1", "G2"), TRUE_SHEAR, strict=True):
        truth = truth.append_column(name, pa.array(np.full(truth.num_rows, value)))
    return Sky(plan, _shear(plan, sources, rng), sources, truth)


def _sources(plan: Plan, tile: int, rng: np.random.Generator) -> pa.Table:
    grid = plan.grid(tile)
    half = np.tan(np.radians(0.25))
    xi, eta = rng.uniform(-half, half, (2, DENSITY))
    vectors = grid.plane.unproject(xi, eta)
    row, col = grid.core_cells(vectors)
    owned = row >= 0
    vectors, row, col = vectors[owned], row[owned], col[owned]
    n = len(row)
    values: dict[str, Any] = {
        "TILE_ID": np.full(n, tile),
        "SUBTILE_ROW": row,
        "SUBTILE_COL": col,
        "OBJECT_ID": 1_000_000 * tile + np.arange(n),
        "RA": np.degrees(np.arctan2(vectors[:, 1], vectors[:, 0])) % 360.0,
        "DEC": np.degrees(np.arcsin(vectors[:, 2])),
        "KIND": rng.choice([0, 0, 0, 1, 2], n),
        "CHI2": rng.chisquare(400, n),
        "N_PIXELS": np.full(n, 400),
        "N_EXPOSURES": np.full(n, 4),
        "FLAGS": np.zeros(n, int),
        "PSF_E1": rng.normal(0.02, 0.01, n),
        "PSF_E2": rng.normal(-0.01, 0.01, n),
        "PSF_FWHM": np.full(n, 0.17),
    }
    for name in PARAMETERS:
        values |= {name: rng.uniform(0.1, 0.5, n), f"{name}_ERR": np.full(n, 0.1)}
    return _table(values, SOURCE_SCHEMA)


def _shear(plan: Plan, sources: pa.Table, rng: np.random.Generator) -> pa.Table:
    subtiles, n = plan.subtiles, len(plan.subtiles)
    place = np.column_stack([sources[name] for name in ("TILE_ID", "SUBTILE_ROW", "SUBTILE_COL")])
    used = np.asarray(sources["KIND"]) == 0
    counts = [
        int((used & (place == (s.tile_id, s.row, s.col)).all(axis=1)).sum()) for s in subtiles
    ]
    centres = np.array([plan.grid(s.tile_id).centre(s.row, s.col) for s in subtiles])
    error = rng.uniform(0.008, 0.015, (n, 2))
    g = TRUE_SHEAR + error * rng.normal(size=(n, 2))
    values: dict[str, Any] = {
        "TILE_ID": [s.tile_id for s in subtiles],
        "SUBTILE_ROW": [s.row for s in subtiles],
        "SUBTILE_COL": [s.col for s in subtiles],
        "RA": np.degrees(np.arctan2(centres[:, 1], centres[:, 0])) % 360.0,
        "DEC": np.degrees(np.arcsin(centres[:, 2])),
        "G1": g[:, 0],
        "G2": g[:, 1],
        "G1_ERR": error[:, 0],
        "G2_ERR": error[:, 1],
        "G1G2_COV": np.zeros(n),
        "N_SOURCES": counts,
        "METHOD": ["marginal"] * n,
        "CONVERGENCE": rng.uniform(0.001, 0.05, n),
        "STATUS": [int(Status.OK)] * n,
        "FLAGS": np.zeros(n, int),
        "N_MODELLED": counts,
        "N_QUADRANTS": np.full(n, 8),
        "N_PIXELS": np.full(n, 10_000),
        "CHI2": np.full(n, 10_000.0),
        "PSF_E1": rng.normal(0.02, 0.01, n),
        "PSF_E2": rng.normal(-0.01, 0.01, n),
        "PSF_FWHM": np.full(n, 0.17),
    }
    return _table(values, SHEAR_SCHEMA)


def _table(values: dict[str, Any], schema: pa.Schema) -> pa.Table:
    n = len(values["TILE_ID"])
    columns = {
        field.name: (
            pa.array(values[field.name]).cast(field.type)
            if field.name in values
            else pa.nulls(n, field.type)
        )
        for field in schema
    }
    return pa.table(columns, schema=schema)


@dataclass(frozen=True)
class Field:
    """Where the sub-tiles of simulated catalogues are, for statistics without any file."""

    subtiles: SubTiles
    plan: Plan

    @classmethod
    def of(cls, plan: Plan, rng: np.random.Generator) -> Field:
        """All planned sub-tiles, with errors that differ and PSFs that vary."""
        tile = np.array([s.tile_id for s in plan.subtiles])
        row, col = (np.array([getattr(s, name) for s in plan.subtiles]) for name in ("row", "col"))
        centres = np.array([plan.grid(s.tile_id).centre(s.row, s.col) for s in plan.subtiles])
        n = len(tile)
        error, rho = rng.uniform(0.006, 0.02, (n, 2)), rng.uniform(-0.5, 0.5, n)
        cross = rho * error.prod(axis=1)
        covariance = np.stack([error[:, 0] ** 2, cross, cross, error[:, 1] ** 2], axis=-1)
        subtiles = SubTiles(
            key=(tile << 14) | (row << 7) | col,
            ra=np.degrees(np.arctan2(centres[:, 1], centres[:, 0])) % 360.0,
            dec=np.degrees(np.arcsin(centres[:, 2])),
            status=np.full(n, int(Status.OK)),
            flags=np.zeros(n, int),
            n_sources=np.full(n, 100),
            shear=np.zeros((n, 2)),
            covariance=covariance.reshape(-1, 2, 2),
            psf=rng.normal([0.03, -0.01], 0.03, (n, 2)),
            convergence=np.full(n, 0.01),
        )
        return cls(subtiles, plan)

    def first(self, n: int) -> Field:
        """Only so many sub-tiles."""
        names = SubTiles.__dataclass_fields__
        cut = {name: getattr(self.subtiles, name)[:n] for name in names}
        return Field(SubTiles(**cut), self.plan)

    def observed(
        self, rng: np.random.Generator, signal: Any = 0.0, scatter: Sequence[float] = (0.0, 0.0)
    ) -> SubTiles:
        """With noise by their errors, a signal (n, 2), and scatter of sub-tiles and of tiles."""
        n = len(self.subtiles.key)
        root = np.linalg.cholesky(self.subtiles.covariance)
        noise = np.einsum("nij,nj->ni", root, rng.normal(size=(n, 2)))
        tiles, member = np.unique(self.subtiles.tile, return_inverse=True)
        noise += scatter[0] * rng.normal(size=(n, 2))
        noise += scatter[1] * rng.normal(size=(len(tiles), 2))[member]
        return replace(self.subtiles, shear=signal + noise)

    def about_the_centres(self, tangential: float, cross: float) -> np.ndarray:
        """Shear (n, 2) of this tangential and cross part about each tile's centre, flat sky."""
        shear = []
        for ra, dec, tile in zip(
            self.subtiles.ra, self.subtiles.dec, self.subtiles.tile, strict=True
        ):
            k = self.plan.tiles.position(int(tile))
            plane = TangentPlane.at(self.plan.tiles.ra[k], self.plan.tiles.dec[k])
            here = TangentPlane.at(ra, dec).centre
            xi, eta = plane.project(here[None])
            phi = np.arctan2(eta[0], -xi[0])
            g = -(tangential + 1j * cross) * np.exp(2j * phi)
            shear.append((g.real, g.imag))
        return np.array(shear)
