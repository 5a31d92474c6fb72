"""From sub-tiles to one catalogue: complete, each sub-tile once, nothing silently left out.

Sub-tiles become tiles (`catalogue.kept_tiles`, one job per run or shard), and all tiles the
published catalogue (`catalogue.publish`), which is read with `catalogue.published`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from constellation.catalogue.kept_tiles import Folders, TilesMade, assemble_tiles
from constellation.catalogue.publish import Target, publish
from constellation.run_layout import Run

_MOST_PROCESSES = 2  # more would wait for the disk


def assemble(run: Run, allow_failed: bool = False) -> Iterator[str]:
    """Assemble the tiles of a run and publish its catalogue; yields what there is to tell.

    The tiles of a shard are assembled alone, for the catalogue is that of all shards. Planned
    sub-tiles without a result are listed in the catalogue if they are allowed to have failed.
    Raises `InputError` as `assemble_tiles` and `publish` do.
    """
    folders = Folders.of(run.results)
    processes = min(os.cpu_count() or 1, _MOST_PROCESSES)
    made = assemble_tiles(run.plan, folders, processes, allow_failed)
    yield from describe_tiles(made, folders)
    if run.shard is None:
        target = Target.of(run.results, allow_failed)
        yield from describe_publication(publish(run.plan, folders.tiles, target), target)


def describe_tiles(made: TilesMade, folders: Folders) -> Iterator[str]:
    """What there is to tell of tiles: each sub-tile without shear, and how many were made."""
    yield from made.without_shear
    yield f"{folders.tiles}: {made.n_tiles} tiles, {made.n_made} of them made anew"


def describe_publication(receipt: dict[str, Any], target: Target) -> Iterator[str]:
    """What there is to tell of a catalogue."""
    yield f"{target.folder}: {receipt['sub_tiles']} sub-tiles, {receipt['sources']} sources"
    if receipt["failures"]:
        yield f"{target.folder / 'failures.parquet'}: {receipt['failures']} sub-tiles failed"
