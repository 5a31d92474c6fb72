"""The files that a report links to: those of the same results folder, as relative links."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from constellation.outcome import INTERRUPTED, read_end
from constellation.plan import SubTile
from constellation.status_report import advice_of

EXCERPT_LINES = 14
_END_BYTES, _START_BYTES = 8192, 256
_STAMP = re.compile(r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d),\d+ ", re.MULTILINE)


@dataclass(frozen=True)
class Beside:
    """The folder of results as it is seen from the page."""

    results: Path
    page: Path
    _listed: dict[Path, frozenset[str]] = field(default_factory=dict)

    def path(self, folder: str, subtile: SubTile, suffix: str) -> Path | None:
        """A sub-tile's file in `folder`/{tile}; None if it is not there."""
        place = self.results / folder / str(subtile.tile_id)
        if place not in self._listed:  # one look for all sub-tiles of a tile
            self._listed[place] = frozenset(path.name for path in place.glob("*"))
        name = f"{subtile.stem}{suffix}"
        return place / name if name in self._listed[place] else None

    def link(self, path: Path | None) -> str | None:
        """The relative link to a file."""
        if path is None:
            return None
        relative = os.path.relpath(path.absolute(), self.page.absolute().parent)
        return quote(Path(relative).as_posix())

    def log(self, subtile: SubTile) -> Path | None:
        """The log of a sub-tile."""
        return self.path("logs/subtiles", subtile, ".log")

    def link_to(self, name: str) -> str | None:
        """The relative link to a file of the results, if it is there."""
        path = self.results / name
        return self.link(path) if path.exists() else None


@dataclass(frozen=True)
class Failure:
    """A sub-tile without a usable result: the class of the error, its message, and its log."""

    name: str
    what: str
    message: str
    excerpt: str
    log: str | None

    @property
    def advice(self) -> str:
        """What to do."""
        return advice_of(self.what)


def failure_of(
    subtile: SubTile, beside: Beside, told: tuple[str, str | None] | None = None
) -> Failure:
    """Why a sub-tile has no result: as told (class, message), else as its log ends."""
    log = beside.log(subtile)
    text = _read(log, end=True) if log else ""
    what, message = told or read_end(text) or (INTERRUPTED, "")
    lines = text.rstrip().splitlines()
    excerpt = "\n".join(lines[-EXCERPT_LINES:])
    return Failure(subtile.stem, what, _visible(message or ""), _visible(excerpt), beside.link(log))


def log_span(subtiles: Iterable[SubTile], beside: Beside) -> tuple[str, str] | None:
    """The first and the last time that the sub-tiles' logs tell, `YYYY-MM-DD hh:mm:ss`."""
    times = []
    for subtile in subtiles:
        log = beside.log(subtile)
        if log is not None:
            times += _STAMP.findall(_read(log, end=False))[:1]
            times += _STAMP.findall(_read(log, end=True))[-1:]
    return (min(times), max(times)) if times else None


def _visible(text: str) -> str:
    """Text without control characters, such as those that colour a terminal."""
    return "".join(
        c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text
    )


def _read(log: Path, *, end: bool) -> str:
    """The start or the end of a log."""
    with log.open("rb") as stream:
        if not end:
            return stream.read(_START_BYTES).decode(errors="replace")
        stream.seek(max(log.stat().st_size - _END_BYTES, 0))
        return stream.read().decode(errors="replace")
