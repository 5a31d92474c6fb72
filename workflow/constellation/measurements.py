"""What the sub-tiles' runs took, time and memory, as one table."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa

from constellation.plan import SubTile
from shine.errors import InputError, explain

COLUMNS = {
    "TILE_ID": (pa.int64(), "tile"),
    "SUBTILE_ROW": (pa.int8(), "row of the sub-tile"),
    "SUBTILE_COL": (pa.int8(), "column of the sub-tile"),
    "JOB_S": (pa.float64(), "wall time of the last job, s; short if it found the result made"),
    "TOTAL_S": (pa.float64(), "wall time of the inference, from manifest to result, s"),
    "LOAD_S": (pa.float64(), "of it reading and preparing the pixels, s"),
    "COMPILE_S": (pa.float64(), "of it compiling and loading programs, s"),
    "SOLVE_S": (pa.float64(), "of it fitting and sampling, s"),
    "PEAK_RSS_MB": (pa.float64(), "most memory held during the inference, MB"),
    "HOST": (pa.string(), "machine"),
    "DEVICE": (pa.string(), "processor or graphics card"),
}
SCHEMA = pa.schema(
    [pa.field(name, kind, metadata={"description": text}) for name, (kind, text) in COLUMNS.items()]
)
_NUMBERS = ("total_s", "load_s", "compile_s", "solve_s", "peak_rss_mb")
_NAMES = ("host", "device")


def collect_measurements(subtiles: Iterable[SubTile], runs: Path, benchmarks: Path) -> pa.Table:
    """One row per sub-tile.

    From shine's `{runs}/{tile}/{stem}.run.json` and Snakemake's `{benchmarks}/{tile}/{stem}.tsv`.
    Raises `InputError` naming a file that is missing or no such record.
    """
    rows = []
    for subtile in subtiles:
        place = Path(str(subtile.tile_id)) / subtile.stem
        record = runs / f"{place}.run.json"
        job = benchmarks / f"{place}.tsv"
        row = {"TILE_ID": subtile.tile_id, "SUBTILE_ROW": subtile.row, "SUBTILE_COL": subtile.col}
        row |= _read(record, _recorded) | _read(job, _job_seconds)
        rows.append(row)
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def _recorded(path: Path) -> dict[str, Any]:
    measured = json.loads(path.read_text(encoding="utf-8"))["measurements"]
    numbers = {name.upper(): float(measured[name]) for name in _NUMBERS}
    return numbers | {name.upper(): str(measured[name]) for name in _NAMES}


def _job_seconds(path: Path) -> dict[str, Any]:
    with path.open(encoding="utf-8", newline="") as stream:
        last = list(csv.DictReader(stream, delimiter="\t"))[-1]
    return {"JOB_S": float(last["s"])}


def _read(path: Path, reader) -> dict[str, Any]:
    try:
        return reader(path)
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise InputError(
            explain(path, f"{type(error).__name__} {error}", "a run's record", "Run it again.")
        ) from error
