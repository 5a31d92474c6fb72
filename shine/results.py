"""Result files of a sub-tile: one shear row, one row per core source, and a record of the run.

The Parquet files' bytes depend on inputs, code and configuration alone; what differs from run to
run (times, host, memory) goes into the JSON record. A missing value is a null, never NaN or 0.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import ArrayLike, NDArray

from shine.atomic import write_atomically
from shine.errors import InputError, ResultError, Status, explain
from shine.provenance import Provenance
from shine.result_records import RunRecord, SampleColumns, ShearResult, SourceResults
from shine.result_schema import (
    CONVENTIONS,
    LOG_WEIGHT_STEPS,
    PARAMETERS,
    SCHEMA_VERSION,
    SHAPE_STEPS,
    SHEAR_COLUMNS,
    SHEAR_SCHEMA,
    SOURCE_COLUMNS,
    SOURCE_SCHEMA,
    Column,
    arrow_array,
)

LEFT_OUT = "left_out"  # {"sources": {cut: n}, "pixels": {reason: n}} as JSON
_METADATA_KEYS = (
    "schema_version",
    "conventions",
    "git_commit",
    "code_digest",
    "package_versions",
    "config_hash",
    "input_hashes",
    "seed",
    LEFT_OUT,
)
_RUN_AGAIN = "Run this sub-tile again."


def write_results(
    output_dir: str | Path,
    stem: str,
    shear: ShearResult,
    sources: SourceResults,
    run_record: RunRecord,
) -> Path:
    """Write `{stem}_sources.parquet`, `{stem}.run.json` and `{stem}.parquet`; return the last.

    Each file appears at once, the shear last, so that it vouches for the others. Raises
    ResultError, before anything is written, if a value breaks the schema.
    """
    left_out = json.dumps({kind: dict(n) for kind, n in run_record.left_out.items()})
    shear_bytes = _to_bytes(_shear_table(shear), run_record.provenance, left_out)
    source_bytes = _to_bytes(_source_table(sources, shear), run_record.provenance, left_out)
    record = {
        "provenance": asdict(run_record.provenance),
        LEFT_OUT: json.loads(left_out),
        "measurements": dict(run_record.measurements),
        "input_versions": dict(run_record.input_versions),
    }
    folder = Path(output_dir)
    write_atomically(folder / f"{stem}_sources.parquet", source_bytes)
    write_atomically(folder / f"{stem}.run.json", to_json(record))
    write_atomically(folder / f"{stem}.parquet", shear_bytes)
    return folder / f"{stem}.parquet"


def restamp(shear_path: Path, git_commit: str) -> None:
    """Let the files of a result name another commit with the same code.

    They are then, byte for byte, what that commit makes. Raises InputError if one is no result.
    """
    stem = shear_path.stem
    record_path = shear_path.with_name(f"{stem}.run.json")
    record = json.loads(record_path.read_text(encoding="utf-8"))
    record["provenance"]["git_commit"] = git_commit
    sources_path = shear_path.with_name(f"{stem}_sources.parquet")
    sources, shear = read_sources(sources_path), read_shear(shear_path)
    provenance = replace(provenance_of(shear), git_commit=git_commit)
    # the schemas as they were written: reading renames the items of lists
    left_out = shear.schema.metadata[LEFT_OUT.encode()].decode()
    source_bytes = _to_bytes(sources.cast(SOURCE_SCHEMA), provenance, left_out)
    shear_bytes = _to_bytes(shear.cast(SHEAR_SCHEMA), provenance, left_out)
    write_atomically(sources_path, source_bytes)
    write_atomically(record_path, to_json(record))
    write_atomically(shear_path, shear_bytes)


def to_json(record: Mapping[str, Any]) -> bytes:
    """The content of a `.run.json`."""
    text = json.dumps(record, sort_keys=True, indent=2, ensure_ascii=False) + "\n"
    return text.encode("utf-8")


def read_shear(path: str | Path) -> pa.Table:
    """Read a shear file: a table of one row with SHEAR_SCHEMA.

    Raises InputError naming the file if it is missing, damaged, or not what `write_results` writes.
    """
    table = _read(path, SHEAR_SCHEMA)
    if table.num_rows != 1:
        raise InputError(explain(path, f"{table.num_rows} rows", "one shear row", _RUN_AGAIN))
    return table


def read_sources(path: str | Path) -> pa.Table:
    """Read a source file: a table with SOURCE_SCHEMA; raises InputError as `read_shear` does."""
    return _read(path, SOURCE_SCHEMA)


def provenance_of(table: pa.Table) -> Provenance:
    """Return the provenance kept in the metadata of a table that was read from a result file."""
    text = {key: table.schema.metadata[key.encode()].decode() for key in _METADATA_KEYS}
    return Provenance(
        git_commit=text["git_commit"],
        code_digest=text["code_digest"],
        package_versions=json.loads(text["package_versions"]),
        config_hash=text["config_hash"],
        input_hashes=json.loads(text["input_hashes"]),
        seed=int(text["seed"]),
    )


def _shear_table(shear: ShearResult) -> pa.Table:
    _check_estimate(shear)
    columns = {}
    for column in SHEAR_COLUMNS:
        value = getattr(shear, _attribute(column))
        if isinstance(value, str):
            columns[column.name] = pa.array([value], column.type)
        else:
            one = np.ma.masked_all(1) if value is None else np.ma.asarray([value])
            columns[column.name] = arrow_array(column, one)
    return pa.table(columns, schema=SHEAR_SCHEMA)


def _check_estimate(shear: ShearResult) -> None:
    """A result without shear says so in STATUS, and a status without shear has none."""
    values = (shear.g1, shear.g2, shear.g1_err, shear.g2_err, shear.g1g2_cov)
    present = tuple(value is not None and not math.isnan(value) for value in values)
    allowed = {
        Status.OK: {(True,) * 5},
        Status.NOT_CONVERGED: {(True,) * 5, (True,) * 2 + (False,) * 3, (False,) * 5},
    }.get(Status(shear.status), {(False,) * 5})
    if present not in allowed:
        raise ResultError(
            f"shear of tile {shear.tile_id}, sub-tile {shear.subtile_row}, {shear.subtile_col}: "
            f"STATUS {Status(shear.status).name} does not go with G1, G2, G1_ERR, G2_ERR, "
            f"G1G2_COV = {values}"
        )


def _source_table(sources: SourceResults, shear: ShearResult) -> pa.Table:
    n_sources, n_parameters = len(np.asarray(sources.object_id)), len(PARAMETERS)
    parameters = np.asarray(sources.parameters, np.float64)
    covariance = np.asarray(sources.covariance, np.float64)
    expected = (n_sources, n_parameters, n_parameters)
    if parameters.shape != expected[:2] or covariance.shape != expected:
        found = f"parameters {parameters.shape}, covariance {covariance.shape}"
        raise ResultError(f"shapes {found} for {n_sources} sources, expected {expected}")
    variances = np.diagonal(covariance, axis1=1, axis2=2)
    if (variances < 0.0).any():
        raise ResultError("COVARIANCE: negative variances")
    columns: dict[str, ArrayLike] = {"COVARIANCE": covariance[:, *np.triu_indices(n_parameters)]}
    for i, name in enumerate(PARAMETERS):
        columns |= {name: parameters[:, i], f"{name}_ERR": np.sqrt(variances[:, i])}
    psf = np.full((3, n_sources), np.nan) if sources.psf is None else sources.psf
    columns |= dict(zip(("PSF_E1", "PSF_E2", "PSF_FWHM"), psf, strict=True))
    arrays = _sample_arrays(sources.samples, n_sources)
    for column in SOURCE_COLUMNS:
        if column.name in arrays:
            continue
        if column.name in columns:
            values = columns[column.name]
        elif hasattr(sources, _attribute(column)):
            values = getattr(sources, _attribute(column))
        else:  # the place of the sub-tile, the same for all
            values = np.full(n_sources, getattr(shear, _attribute(column)))
        if len(np.asarray(values)) != n_sources:
            raise ResultError(f"{column.name}: {len(values)} values for {n_sources} sources")
        arrays[column.name] = arrow_array(column, np.ma.asarray(values))
    return pa.table(arrays, schema=SOURCE_SCHEMA)


def _sample_arrays(samples: SampleColumns | None, n: int) -> dict[str, pa.Array]:
    """The columns of samples as whole numbers, the best of each source's weights being 0."""
    if samples is None:
        kinds = {column.name: column.type for column in SOURCE_COLUMNS}
        names = ("EFFECTIVE_SAMPLES", "SHAPE_SAMPLES", "SAMPLE_LOG_WEIGHT")
        return {name: pa.nulls(n, kinds[name]) for name in names}
    real = np.isfinite(samples.log_weight)
    none = ~real.any(axis=1)
    top = np.max(samples.log_weight, axis=1, where=real, initial=-np.inf)
    relative = np.where(real, samples.log_weight - np.where(none, 0.0, top)[:, None], 0.0)
    weight = np.round(np.maximum(LOG_WEIGHT_STEPS * relative, -32767)).astype(np.int16)
    pair = np.stack([samples.shape.real, samples.shape.imag], axis=-1)
    shape = np.round(SHAPE_STEPS * pair).astype(np.int16)
    count = real.sum(axis=1)

    def lists(values: NDArray, per_sample: int) -> pa.Array:
        ends = np.append(0, np.cumsum(per_sample * count)).astype(np.int32)
        offsets = pa.array(ends, mask=np.append(none, False))
        return pa.ListArray.from_arrays(offsets, pa.array(values.ravel()))

    return {
        "EFFECTIVE_SAMPLES": pa.array(samples.effective.astype(np.float32), mask=none),
        "SHAPE_SAMPLES": lists(shape[real], 2),
        "SAMPLE_LOG_WEIGHT": lists(weight[real], 1),
    }


