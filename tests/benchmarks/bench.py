"""How long a sub-tile takes, at which size, and against what. `python -m tests.benchmarks.bench`

One sub-tile of survey size (`--smoke`: of a few sources) is simulated and run as users run it, each
time in a process of its own. In this process follow the time of one gradient, what this machine
could do at best (`limits`), and the classic route (`classic_route`) on pairs of the same scene.
Writes `bench.json` and `bench.png`, and prints a table.
"""

import argparse
import itertools
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path

import jax
import yaml

import shine
from shine.euclid.scene import ExposureSet
from shine.manifest import Manifest, write_manifest
from tests.benchmarks import classic_route, limits, loading, survey
from tests.benchmarks.bench_report import draw, table

NOT_CONVERGED_EXIT_CODE = 4  # the result is written, and as long in the making
CORES = 2


def run(size: survey.Size, output: Path) -> dict:
    """Take all measurements, as written to `output`/bench.json."""
    output.mkdir(parents=True, exist_ok=True)
    found = {"machine": _machine()}
    _say(f"load of this machine beforehand: {found['machine']['load_average']}")
    _say("simulating the survey, unless it is there")
    manifest = survey.make(size, output)
    # First, while this process is small: the kernel counts its memory as a peak of its children's
    found["runs"] = _runs(size, manifest, output)
    _say("loading uncompressed files")
    found["loading"] = {psf: _loading(psf, manifest, output) for psf in size.psf_models}
    exposures = shine.load(manifest, survey.config_of("map", size.psf_models[0]))
    found["survey"] = {
        "sub_tile": manifest.stem,
        "sources": len(manifest.source_ids),
        "modelled": len(exposures.sources.object_id),
        "core_galaxies": int(exposures.used.sum()),
        "quadrants": len(manifest.quadrants),
        "extended_arcmin2": survey.extended_arcmin2(manifest),
        "pairs": int(sum(tier.first[-1] for tier in exposures.scene.tiers)),
    }
    _say(f"survey: {found['survey']}")
    found["scaling"] = _scaling(size, (manifest, exposures), found["runs"], output)
    _say("one gradient, and this machine's limits")
    found["gradient"] = _gradient(exposures)
    _say(f"the classic route on {size.pairs} pairs")
    found["classic"] = _classic(size, exposures, found)
    (output / "bench.json").write_text(json.dumps(found, indent=2) + "\n")
    draw(found, output / "bench.png")
    return found


def _runs(size: survey.Size, manifest: Manifest, output: Path) -> list[dict]:
    """Each PSF model and method, with an empty cache of compiled programs and with a full one."""
    found = []
    for psf, method in itertools.product(size.psf_models, size.methods):
        shutil.rmtree(_cache(output, method, psf), ignore_errors=True)
        for state in ("cold", "warm"):
            times = _shine(manifest, (method, psf), output)
            times["per_source_ms"] = 1e3 * times["total_s"] / len(manifest.source_ids)
            found.append({"method": method, "psf": psf, "cache": state, **times})
    return found


def _loading(psf: str, manifest: Manifest, output: Path) -> dict[str, float]:
    """What it takes to load the sub-tile from plain files."""
    settings = output / "loading.yaml"
    content = survey.config_of("map", psf).model_dump(mode="json", exclude_unset=True)
    settings.write_text(yaml.safe_dump(content))
    return loading.measure(manifest, settings, output)


def _scaling(
    size: survey.Size, full: tuple[Manifest, ExposureSet], runs: list[dict], output: Path
) -> dict[str, object]:
    """Times of one method, warm, for part of the sources in all quadrants, and the reverse."""
    manifest, exposures = full
    method, psf = size.methods[0], size.psf_models[0]
    wanted = (method, psf, "warm")
    [whole] = [run for run in runs if (run["method"], run["psf"], run["cache"]) == wanted]
    n_sources, n_quadrants = len(manifest.source_ids), len(manifest.quadrants)

    def measured(part: Manifest) -> dict:
        _shine(part, (method, psf), output)  # compiles what the whole sub-tile has no use for
        numbers = {"sources": len(part.source_ids), "quadrants": len(part.quadrants)}
        times = _shine(part, (method, psf), output)
        del times["peak_rss_mb"]  # by now, this process has more
        return numbers | times

    whole = {"sources": n_sources, "quadrants": n_quadrants} | whole
    by_exposure = sorted(manifest.quadrants, key=lambda files: (files.sci_path, files.quadrant))
    return {
        "method": method,
        "psf": psf,
        # a patch around the centre, as densely populated as the whole
        "sources": [
            measured(survey.with_sources(manifest, survey.innermost(exposures, n)))
            for n in size.sources
            if n < n_sources
        ]
        + [whole],
        "asked_sources": list(size.sources),
        "largest_sources": n_sources,
        # exposure by exposure
        "quadrants": [
            measured(
                survey.with_quadrants(manifest, by_exposure[: max(1, round(share * n_quadrants))])
            )
            for share in size.quadrant_shares
        ]
        + [whole],
    }


