"""What a check says, and the table of all of them: Parquet for programs, text for people."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import pyarrow as pa

from constellation.outcome import FAILED_CHECK
from constellation.quality.settings import CheckName
from constellation.tables import read_table
from shine.errors import InputError

Outcome = Literal["passed", "failed", "not checked"]


def _field(name: str, kind: pa.DataType, description: str, nullable: bool = False) -> pa.Field:
    return pa.field(name, kind, nullable, {"unit": "", "description": description})


CHECKS = pa.schema(
    [
        _field("CHECK", pa.string(), "name of the check, as in quality.stop_on"),
        _field("MEANING", pa.string(), "what VALUE is"),
        _field("VALUE", pa.float64(), "what was found; null where it was not checked", True),
        _field("ERROR", pa.float64(), "standard deviation of VALUE, where it has one", True),
        _field("LIMIT", pa.string(), "what VALUE must fulfil"),
        _field("OUTCOME", pa.string(), "passed, failed or not checked"),
        _field("DETAIL", pa.string(), "where to look, or why it was not checked"),
    ]
)


@dataclass(frozen=True)
class Check:
    """One row of the table."""

    name: CheckName
    meaning: str
    value: float | None
    error: float | None
    limit: str
    outcome: Outcome
    detail: str

    @classmethod
    def of(cls, name: CheckName, meaning: str, found: Finding, limit: Limit) -> Self:
        """A check that was made."""
        outcome: Outcome = "passed" if limit.is_kept else "failed"
        error = None if found.error is None else float(found.error)
        return cls(name, meaning, float(found.value), error, limit.text, outcome, found.detail)

    @classmethod
    def skipped(cls, name: CheckName, meaning: str, reason: str) -> Self:
        """A check that could not be made."""
        return cls(name, meaning, None, None, "", "not checked", reason)

    @classmethod
    def none_of(cls, name: CheckName, meaning: str, examples: Sequence[str], count: int) -> Self:
        """A check that `count` things are wrong, none of which may be; the first as examples."""
        more = ", ..." if count > len(examples) else ""
        detail = ", ".join(examples) + more if count else ""
        return cls.of(name, meaning, Finding(count, None, detail), Limit("0", count == 0))

    def line(self) -> str:
        """The check in one line."""
        value = "" if self.value is None else f": {_number(self.value)}"
        error = "" if self.error is None else f" +- {_number(self.error)}"
        limit = f" (limit: {self.limit})" if self.limit else ""
        detail = f"; {self.detail}" if self.detail else ""
        return f"{self.name}: {self.meaning}{value}{error}{limit}{detail}"


@dataclass(frozen=True)
class Finding:
    """What a check found."""

    value: float
    error: float | None = None
    detail: str = ""


@dataclass(frozen=True)
class Limit:
    """What a value must fulfil, and whether it does."""

    text: str
    is_kept: bool


def to_table(checks: Iterable[Check]) -> pa.Table:
    """The checks as rows; raises ValueError for a value that is not finite."""
    rows = list(checks)
    for check in rows:
        numbers = [number for number in (check.value, check.error) if number is not None]
        if not all(map(math.isfinite, numbers)):
            raise ValueError(f"{check.name}: found {numbers}, expected finite numbers")
    attributes = ("name", "meaning", "value", "error", "limit", "outcome", "detail")
    columns = [[getattr(check, name) for check in rows] for name in attributes]
    arrays = [pa.array(c, field.type) for c, field in zip(columns, CHECKS, strict=True)]
    return pa.Table.from_arrays(arrays, schema=CHECKS)


def read_checks(path: Path) -> list[Check]:
    """The checks of a table; raises `InputError`."""
    table = read_table(path, CHECKS, "Run `constellation quality` again.").select(CHECKS.names)
    return [Check(*row.values()) for row in table.to_pylist()]


def refuse(checks: Sequence[Check], stop_on: Sequence[str], where: Path) -> None:
    """Raise `InputError` with a line for each failed check that is to stop the workflow."""
    stopping = [c for c in checks if c.outcome == "failed" and c.name in stop_on]
    if stopping:
        lines = "".join(f"\n  {check.line()}" for check in stopping)
        raise InputError(
            f"{where}: found {len(stopping)} failed quality checks, expected none of those in "
            f"quality.stop_on to fail. Look at the catalogue (docs/quality.md); it is kept.{lines}"
        )


def format_checks(checks: Sequence[Check], stop_on: Sequence[str]) -> str:
    """The table as text, and below it a line for each check that failed."""
    head = ("check", "value", "error", "limit", "outcome")
    rows = [
        (
            check.name,
            "-" if check.value is None else _number(check.value),
            "-" if check.error is None else _number(check.error),
            check.limit or "-",
            check.outcome,
        )
        for check in checks
    ]
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = ["  ".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True)).rstrip()
             for row in (head, *rows)]  # fmt: skip
    lines.insert(1, "-" * max(map(len, lines)))
    failed = [check for check in checks if check.outcome == "failed"]
    notes = [f"{check.name}: not checked, {check.detail}" for check in checks
             if check.outcome == "not checked"]  # fmt: skip
    count = len(failed)
    stops = sum(check.name in stop_on for check in failed)
    closing = (
        f"{count} of {len(checks)} checks failed, {stops} of them in quality.stop_on"
        if failed
        else f"none of {len(checks) - len(notes)} checks failed, {len(notes)} not made"
    )
    told = [f"{FAILED_CHECK}{check.line()}" for check in failed]
    return "\n".join([*lines, "", *notes, closing, *told]) + "\n"


def _number(value: float) -> str:
    return f"{value:.0f}" if float(value).is_integer() and abs(value) < 1e9 else f"{value:.3g}"
