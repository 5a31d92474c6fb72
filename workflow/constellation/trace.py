"""From a row of the catalogue back to all that it was made from.

object -> sub-tile -> row of the catalogue -> result files -> code, settings, packages, seed ->
manifest -> inputs and their files -> the run that made it. What the chain says is compared with
what is there now: `Trace.warnings` tells why a result could not be made again.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
from pyarrow.dataset import field

from constellation.catalogue.published import PublishedCatalogue
from constellation.catalogue.schema import KEY
from constellation.dvc_pins import Pins
from constellation.plan import SubTile
from constellation.run_layout import Run
from constellation.trace_checks import (
    InputFile,
    ResultFile,
    code_warnings,
    input_file,
    package_warnings,
    result_file,
)
from shine.errors import InputError, explain
from shine.euclid.config import load_config
from shine.manifest import Manifest, manifest_digest, read_manifest
from shine.provenance import Provenance, config_hash
from shine.result_schema import SHEAR_SCHEMA
from shine.results import provenance_of, read_shear, read_sources

_SUBTILE = re.compile(r"(\d+)[,_](\d+)[,_](\d+)")
_OBJECT = re.compile(r"-?\d+")
MEASURED = ("host", "device", "load_s", "compile_s", "solve_s", "total_s", "peak_rss_mb")


@dataclass(frozen=True)
class Input:
    """One input of the inference: the digest of the values read of it, and their files."""

    name: str
    sha256: str
    files: tuple[str, ...]


@dataclass(frozen=True)
class CatalogueRow:
    """The row of a sub-tile in the published catalogue; and the file of its sources."""

    file: str
    sources_file: str | None
    receipt: str
    receipt_sha256: str | None  # None where there is no receipt
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Trace:
    """The chain of one sub-tile, and of one source of it if that was asked for."""

    subtile: str
    source: Mapping[str, Any] | None
    row: CatalogueRow | None
    results: tuple[ResultFile, ...]
    provenance: Provenance
    settings: str
    manifest: str
    inputs: tuple[Input, ...]
    files: tuple[InputFile, ...]
    run: Mapping[str, Any]
    threads: int
    warnings: tuple[str, ...]


def trace(what: str, run: Run) -> Trace:
    """Trace an OBJECT_ID, or a sub-tile `tile,row,col` or `tile_row_col`.

    Files are looked for from the working folder, as by the workflow. Raises `InputError` if there
    is no such source or no such result.
    """
    catalogue = PublishedCatalogue(run.results / "catalogue")
    source = None
    if match := _SUBTILE.fullmatch(what.strip()):
        subtile = SubTile(*map(int, match.groups()))
    elif _OBJECT.fullmatch(what.strip()):
        source = _find_source(int(what), catalogue)
        subtile = SubTile(*(source[name] for name in KEY))
    else:
        expected = "an OBJECT_ID, or tile,row,col of a sub-tile"
        raise InputError(explain("what to trace", repr(what), expected, "Correct it."))
    return _trace_subtile(subtile, source, run, catalogue)


def _find_source(object_id: int, catalogue: PublishedCatalogue) -> dict[str, Any]:
    columns = [*KEY, "OBJECT_ID", "RA", "DEC", "KIND", "FLAGS"]
    found = catalogue.sources(columns, field("OBJECT_ID") == object_id).to_pylist()
    if len(found) != 1:
        n_all = sum(catalogue.files["N_ROWS"].to_pylist())
        action = (
            "Only core sources of sub-tiles with results are in it; for a sub-tile give "
            "tile,row,col."
        )
        raise InputError(
            explain(
                f"{catalogue.folder}, column OBJECT_ID",
                f"{len(found)} rows with {object_id} among {n_all} sources",
                "one",
                action,
            )
        )
    return found[0]


def _trace_subtile(
    subtile: SubTile, source: Mapping[str, Any] | None, run: Run, catalogue: PublishedCatalogue
) -> Trace:
    paths = [Path(run.subtile(subtile, suffix)) for suffix in (".parquet", "_sources.parquet")]
    shear, sources = read_shear(paths[0]), read_sources(paths[1])
    provenance = provenance_of(shear)
    warnings = []
    if provenance_of(sources) != provenance:
        warnings.append(f"{paths[1]} was made from something else than {paths[0]}")
    row = _row_of(subtile, catalogue, warnings)
    if row is not None:
        differing = _differing(row.values, shear.to_pylist()[0], provenance)
        if differing:
            warnings.append(
                f"{row.file} is not of this result ({', '.join(differing)} differ): "
                "publish the catalogue again"
            )
    record = _record(subtile, run, provenance, warnings)
    pins = Pins.read()
    settings, manifest_path = str(run.results / "shine.yaml"), Path(run.manifest(subtile))
    warnings += code_warnings(provenance) + package_warnings(provenance)
    warnings += _settings_warnings(settings, provenance)
    inputs, files = _inputs(manifest_path, provenance, record, pins, warnings)
    measured = record.get("measurements", {})
    device = measured.get("device", "cpu")
    if device != "cpu":
        warnings.append(f"it was made on {device}: other devices give other last digits")
    return Trace(
        subtile.stem,
        source,
        row,
        tuple(result_file(path, pins) for path in paths),
        provenance,
        settings,
        str(manifest_path),
        inputs,
        files,
        {name: measured[name] for name in MEASURED if name in measured},
        run.config.compute.threads,
        tuple(warnings),
    )


def _row_of(
    subtile: SubTile, catalogue: PublishedCatalogue, warnings: list[str]
) -> CatalogueRow | None:
    """The row in the published catalogue; a sub-tile can be traced without."""
    path = catalogue.folder / "shear.parquet"
    try:
        place = (subtile.tile_id, subtile.row, subtile.col)
        is_it = [pc.equal(catalogue.shear[n], v) for n, v in zip(KEY, place, strict=True)]
        same = catalogue.shear.filter(reduce(pc.and_, is_it)).to_pylist()
        files = dict(
            zip(*(catalogue.files[c].to_pylist() for c in ("TILE_ID", "PATH")), strict=True)
        )
    except InputError as error:
        warnings.append(f"it is in no published catalogue: {error}")
        return None
    if len(same) != 1:
        warnings.append(f"{path} has {len(same)} rows of it, expected one")
        return None
    receipt = catalogue.folder.with_suffix(".json")
    known = receipt.exists()
    return CatalogueRow(
        str(path),
        str(catalogue.folder / files[subtile.tile_id]) if subtile.tile_id in files else None,
        str(receipt),
        hashlib.sha256(receipt.read_bytes()).hexdigest() if known else None,
        same[0],
    )


def _differing(
    row: Mapping[str, Any], result: Mapping[str, Any], provenance: Provenance
) -> list[str]:
    """The columns of the catalogue's row that are not the result's."""
    expected = {name: result[name] for name in SHEAR_SCHEMA.names} | {
        "GIT_COMMIT": provenance.git_commit,
        "CODE_DIGEST": provenance.code_digest,
        "CONFIG_HASH": provenance.config_hash,
        "SEED": provenance.seed,
    }
    return [name for name, value in expected.items() if row[name] != value]


def _record(
    subtile: SubTile, run: Run, provenance: Provenance, warnings: list[str]
) -> dict[str, Any]:
    """What the run noted; empty if it cannot be read."""
    place = {"tile": subtile.tile_id, "row": subtile.row, "col": subtile.col}
    path = Path(run.pattern("runs", ".run.json").format(**place))
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        made_from = Provenance(**record["provenance"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        warnings.append(f"{path} does not tell of its run ({type(error).__name__}: {error})")
        return {}
    if made_from != provenance:
        warnings.append(f"{path} is of another run than the result")
    return record


def _settings_warnings(path: str, provenance: Provenance) -> list[str]:
    if not Path(path).exists():
        return [f"{path}, the settings, is missing"]
    now = config_hash(load_config(path))
    if now == provenance.config_hash:
        return []
    return [f"{path} holds other settings now: their hash is {now}"]


def _inputs(
    path: Path,
    provenance: Provenance,
    record: Mapping[str, Any],
    pins: Pins,
    warnings: list[str],
) -> tuple[tuple[Input, ...], tuple[InputFile, ...]]:
    """Each input with its digest, and all files with what is pinned of them."""
    digests = provenance.input_hashes
    if not path.exists():
        warnings.append(f"{path}, the manifest, is missing: its inputs' files are not known")
        return tuple(Input(name, digests[name], ()) for name in sorted(digests)), ()
    if manifest_digest(path) != digests.get("manifest"):
        warnings.append(f"{path}, the manifest, has changed since: its digest is another")
    manifest = read_manifest(path)
    inputs = tuple(
        Input(name, digests[name], _files_of(name, manifest, path)) for name in sorted(digests)
    )
    versions = record.get("input_versions", {})
    recorded = {_normal(name): version for name, version in versions.items()}
    files = []
    for name in sorted({_normal(name) for name in manifest.paths}):
        found = input_file(name, recorded.get(name), pins)
        files.append(found)
        if found.problem is not None:
            warnings.append(f"{name}: {found.problem}")
    return inputs, tuple(files)


def _files_of(name: str, manifest: Manifest, path: Path) -> tuple[str, ...]:
    """The files of an input: `manifest`, `catalogue values`, or a quadrant `002704-00/3-4.E`."""
    if name == "manifest":
        return (str(path),)
    if name == "catalogue values":
        tables = manifest.catalogs + manifest.morphology_catalogs + manifest.segmentation_maps
        return tuple(_normal(table) for table in tables)
    exposure, _, quadrant = name.rpartition("/")
    same = [files for files in manifest.quadrants if files.quadrant in (quadrant, None)]
    # the exposure is told by the header, and by the name that Euclid gives the file
    named = [files for files in same if f"-{exposure}-" in Path(files.sci_path).name]
    return tuple(sorted({_normal(p) for files in named or same for p in files.paths}))


def _normal(path: str) -> str:
    return path if "://" in path else os.path.normpath(path)
