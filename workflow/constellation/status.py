"""Where a campaign stands: which sub-tiles are done, run, failed or wait, from names of files.

At the survey's size no file can be opened per sub-tile: folders are listed, the ends of a bounded
number of logs are read, and STATUS comes from catalogues as far as they are there.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from constellation.campaign_files import CampaignFiles, Planned, Scan
from constellation.convergence import Convergence
from constellation.outcome import INTERRUPTED, Results, read_end
from constellation.snakemake_records import SnakemakeRecords
from shine.errors import InputError

HOUR_S = 3600.0
LIVELY_S = 600.0  # a log that was written to so recently may belong to a job that runs
DOUBTFUL = f"running or {INTERRUPTED}"
UNREAD = "not looked at"
LOGS_SHOWN = 3


class State(IntEnum):
    """What a sub-tile's files say of it."""

    PENDING = 0
    RUNNING = 1
    FAILED = 2
    DONE = 3
    NOT_CONVERGED = 4  # done, and known not to have converged


@dataclass(frozen=True)
class Failures:
    """The sub-tiles of one class: how many; time, log, message of the last ones, latest first."""

    count: int
    latest: list[tuple[float, str, str]]


@dataclass(frozen=True)
class Snapshot:
    """A campaign at the time `now_s`: a State per planned sub-tile, (n,), and what is told of it.

    `n_looked` of the done ones have a known STATUS. Times are seconds since the epoch; `per_hour`
    and `expected_end_s` are None where they cannot be told.
    """

    now_s: float
    planned: Planned
    state: NDArray[np.int8]
    failures: dict[str, Failures]
    n_looked: int
    n_submitted: int  # of the pending: waiting for a machine
    n_kept: int  # of the pending: inferred, to be taken over by the next run
    per_hour: float | None
    locked: bool
    last_sign_s: float | None

    def count(self, *states: State) -> int:
        """How many sub-tiles are in one of the states."""
        return int(np.isin(self.state, states).sum())

    @property
    def n_done(self) -> int:
        """How many have a result."""
        return self.count(State.DONE, State.NOT_CONVERGED)

    @property
    def n_ahead(self) -> int:
        """How many are running or pending."""
        return self.count(State.PENDING, State.RUNNING)

    @property
    def expected_end_s(self) -> float | None:
        """When all that is ahead will be done at the rate of the last hour, if a run is alive."""
        if not self.locked or not self.per_hour:
            return None
        return self.now_s + self.n_ahead / self.per_hour * HOUR_S


@dataclass
class Watch:
    """Looks at one campaign, again and again; remembers what cannot have changed.

    `most_files` is how many logs, and how many result files, are opened per look.
    """

    planned: Planned
    results: Results
    records: SnakemakeRecords
    most_files: int
    convergence: Convergence = field(init=False)

    def __post_init__(self) -> None:
        self.convergence = Convergence(self.planned, self.results)

    def look(self, now_s: float | None = None) -> Snapshot:
        """The campaign now; raises `InputError` if the results are in a store that refuses."""
        now_s = time.time() if now_s is None else now_s
        self.results = Results(self.results.folder)  # what was listed of a store is old
        files = CampaignFiles(self.planned, self.results)
        scan = files.scan()
        state = np.where(scan.done, State.DONE, State.PENDING).astype(np.int8)
        status = self.convergence.look(scan, self.most_files)
        state[status.not_converged] = State.NOT_CONVERGED
        locked = self.records.is_locked(self.results.folder)
        attempts = self._attempts(scan, state, locked, now_s)
        log = self.records.last_log()
        return Snapshot(
            now_s=now_s,
            planned=self.planned,
            state=state,
            failures=attempts.failures,
            n_looked=status.n_looked,
            n_submitted=attempts.n_submitted,
            n_kept=attempts.n_kept,
            per_hour=_rate(files.finish_times(scan, now_s - HOUR_S), now_s),
            locked=locked,
            last_sign_s=None if log is None else log.stat().st_mtime,
        )

    def _attempts(
        self, scan: Scan, state: NDArray[np.int8], locked: bool, now_s: float
    ) -> _Attempts:
        """Sort the sub-tiles that have a log and no result; sets their `state`."""
        found = _Attempts()
        name_of = {place: self._result(place) for place in scan.attempted}
        marked = self.records.marked(name_of.values()) if locked else set()
        logs = sorted(((self._log_time(place), place) for place in scan.attempted), reverse=True)
        for n, (time_s, place) in enumerate(logs):
            log = f"logs/subtiles/{self.planned.name(place)}.log"
            is_marked = name_of[place] in marked
            if n >= self.most_files:
                found.add(UNREAD, time_s, self.results.path(log), "")
                state[place] = State.FAILED
                continue
            end = read_end(self._tail(log))
            if is_marked and end is None:
                state[place] = State.RUNNING
            elif is_marked:
                found.n_submitted += 1  # what the log tells is an earlier attempt's end
            elif end is None and self.results.exists(f"kept/{self.planned.name(place)}.parquet"):
                found.n_kept += 1
            else:
                is_lively = now_s - time_s < LIVELY_S
                what, message = end or (DOUBTFUL if is_lively else INTERRUPTED, "")
                found.add(what, time_s, self.results.path(log), message)
                state[place] = State.FAILED
        if locked:
            waiting = self._waiting(scan)
            found.n_submitted += len(waiting)
        return found

    def _waiting(self, scan: Scan) -> set[str]:
        """Results whose jobs are submitted, and have no log yet."""
        prefix = f"{self.results.folder}/subtiles/"
        known = {self._result(place) for place in scan.attempted}
        return {
            name
            for name in self.records.all_marked() - known
            if name.startswith(prefix)
            and (place := self.planned.place(Path(name).stem)) is not None
            and name == self._result(place)
            and not scan.done[place]
        }

    def _result(self, place: int) -> str:
        return self.results.path(f"subtiles/{self.planned.name(place)}.parquet")

    def _log_time(self, place: int) -> float:
        """Seconds since the epoch; 0 where it is not known."""
        try:
            path = self.results.path(f"logs/subtiles/{self.planned.name(place)}.log")
            return 0.0 if self.results.is_remote else os.stat(path).st_mtime  # noqa: PTH116
        except FileNotFoundError:  # a run that starts again has removed it
            return 0.0

    def _tail(self, log: str) -> str:
        try:
            return self.results.read_end(log)
        except InputError:  # removed meanwhile
            return ""


@dataclass
class _Attempts:
    n_submitted: int = 0
    n_kept: int = 0
    failures: dict[str, Failures] = field(default_factory=dict)

    def add(self, what: str, time_s: float, log: str, message: str) -> None:
        """Count one more failure; to be called with the latest first."""
        before = self.failures.get(what, Failures(0, []))
        latest = [*before.latest, (time_s, log, message)][:LOGS_SHOWN]
        self.failures[what] = Failures(before.count + 1, latest)


def _rate(finished_s: Iterable[float], now_s: float) -> float | None:
    """Results per hour in the last hour, or since the first was begun; None without any."""
    finished_s = list(finished_s)
    if not finished_s:
        return None
    n, since_s = len(finished_s), now_s - min(finished_s)
    # the first one took time as well, before `since_s` begins: that between two of them
    window_s = max(since_s * n / (n - 1), 1.0) if n > 1 else HOUR_S
    return n / min(window_s, HOUR_S) * HOUR_S
