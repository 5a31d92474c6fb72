"""Result files of sub-tiles, written by shine's own writer from made-up numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from constellation.catalogue.subtile_results import PlannedTile
from constellation.plan import Plan, SubTile
from shine.errors import Kind, Status
from shine.provenance import Provenance
from shine.result_records import RunRecord, ShearResult, SourceResults
from shine.results import read_shear, read_sources, write_results

SHEAR = {"g1": 0.03, "g2": -0.02, "g1_err": 0.01, "g2_err": 0.02, "g1g2_cov": 1e-5}
MEASUREMENTS = {
    "total_s": 12.5,
    "load_s": 3.0,
    "compile_s": 2.0,
    "solve_s": 7.5,
    "peak_rss_mb": 800.0,
    "host": "node7",
    "device": "cpu",
}


@dataclass(frozen=True)
class Result:
    """What one sub-tile's files say; `kinds` of its sources, by their ids.

    `middle` is the RA and DEC of the sub-tile, degrees, and `radec` those of all its sources.
    """

    subtile: SubTile
    kinds: dict[int, Kind] = field(default_factory=dict)
    shear: dict[str, Any] = field(default_factory=lambda: SHEAR | {"status": Status.OK})
    provenance: dict[str, Any] = field(default_factory=dict)
    middle: tuple[float, float] | None = None
    radec: tuple[float, float] = (57.0, -51.0)

    @classmethod
    def without_shear(cls, subtile: SubTile, status: Status) -> Result:
        """A valid result with neither shear nor sources."""
        return cls(subtile, shear={"status": status})

    def write(self, folder: Path, stem: str | None = None) -> Path:
        """Write the files as shine does, by default under the sub-tile's own name."""
        known = {
            "git_commit": "c0ffee",
            "code_digest": "b" * 64,
            "package_versions": {"numpy": "2.0"},
            "config_hash": "a" * 64,
            "input_hashes": {"manifest": "1"},
            "seed": 0,
        }
        place = (57.0 + 0.1 * self.subtile.col, -51.0 + 0.1 * self.subtile.row)
        ra_deg, dec_deg = self.middle or place
        shear = ShearResult(
            tile_id=self.subtile.tile_id,
            subtile_row=self.subtile.row,
            subtile_col=self.subtile.col,
            ra_deg=ra_deg,
            dec_deg=dec_deg,
            method="map",
            n_sources=sum(kind is Kind.GALAXY for kind in self.kinds.values()),
            **self.shear,
        )
        left_out = {"sources": {"spurious": 2, "low_snr": 0}, "pixels": {"flagged": 30}}
        provenance = Provenance(**(known | self.provenance))
        record = RunRecord(provenance, MEASUREMENTS, left_out=left_out)
        return write_results(folder, stem or self.subtile.stem, shear, self._sources(), record)

    def _sources(self) -> SourceResults:
        n = len(self.kinds)
        if not n:
            return SourceResults.empty()
        return SourceResults(
            object_id=np.array(list(self.kinds)),
            ra_deg=np.full(n, self.radec[0]),
            dec_deg=np.full(n, self.radec[1]),
            kind=np.array([int(kind) for kind in self.kinds.values()]),
            parameters=np.ones((n, 6)),
            covariance=np.tile(np.eye(6), (n, 1, 1)),
            chi2=np.ones(n),
            n_pixels=np.full(n, 100),
            n_exposures=np.full(n, 4),
            flags=np.zeros(n, int),
            blend=np.arange(n),
        )


@dataclass(frozen=True)
class Rows:
    """The rows of several results, with shine's own columns."""

    shear: pa.Table
    sources: pa.Table


def tile_catalogue(results: Sequence[Result], folder: Path) -> Rows:
    """Write results into `{folder}/{tile}` and put their rows together, in the given order."""
    paths = [result.write(folder / str(result.subtile.tile_id)) for result in results]
    shear = [read_shear(path) for path in paths]
    sources = [read_sources(path.with_name(f"{path.stem}_sources.parquet")) for path in paths]
    return Rows(*(pa.concat_tables(tables) for tables in (shear, sources)))


def place(plan: Plan, result: Result) -> Result:
    """The result where the plan has its sub-tile."""
    tile = PlannedTile.of(plan, result.subtile.tile_id)
    return replace(result, middle=tile.middles[result.subtile])
