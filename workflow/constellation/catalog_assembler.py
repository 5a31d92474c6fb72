"""From sub-tiles to one catalogue: complete, each sub-tile once, nothing silently left out."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from constellation.plan import SubTile
from constellation.tables import read_table, write_table
from shine.errors import InputError, Status, explain
from shine.provenance import digest
from shine.result_schema import SHEAR_SCHEMA, SOURCE_SCHEMA
from shine.results import LEFT_OUT, read_shear, read_sources

KEY = ("TILE_ID", "SUBTILE_ROW", "SUBTILE_COL")
PROVENANCE_KEYS = ("git_commit", "code_digest", "package_versions", "config_hash", "seed")


@dataclass(frozen=True)
class Catalogue:
    """Shear rows and source rows of many sub-tiles, sorted, with their common metadata."""

    shear: pa.Table
    sources: pa.Table

    def write(self, folder: Path, stem: str) -> list[Path]:
        """Write `{stem}.parquet` and `{stem}_sources.parquet`, each at once; return the paths."""
        paths = [folder / f"{stem}.parquet", folder / f"{stem}_sources.parquet"]
        for table, path in zip((self.shear, self.sources), paths, strict=True):
            write_table(table, path)
        return paths

    def without_shear(self) -> list[str]:
        """One line for each sub-tile without converged shear: its name and what became of it."""
        lines = []
        for row in self.shear.select([*KEY, "STATUS"]).to_pylist():
            status = Status(row["STATUS"])
            if status is not Status.OK:
                name = SubTile(*(row[key] for key in KEY)).stem
                lines.append(f"{name}: {status.name}, {status.meaning}")
        return lines


def read_catalogue(shear: Path, sources: Path) -> Catalogue:
    """Read an assembled catalogue; raises `InputError` naming a file that is not one."""
    return Catalogue(_read(shear, SHEAR_SCHEMA), _read(sources, SOURCE_SCHEMA))


def assemble_tile(planned: Sequence[SubTile], folder: Path, logs: Path) -> Catalogue:
    """Put together the planned sub-tiles of one tile from the results in `folder`.

    Raises `InputError` if a planned sub-tile has no result (naming its log in `logs`), if two
    files hold the same sub-tile (naming both), or if a file is damaged or of another schema.
    """
    files = _shear_files(planned, folder, logs)
    shear = [read_shear(files[subtile]) for subtile in planned]
    sources = [read_sources(_sources_path(files[subtile])) for subtile in planned]
    for subtile, table in zip(planned, sources, strict=True):
        _check_place(table, subtile, _sources_path(files[subtile]))
    metadata = _merged_metadata(shear, [files[subtile] for subtile in planned])
    return _sorted_catalogue(shear, sources, metadata)


def merge_tiles(tile_ids: Iterable[int], folder: Path) -> Catalogue:
    """Put together the catalogues of tiles, `{tile}.parquet` and `{tile}_sources.parquet`.

    Raises `InputError` for a tile without them, or a sub-tile or source that is in two of them.
    """
    paths = [folder / f"{tile_id}.parquet" for tile_id in tile_ids]
    tiles = [read_catalogue(path, _sources_path(path)) for path in paths]
    metadata = _merged_metadata([tile.shear for tile in tiles], paths)
    merged = _sorted_catalogue(
        [tile.shear for tile in tiles], [tile.sources for tile in tiles], metadata
    )
    _refuse_repeats(merged.shear, KEY, "sub-tile", folder)
    _refuse_repeats(merged.sources, ("OBJECT_ID",), "core source", folder)
    return merged


def check_complete(catalogue: Catalogue, planned: Iterable[SubTile], folder: Path) -> None:
    """Raise `InputError` unless the catalogue has the planned sub-tiles and no others.

    A tile's catalogue may be of an earlier plan, and those of other shards are not made anew.
    """
    rows = zip(*(catalogue.shear[name].to_pylist() for name in KEY), strict=True)
    found = {SubTile(*row) for row in rows}
    wanted = set(planned)
    if found != wanted:
        missing, others = sorted(wanted - found), sorted(found - wanted)
        named = [f"no {subtile.stem}" for subtile in missing[:3]]
        named += [f"also {subtile.stem}" for subtile in others[:3]]
        raise InputError(
            explain(
                folder,
                f"{len(missing)} sub-tiles missing, {len(others)} that are not planned "
                f"({', '.join(named)})",
                f"the {len(wanted)} planned ones",
                "Run the shards of these tiles again.",
            )
        )


def _shear_files(planned: Sequence[SubTile], folder: Path, logs: Path) -> dict[SubTile, Path]:
    found: dict[SubTile, Path] = {}
    for path in sorted(folder.glob("*.parquet")):
        if path.stem.endswith("_sources") or path.name.startswith("."):
            continue
        [row] = read_shear(path).select(KEY).to_pylist()
        subtile = SubTile(*(row[key] for key in KEY))
        if subtile in found:
            raise InputError(
                f"{found[subtile]} and {path}: both are results of sub-tile {subtile.stem}, "
                "expected one; remove the wrong one"
            )
        found[subtile] = path
    missing = [subtile for subtile in planned if subtile not in found]
    if missing:
        names = ", ".join(f"{s.stem} (log: {logs / f'{s.stem}.log'})" for s in missing)
        raise InputError(
            explain(
                folder,
                f"no result for {len(missing)} of {len(planned)} planned sub-tiles: {names}",
                "one file each",
                "Read the log, then run the workflow again.",
            )
        )
    return found


def _sources_path(shear: Path) -> Path:
    return shear.with_name(f"{shear.stem}_sources.parquet")


def _check_place(sources: pa.Table, subtile: SubTile, path: Path) -> None:
    expected = (subtile.tile_id, subtile.row, subtile.col)
    for name, value in zip(KEY, expected, strict=True):
        others = sources.filter(pc.not_equal(sources[name], value))
        if others.num_rows:
            found = f"{name} {others[name][0].as_py()}"
            raise InputError(
                explain(path, found, f"{name} {value}", "Remove the file and run again.")
            )


def _sorted_catalogue(
    shear: Sequence[pa.Table], sources: Sequence[pa.Table], metadata: dict[str, str]
) -> Catalogue:
    by_place = [(name, "ascending") for name in KEY]
    return Catalogue(
        pa.concat_tables(shear).sort_by(by_place).replace_schema_metadata(metadata),
        pa.concat_tables(sources)
        .sort_by([*by_place, ("OBJECT_ID", "ascending")])
        .replace_schema_metadata(metadata),
    )


def _merged_metadata(tables: Sequence[pa.Table], paths: Sequence[Path]) -> dict[str, str]:
    """The metadata that the tables share; what differs between them becomes a JSON list."""
    texts = [
        {key.decode(): value.decode() for key, value in table.schema.metadata.items()}
        for table in tables
    ]
    merged = dict(texts[0])
    for text, path in zip(texts, paths, strict=True):
        if text["config_hash"] != texts[0]["config_hash"]:
            raise InputError(
                f"{paths[0]} and {path}: made with different settings (config_hash "
                f"{texts[0]['config_hash'][:12]} and {text['config_hash'][:12]}), expected the "
                "same; run the workflow again"
            )
    for key in PROVENANCE_KEYS:
        values = sorted({text[key] for text in texts})
        merged[key] = values[0] if len(values) == 1 else json.dumps(values)
    # one digest over all inputs: at survey scale a list of them would outgrow the catalogue
    inputs = digest(text["input_hashes"] for text in texts)
    merged["input_hashes"] = json.dumps({f"{len(texts)} results": inputs})
    merged[LEFT_OUT] = _summed(json.loads(text[LEFT_OUT]) for text in texts)
    return merged


def _summed(counts: Iterable[Mapping[str, Mapping[str, int]]]) -> str:
    """Sources and pixels left out of all sub-tiles; what two of them share counts twice."""
    total: dict[str, Counter[str]] = {}
    for one in counts:
        for kind, by_reason in one.items():
            total.setdefault(kind, Counter()).update(by_reason)
    return json.dumps(total)


def _refuse_repeats(table: pa.Table, key: Sequence[str], what: str, folder: Path) -> None:
    counts = table.group_by(list(key)).aggregate([([], "count_all")])
    repeated = counts.filter(pc.greater(counts["count_all"], 1))
    if repeated.num_rows:
        row = repeated.slice(0, 1).to_pylist()[0]
        name = "_".join(str(row[column]) for column in key)
        raise InputError(
            explain(
                folder,
                f"{what} {name} {row['count_all']} times",
                "once",
                "Remove the results of another tile list or grid, and run again.",
            )
        )


def _read(path: Path, schema: pa.Schema) -> pa.Table:
    table = read_table(path, schema, "Assemble it again.")
    wanted = (*PROVENANCE_KEYS, LEFT_OUT)
    absent = [key for key in wanted if key.encode() not in (table.schema.metadata or {})]
    if absent:
        raise InputError(
            explain(path, f"no metadata {', '.join(absent)}", "all", "Assemble it again.")
        )
    return table
