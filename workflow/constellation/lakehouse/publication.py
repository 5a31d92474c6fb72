"""Publishing a catalogue: the tiles that it holds replace those in the tables, and no others do.

The tables cannot be committed in one step, so they are in a fixed order: the sources first, and a
tile's shear only while the sources are still of the same publication. Of two that publish the same
tile at once, the one that comes second in the sources is also the last in the shear. What a
publisher that died between the two left undone is seen by the digests, and done by the next.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import parquet
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

from constellation.catalogue.published import PublishedCatalogue
from constellation.catalogue.schema import KEY, SOURCES
from constellation.lakehouse.commits import ID, Committer, Wanted, add_columns
from constellation.lakehouse.contents import Contents
from constellation.lakehouse.data_files import DataFiles
from constellation.lakehouse.schema import with_extra
from constellation.lakehouse.tables import MAIN, Lakehouse
from constellation.tables import check_columns, unreadable
from shine.errors import InputError, explain
from shine.provenance import digest

RECEIPT = "constellation.receipt-sha256"
_AGAIN = "Publish it again with `constellation assemble`."
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Publication:
    """A published catalogue as it is to be in the tables."""

    shear: pa.Table
    files: pa.Table
    folder: Path

    @classmethod
    def of(cls, folder: Path) -> Publication:
        """The catalogue in a folder; raises `InputError` if there is none."""
        catalogue = PublishedCatalogue(folder)
        try:
            before = folder.stat().st_ino
            publication = cls(catalogue.shear, catalogue.files, folder)
            after = folder.stat().st_ino
        except FileNotFoundError as error:
            raise InputError(explain(folder, "no catalogue", "one", _AGAIN)) from error
        if before != after:
            action = "Publish again."
            raise InputError(explain(folder, "a newer catalogue meanwhile", "one at rest", action))
        return publication

    @cached_property
    def digests(self) -> Mapping[int, str]:
        """Of each tile, the digest of all that is published of it: files of sources, and shear."""
        by_tile: dict[int, list[str]] = {}
        for row in self.files.select(["TILE_ID", "SHA256"]).to_pylist():
            by_tile.setdefault(row["TILE_ID"], []).append(row["SHA256"])
        shear = self.shear.sort_by([(name, "ascending") for name in KEY]).combine_chunks()
        tiles, starts = np.unique(np.asarray(shear["TILE_ID"]), return_index=True)
        if strays := sorted(set(by_tile) - set(tiles.tolist())):
            where = f"{self.folder}, tile {strays[0]}"
            raise InputError(explain(where, "sources without shear", "both", _AGAIN))
        ends = np.append(starts[1:], shear.num_rows)
        return {
            tile: digest([*sorted(by_tile.get(tile, [])), *_parts(shear.slice(start, end - start))])
            for tile, start, end in zip(tiles.tolist(), starts, ends, strict=True)
        }

    @cached_property
    def paths(self) -> Mapping[int, list[dict[str, object]]]:
        """The files of sources of each tile that has any, as rows of the table of files."""
        found: dict[int, list[dict[str, object]]] = {}
        for row in self.files.to_pylist():
            if row["N_ROWS"]:
                found.setdefault(row["TILE_ID"], []).append(row)
        return found

    @cached_property
    def properties(self) -> dict[str, str]:
        """What a snapshot says of its origin: the same in both tables."""
        receipt = self.folder.with_suffix(".json")
        origin = {
            name: " ".join(sorted(pc.unique(self.shear[column]).to_pylist()))
            for name, column in (
                ("constellation.git-commit", "GIT_COMMIT"),
                ("constellation.config-hash", "CONFIG_HASH"),
            )
        }
        if receipt.exists():
            origin[RECEIPT] = hashlib.sha256(receipt.read_bytes()).hexdigest()
        return {ID: self.id, "constellation.tiles": str(len(self.digests)), **origin}

    @cached_property
    def id(self) -> str:
        """The same for the same content, in a run and in its repetition."""
        return digest(f"{tile} {of}" for tile, of in sorted(self.digests.items()))[:16]

    @cached_property
    def source_columns(self) -> pa.Schema:
        """The columns of the files of sources: those of the first, which are those of all."""
        for rows in self.paths.values():
            return _schema_of(self.folder / str(rows[0]["PATH"]))
        return SOURCES

    def sources(self, tile_id: int) -> pa.Table:
        """The sources of a tile; raises `InputError` if a file is not what the catalogue says."""
        return pa.concat_tables([self._read(row) for row in self.paths[tile_id]])

    def _read(self, row: Mapping[str, object]) -> pa.Table:
        path = self.folder / str(row["PATH"])
        try:
            content = path.read_bytes()
            found = hashlib.sha256(content).hexdigest()
            table = parquet.read_table(pa.BufferReader(content))
        except (OSError, pa.ArrowInvalid) as error:
            raise unreadable(path, error, _AGAIN) from error
        if found != row["SHA256"]:
            expected = f"{row['SHA256']} as in files.parquet"
            raise InputError(explain(path, f"SHA-256 {found}", expected, _AGAIN))
        check_columns(table.schema, SOURCES, path, _AGAIN)
        return table


@dataclass
class _Sources:
    """The sources: a file or a few for each tile, written once."""

    publication: Publication
    whole: bool
    written: dict[int, tuple[int, list[DataFile]]] = field(default_factory=dict)

    @property
    def properties(self) -> Mapping[str, str]:
        return self.publication.properties

    def expected(self, tile: int) -> str | None:
        """The digest that the table of sources has of a tile: None if no source is in it."""
        return self.publication.digests[tile] if tile in self.publication.paths else None

    def wanted(self, held: Contents) -> Wanted:
        tiles = self.publication.digests
        changed = {tile: self.expected(tile) for tile in tiles}
        changed |= dict.fromkeys(_strays(held, tiles) if self.whole else ())
        return {tile: want for tile, want in changed.items() if held.digests.get(tile) != want}

    def write(self, tiles: list[int], files: DataFiles) -> list[DataFile]:
        return [written for tile in sorted(tiles) for written in self._tile(tile, files)]

    def _tile(self, tile: int, files: DataFiles) -> list[DataFile]:
        spec = files.table.metadata.default_spec_id
        if self.written.get(tile, (None,))[0] != spec:
            of = self.publication.digests[tile]
            rows = self.publication.sources(tile)
            rows = with_extra(rows, pa.array([of] * rows.num_rows))
            self.written[tile] = spec, files.write(rows, f"{tile}-{of[:12]}")
        return self.written[tile][1]


@dataclass
class _Shear:
    """The shear: one file for all tiles that change."""

    publication: Publication
    whole: bool
    sources: _Sources
    table_of_sources: Table
    branch: str

    @property
    def properties(self) -> Mapping[str, str]:
        return self.publication.properties

    def wanted(self, held: Contents) -> Wanted:
        table = self.table_of_sources.refresh()
        current = Contents.of(table, table.snapshot_by_name(self.branch)).digests
        tiles = self.publication.digests
        changed: dict[int, str | None] = {
            tile: of
            for tile, of in tiles.items()
            # else somebody has published it since: its shear is theirs to publish too
            if held.digests.get(tile) != of and current.get(tile) == self.sources.expected(tile)
        }
        gone = _strays(held, tiles) if self.whole else []
        return changed | dict.fromkeys(tile for tile in gone if tile not in current)

    def write(self, tiles: list[int], files: DataFiles) -> list[DataFile]:
        if not tiles:
            return []
        shear, digests = self.publication.shear, self.publication.digests
        rows = shear.filter(pc.is_in(shear["TILE_ID"], pa.array(tiles)))
        of = pa.array([digests[tile] for tile in rows["TILE_ID"].to_pylist()])
        return files.write(with_extra(rows, of), self.publication.id)


def publish(
    lakehouse: Lakehouse, publication: Publication, branch: str = MAIN, whole: bool = False
) -> bool:
    """Commit a catalogue to both tables of a branch; returns whether anything was to be done.

    Its tiles replace those in the tables; with `whole` it is all of the survey, and tiles that it
    does not hold are removed. Raises `InputError`.
    """
    columns = {"sources": publication.source_columns, "shear": publication.shear.schema}
    tables = {name: lakehouse.create(name, schema) for name, schema in columns.items()}
    for name, table in tables.items():
        if added := add_columns(table, columns[name]):
            _LOG.info("%s: new columns %s", name, ", ".join(added))
    sources = _Sources(publication, whole)
    shear = _Shear(publication, whole, sources, tables["sources"], branch)
    seen = tables["shear"].snapshot_by_name(branch)
    pending = bool(shear_changes(shear, Contents.of(tables["shear"], seen)))
    first = Committer(tables["sources"], sources, branch).run(or_empty=pending)
    second = Committer(tables["shear"], shear, branch).run(or_empty=first)
    return first or second


def shear_changes(shear: _Shear, held: Contents) -> list[int]:
    """The tiles of a publication whose shear the table does not have."""
    tiles = shear.publication.digests
    changed = [tile for tile, of in tiles.items() if held.digests.get(tile) != of]
    return changed + (_strays(held, tiles) if shear.whole else [])


def _strays(held: Contents, tiles: Mapping[int, str]) -> list[int]:
    return [tile for tile in held.digests if tile not in tiles]


def _parts(rows: pa.Table) -> list[str | np.ndarray]:
    """All values of a table in a form that does not depend on how Arrow stores them."""
    parts: list[str | np.ndarray] = []
    for name in rows.column_names:
        column = rows[name]
        parts.append(name)
        if pa.types.is_primitive(column.type) and not pa.types.is_boolean(column.type):
            valid = np.asarray(pc.is_valid(column))
            parts += [valid, np.where(valid, np.asarray(column.fill_null(0)), 0)]
        else:
            parts.append(json.dumps(column.to_pylist()))
    return parts


def _schema_of(path: Path) -> pa.Schema:
    try:
        return parquet.read_schema(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise unreadable(path, error, _AGAIN) from error
