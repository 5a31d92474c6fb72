"""Replacing tiles of a table, at once and whatever other publishers do meanwhile.

Nothing is locked. A commit names the snapshot that it was made for, and the catalogue refuses it if
another has come first; then what is to be done is worked out anew from the newer snapshot. So a
commit whose fate is unknown, as when the answer was lost, is no special case either: the next look
at the table tells whether it is there.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa
from pyiceberg.exceptions import (
    CommitFailedException,
    CommitStateUnknownException,
    ServiceUnavailableError,
    ValidationException,
)
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

from constellation.lakehouse.contents import Contents
from constellation.lakehouse.data_files import DataFiles
from constellation.lakehouse.schema import iceberg_schema
from constellation.lakehouse.tables import MAIN, PROPERTIES, sql_errors
from shine.errors import InputError, explain

_ATTEMPTS = 60
_LONGEST_WAIT_S = 4.0
_RETRIES = "commit.retry.num-retries"
_REFUSED = (CommitFailedException, ValidationException)
_LOCKED = sql_errors("OperationalError")  # SQLite, while another process writes for very long
_UNKNOWN = (CommitStateUnknownException, ServiceUnavailableError, *_LOCKED)
ID = "constellation.publication"
Wanted = Mapping[int, str | None]  # the digest that each tile shall have; None: no row of it


class Change(Protocol):
    """What a publisher wants of a table."""

    properties: Mapping[str, str]  # of the snapshot

    def wanted(self, held: Contents) -> Wanted:
        """What to change in a table that holds this: asked before each attempt."""

    def write(self, tiles: list[int], files: DataFiles) -> list[DataFile]:
        """Write the rows of tiles (or give the files that were written before)."""


@dataclass
class Committer:
    """One publisher's work on one table."""

    table: Table
    change: Change
    branch: str = MAIN
    doubtful: frozenset[str] = frozenset()  # files of commits of unknown fate: never removed

    def run(self, or_empty: bool = False) -> bool:
        """Commit the change; returns whether there was one.

        With `or_empty` there is a snapshot of this publication even if no row changes. Raises
        `InputError` if others come first again and again, or the branch does not exist.
        """
        self._without_blind_retries()
        files, kept = DataFiles(self.table), set()
        try:
            for attempt in range(_ATTEMPTS):
                try:
                    committed = self._attempt(files, or_empty)
                except (*_REFUSED, *_UNKNOWN):
                    pass  # the next look at the table tells
                else:
                    kept = committed or set()
                    return committed is not None or bool(self.doubtful)
                time.sleep(random.uniform(0.0, min(_LONGEST_WAIT_S, 0.05 * 2**attempt)))
            where = f"Iceberg table {'.'.join(self.table.name())}"
            found = f"{_ATTEMPTS} commits of others, one after the other, before this one"
            raise InputError(explain(where, found, "a free moment", "Publish again."))
        finally:
            files.remove_all_but(kept | self.doubtful)

    def _attempt(self, files: DataFiles, or_empty: bool) -> set[str] | None:
        """Try once; returns the data files of the new snapshot, None if nothing is to be done."""
        self.table.refresh()
        refs = self.table.refs()
        if self.branch != MAIN and self.branch not in refs:
            where = f"Iceberg table {'.'.join(self.table.name())}"
            action = f"Create it with `constellation release branch {self.branch}`."
            raise InputError(explain(where, f"no branch {self.branch}", "one", action))
        head = self.table.snapshot_by_name(self.branch)
        held = Contents.of(self.table, head)
        wanted = self.change.wanted(held)
        is_there = head is not None and head.summary is not None and head.summary.get(ID)
        if not wanted and (not or_empty or is_there == self.change.properties[ID]):
            return None
        old = held.with_any(wanted)
        new = self.change.write([tile for tile, want in wanted.items() if want is not None], files)
        for file in old:
            if not set(file.digests) <= set(wanted):
                new += files.write_rest(file, set(wanted))
        transaction = self.table.transaction()
        update = transaction.update_snapshot(dict(self.change.properties), self.branch)
        producer = update.overwrite() if old else update.fast_append()
        for file in old:
            producer.delete_data_file(file.file)
        for written in new:
            producer.append_data_file(written)
        producer.commit()
        paths = {written.file_path for written in new}
        certain, self.doubtful = self.doubtful, self.doubtful | paths
        try:
            transaction.commit_transaction()
        except _REFUSED:
            self.doubtful = certain
            raise
        self.doubtful = certain
        return paths

    def _without_blind_retries(self) -> None:
        """See to it that pyiceberg repeats no commit by itself, as it does by default."""
        found = self.table.properties
        lacking = {name: text for name, text in PROPERTIES.items() if name not in found}
        lacking.pop("format-version", None)  # no property of a table that exists
        if found.get(_RETRIES) != PROPERTIES[_RETRIES]:
            lacking[_RETRIES] = PROPERTIES[_RETRIES]
        if lacking:
            repeat(self.table, lambda: self._set_properties(lacking))

    def _set_properties(self, properties: Mapping[str, str]) -> None:
        self.table.transaction().set_properties(dict(properties)).commit_transaction()


def repeat(table: Table, act) -> None:
    """Make a change that is right whatever others do: again, as long as they come first."""
    for attempt in range(_ATTEMPTS):
        try:
            act()
            return
        except (CommitFailedException, *_LOCKED):
            if attempt == _ATTEMPTS - 1:
                raise
            time.sleep(random.uniform(0.0, min(_LONGEST_WAIT_S, 0.05 * 2**attempt)))
            table.refresh()


def add_columns(table: Table, columns: pa.Schema) -> list[str]:
    """Add the columns that the table lacks, without a new data file; returns their names."""
    lacking = [name for name in columns.names if name not in table.schema().column_names]
    if lacking:

        def add() -> None:
            with table.update_schema() as update:
                update.union_by_name(iceberg_schema(columns, required=False))

        repeat(table, add)
    return lacking