def _shine(manifest: Manifest, settings: tuple[str, str], output: Path) -> dict[str, float]:
    """Run one sub-tile with a method and PSF model in a process of its own: times (s), RSS (MB)."""
    method, psf = settings
    folder = output / "run"
    shutil.rmtree(folder, ignore_errors=True)  # a result of the same inputs would be kept
    folder.mkdir()
    write_manifest(manifest, folder / "manifest.yaml")
    (folder / "config.yaml").write_text(
        yaml.safe_dump(survey.config_of(method, psf).model_dump(mode="json", exclude_unset=True))
    )
    environment = os.environ | {
        "JAX_COMPILATION_CACHE_DIR": str(_cache(output, method, psf).resolve()),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    command = [sys.executable, "-m", "shine.euclid.run", "--verbose", "--output", folder]
    command += ["--manifest", folder / "manifest.yaml", "--config", folder / "config.yaml"]
    begin = time.perf_counter()
    done = subprocess.run(
        [str(part) for part in command],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    wall_s = time.perf_counter() - begin
    if done.returncode not in (0, NOT_CONVERGED_EXIT_CODE):
        raise RuntimeError(f"shine failed on {folder}:\n{done.stderr}")
    measured = json.loads((folder / f"{manifest.stem}.run.json").read_text())["measurements"]
    names = ("load_s", "compile_s", "solve_s", "total_s", "peak_rss_mb")
    times = {name: measured[name] for name in names} | {"wall_s": wall_s}
    times["converged"] = done.returncode == 0
    shown = ", ".join(f"{name} {times[name]:.1f}" for name in (*names, "wall_s"))
    _say(
        f"{method}, {psf}, {len(manifest.source_ids)} sources, {len(manifest.quadrants)} "
        f"quadrants: {shown}"
    )
    return times


def _cache(output: Path, method: str, psf: str) -> Path:
    return output / f"jax-cache-{method}-{psf}"


def _gradient(exposures: ExposureSet) -> dict[str, object]:
    tiers = limits.gradient(exposures)
    seconds, pairs = (sum(tier[key] for tier in tiers) for key in ("seconds", "pairs"))
    return {
        "seconds": seconds,
        "pairs": pairs,
        "us_per_pair": 1e6 * seconds / pairs,
        "tiers": tiers,
        "limits": limits.fractions(exposures.scene, tiers),
    }


def _classic(size: survey.Size, exposures: ExposureSet, found: dict) -> dict[str, object]:
    """Cost of the classic route, extrapolated from some pairs, over that of ours."""
    manifest, n_sources = exposures.manifest, found["survey"]["modelled"]
    pairs, files, chosen = survey.cut_pairs(exposures, size.pairs)
    cost = classic_route.gradient_seconds(pairs)
    seconds = classic_route.extrapolated_seconds(cost, n_sources, len(manifest.quadrants))
    part = survey.with_quadrants(survey.with_sources(manifest, chosen), [files])
    part = part.model_copy(update={"core_source_ids": part.source_ids})
    same = limits.gradient(shine.load(part, survey.config_of("map", "native")))
    ours = sum(tier["seconds"] for tier in same) / sum(tier["pairs"] for tier in same)
    warm = [run for run in found["runs"] if run["cache"] == "warm"]
    return {
        "pairs": cost.n_pairs,
        "stamp_px": classic_route.STAMP_SIZE,
        "steps": classic_route.STEPS,
        "learning_rate": classic_route.LEARNING_RATE,
        "compile_s": cost.compile_s,
        "gradient_us_per_pair": 1e6 * cost.gradient_s_per_pair,
        "extrapolated_s": seconds,
        "extrapolation": f"{classic_route.STEPS} steps x {n_sources} sources x "
        f"{len(manifest.quadrants)} quadrants x seconds per pair, of {cost.n_pairs} pairs",
        "overlapping_pairs_s": cost.compile_s
        + classic_route.STEPS * found["survey"]["pairs"] * cost.gradient_s_per_pair,
        "ours_us_per_same_pair": 1e6 * ours,
        "ratio_per_same_pair": cost.gradient_s_per_pair / ours,
        # both without reading the files
        "ratio": {
            f"{run['method']} {run['psf']}": seconds / (run["compile_s"] + run["solve_s"])
            for run in warm
        },
    }


def _machine() -> dict[str, object]:
    return {
        "cores": len(os.sched_getaffinity(0)),
        "processor": platform.processor() or platform.machine(),
        "device": str(jax.devices()[0].device_kind),
        "jax": jax.__version__,
        "load_average": round(os.getloadavg()[0], 2),
    }


def _say(text: str) -> None:
    sys.stdout.write(f"{time.strftime('%H:%M:%S')} {text}\n")
    sys.stdout.flush()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, default=Path("build/bench"), help="folder")
    parser.add_argument("--smoke", action="store_true", help="the smallest survey, for a test")
    options = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])  # before JAX starts threads
    found = run(survey.smoke() if options.smoke else survey.full_scale(), options.output)
    sys.stdout.write(f"{table(found)}\n{options.output}/bench.json, bench.png\n")


if __name__ == "__main__":
    main()
