"""The planned sub-tiles that a catalogue does without, and why."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa

from constellation.catalogue.schema import FAILURES
from constellation.outcome import INTERRUPTED, Results, read_end
from constellation.plan import SubTile

NOT_ATTEMPTED = "not attempted"


def list_failures(missing: Iterable[SubTile], logs: Path) -> pa.Table:
    """A row for each sub-tile without a result, with the class of its error, from its log."""
    rows = []
    results = Results(str(logs))
    for subtile in sorted(missing):
        name = f"{subtile.tile_id}/{subtile.stem}.log"
        what, message = NOT_ATTEMPTED, None
        if results.exists(name):
            what, message = read_end(results.read_end(name)) or (INTERRUPTED, None)
        values = (*_key(subtile), what, message or None, results.path(name))
        rows.append(dict(zip(FAILURES.names, values, strict=True)))
    return pa.Table.from_pylist(rows, FAILURES)


def _key(subtile: SubTile) -> tuple[int, int, int]:
    return subtile.tile_id, subtile.row, subtile.col
