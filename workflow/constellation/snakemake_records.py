"""What Snakemake's own folder `.snakemake` tells of a run, at a cost that does not grow with it."""

from __future__ import annotations

import base64
import binascii
import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

_LOCK_BYTES = 1 << 20  # of a list of all outputs, enough to see whose it is
_KEYS_AT_A_TIME = 900  # SQLite's least limit of variables is 999


@dataclass(frozen=True)
class SnakemakeRecords:
    """The records in `folder`, of either kind: files, or (`--persistence-backend db`) SQLite."""

    folder: Path

    def is_locked(self, results: str) -> bool:
        """Whether a run that writes below `results`, a folder or s3://, is alive, or was killed."""
        # of results in a store, locks name the copies in Snakemake's own folder
        remote, _, place = results.rpartition("://")
        inside = f"{place}/"
        for lock in self.folder.glob("locks/*.output.lock"):
            try:
                with lock.open(errors="replace") as stream:
                    names = stream.readlines(_LOCK_BYTES)
            except OSError:  # the run ended meanwhile
                continue
            if any(inside in name if remote else name.startswith(inside) for name in names):
                return True
        found = "instr(file_path, ?) > 0" if remote else "instr(file_path, ?) = 1"
        query = f"SELECT 1 FROM snakemake_locks WHERE namespace = ? AND {found} LIMIT 1"
        return any(self._ask(query, str(self.folder.absolute()), inside))

    def last_log(self) -> Path | None:
        """The log of the latest run; its last change is the run's last sign of life."""
        return max(self.folder.glob("log/*.snakemake.log"), default=None)

    def marked(self, names: Iterable[str]) -> set[str]:
        """Those of the output files whose jobs have been submitted or started, and not ended."""
        names = list(names)
        found = self.all_marked().intersection(names)
        for first in range(0, len(names), _KEYS_AT_A_TIME):
            some = names[first : first + _KEYS_AT_A_TIME]
            query = (
                "SELECT target FROM snakemake_metadata WHERE namespace = ? AND incomplete "
                f"AND target IN ({', '.join('?' * len(some))})"
            )
            found.update(row[0] for row in self._ask(query, str(self.folder.absolute()), *some))
        return found

    def all_marked(self) -> set[str]:
        """All such files if the records are files; to search SQLite for them takes too long."""
        top = self.folder / "incomplete"
        names = set()
        for folder, _, files in os.walk(top):
            # Snakemake cuts long names into folders that start with @
            above = "".join(part[1:] for part in Path(folder).relative_to(top).parts)
            for file in files:
                try:
                    names.add(base64.urlsafe_b64decode(above + file).decode())
                except (binascii.Error, UnicodeDecodeError):
                    continue  # some other file
        return names

    def _ask(self, query: str, *values: str) -> Iterator[tuple]:
        database = self.folder / "metadata.db"
        if not database.exists():
            return
        try:
            # read only: nothing here may get into the way of a run
            with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)) as c:
                yield from c.execute(query, values).fetchall()
        except sqlite3.Error:
            return  # busy, or of another version: then it tells nothing
