"""One sub-tile from manifest to result files."""

import json
import logging
import platform
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import jax

from shine import programs
from shine.atomic import write_atomically
from shine.errors import ConvergenceError, InputError, Status, meanings
from shine.euclid import fits_files, memory, plots, posterior
from shine.euclid.config import EuclidConfig, load_config
from shine.euclid.posterior import Posterior
from shine.euclid.scene import ExposureSet, load
from shine.manifest import Manifest, manifest_digest, read_manifest
from shine.provenance import Provenance, collect
from shine.result_records import RunRecord
from shine.results import (
    provenance_of,
    read_shear,
    read_sources,
    restamp,
    to_json,
    write_results,
)

logger = logging.getLogger(__name__)


def run_subtile(manifest_path: Path | str, config_path: Path | str, output_dir: Path | str) -> Path:
    """Infer the shear of one sub-tile and write its result files; returns the shear file's path.

    Writes `{tile}_{row}_{col}.parquet`, `_sources.parquet`, `.run.json` and `.png`, each at once.
    A result that is already there and was made by the same code from the same pixels, catalogue
    values and configuration is kept. Raises `ConvergenceError` after writing a result that did not
    converge, and the other errors of `shine.errors` before writing anything.
    """
    started = time.perf_counter()
    memory.reset_peak()
    programs.make_room()
    output_dir = Path(output_dir)
    config = load_config(config_path)
    manifest = read_manifest(manifest_path)
    result = output_dir / f"{manifest.stem}.parquet"
    versions = _input_versions(manifest)
    known = {"manifest": manifest_digest(manifest_path)}
    provenance = collect(config, known, config.inference.seed)
    if _kept_versions(result, provenance) == versions:
        return _keep(result, provenance, config)
    exposures = load(manifest, config)
    loaded = time.perf_counter()
    known |= {"catalogue values": exposures.sources.digest, **exposures.digests}
    provenance = collect(config, known, config.inference.seed)
    if _kept_versions(result, provenance) is not None:
        _write_versions(result, versions)
        return _keep(result, provenance, config)
    output_dir.mkdir(parents=True, exist_ok=True)
    checkpoint = output_dir / f"{manifest.stem}.warm-up.npz"
    answer = posterior.infer(exposures, config, checkpoint)
    measurements = {
        "load_s": loaded - started,
        "compile_s": answer.compile_s,
        "solve_s": answer.solve_s,
        "total_s": time.perf_counter() - started,
        "peak_rss_mb": memory.peak_mb(),
        "host": platform.node(),
        "device": str(jax.devices()[0].device_kind),
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
        RunRecord(provenance, measurements, versions, exposures.left_out),
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


def _input_versions(manifest: Manifest) -> dict[str, list]:
    """What tells each input file from a later version of it without reading it."""
    names = sorted(manifest.paths)
    with ThreadPoolExecutor(16) as pool:  # an object store is asked for each
        return {
            path: list(version)
            for path, version in zip(names, pool.map(fits_files.version, names), strict=True)
        }


def _kept_versions(result: Path, provenance: Provenance) -> dict[str, list] | None:
    """The versions of the inputs that a complete result was made from; None if it is of no use.

    It is of use if it was made by the same code with the same settings, and from what the
    provenance knows of the inputs.
    """
    stem = result.stem
    record, picture = (result.with_name(f"{stem}{suffix}") for suffix in (".run.json", ".png"))
    try:
        versions = json.loads(record.read_text())["input_versions"]
        shear, sources = (
            provenance_of(table)
            for table in (read_shear(result), read_sources(_sources_path(result)))
        )
    except (OSError, ValueError, KeyError, InputError):
        return None
    same = shear == sources and picture.exists() and shear.describes(provenance)
    return versions if same else None


def _write_versions(result: Path, versions: dict[str, list]) -> None:
    """Note that newer files of the same content give the same result."""
    path = result.with_name(f"{result.stem}.run.json")
    record = json.loads(path.read_text()) | {"input_versions": versions}
    write_atomically(path, to_json(record))


def _keep(result: Path, provenance: Provenance, config: EuclidConfig) -> Path:
    logger.info("%s: inputs, configuration and code are unchanged: result kept", result.stem)
    if provenance_of(read_shear(result)).git_commit != provenance.git_commit:
        restamp(result, provenance.git_commit)  # as if it had been made by this very commit
    _refuse_unconverged(result, config)
    return result


def _sources_path(result: Path) -> Path:
    return result.with_name(f"{result.stem}_sources.parquet")
