"""Where a campaign stands, for people (text of at most 100 columns) and for programs (JSON)."""

from __future__ import annotations

import time
from typing import Any

from constellation.cost_report import format_duration
from constellation.outcome import CLASSES, INTERRUPTED
from constellation.status import DOUBTFUL, UNREAD, Snapshot, State

WIDTH = 100  # columns
# docs/operations.md, "What an end means", says more
ADVICE = {
    CLASSES[2]: "the message names the key of the configuration",
    CLASSES[3]: "the message names file, HDU and key: fetch it again",
    CLASSES[5]: "raise compute.mem_mb, or take a finer tiling.sub_tile_grid",
    CLASSES[137]: "raise compute.mem_mb, or take a finer tiling.sub_tile_grid",
    CLASSES[143]: "the time limit or a cancelled job: raise compute.runtime_minutes",
    INTERRUPTED: "start the workflow again",
    DOUBTFUL: "no run is known here: look again in ten minutes",
    UNREAD: "more logs than are opened at a time: --most-files",
}
OTHER_ADVICE = "a mistake in the code: the log has the traceback, report it"


def format_status(found: Snapshot, title: str) -> str:
    """The numbers, the rate, and each class of failures with what to do and its latest logs."""
    n_planned = len(found.state)
    counts = (
        ("done", found.n_done, _converged(found)),
        ("running", found.count(State.RUNNING), ""),
        ("failed", found.count(State.FAILED), ""),
        ("pending", found.count(State.PENDING), _pending(found)),
        ("total", n_planned, f"in {len(found.planned.tile_ids):,} tiles"),
    )
    lines = [f"{title}, {_clock(found.now_s)}", _snakemake(found), ""]
    lines += [
        f"{name:<8}{count:>12,}{count / n_planned:>9.1%}  {note}".rstrip()
        for name, count, note in counts
    ]
    lines += ["", *_pace(found)]
    for what, failures in sorted(found.failures.items(), key=lambda item: -item[1].count):
        lines += ["", f"failed: {what}: {failures.count:,}", f"  {advice_of(what)}"]
        for time_s, log, message in failures.latest:
            lines.append(f"  {_clock(time_s)}  {log}" if time_s else f"  {log}")
            if message:
                lines.append(f"      {_shortened(message, WIDTH - 6)}")
    return "\n".join(lines) + "\n"


def advice_of(what: str) -> str:
    """What to do about a class of failures."""
    return ADVICE.get(what, OTHER_ADVICE)


def to_json(found: Snapshot) -> dict[str, Any]:
    """The same as numbers and texts; times in seconds since the epoch, unknown ones null."""
    return {
        "time_s": found.now_s,
        "planned": len(found.state),
        "done": found.n_done,
        "running": found.count(State.RUNNING),
        "failed": found.count(State.FAILED),
        "pending": found.count(State.PENDING),
        "not_converged": found.count(State.NOT_CONVERGED),
        "convergence_known": found.n_looked,
        "submitted": found.n_submitted,
        "kept": found.n_kept,
        "per_hour": found.per_hour,
        "expected_end_s": found.expected_end_s,
        "locked": found.locked,
        "last_sign_s": found.last_sign_s,
        "failures": {
            what: {
                "count": failures.count,
                "advice": advice_of(what),
                "latest": [
                    {"time_s": time_s or None, "log": log, "message": message}
                    for time_s, log, message in failures.latest
                ],
            }
            for what, failures in found.failures.items()
        },
    }


def _snakemake(found: Snapshot) -> str:
    sign = found.last_sign_s
    ago = "" if sign is None else f", its log changed {format_duration(found.now_s - sign)} ago"
    if found.locked:
        return f"Snakemake: a run holds the lock (it is alive, or was killed){ago}"
    last = "" if sign is None else f"; the log of the last one changed {_clock(sign)}"
    return f"Snakemake: no run is known here{last}"


def _converged(found: Snapshot) -> str:
    n_bad = found.count(State.NOT_CONVERGED)
    if found.n_done == 0:
        return ""
    if found.n_looked == found.n_done:
        return f"of them not converged: {n_bad:,}"
    return (
        f"of them not converged: {n_bad:,} of {found.n_looked:,} looked at "
        f"({found.n_looked / found.n_done:.1%})"
    )


def _pending(found: Snapshot) -> str:
    parts = []
    if found.n_submitted:
        parts.append(f"submitted: {found.n_submitted:,}")
    if found.n_kept:
        parts.append(f"inferred, and kept for the next run: {found.n_kept:,}")
    return f"of them {'; '.join(parts)}" if parts else ""


def _pace(found: Snapshot) -> list[str]:
    if found.per_hour is None:
        lines = ["rate          nothing finished within the last hour"]
    else:
        rate = f"{found.per_hour:,.0f}" if found.per_hour >= 10 else f"{found.per_hour:.1f}"
        lines = [f"rate          {rate} per hour, in the last hour"]
    if found.n_ahead == 0:
        return lines
    end_s = found.expected_end_s
    if end_s is None:
        why = "no run is known here" if not found.locked else "nothing to tell it from"
        return [*lines, f"expected end  not known: {why}"]
    in_time = format_duration(end_s - found.now_s)
    return [*lines, f"expected end  {_clock(end_s)}, in {in_time} at this rate"]


def _clock(time_s: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(time_s))


def _shortened(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 3]}..."