def _attribute(column: Column) -> str:
    return {"RA": "ra_deg", "DEC": "dec_deg"}.get(column.name, column.name.lower())


def _to_bytes(table: pa.Table, provenance: Provenance, left_out: str) -> bytes:
    metadata = {
        "schema_version": SCHEMA_VERSION,
        "conventions": CONVENTIONS,
        "git_commit": provenance.git_commit,
        "code_digest": provenance.code_digest,
        "package_versions": json.dumps(provenance.package_versions, sort_keys=True),
        "config_hash": provenance.config_hash,
        "input_hashes": json.dumps(provenance.input_hashes, sort_keys=True),
        "seed": str(provenance.seed),
        LEFT_OUT: left_out,
    }
    sink = pa.BufferOutputStream()
    # every option that shapes the bytes is spelt out, so that a new default cannot change them
    pq.write_table(
        table.replace_schema_metadata(metadata),
        sink,
        compression="zstd",
        compression_level=3,
        version="2.6",
        data_page_version="1.0",
        use_dictionary=False,
    )
    return sink.getvalue().to_pybytes()


def _read(path: str | Path, expected: pa.Schema) -> pa.Table:
    try:
        content = pa.BufferReader(Path(path).read_bytes())
    except OSError as error:
        found = error.strerror or str(error)
        raise InputError(explain(path, found, "a result file", _RUN_AGAIN)) from error
    try:
        # A thread that starts just before the process ends can abort it (beside JAX's, pyarrow 26).
        # `pq.read_table` would take twice as long for so small a file.
        table = pq.ParquetFile(content, pre_buffer=False).read(use_threads=False)
    except (OSError, pa.ArrowException) as error:
        found = f"a damaged file ({' '.join(str(error).split())})"
        raise InputError(explain(path, found, "a Parquet file", _RUN_AGAIN)) from error
    metadata = table.schema.metadata or {}
    absent = [key for key in _METADATA_KEYS if key.encode() not in metadata]
    if absent:
        found = f"no metadata {', '.join(absent)}"
        raise InputError(explain(path, found, "a file written by shine", _RUN_AGAIN))
    version = metadata[b"schema_version"].decode()
    if version != SCHEMA_VERSION:
        found = f"schema version {version}"
        raise InputError(explain(path, found, f"version {SCHEMA_VERSION}", _RUN_AGAIN))
    if not table.schema.equals(expected, check_metadata=False):
        differing = set(table.schema) ^ set(expected)
        names = sorted({entry.name for entry in differing}) or ["the order of columns"]
        found = f"other columns or types: {', '.join(names)}"
        raise InputError(explain(path, found, "the schema of shine.result_schema", _RUN_AGAIN))
    return table
