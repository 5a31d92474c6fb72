"""What a run leaves behind, for the person at the terminal: the summary, or what failed and why."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from constellation.plan import SubTile
from shine import s3
from shine.errors import InputError
from shine.s3_settings import set_aside
from shine.storage import is_remote, open_file

# what an exit status asks of the operator; shine.errors has the same numbers
CLASSES = {
    2: "bad configuration",
    3: "bad or missing input",
    5: "out of memory",
    130: "interrupted",
    137: "killed, probably out of memory",
    143: "terminated",
}
INTERRUPTED = "interrupted"
FAILED_CHECK = "failed: "  # how the table of quality checks begins a line about one that failed
REPORT = "report/report.html"
_END_BYTES = 4096
_EXIT = re.compile(r"exit status (\d+)")


@dataclass(frozen=True)
class Results:
    """The folder of a run's results, on disk or in S3."""

    folder: str

    @classmethod
    def of(cls, local: Path, storage: str | None) -> Results:
        """The `local` folder, or its place under the prefix of Snakemake's default storage."""
        return cls(f"{storage.rstrip('/')}/{local}" if storage else str(local))

    def path(self, name: str) -> str:
        """Path or URI of a file."""
        return f"{self.folder}/{name}"

    def exists(self, name: str) -> bool:
        """Whether a file is there."""
        return name in self._objects if self.is_remote else Path(self.path(name)).exists()

    @property
    def is_remote(self) -> bool:
        """Whether they are in S3."""
        return is_remote(self.folder)

    def names_by_tile(self, folder: str) -> dict[str, set[str]]:
        """The names in `folder`/{tile} by tile, for results in S3; listed once."""
        found: dict[str, set[str]] = {}
        for name in self._objects:
            above, _, file = name.rpartition("/")
            parent, _, tile = above.rpartition("/")
            if parent == folder:
                found.setdefault(tile, set()).add(file)
        return found

    def read_end(self, name: str) -> str:
        """The last 4 kB of a file's text; raises `InputError`."""
        with open_file(self.path(name)) as file:
            start = max(file.size - _END_BYTES, 0)
            [content] = file.read([(start, _END_BYTES)])
            return content.decode(errors="replace")

    def read(self, name: str) -> str:
        """A file's text; raises `InputError`."""
        with open_file(self.path(name)) as file:
            return file.stream.read().decode(errors="replace")

    @cached_property
    def _objects(self) -> set[str]:
        # one listing of each folder instead of a question for each of the survey's sub-tiles
        return {
            entry.uri.removeprefix(f"{self.folder}/")
            for folder in ("logs/subtiles", "subtiles", "summary", "quality", "report")
            for entry in s3.list_objects(self.path(f"{folder}/"))
        }


def tell(describe: Callable[..., list[str]], results: Results, *more: object) -> None:
    """Print what `describe(results, *more)` returns, or why it cannot be told."""
    try:
        with set_aside():  # it is the survey that they are about
            lines = describe(results, *more)
    except InputError as error:
        lines = [f"No report of this run: {error}"]
    sys.stdout.writelines(f"{line}\n" for line in lines)


def describe_success(results: Results) -> list[str]:
    """The summary and where things are; nothing where the run was not asked for the summary."""
    if not results.exists("summary/summary.txt"):
        return []
    return [
        f"\n{results.read('summary/summary.txt')}",
        *describe_quality(results),
        f"catalogue: {results.path('catalogue/shear.parquet')}",
        f"sources:   {results.path('catalogue/sources')}",
        f"figure:    {results.path('summary/summary.png')}",
        f"times:     {results.path('measurements.parquet')}",
        *(f"report:    {results.path(page)}" for page in (REPORT,) if results.exists(page)),
    ]


def describe_failure(results: Results, planned: Iterable[SubTile]) -> list[str]:
    """The sub-tiles that were attempted and have no result, or else the quality checks that the
    catalogue failed; nothing if there are none.
    """
    failed = list_failures(planned, results)
    if not failed:
        return [] if results.exists("quality/passed") else describe_quality(results)
    lines = [f"  {line}" for line in failed]
    return [
        "\nSub-tiles without a result:",
        *lines,
        "The others are kept; run the same command again to continue.",
    ]


def describe_quality(results: Results) -> list[str]:
    """The quality checks that failed, and where all of them are; nothing if none did."""
    if not results.exists("quality/checks.txt"):
        return []
    text = results.read("quality/checks.txt")
    failed = [line for line in text.splitlines() if line.startswith(FAILED_CHECK)]
    if not failed:
        return []
    return [
        "\nQuality checks that the catalogue failed:",
        *(f"  {line.removeprefix(FAILED_CHECK)}" for line in failed),
        f"all checks: {results.path('quality/checks.txt')}\n",
    ]


def list_failures(planned: Iterable[SubTile], results: Results) -> list[str]:
    """One line for each planned sub-tile that was attempted and has no result.

    When one sub-tile of a cluster's job fails, Snakemake removes the others' results: they are
    still in the folder `kept`, and their logs end without an exit status.
    """
    lines = []
    for subtile in planned:
        name = f"{subtile.tile_id}/{subtile.stem}"
        log = f"logs/subtiles/{name}.log"
        if not results.exists(log) or results.exists(f"subtiles/{name}.parquet"):
            continue
        end = read_end(results.read(log))
        if end is not None or not results.exists(f"kept/{name}.parquet"):
            reason = ": ".join(filter(None, end or (INTERRUPTED,)))
            lines.append(f"{subtile.stem}: {reason}; log: {results.path(log)}")
    return lines


def read_end(log: str) -> tuple[str, str] | None:
    """The class of the error that the end of a log tells, and the message before it, may be "".

    None without an exit status: interrupted, or still being written.
    """
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    match = _EXIT.fullmatch(lines[-1]) if lines else None
    if match is None:
        return None  # the job's last act is to log its exit status
    what = CLASSES.get(int(match[1]), f"error, exit status {match[1]}")
    return what, lines[-2] if len(lines) > 1 else ""
