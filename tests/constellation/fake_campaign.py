"""The files of a finished campaign of any size, for those who read them: made up, and no pixels."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import yaml
from PIL import Image
from pyarrow import parquet

from constellation.catalogue.schema import FAILURES
from constellation.measurements import SCHEMA as MEASUREMENTS
from constellation.plan import Plan, SubTile
from constellation.run_layout import Run
from shine.errors import Kind, Status
from shine.result_schema import SHEAR_SCHEMA, SOURCE_SCHEMA

from .fake_catalogue import publish_plainly

HISTORY = {
    "expected": [3e5, 4e3, 40.0, 2.5],
    "moving": [400, 200, 30, 2],
    "rejected": [3, 1, 0, 0],
    "shear_move": [0.0, 0.0, 0.0, 0.0],
}
CHECKS = (
    ("pull rms", "the errors are right", 1.04, 0.02, "0.9 to 1.1", "passed", ""),
    ("B modes", "no B modes", 2.7, 1.0, "below 2", "failed", "p = 0.007"),
    ("PSF leakage", "shear does not follow the PSF", None, None, "", "not checked", "no PSF"),
)


@dataclass(frozen=True)
class FakeCampaign:
    """A campaign in the working folder: `n_rows` x `n_cols` tiles of `grid` sub-tiles each."""

    folder: Path
    n_rows: int = 1
    n_cols: int = 2
    grid: tuple[int, int] = (2, 2)
    sources_per_subtile: int = 3
    panel_px: tuple[int, int] = (540, 176)
    failed: tuple[str, ...] = ()  # stems of sub-tiles without a result
    seed: int = 7
    status: dict[str, Status] = field(default_factory=dict)  # of those that are not OK, by stem

    @property
    def config(self) -> Path:
        """The configuration."""
        return self.folder / "config.yaml"

    @property
    def results(self) -> Path:
        """The folder of results."""
        return self.folder / "results"

    @cached_property
    def plan(self) -> Plan:
        """The planned sub-tiles."""
        return Run.from_config(self.config).plan

    @cached_property
    def subtiles(self) -> list[SubTile]:
        """Those with a result."""
        return [subtile for subtile in self.plan.subtiles if subtile.stem not in self.failed]

    def write(self) -> FakeCampaign:
        """Write all files; returns itself."""
        self.folder.mkdir(parents=True, exist_ok=True)
        rows = [
            f"{1000 + 100 * row + col},{(50.0 + 0.62 * col):.4f},{(-36.0 + 0.5 * row):.4f}"
            for row in range(self.n_rows)
            for col in range(self.n_cols)
        ]
        tiles = self.folder / "tiles.csv"
        tiles.write_text("\n".join(["tile_index,ra,dec", *rows]) + "\n")
        settings = {
            "tiling": {"tiles": str(tiles), "sub_tile_grid": list(self.grid)},
            "data": {
                "survey": str(self.folder / "data" / "sky"),
                "truth": str(self.folder / "truth.parquet"),
            },
            "output": {"results": str(self.results)},
        }
        self.config.write_text(yaml.safe_dump(settings))
        sources = self._sources()
        truth = {"OBJECT_ID": sources["OBJECT_ID"]}
        is_star = sources["KIND"].to_numpy() == Kind.STAR  # whose shear is none
        for name, g in (("G1", 0.02), ("G2", -0.01)):
            truth[name] = np.where(is_star, 0.5, g)
        parquet.write_table(pa.table(truth), self.folder / "truth.parquet")
        publish_plainly(self.results / "catalogue", self._shear(), sources)
        self.write_failures(dict.fromkeys(self.failed, ("bad or missing input", "no HDU")))
        self._write_measurements()
        for subtile in self.plan.subtiles:
            self._write_files(subtile)
        return self

    def write_checks(self, rows: tuple[tuple[Any, ...], ...] = CHECKS) -> None:
        """The quality checks."""
        names = ("CHECK", "MEANING", "VALUE", "ERROR", "LIMIT", "OUTCOME", "DETAIL")
        kinds = [pa.float64() if name in ("VALUE", "ERROR") else pa.string() for name in names]
        columns = zip(zip(*rows, strict=True), kinds, strict=True)
        table = pa.table([pa.array(c, kind) for c, kind in columns], names=list(names))
        (self.results / "quality").mkdir(exist_ok=True)
        parquet.write_table(table, self.results / "quality" / "checks.parquet")

    def write_psf(self) -> None:
        """Columns of the PSF in the shear rows."""
        path = self.results / "catalogue" / "shear.parquet"
        table, rng = parquet.read_table(path), np.random.default_rng(3)
        for name, middle, width in (
            ("PSF_E1", 0.02, 0.01),
            ("PSF_E2", -0.01, 0.01),
            ("PSF_FWHM", 0.16, 0.004),
        ):
            values = rng.normal(middle, width, table.num_rows).astype(np.float32)
            if name in table.column_names:
                table = table.drop_columns([name])
            table = table.append_column(name, pa.array(values))
        parquet.write_table(table, path)

    def write_failures(self, told: dict[str, tuple[str, str | None]]) -> None:
        """The catalogue's failures: class and message by stem."""
        rows = [
            [*map(int, stem.split("_")), what, message, f"results/logs/subtiles/{stem}.log"]
            for stem, (what, message) in told.items()
        ]
        rows = [dict(zip(FAILURES.names, row, strict=True)) for row in rows]
        table = pa.Table.from_pylist(rows, FAILURES)
        parquet.write_table(table, self.results / "catalogue" / "failures.parquet")

    def path(self, folder: str, stem: str, suffix: str) -> Path:
        """A sub-tile's file."""
        return self.results / folder / stem.partition("_")[0] / f"{stem}{suffix}"

    def _shear(self) -> pa.Table:
        rng, rows = np.random.default_rng(self.seed), []
        for subtile in self.subtiles:
            status = self.status.get(subtile.stem, Status.OK)
            centre = self.plan.grid(subtile.tile_id).centre(subtile.row, subtile.col)
            noise = 0.02 * rng.standard_normal(2)
            has_shear = status in (Status.OK, Status.NOT_CONVERGED)
            row = {
                "TILE_ID": subtile.tile_id,
                "SUBTILE_ROW": subtile.row,
                "SUBTILE_COL": subtile.col,
                "RA": float(np.rad2deg(np.arctan2(centre[1], centre[0])) % 360.0),
                "DEC": float(np.rad2deg(np.arcsin(centre[2]))),
                "N_SOURCES": self.sources_per_subtile,
                "METHOD": "marginal",
                "STATUS": int(status),
                "FLAGS": 1,
                "N_MODELLED": 2 * self.sources_per_subtile,
                "N_QUADRANTS": 4,
                "N_PIXELS": 10_000,
            }
            known = {"G1": 0.02 + noise[0], "G2": -0.01 + noise[1], "G1_ERR": 0.02, "G2_ERR": 0.021}
            known |= {"G1G2_COV": 0.0, "CONVERGENCE": abs(noise[0]), "CHI2": 1e4 + 50 * noise[1]}
            rows.append(row | (known if has_shear else {}))
        return pa.Table.from_pylist(rows, SHEAR_SCHEMA)

    def _sources(self) -> pa.Table:
        each = self.sources_per_subtile
        n = each * len(self.subtiles)
        keys = np.repeat([(s.tile_id, s.row, s.col) for s in self.subtiles], each, axis=0)
        shear = self._shear()
        columns = {
            "TILE_ID": keys[:, 0],
            "SUBTILE_ROW": keys[:, 1],
            "SUBTILE_COL": keys[:, 2],
            "OBJECT_ID": np.arange(n),
            "RA": np.repeat(shear["RA"].to_numpy(), each),
            "DEC": np.repeat(shear["DEC"].to_numpy(), each),
            "KIND": np.where(np.arange(n) % each == 1, int(Kind.STAR), int(Kind.GALAXY)),
            "N_PIXELS": np.full(n, 100),
            "N_EXPOSURES": np.full(n, 4),
            "FLAGS": np.zeros(n, int),
            "EFFECTIVE_SAMPLES": np.random.default_rng(self.seed).uniform(20, 60, n),
        }
        arrays = [
            pa.array(columns[f.name]).cast(f.type) if f.name in columns else pa.nulls(n, f.type)
            for f in SOURCE_SCHEMA
        ]
        return pa.table(arrays, schema=SOURCE_SCHEMA)

    def _write_measurements(self) -> None:
        rng = np.random.default_rng(self.seed)
        rows = []
        for subtile in self.subtiles:
            load, compiled, solve = rng.uniform((3, 0.5, 8), (5, 3, 30)).round(3)
            times = [load + compiled + solve + 1.0, load + compiled + solve, load, compiled, solve]
            rest = [float(rng.integers(900, 1800)), f"node{rng.integers(4)}", "cpu"]
            key = [subtile.tile_id, subtile.row, subtile.col]
            rows.append(dict(zip(MEASUREMENTS.names, [*key, *times, *rest], strict=True)))
        table = pa.Table.from_pylist(rows, MEASUREMENTS)
        parquet.write_table(table, self.results / "measurements.parquet")

    def _write_files(self, subtile: SubTile) -> None:
        has_result = subtile.stem not in self.failed
        log = self.path("logs/subtiles", subtile.stem, ".log")
        log.parent.mkdir(parents=True, exist_ok=True)
        lines = [f"2026-11-24 20:{subtile.row:02}:{subtile.col:02},250 INFO shine: begins"]
        if has_result:
            lines.append(f"2026-11-24 21:{subtile.row:02}:{subtile.col:02},750 INFO shine: ends")
        else:
            lines += ["error: frame.fits: no HDU", "exit status 3"]
        log.write_text("\n".join(lines) + "\n")
        if not has_result:
            return
        record = self.path("runs", subtile.stem, ".run.json")
        record.parent.mkdir(parents=True, exist_ok=True)
        factor = 1.0 + subtile.row + 2.0 * subtile.col
        history = HISTORY | {"expected": [factor * value for value in HISTORY["expected"]]}
        record.write_text(json.dumps({"measurements": {"history": history}}))
        panels = self.path("subtiles", subtile.stem, ".png")
        panels.parent.mkdir(parents=True, exist_ok=True)
        panels.write_bytes(self._pictures[(subtile.row + subtile.col) % len(self._pictures)])

    @cached_property
    def _pictures(self) -> list[bytes]:
        """A few noisy pictures with something on them, as PNG."""
        width, height = self.panel_px
        rng, found = np.random.default_rng(self.seed), []
        y, x = np.mgrid[:height, :width]
        for _ in range(4):
            pixels = rng.normal(180.0, 20.0, (height, width))
            for _ in range(6):
                x0, y0 = rng.uniform((0, 0), (width, height))
                pixels -= 150.0 * np.exp(-((x - x0) ** 2 + (y - y0) ** 2) / 20.0)
            buffer = BytesIO()
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(buffer, "PNG")
            found.append(buffer.getvalue())
        return found
