"""What `make bench` writes, from made-up numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

CORES, SOURCES, QUADRANTS = 2, 1000, 40


def benchmark() -> dict[str, Any]:
    """Loading takes 2 s and 0.2 s per quadrant, solving 5 s and 10 ms per source."""

    def run(method: str, cache: str, scale: float) -> dict[str, Any]:
        compile_s = 3.0 if cache == "warm" else 17.0
        load_s, solve_s = 10.0, 15.0 * scale
        total_s = load_s + compile_s + solve_s + 1.0
        times = {"load_s": load_s, "compile_s": compile_s, "solve_s": solve_s, "total_s": total_s}
        known = {"method": method, "psf": "native", "cache": cache, "converged": True}
        return known | times | {"wall_s": total_s + 6.0, "peak_rss_mb": 2500.0}

    runs = [run(*case) for case in (("map", "cold", 1.0), ("map", "warm", 1.0))]
    runs += [run(*case) for case in (("marginal", "cold", 2.0), ("marginal", "warm", 2.0))]
    return {
        "machine": {"cores": CORES, "processor": "x86_64", "device": "cpu"},
        "runs": runs,
        "survey": {"sources": SOURCES, "quadrants": QUADRANTS, "extended_arcmin2": 100.0},
        "scaling": {
            "sources": [
                {"sources": n, "quadrants": QUADRANTS, "solve_s": 5.0 + 0.01 * n}
                for n in (250, 500, SOURCES)
            ],
            "quadrants": [
                {"sources": SOURCES, "quadrants": n, "load_s": 2.0 + 0.2 * n}
                for n in (10, 20, QUADRANTS)
            ],
        },
    }


def write_benchmark(path: Path) -> Path:
    """Write it; returns the path."""
    path.write_text(json.dumps(benchmark()))
    return path
