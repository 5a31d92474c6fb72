"""The files of all tiles of a run: made again where results have changed, else taken as they are.

Snakemake deletes a job's outputs before it starts. So the files are kept in a folder of their own,
with a note of what each tile was made from, and get a second name where Snakemake expects them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from constellation.catalogue.links import link_or_copy
from constellation.catalogue.subtile_results import PlannedTile, list_results, missing_from
from constellation.catalogue.tile import make_tile
from constellation.code_digests import code_of
from constellation.plan import Plan, SubTile
from shine.atomic import write_atomically
from shine.errors import InputError, explain
from shine.provenance import digest

SUFFIXES = (".parquet", "_sources.parquet")
_MOST_NAMED = 20
_WORTH_A_PROCESS = 32  # tiles; a second process takes as long to start as these to make


@dataclass(frozen=True)
class Folders:
    """Where a run has the results of sub-tiles and their logs (one folder per tile), and tiles."""

    subtiles: Path
    logs: Path
    kept: Path
    tiles: Path

    @classmethod
    def of(cls, results: Path) -> Folders:
        """Those of a run's folder of results."""
        logs, kept = results / "logs" / "subtiles", results / "kept" / "tiles"
        return cls(results / "subtiles", logs, kept, results / "tiles")


class TilesMade(NamedTuple):
    """How many tiles there are, how many were made anew, and the sub-tiles without shear."""

    n_tiles: int
    n_made: int
    without_shear: list[str]


class _Job(NamedTuple):
    tile: PlannedTile
    folder: Path
    kept: Path
    basis: str  # digest of all that the files depend on

    @property
    def paths(self) -> list[Path]:
        return [self.kept / f"{self.tile.tile_id}{suffix}" for suffix in SUFFIXES]

    @property
    def note(self) -> Path:
        return self.kept / f"{self.tile.tile_id}.json"


def assemble_tiles(
    plan: Plan, folders: Folders, processes: int = 1, allow_failed: bool = False
) -> TilesMade:
    """Let `folders.tiles` hold the files of every planned tile.

    Raises `InputError` naming planned sub-tiles without a result, unless they are allowed to have
    failed, and as `make_tile` does for results that are not what they should be.
    """
    jobs = list(_jobs(plan, folders, allow_failed))
    stale = [job for job in jobs if _lines(job) is None]
    folders.kept.mkdir(parents=True, exist_ok=True)
    for _ in tqdm(_made(stale, processes), total=len(stale), unit="tile", desc="assembling"):
        pass
    folders.tiles.mkdir(parents=True, exist_ok=True)
    lines = []
    for job in jobs:
        lines += _lines(job) or []
        for path in job.paths:
            link_or_copy(path, folders.tiles / path.name)
    return TilesMade(len(jobs), len(stale), lines)


def _jobs(plan: Plan, folders: Folders, allow_failed: bool) -> Iterator[_Job]:
    code = code_of("constellation.catalogue.tile")
    missing: list[SubTile] = []
    for tile_id in plan.tile_ids:
        tile = PlannedTile.of(plan, tile_id)
        folder = folders.subtiles / str(tile_id)
        entries = list_results(folder)
        missing += missing_from(entries, tile.subtiles)
        if missing and not allow_failed:
            continue
        files = sorted(
            (name, status.st_size, status.st_mtime_ns, status.st_ino)
            for name, status in ((name, entry.stat()) for name, entry in entries.items())
        )
        places = [(subtile.stem, *tile.middles[subtile]) for subtile in tile.subtiles]
        yield _Job(tile, folder, folders.kept, digest([code, json.dumps([places, files])]))
    if missing and not allow_failed:
        raise _incomplete(missing, len(plan.subtiles), folders)


def _incomplete(missing: Sequence[SubTile], n_planned: int, folders: Folders) -> InputError:
    names = [
        f"{subtile.stem} (log: {folders.logs / str(subtile.tile_id) / f'{subtile.stem}.log'})"
        for subtile in missing[:_MOST_NAMED]
    ]
    more = ["..."] * (len(missing) > _MOST_NAMED)
    return InputError(
        explain(
            folders.subtiles,
            f"no result for {len(missing)} of {n_planned} planned sub-tiles: "
            f"{', '.join(names + more)}",
            "one file each",
            "Read the log, then run the workflow again; or publish the others with "
            "`constellation assemble --allow-failed`.",
        )
    )


def _lines(job: _Job) -> list[str] | None:
    """What is noted of a tile's sub-tiles without shear; None if the tile has to be made."""
    try:
        note = json.loads(job.note.read_bytes())
        sizes = [path.stat().st_size for path in job.paths]
    except (OSError, ValueError):
        return None
    same = note["basis"] == job.basis and note["sizes"] == sizes
    return note["without_shear"] if same else None


def _made(jobs: Sequence[_Job], processes: int) -> Iterator[None]:
    if processes == 1 or len(jobs) < _WORTH_A_PROCESS:
        yield from map(_make, jobs)
        return
    # a fork would copy pyarrow's threads half-way
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        futures = [pool.submit(_make, job) for job in jobs]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _make(job: _Job) -> None:
    job.note.unlink(missing_ok=True)
    files = make_tile(job.tile, job.folder)
    contents = files.shear, files.sources
    for path, content in zip(job.paths, contents, strict=True):
        write_atomically(path, content)
    note = {
        "basis": job.basis,
        "sizes": [len(content) for content in contents],
        "without_shear": files.without_shear,
    }
    write_atomically(job.note, json.dumps(note).encode())
