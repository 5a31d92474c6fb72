"""Everything that a report shows, read from the files of a finished campaign."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from constellation.catalogue.published import PublishedCatalogue
from constellation.catalogue.schema import KEY
from constellation.config import load_config
from constellation.measurements import SCHEMA as MEASUREMENTS
from constellation.plan import SubTile
from constellation.run_layout import Run
from constellation.summary import COMPONENTS, TRUTH_SCHEMA
from constellation.tables import read_table
from shine.errors import ConfigurationError, InputError, Kind, Status, explain
from shine.yaml_files import read_yaml

Floats = NDArray[np.float64]

CHECKS = pa.schema(
    [
        ("CHECK", pa.string()),
        ("MEANING", pa.string()),
        ("VALUE", pa.float64()),
        ("ERROR", pa.float64()),
        ("LIMIT", pa.string()),
        ("OUTCOME", pa.string()),
        ("DETAIL", pa.string()),
    ]
)
HISTORY = ("expected", "moving", "shear_move")  # what is shown of each sweep


@dataclass(frozen=True)
class Request:
    """What to report on and where: `results` is the folder of all results, `output` the page.

    `settings` is the configuration as it was given.
    """

    settings: Mapping[str, Any]
    results: Path
    output: Path
    dvc_lock: Path | None = None
    iceberg_snapshot: str | None = None


def read_settings(source: str) -> Mapping[str, Any]:
    """The settings as they are given: JSON text `{...}`, or a pipeline YAML.

    Raises `ConfigurationError`.
    """
    if source.lstrip().startswith("{"):
        try:
            return json.loads(source)
        except json.JSONDecodeError as error:
            raise ConfigurationError(f"configuration: not valid JSON: {error}") from error
    load_config(source)  # says what is wrong with it
    return read_yaml(Path(source))


@dataclass(frozen=True)
class Campaign:
    """The numbers of a campaign; arrays have one entry per sub-tile of the catalogue, (n,).

    Sub-tiles are sorted by tile, row and column. Missing numbers are NaN. What is read from files
    is read when it is first asked for, and raises `InputError` for a file that is damaged.
    """

    run: Run
    results: Path

    @cached_property
    def catalogue(self) -> PublishedCatalogue:
        """The published catalogue."""
        return PublishedCatalogue(self.results / "catalogue")

    @cached_property
    def shear(self) -> pa.Table:
        """The rows of the sub-tiles, sorted."""
        return self.catalogue.shear.sort_by([(name, "ascending") for name in KEY])

    @cached_property
    def subtiles(self) -> list[SubTile]:
        """The sub-tiles that have a row."""
        return self._subtiles_of(self.shear)

    @cached_property
    def unaccounted(self) -> list[SubTile]:
        """Planned sub-tiles that are neither in the catalogue nor among its failures."""
        known = {*self.subtiles, *self._subtiles_of(self.catalogue.failures)}
        return [subtile for subtile in self.run.plan.subtiles if subtile not in known]

    @cached_property
    def status(self) -> list[Status]:
        """What became of each sub-tile."""
        return [Status(value) for value in self.shear["STATUS"].to_pylist()]

    def numbers(self, name: str) -> Floats:
        """A column of the shear rows; all NaN if there is no such column."""
        if name not in self.shear.column_names:
            return np.full(self.shear.num_rows, np.nan)
        return self.shear[name].cast(pa.float64()).to_numpy(zero_copy_only=False)

    @cached_property
    def g(self) -> Floats:
        """Reduced shear (n, 2)."""
        return np.stack([self.numbers("G1"), self.numbers("G2")], axis=-1)

    @cached_property
    def g_err(self) -> Floats:
        """Its standard deviations (n, 2)."""
        return np.stack([self.numbers("G1_ERR"), self.numbers("G2_ERR")], axis=-1)

    @cached_property
    def truth(self) -> Floats:
        """Mean true shear (n, 2) of the galaxies that each sub-tile rests on, if configured."""
        path = self.run.truth
        found = np.full((len(self.subtiles), 2), np.nan)
        if path is None:
            return found
        known = read_table(path, TRUTH_SCHEMA, "Check data.truth.").select(TRUTH_SCHEMA.names)
        carriers = self.catalogue.sources([*KEY, "OBJECT_ID"], pc.field("KIND") == Kind.GALAXY)
        joined = carriers.join(known, "OBJECT_ID", join_type="inner")
        means = joined.group_by(list(KEY)).aggregate([(name, "mean") for name in COMPONENTS])
        places = {subtile: place for place, subtile in enumerate(self.subtiles)}
        rows = np.array([places.get(subtile, -1) for subtile in self._subtiles_of(means)], int)
        values = np.stack([means[f"{name}_mean"].to_numpy() for name in COMPONENTS], axis=-1)
        found[rows[rows >= 0]] = values[rows >= 0]
        return found

    @property
    def pulls(self) -> Floats:
        """(inferred - true) / error, (n, 2)."""
        return (self.g - self.truth) / self.g_err

    @cached_property
    def effective_samples(self) -> Floats:
        """The effective number of samples of each source that has any, (s,)."""
        column = self.catalogue.sources(["EFFECTIVE_SAMPLES"])["EFFECTIVE_SAMPLES"]
        return column.drop_null().cast(pa.float64()).to_numpy()

    @cached_property
    def n_sources(self) -> int:
        """All core sources in the catalogue."""
        return int(np.sum(self.catalogue.files["N_ROWS"].to_numpy()))

    @cached_property
    def checks(self) -> list[dict[str, Any]] | None:
        """The quality checks; None if none were made."""
        path = self.results / "quality" / "checks.parquet"
        if not path.exists():
            return None
        action = "Make the checks again with `constellation quality`."
        return read_table(path, CHECKS, action).select(CHECKS.names).to_pylist()

    @cached_property
    def measured(self) -> pa.Table:
        """Times and memory in the order of `subtiles`; a row without numbers has nulls."""
        path = self.results / "measurements.parquet"
        if not path.exists():
            return pa.Table.from_pylist([{} for _ in self.subtiles], schema=MEASUREMENTS)
        action = "Collect them again with `constellation measurements`."
        table = read_table(path, MEASUREMENTS, action).select(MEASUREMENTS.names)
        rows = dict(zip(self._subtiles_of(table), table.to_pylist(), strict=True))
        return pa.Table.from_pylist([rows.get(s, {}) for s in self.subtiles], schema=MEASUREMENTS)

    def seconds(self, name: str) -> Floats:
        """A column of the measurements, s or MB."""
        return self.measured[name].to_numpy(zero_copy_only=False).astype(np.float64)

    @cached_property
    def histories(self) -> list[dict[str, list[float]] | None]:
        """What the solver did in each sweep, from each sub-tile's run record, if it is there."""
        return [self._history(subtile) for subtile in self.subtiles]

    def _history(self, subtile: SubTile) -> dict[str, list[float]] | None:
        path = self.results / "runs" / str(subtile.tile_id) / f"{subtile.stem}.run.json"
        try:
            found = json.loads(path.read_text(encoding="utf-8"))["measurements"].get("history")
            if found is None:  # nothing was fitted
                return None
            return {name: [float(value) for value in found[name]] for name in HISTORY}
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            problem = f"{type(error).__name__} {error}"
            raise InputError(
                explain(path, problem, "a run's record", "Run the sub-tile again.")
            ) from error

    @staticmethod
    def _subtiles_of(table: pa.Table) -> list[SubTile]:
        return [SubTile(*key) for key in zip(*(table[n].to_pylist() for n in KEY), strict=True)]
