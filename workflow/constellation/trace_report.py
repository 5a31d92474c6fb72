"""A trace for people, for programs, and as the commands that make the result again."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from constellation.trace import Trace
from constellation.trace_checks import DIRTY, is_commit

FOLDER = Path("build/traced")  # git leaves it alone
_SHEAR = ("G1", "G2", "G1_ERR", "G2_ERR")


@dataclass(frozen=True)
class Snapshot:
    """An Iceberg snapshot that holds the published rows."""

    table: str
    snapshot_id: int
    committed_at: str  # ISO 8601


def to_json(traced: Trace, snapshots: Sequence[Snapshot] = ()) -> dict[str, Any]:
    """The trace as JSON values."""
    more = {"snapshots": [asdict(snapshot) for snapshot in snapshots], "commands": commands(traced)}
    return asdict(traced) | more


def commands(traced: Trace) -> list[str]:
    """What makes the sub-tile's files again, byte for byte, in a clone with its inputs."""
    commit = traced.provenance.git_commit.removesuffix(DIRTY)
    checkout = shlex.join(["git", "checkout", commit])
    if not is_commit(commit):
        checkout = f"# the code whose digest is {traced.provenance.code_digest}: {commit}"
    folder = FOLDER / traced.subtile
    run = ["python", "-m", "shine.euclid.run", "--manifest", traced.manifest]
    run += ["--config", traced.settings, "--output", str(folder)]
    sums = [f"{file.sha256}  {folder / Path(file.path).name}" for file in traced.results]
    return [
        checkout,
        "make setup",
        f"NPROC={traced.threads} {shlex.join(run)}",
        "\n".join(["sha256sum --check <<'END'", *sums, "END"]),
    ]


def format_trace(traced: Trace, snapshots: Sequence[Snapshot] = ()) -> str:
    """The trace as text."""
    return "\n".join(_lines(traced, snapshots)) + "\n"


def format_snapshots(snapshots: Iterable[Snapshot]) -> Iterator[str]:
    """The Iceberg snapshots that hold the row, one line each."""
    for snapshot in snapshots:
        yield f"{snapshot.table} {snapshot.snapshot_id} of {snapshot.committed_at}"


def _lines(traced: Trace, snapshots: Sequence[Snapshot]) -> Iterator[str]:
    if traced.source is not None:
        place = ", ".join(f"{traced.source[name]:.7f}" for name in ("RA", "DEC"))
        yield from _section("object", [f"{traced.source['OBJECT_ID']} at {place}"])
    yield from _section("sub-tile", [traced.subtile])
    yield from _section("row", _row_lines(traced))
    yield from _section("snapshots", format_snapshots(snapshots))
    yield from _section("results", _result_lines(traced))
    origin = traced.provenance
    yield from _section("code", [f"commit {origin.git_commit}", f"sha256 {origin.code_digest}"])
    settings = [f"{traced.settings}, hash {origin.config_hash}", f"seed {origin.seed}"]
    yield from _section("settings", settings)
    versions = [f"{name} {number}" for name, number in origin.package_versions.items()]
    yield from _section("packages", [", ".join(versions)])
    yield from _section("inputs", _input_lines(traced))
    yield from _section("files", _file_lines(traced))
    yield from _section("run", [_run_line(traced)])
    yield from _section("warnings", traced.warnings)
    yield ""
    yield "To make it again, where these files are and with .venv/bin in the PATH"
    yield f"({FOLDER / traced.subtile} must be empty, or what is there is kept):"
    yield ""
    yield from commands(traced)


def _section(title: str, lines: Iterable[str]) -> Iterator[str]:
    for number, line in enumerate(lines):
        yield f"{'' if number else title:<10}{line}"


def _row_lines(traced: Trace) -> Iterator[str]:
    if traced.row is None:
        return
    values = ((name, traced.row.values[name]) for name in _SHEAR)
    shown = ", ".join(f"{n} {'null' if v is None else f'{v:+.5f}'}" for n, v in values)
    yield f"{traced.row.file}: {shown}"
    if traced.source is not None and traced.row.sources_file is not None:
        yield traced.row.sources_file
    if traced.row.receipt_sha256 is None:
        yield f"no receipt {traced.row.receipt}"
    else:
        yield f"{traced.row.receipt}, sha256 {traced.row.receipt_sha256}"


def _result_lines(traced: Trace) -> Iterator[str]:
    for file in traced.results:
        yield file.path
        yield f"  sha256 {file.sha256}{f', {file.pinned}' if file.pinned else ''}"


def _input_lines(traced: Trace) -> Iterator[str]:
    """Each input, its digest, and the numbers of its files."""
    number = {file.path: place for place, file in enumerate(traced.files, start=1)}
    width = max((len(entry.name) for entry in traced.inputs), default=0)
    for entry in traced.inputs:
        places = sorted(number[path] for path in entry.files if path in number)
        shown = f" files {', '.join(map(str, places))}" if places else ""
        if entry.name == "manifest":
            shown = f" {traced.manifest}"
        yield f"{entry.name:<{width}} {entry.sha256}{shown}"


def _file_lines(traced: Trace) -> Iterator[str]:
    for place, file in enumerate(traced.files, start=1):
        yield f"{place} {file.path}"
        if file.pinned is not None:
            yield f"  {f'md5 {file.md5}, ' if file.md5 else ''}{file.pinned}"
        elif file.version is not None:
            yield f"  not pinned; version {', '.join(map(str, file.version))}"


def _run_line(traced: Trace) -> str:
    if not traced.run:
        return "not known"
    run = dict(traced.run)
    times = [f"{name[:-2]} {run[name]:.1f} s" for name in run if name.endswith("_s")]
    memory = [f"peak {run['peak_rss_mb']:.0f} MB"] if "peak_rss_mb" in run else []
    place = [f"{name} {run[name]}" for name in ("host", "device") if name in run]
    return ", ".join([*place, *times, *memory])
