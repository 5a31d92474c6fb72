"""A published catalogue of any rows, written plainly and without constellation's own writer."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import parquet

from constellation.catalogue.schema import FAILURES, FILES, ORIGIN, SHEAR, SOURCES, healpix

ORIGIN_VALUES = ("c0ffee", "b" * 64, "a" * 64, '{"numpy": "2.0"}', "d" * 64, 0)


def publish_plainly(folder: Path, shear: pa.Table, sources: pa.Table) -> Path:
    """Write rows with shine's own columns as a published catalogue; returns its folder."""
    (folder / "sources").mkdir(parents=True)
    origin = {
        field.name: pa.array([value] * shear.num_rows, field.type)
        for field, value in zip(ORIGIN, ORIGIN_VALUES, strict=True)
    }
    _write(_with_healpix(shear, origin), SHEAR, folder / "shear.parquet")
    files = []
    for tile_id in pc.unique(sources["TILE_ID"]).to_pylist():
        tile = sources.filter(pc.equal(sources["TILE_ID"], tile_id))
        files.append(_write_tile(_with_healpix(tile, {}), tile_id, folder))
    _write(pa.Table.from_pylist(files, FILES), FILES, folder / "files.parquet")
    _write(FAILURES.empty_table(), FAILURES, folder / "failures.parquet")
    return folder


def _with_healpix(table: pa.Table, more: dict[str, pa.Array]) -> pa.Table:
    columns = {name: table[name] for name in table.column_names}
    columns["HEALPIX"] = pa.array(healpix(np.asarray(table["RA"]), np.asarray(table["DEC"])))
    return pa.table(columns | more).sort_by("HEALPIX")


def _write(table: pa.Table, schema: pa.Schema, path: Path) -> None:
    parquet.write_table(table.select(schema.names).cast(schema), path, compression="zstd")


def _write_tile(table: pa.Table, tile_id: int, folder: Path) -> dict[str, object]:
    path = folder / "sources" / f"{tile_id}.parquet"
    _write(table, SOURCES, path)
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    path = path.rename(path.with_stem(f"{tile_id}-{digest[:12]}"))
    index = table["HEALPIX"].to_numpy()
    return {
        "PATH": f"sources/{path.name}",
        "TILE_ID": tile_id,
        "N_ROWS": table.num_rows,
        "N_BYTES": len(content),
        "SHA256": digest,
        "HEALPIX_MIN": index.min(),
        "HEALPIX_MAX": index.max(),
        # a circle that is larger than need be
        "RA": np.mean(table["RA"].to_numpy()),
        "DEC": np.mean(table["DEC"].to_numpy()),
        "RADIUS": 180.0 if np.ptp(table["RA"].to_numpy()) > 90.0 else _reach_deg(table),
    }


def _reach_deg(table: pa.Table) -> float:
    ra, dec = table["RA"].to_numpy(), table["DEC"].to_numpy()
    return float(np.hypot(np.ptp(ra), np.ptp(dec))) + 0.01
