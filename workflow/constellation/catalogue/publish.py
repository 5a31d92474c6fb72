"""Tiles to the published catalogue: all of it at once, each sub-tile and each source once."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import parquet
from tqdm import tqdm

from constellation.catalogue.each_once import EachOnce
from constellation.catalogue.failures import list_failures
from constellation.catalogue.links import alone_in, beside, link_or_copy, repair, replace_folder
from constellation.catalogue.metadata import check_metadata, merge_metadata, text_of
from constellation.catalogue.schema import EDITION, FILES, KEY, SHEAR, SOURCES
from constellation.catalogue.tile import SOURCES_DIGEST, sorted_by_place, table_bytes
from constellation.plan import Plan, SubTile
from constellation.sphere import bounding_circle, unit_vectors
from constellation.tables import check_columns, unreadable
from shine.atomic import write_atomically
from shine.errors import InputError, explain
from shine.provenance import digest

_AGAIN = "Remove it, in results/kept/tiles too, and run the workflow again."
_TILES_AGAIN = "Run the tiles, or the shards of these, again."
_LOOKED_AT = ("OBJECT_ID", "RA", "DEC", "HEALPIX")
_BATCH = 500  # tiles whose rows are put together at a time


@dataclass(frozen=True)
class Target:
    """The folder of the catalogue, the receipt beside it, and the sub-tiles' logs.

    Planned sub-tiles may lack a result only where `allow_failed`.
    """

    folder: Path
    receipt: Path
    logs: Path
    allow_failed: bool = False

    @classmethod
    def of(cls, results: Path, allow_failed: bool = False) -> Target:
        """Those of a run's folder of results."""
        logs = results / "logs" / "subtiles"
        return cls(results / "catalogue", results / "catalogue.json", logs, allow_failed)


@dataclass
class _Gathered:
    """What is known of the tiles looked at so far."""

    shear: list[pa.Table] = field(default_factory=list)
    texts: list[dict[str, str]] = field(default_factory=list)
    paths: list[Path] = field(default_factory=list)
    files: list[dict[str, Any]] = field(default_factory=list)
    missing: list[SubTile] = field(default_factory=list)
    others: list[SubTile] = field(default_factory=list)


def publish(plan: Plan, tiles: Path, target: Target) -> dict[str, Any]:
    """Let the catalogue be that of the planned tiles' files in the folder `tiles`.

    Readers see the old catalogue or the new one, whatever interrupts this. Memory does not grow
    with the number of sources. Returns the content of the receipt. Raises `InputError` naming a
    tile without its files, or with damaged ones; planned sub-tiles that are missing, and others
    that are there; tiles of different settings; and a source that is core in two places.
    """
    folder = target.folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with alone_in(folder.parent):  # one publication at a time
        repair(folder)
        new = beside(folder)
        try:
            receipt = _build(plan, tiles, target, new)
            replace_folder(folder)
        finally:
            shutil.rmtree(new, ignore_errors=True)
        text = json.dumps(receipt, indent=2, ensure_ascii=False) + "\n"
        write_atomically(target.receipt, text.encode("utf-8"))
    return receipt


def _build(plan: Plan, tiles: Path, target: Target, new: Path) -> dict[str, Any]:
    (new / "sources").mkdir(parents=True)
    gathered = _gather(plan, tiles, new)
    _check_complete(gathered, plan, tiles, target.allow_failed)
    shear = sorted_by_place(pa.concat_tables(gathered.shear))
    metadata = merge_metadata(gathered.texts, gathered.paths, shear.num_rows)
    files = pa.Table.from_pylist(gathered.files, FILES)
    failures = list_failures(gathered.missing, target.logs)
    tables = {"shear": shear, "files": files, "failures": failures}
    metadata[EDITION] = digest([json.dumps(metadata), *(_digest(t) for t in tables.values())])
    for name, table in tables.items():
        content = table_bytes(table.replace_schema_metadata(metadata))
        write_atomically(new / f"{name}.parquet", content)
    counts = {
        "tiles": files.num_rows,
        "sub_tiles": shear.num_rows,
        "sources": pc.sum(files["N_ROWS"]).as_py(),
        "failures": failures.num_rows,
        "bytes": pc.sum(files["N_BYTES"]).as_py(),
    }
    return counts | {key: _decoded(value) for key, value in metadata.items()}


def _gather(plan: Plan, tiles: Path, new: Path) -> _Gathered:
    gathered = _Gathered()
    ids = new / "ids"
    ids.mkdir()
    once = EachOnce(ids, _n_sources(plan, tiles))
    look = _Look(plan, tiles, new, once)
    batch = []
    looked_at = tqdm(look.at_all(), total=len(plan.tile_ids), unit="tile", desc="publishing")
    for shear, file in looked_at:
        _compare(shear, plan.by_tile[file["TILE_ID"]], gathered)
        gathered.files.append(file)
        if shear.num_rows:
            batch.append(shear.replace_schema_metadata())
            gathered.texts.append(text_of(shear.schema))
            gathered.paths.append(tiles / f"{file['TILE_ID']}.parquet")
        if len(batch) == _BATCH:
            gathered.shear.append(pa.concat_tables(batch).combine_chunks())
            batch = []
    gathered.shear += batch
    repeated = once.repeated()
    if repeated is not None:
        raise _repeated(repeated, plan, tiles)
    shutil.rmtree(ids)
    return gathered


