"""What sub-tiles cost beyond their inference, one after the other as in a job on a graphics card.

    python -m tests.benchmarks.throughput

Three designs are timed on the same sub-tiles, compiled programs being cached on disk: a process for
each; a command for each, which share a process (what the workflow does); one process for all.
`--small` takes 16 sub-tiles of a sixteenth of the area, of the full-scale survey; without it, two
neighbours of survey size. Writes `throughput.json` and prints a table.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import yaml

from shine.manifest import Manifest, write_manifest
from tests.benchmarks import survey

CORES = 2
DESIGNS = {
    "alone": "a process per sub-tile",
    "shared": "a command per sub-tile, one process",
    "together": "one command for all",
}
PHASES = ("load_s", "compile_s", "solve_s")


def small() -> tuple[survey.Size, int]:
    """The core of the full-scale sub-tile as 4 x 4 sub-tiles."""
    return replace(survey.full_scale(), sub_tile_grid=16, margin_arcmin=0.5), 16


def full() -> tuple[survey.Size, int]:
    """Two neighbours of survey size, in a survey that is wide enough."""
    size = survey.full_scale()
    area = size.survey["area"] | {"ra": 57.5812206, "width_arcmin": 17.5}
    return replace(size, survey=size.survey | {"area": area}), 2


def measure(size: survey.Size, n: int, output: Path) -> dict[str, object]:
    """Times (s) of each design for the n sub-tiles with most sources."""
    output.mkdir(parents=True, exist_ok=True)
    found = survey.make_all(size, output)
    chosen = sorted(found, key=lambda manifest: -len(manifest.core_source_ids))[:n]
    chosen = [manifest for manifest in found if manifest in chosen]  # row by row
    files = _write(chosen, size, output)
    times: dict[str, object] = {
        "sub_tiles": len(chosen),
        "sources": sum(len(manifest.source_ids) for manifest in chosen),
        "quadrants": sum(len(manifest.quadrants) for manifest in chosen),
        "distinct_quadrants": len({item for m in chosen for item in m.quadrants}),
    }
    _run("together", files, output)  # fills the cache of compiled programs
    for design in DESIGNS:
        times[design] = _run(design, files, output)
        sys.stdout.write(f"{time.strftime('%H:%M:%S')} {design}: {times[design]}\n")
        sys.stdout.flush()
    return times


def _write(manifests: list[Manifest], size: survey.Size, output: Path) -> list[Path]:
    folder = output / "chosen"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for manifest in manifests:
        write_manifest(manifest, folder / f"{manifest.stem}.yaml")
    config = survey.config_of(size.methods[-1], size.psf_models[-1])
    config = config.model_dump(mode="json", exclude_unset=True)
    (output / "config.yaml").write_text(yaml.safe_dump(config))
    return [folder / f"{manifest.stem}.yaml" for manifest in manifests]


def _run(design: str, manifests: list[Path], output: Path) -> dict[str, float]:
    results = output / "results"
    shutil.rmtree(results, ignore_errors=True)  # results of the same inputs would be kept
    command = [sys.executable, "-m", "shine.euclid.run", "--config", str(output / "config.yaml")]
    command += ["--output", str(results), "--manifest"]
    own = str((output / "jax-cache").resolve())
    cache = {
        "JAX_COMPILATION_CACHE_DIR": os.environ.get("JAX_COMPILATION_CACHE_DIR", own),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    begin = time.perf_counter()
    with subprocess.Popen(["sleep", "infinity"]) as owner:
        ending = ["--keep-alive", str(owner.pid)] if design == "shared" else []
        for group in [manifests] if design == "together" else [[path] for path in manifests]:
            arguments = [*command, *map(str, group), *ending]
            subprocess.run(arguments, env=os.environ | cache, check=True, capture_output=True)
        wall_s = time.perf_counter() - begin
        owner.kill()
    runs = [json.loads(path.read_text())["measurements"] for path in results.glob("*.run.json")]
    times = {phase: sum(run[phase] for run in runs) for phase in PHASES}
    times["write_s"] = sum(run["total_s"] for run in runs) - sum(times.values())
    times["process_s"] = wall_s - sum(run["total_s"] for run in runs)
    return {"wall_s": wall_s, **times, "peak_rss_mb": max(run["peak_rss_mb"] for run in runs)}


def table(times: dict) -> str:
    """Seconds per sub-tile, by design and phase."""
    n = times["sub_tiles"]
    names = ("wall_s", "process_s", "load_s", "compile_s", "solve_s", "write_s")
    lines = [
        f"{n} sub-tiles, {times['sources'] / n:.0f} sources and {times['quadrants'] / n:.1f} "
        f"quadrants each, {times['distinct_quadrants']} different ones; seconds per sub-tile:",
        f"{'':36}" + "".join(f"{name.removesuffix('_s'):>9}" for name in names) + "  peak MB",
    ]
    for design, text in DESIGNS.items():
        row = times[design]
        numbers = "".join(f"{row[name] / n:9.2f}" for name in names)
        lines.append(f"{text:36}{numbers}{row['peak_rss_mb']:9.0f}")
    return "\n".join(lines)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, default=Path("build/bench/throughput"))
    parser.add_argument("--small", action="store_true", help="16 small sub-tiles")
    options = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    size, n = small() if options.small else full()
    folder = options.output / ("small" if options.small else "full")
    times = measure(size, n, folder)
    (folder / "throughput.json").write_text(json.dumps(times, indent=2) + "\n")
    sys.stdout.write(f"{table(times)}\n")


if __name__ == "__main__":
    main()
