"""The two files of a tile, made from the results of its sub-tiles."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import parquet

from constellation.catalogue.metadata import COMMON, INPUTS, merge_metadata
from constellation.catalogue.schema import KEY, SHEAR, SOURCES, healpix
from constellation.catalogue.subtile_results import PlannedTile, Result, read_results
from constellation.plan import SubTile
from shine.errors import Status
from shine.provenance import digest

SOURCES_DIGEST = "sources_sha256"  # in the metadata of a tile's shear: that of its sources' file
ROW_GROUP = 16_384  # rows, some 10 MB with their samples: a survey's tile has two groups

_FEW_VALUES = ["TILE_ID", "SUBTILE_ROW", "SUBTILE_COL", "KIND", "N_EXPOSURES", "FLAGS"]
# of noise, the differences need fewer bits than zstd finds in whole numbers of four bytes
_SAMPLES = {
    f"{name}.list.element": "DELTA_BINARY_PACKED" for name in ("SHAPE_SAMPLES", "SAMPLE_LOG_WEIGHT")
}
_STATISTICS = [field.name for field in SOURCES if not pa.types.is_nested(field.type)]
_LAST = np.iinfo(np.int64).max


@dataclass(frozen=True)
class TileFiles:
    """The content of a tile's two files, and a line for each sub-tile without converged shear."""

    shear: bytes
    sources: bytes
    without_shear: tuple[str, ...]


def make_tile(tile: PlannedTile, folder: Path) -> TileFiles:
    """Put together the results in `folder` of a tile's planned sub-tiles.

    Each row of the shear says what it depends on; both tables are sorted by HEALPIX, and the
    metadata of the shear vouch for the sources. The bytes depend on the results alone. Raises
    `InputError` as `read_results` does, or naming two results of different settings.
    """
    results = read_results(tile, folder)
    texts = [result.metadata for result in results]
    metadata = merge_metadata(texts, [result.path for result in results], len(results))
    sources = sources_bytes(_sources(results, metadata))
    metadata[SOURCES_DIGEST] = hashlib.sha256(sources).hexdigest()
    shear = _shear(results, metadata)
    return TileFiles(table_bytes(shear), sources, tuple(without_shear(shear)))


def without_shear(shear: pa.Table) -> list[str]:
    """One line for each sub-tile without converged shear: its name and what became of it."""
    lines = []
    for row in shear.select([*KEY, "STATUS"]).to_pylist():
        status = Status(row["STATUS"])
        if status is not Status.OK:
            name = SubTile(*(row[key] for key in KEY)).stem
            lines.append(f"{name}: {status.name}, {status.meaning}")
    return sorted(lines)


def sorted_by_place(table: pa.Table) -> pa.Table:
    """Rows in the order of HEALPIX, those without one last; then of what identifies them."""
    names = [name for name in ("OBJECT_ID", *reversed(KEY)) if name in table.column_names]
    keys = [table[name].to_numpy() for name in names]
    order = np.lexsort([*keys, table["HEALPIX"].fill_null(_LAST).to_numpy()])
    return table.combine_chunks().take(pa.array(order))


def table_bytes(table: pa.Table) -> bytes:
    """A table of sub-tiles as Parquet."""
    sink = pa.BufferOutputStream()
    _write(table, sink, use_dictionary=True)
    return sink.getvalue().to_pybytes()


def sources_bytes(table: pa.Table) -> bytes:
    """A table of sources as Parquet: numbers that hardly repeat, most of them noise."""
    sink = pa.BufferOutputStream()
    options = {"write_statistics": _STATISTICS, "column_encoding": _SAMPLES}
    _write(table, sink, use_dictionary=_FEW_VALUES, **options)
    return sink.getvalue().to_pybytes()


def _write(table: pa.Table, sink: pa.BufferOutputStream, **options: object) -> None:
    # every option that shapes the bytes is spelt out, so that a new default cannot change them
    parquet.write_table(
        table,
        sink,
        compression="zstd",
        compression_level=1,
        version="2.6",
        data_page_version="1.0",
        row_group_size=ROW_GROUP,
        **options,
    )


def _shear(results: Sequence[Result], metadata: dict[str, str]) -> pa.Table:
    if not results:
        return SHEAR.empty_table().replace_schema_metadata(COMMON | metadata)
    rows = pa.concat_tables([result.shear.replace_schema_metadata() for result in results])
    texts = [result.metadata for result in results]
    columns = {name: rows[name] for name in rows.column_names} | {
        "HEALPIX": pa.array(healpix(rows["RA"].to_numpy(), rows["DEC"].to_numpy())),
        "GIT_COMMIT": [text["git_commit"] for text in texts],
        "CODE_DIGEST": [text["code_digest"] for text in texts],
        "CONFIG_HASH": [text["config_hash"] for text in texts],
        "PACKAGE_VERSIONS": [text["package_versions"] for text in texts],
        "INPUTS_DIGEST": [digest([text[INPUTS]]) for text in texts],
        "SEED": [int(text["seed"]) for text in texts],
    }
    found = pa.table([columns[name] for name in SHEAR.names], names=SHEAR.names)
    return sorted_by_place(found.cast(SHEAR)).replace_schema_metadata(metadata)


def _sources(results: Sequence[Result], metadata: dict[str, str]) -> pa.Table:
    if not results:
        return SOURCES.empty_table().replace_schema_metadata(COMMON | metadata)
    rows = pa.concat_tables([result.sources.replace_schema_metadata() for result in results])
    index, known = _indices(rows)
    rows = rows.append_column("HEALPIX", pa.array(index, mask=~known))
    return (
        sorted_by_place(rows.select(SOURCES.names)).cast(SOURCES).replace_schema_metadata(metadata)
    )


def _indices(rows: pa.Table) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The index of each row (n,), and whether its position is known (n,)."""
    known = np.asarray(pa.compute.and_(rows["RA"].is_valid(), rows["DEC"].is_valid()))
    index = np.zeros(len(known), np.int64)
    index[known] = healpix(*(rows[name].fill_null(0.0).to_numpy()[known] for name in ("RA", "DEC")))
    return index, known
