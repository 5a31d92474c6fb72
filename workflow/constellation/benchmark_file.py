"""What `make bench` measured of one sub-tile, and what it lets one expect of another size."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from constellation.cost import LinearLaw, Origin, Speed
from shine.errors import InputError, explain

_MAKE = (
    "On an idle machine, `make bench` (11 minutes) writes build/bench/bench.json; name that of "
    "another machine with --benchmark."
)


@dataclass(frozen=True)
class Benchmark:
    """One benchmark file: `machine` in words, its sub-tile, warm runs, and how times grow."""

    path: Path
    machine: str
    n_cores: int
    n_sources: int
    n_quadrants: int
    extended_arcmin2: float | None  # None in files of earlier versions
    runs: tuple[Mapping[str, Any], ...]
    cold_s: float  # what an empty cache of compiled programs costs once, at most
    load_by_quadrants: LinearLaw
    solve_by_sources: LinearLaw

    def speeds(self, n_sources: float, n_quadrants: float) -> list[Speed]:
        """Each method's seconds on a sub-tile of another size.

        Solving is scaled with the sources and loading with the quadrants, both by the law that the
        first method showed; compiling, writing and memory stay as measured.
        """
        load = self.load_by_quadrants.ratio(n_quadrants, self.n_quadrants)
        solve = self.solve_by_sources.ratio(n_sources, self.n_sources)
        return [
            Speed(
                name=f"{run['method']}, {run['psf']}"
                + ("" if run["converged"] else " (not converged)"),
                load_s=run["load_s"] * load,
                compile_s=run["compile_s"],
                solve_s=run["solve_s"] * solve,
                rest_s=run["total_s"] - run["load_s"] - run["compile_s"] - run["solve_s"],
                start_s=run["wall_s"] - run["total_s"],
                n_cores=self.n_cores,
                peak_rss_mb=run["peak_rss_mb"],
                origin=Origin.MEASURED,
            )
            for run in self.runs
        ]


def read_benchmark(path: Path) -> Benchmark:
    """Read the JSON that `make bench` writes.

    Raises `InputError` that says how to make one if it is missing or is something else.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return _parsed(found, path)
    except FileNotFoundError as error:
        raise InputError(explain(path, "no such file", "a benchmark", _MAKE)) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        problem = f"{type(error).__name__} {error}"
        raise InputError(explain(path, problem, "what `make bench` writes", _MAKE)) from error


def _parsed(found: Mapping[str, Any], path: Path) -> Benchmark:
    machine, survey, scaling = found["machine"], found["survey"], found["scaling"]
    warm = tuple(run for run in found["runs"] if run["cache"] == "warm")
    if not warm:
        raise ValueError("no run with a full cache of compiled programs")
    names = {(run["method"], run["psf"]): run for run in warm}
    cold = [run for run in found["runs"] if run["cache"] == "cold"]
    excess = [
        run["total_s"] - names[key]["total_s"]
        for run in cold
        if (key := (run["method"], run["psf"])) in names
    ]
    return Benchmark(
        path=path,
        machine=f"{machine['processor']}, {machine['cores']} cores, JAX on {machine['device']}",
        n_cores=int(machine["cores"]),
        n_sources=int(survey["sources"]),
        n_quadrants=int(survey["quadrants"]),
        extended_arcmin2=survey.get("extended_arcmin2"),
        runs=warm,
        cold_s=max(excess, default=0.0),
        load_by_quadrants=LinearLaw.fit(
            [(point["quadrants"], point["load_s"]) for point in scaling["quadrants"]]
        ),
        solve_by_sources=LinearLaw.fit(
            [(point["sources"], point["solve_s"]) for point in scaling["sources"]]
        ),
    )