@dataclass(frozen=True)
class _Look:
    """Reads tiles' files, two at a time, and links those of the sources into the new folder."""

    plan: Plan
    tiles: Path
    new: Path
    once: EachOnce

    def at_all(self) -> Iterator[tuple[pa.Table, dict[str, Any]]]:
        """The shear of each tile and its row in the table of files, in the order of the plan."""
        with ThreadPoolExecutor(2) as pool:
            try:
                yield from pool.map(self.at, self.plan.tile_ids)
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    def at(self, tile_id: int) -> tuple[pa.Table, dict[str, Any]]:
        """The shear of one, and its row in the table of files."""
        path = self.tiles / f"{tile_id}.parquet"
        shear = _read(path, SHEAR)
        text = text_of(shear.schema)
        if shear.num_rows:
            check_metadata(text, path, _AGAIN)
        sources_path = path.with_name(f"{tile_id}_sources.parquet")
        rows = _read(sources_path, SOURCES, _LOOKED_AT)
        with sources_path.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
        if found != text.get(SOURCES_DIGEST):
            expected = f"those that {path.name} was made with"
            raise InputError(explain(sources_path, "other sources", expected, _AGAIN))
        self.once.add(rows["OBJECT_ID"].to_numpy())
        name = f"sources/{tile_id}-{found[:12]}.parquet"
        link_or_copy(sources_path, self.new / name)
        size = sources_path.stat().st_size
        return shear, _file_row(rows, tile_id, name, size) | {"SHA256": found}


def _read(path: Path, schema: pa.Schema, columns: Sequence[str] | None = None) -> pa.Table:
    try:
        file = parquet.ParquetFile(path, pre_buffer=False)
        check_columns(file.schema_arrow, schema, path, _AGAIN)
        return file.read(columns, use_threads=False)
    except (OSError, pa.ArrowException) as error:
        raise unreadable(path, error, _AGAIN) from error


def _n_sources(plan: Plan, tiles: Path) -> int:
    """About how many, from the sizes of the files of some of the tiles."""
    some = plan.tile_ids[:: max(len(plan.tile_ids) // 20, 1)]
    paths = [tiles / f"{tile_id}_sources.parquet" for tile_id in some]
    try:
        counted = sum(parquet.read_metadata(path).num_rows for path in paths)
    except (OSError, pa.ArrowException):
        return 0  # which is named where the tile is looked at
    return counted * len(plan.tile_ids) // len(some)


def _file_row(rows: pa.Table, tile_id: int, name: str, size: int) -> dict[str, Any]:
    rows_known = rows.filter(rows["HEALPIX"].is_valid())
    place: tuple[float | None, ...] = (None, None, None)
    if rows_known.num_rows:
        place = bounding_circle(
            unit_vectors(rows_known["RA"].to_numpy(), rows_known["DEC"].to_numpy())
        )
    extremes = pc.min_max(rows["HEALPIX"]).as_py()
    return {
        "PATH": name,
        "TILE_ID": tile_id,
        "N_ROWS": rows.num_rows,
        "N_BYTES": size,
        "HEALPIX_MIN": extremes["min"],
        "HEALPIX_MAX": extremes["max"],
        **dict(zip(("RA", "DEC", "RADIUS"), place, strict=True)),
    }


def _compare(shear: pa.Table, planned: Sequence[SubTile], gathered: _Gathered) -> None:
    """Note which sub-tiles of a tile are missing, and which are there but not planned."""
    found = [SubTile(*row) for row in zip(*(shear[name].to_pylist() for name in KEY), strict=True)]
    gathered.missing += set(planned) - set(found)
    gathered.others += (Counter(found) - Counter(planned)).elements()


def _check_complete(gathered: _Gathered, plan: Plan, tiles: Path, allow_failed: bool) -> None:
    """Raise `InputError` unless there are the planned sub-tiles, and no others."""
    missing, others = sorted(gathered.missing), sorted(gathered.others)
    if others or (missing and not allow_failed):
        named = [f"no {subtile.stem}" for subtile in missing[:3]]
        named += [f"also {subtile.stem}" for subtile in others[:3]]
        raise InputError(
            explain(
                tiles,
                f"{len(missing)} sub-tiles missing, {len(others)} that are not planned or twice "
                f"there ({', '.join(named)})",
                f"the {len(plan.subtiles)} planned ones",
                _TILES_AGAIN,
            )
        )
    if not gathered.shear:
        raise InputError(explain(tiles, "no result at all", "some", "Run the workflow first."))


def _repeated(object_id: int, plan: Plan, tiles: Path) -> InputError:
    """Say where a source is core more than once."""
    places = []
    for tile_id in plan.tile_ids:
        rows = _read(tiles / f"{tile_id}_sources.parquet", SOURCES, [*KEY, "OBJECT_ID"])
        rows = rows.filter(pc.equal(rows["OBJECT_ID"], object_id))
        places += [SubTile(*(row[key] for key in KEY)).stem for row in rows.to_pylist()]
    return InputError(
        explain(
            tiles,
            f"core source {object_id} {len(places)} times, in {', '.join(places[:3])}",
            "once",
            "Remove the results of another tile list or grid, and run again.",
        )
    )


def _digest(table: pa.Table) -> str:
    """Of a table's rows."""
    return hashlib.sha256(table_bytes(table.replace_schema_metadata())).hexdigest()


def _decoded(value: str) -> Any:
    """JSON lists and objects as such; everything else is a text."""
    return json.loads(value) if value.startswith(("[", "{")) else value
