"""One sub-tile from manifest to result files. `python -m shine.euclid.run --help`"""

import logging
import platform
import resource
import sys
import time
from dataclasses import asdict
from pathlib import Path

import jax

from shine.errors import ConvergenceError, InputError, Status, meanings
from shine.euclid import plots, posterior
from shine.euclid.config import EuclidConfig, load_config
from shine.euclid.posterior import Posterior
from shine.euclid.scene import ExposureSet, load
from shine.manifest import read_manifest
from shine.provenance import Provenance, collect, digest
from shine.results import RunRecord, provenance_of, read_shear, read_sources, write_results

logger = logging.getLogger(__name__)


def run_subtile(manifest_path: Path | str, config_path: Path | str, output_dir: Path | str) -> Path:
    """Infer the shear of one sub-tile and write its result files; returns the shear file's path.

    Writes `{tile}_{row}_{col}.parquet`, `_sources.parquet`, `.run.json` and `.png`, each at once.
    A result that is already there and was made by the same code from the same pixels, catalogue
    values and configuration is kept. Raises `ConvergenceError` after writing a result that did not
    converge, and the other errors of `shine.errors` before writing anything.
    """
    started = time.perf_counter()
    output_dir = Path(output_dir)
    config = load_config(config_path)
    manifest = read_manifest(manifest_path)
    exposures = load(manifest, config)
    loaded = time.perf_counter()
    provenance = collect(config, _input_hashes(exposures, manifest_path), config.inference.seed)
    result = output_dir / f"{manifest.stem}.parquet"
    if _is_current(result, provenance):
        logger.info("%s: inputs, configuration and code are unchanged: result kept", manifest.stem)
        _refuse_unconverged(result, config)
        return result
    output_dir.mkdir(parents=True, exist_ok=True)
    checkpoint = output_dir / f"{manifest.stem}.warm-up.npz"
    answer = posterior.infer(exposures, config, checkpoint)
    measurements = {
        "load_s": loaded - started,
        "compile_s": answer.compile_s,
        "solve_s": answer.solve_s,
        "total_s": time.perf_counter() - started,
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "host": platform.node(),
        "device": str(jax.devices()[0].device_kind),
        "cuts": exposures.sources.cuts,
    }
    if answer.estimate is not None:
        measurements["history"] = asdict(answer.estimate.history)
        measurements |= answer.estimate.diagnostics
    model = None
    if answer.estimate is not None:
        model = exposures.scene.data_adu - answer.estimate.residual_adu
    # The shear file is written last: where it is, all of a sub-tile's files are.
    plots.plot_residuals(exposures, model, result.with_suffix(".png"))
    write_results(
        output_dir,
        manifest.stem,
        posterior.shear_result(exposures, answer, config.inference.method),
        posterior.source_results(exposures, answer),
        RunRecord(provenance, measurements),
    )
    checkpoint.unlink(missing_ok=True)
    _report(answer, exposures, result)
    _refuse_unconverged(result, config)
    return result


def _report(answer: Posterior, exposures: ExposureSet, result: Path) -> None:
    for meaning in meanings(answer.flags):
        logger.info("%s: %s", result, meaning)
    if answer.shear is None:
        logger.warning(
            "%s: no shear: %s. Catalogue %s, cuts %s",
            result,
            answer.status.meaning,
            ", ".join(exposures.manifest.catalogs),
            exposures.sources.cuts,
        )
    else:
        g1, g2 = answer.shear
        n = exposures.used.sum()
        logger.info("%s: g1 = %.4f, g2 = %.4f, %d core galaxies", result, g1, g2, n)


def _refuse_unconverged(result: Path, config: EuclidConfig) -> None:
    [row] = read_shear(result).select(["STATUS", "CONVERGENCE"]).to_pylist()
    if row["STATUS"] == Status.NOT_CONVERGED:
        settings, reached = config.inference, row["CONVERGENCE"]
        raise ConvergenceError(
            f"{result}: written and flagged, but method {settings.method} has not converged within "
            f"its limits: CONVERGENCE is {'not a number' if reached is None else f'{reached:.2g}'} "
            f"errors of the shear. Look at the picture beside it and at the history in its "
            f".run.json; raise inference.solver.max_iterations (now "
            f"{settings.solver.max_iterations}) if it still gained."
        )


def _input_hashes(exposures: ExposureSet, manifest_path: Path | str) -> dict[str, str]:
    return {
        "manifest": digest([Path(manifest_path).read_bytes()]),
        "catalogue values": exposures.sources.digest,
        **exposures.digests,
    }


def _is_current(result: Path, provenance: Provenance) -> bool:
    """Whether a complete result of the same provenance is there already."""
    stem = result.stem
    companions = [result.with_name(f"{stem}.run.json"), result.with_name(f"{stem}.png")]
    if provenance.git_commit.endswith("-dirty") or not all(path.exists() for path in companions):
        return False
    try:
        sources = read_sources(result.with_name(f"{stem}_sources.parquet"))
        return provenance_of(read_shear(result)) == provenance == provenance_of(sources)
    except InputError:
        return False


if __name__ == "__main__":
    from shine.euclid.cli import main

    sys.exit(main())
