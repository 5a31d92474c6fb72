"""The catalogue of a finished run, as it is published."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

from constellation.catalogue.schema import SHEAR
from shine.provenance import digest
from shine.results import provenance_of, read_shear
from tests.constellation.fake_catalogue import publish_plainly

from .project import Project


def published(project: Project) -> Path:
    """The folder of a project's catalogue; published plainly where the run has not done it."""
    folder = project.folder / "results" / "catalogue"
    if (folder / "files.parquet").exists():
        return folder
    shear, sources = (
        parquet.read_table(folder / name).replace_schema_metadata()
        for name in ("shear.parquet", "shear_sources.parquet")
    )
    shutil.rmtree(folder)
    publish_plainly(folder, shear, sources)
    rows = [
        row | _origin(project, row)
        for row in parquet.read_table(folder / "shear.parquet").to_pylist()
    ]
    parquet.write_table(pa.Table.from_pylist(rows, SHEAR), folder / "shear.parquet")
    return folder


def _origin(project: Project, row: dict) -> dict:
    stem = "_".join(str(row[name]) for name in ("TILE_ID", "SUBTILE_ROW", "SUBTILE_COL"))
    origin = provenance_of(read_shear(project.result(stem)))
    return {
        "GIT_COMMIT": origin.git_commit,
        "CODE_DIGEST": origin.code_digest,
        "CONFIG_HASH": origin.config_hash,
        "PACKAGE_VERSIONS": json.dumps(origin.package_versions, sort_keys=True),
        "INPUTS_DIGEST": digest([json.dumps(origin.input_hashes, sort_keys=True)]),
        "SEED": origin.seed,
    }
