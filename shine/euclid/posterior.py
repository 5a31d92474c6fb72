"""Inference on an `ExposureSet`, and its answer in the terms of the result files."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from shine import estimators
from shine.errors import Kind, MemoryExhaustedError, SourceFlag, Status, SubtileFlag
from shine.estimators import Estimate, Problem
from shine.euclid.config import EuclidConfig
from shine.euclid.scene import ExposureSet
from shine.inference import warm_up
from shine.psf_moments import psf_shapes
from shine.result_records import SampleColumns, ShearResult, SourceResults

logger = logging.getLogger(__name__)

_NEAR_EDGE_OF_DISC = 0.95  # |e| beyond which a shape is called bounded
_CHI2_PER_PIXEL = (0.8, 1.25)  # outside of which a fit is called poor


@dataclass(frozen=True)
class Posterior:
    """What the pixels say of a sub-tile.

    `shear` (2,) is the reduced shear (g1, g2) of the core galaxies and `shear_covariance` (2, 2)
    its covariance, marginal over all source parameters; both are None, and so is `estimate`,
    when there was nothing to infer. `status` says which.
    """

    status: Status
    flags: SubtileFlag
    shear: np.ndarray | None = None
    shear_covariance: np.ndarray | None = None
    estimate: Estimate | None = None  # rows follow `ExposureSet.sources`, padding behind
    chi2: np.ndarray | None = None  # (n,) per source, of its blend's stamps
    n_pixels: np.ndarray | None = None  # (n,)
    compile_s: float = 0.0
    solve_s: float = 0.0


def infer(
    exposures: ExposureSet, config: EuclidConfig | None = None, checkpoint: Path | None = None
) -> Posterior:
    """Infer the shear of a sub-tile, and every source's parameters with it.

    Method nuts keeps its state after the warm-up in the file `checkpoint`, and resumes from it.

    Never raises for lack of data or convergence: look at `status`. Raises `MemoryExhaustedError`.
    """
    config = config or EuclidConfig()
    flags = _data_flags(exposures)
    if exposures.scene is None or exposures.prior is None:
        seen = bool(exposures.manifest.quadrants)
        return Posterior(Status.NO_SOURCES if seen else Status.NO_QUADRANTS, flags)
    started = time.perf_counter()
    # A notebook may have switched JAX to float64; the scene is float32.
    with _memory_errors_explained(exposures), jax.enable_x64(False):
        problem = replace(_problem(exposures, config), checkpoint=checkpoint)
        warm_up(problem.scene, sampling=config.inference.method == "marginal")
        compiled = time.perf_counter()
        estimate = estimators.estimate(problem, config.inference)
    per_source = _per_source(exposures, estimate)
    solved = time.perf_counter()
    _log_history(exposures.manifest.stem, estimate)
    singular = not (np.linalg.eigvalsh(estimate.shear_covariance) > 0).all()
    converged = estimate.converged and not singular
    if singular:
        flags |= SubtileFlag.SINGULAR_CURVATURE
    if not converged:
        flags |= SubtileFlag.NOT_CONVERGED
    # Bright stars, whose PSF is never known well enough, must not speak for the galaxies.
    galaxies = exposures.sources.kind != Kind.STAR
    if _is_poor(*per_source[:, galaxies].sum(axis=1)):
        flags |= SubtileFlag.POOR_FIT
    return Posterior(
        status=Status.OK if converged else Status.NOT_CONVERGED,
        flags=flags,
        shear=estimate.shear,
        shear_covariance=estimate.shear_covariance,
        estimate=estimate,
        chi2=per_source[0],
        n_pixels=per_source[1],
        compile_s=compiled - started,
        solve_s=solved - compiled,
    )


def _problem(exposures: ExposureSet, config: EuclidConfig) -> Problem:
    manifest = exposures.manifest
    blend = np.full(len(exposures.prior.lensed), -1)
    blend[: len(exposures.blends.blend)] = exposures.blends.blend
    place = (manifest.tile_id, manifest.sub_tile_row, manifest.sub_tile_col)
    seed = (config.inference.seed, *place)
    return Problem(exposures.scene.on_device(), exposures.prior, blend, seed)


def _per_source(exposures: ExposureSet, estimate: Estimate) -> np.ndarray:
    """Chi-square and number of pixels (2, n) in the stamps of each source's blend."""
    scene = exposures.scene
    weight = np.asarray(scene.weight)
    terms = np.stack([weight * estimate.residual_adu**2, weight > 0]).astype(float)
    per_blend = np.zeros((2, len(scene.members)))
    for tier in scene.tiers:
        views = terms[:, np.asarray(tier.pixel)[: tier.first[-1]]].sum(axis=2)
        per_blend[:, tier.blend] += np.add.reduceat(views, tier.first[:-1], axis=1)
    return per_blend[:, exposures.blends.blend]


def chi2_total(exposures: ExposureSet, estimate: Estimate) -> tuple[float, int]:
    """Chi-square of all modelled pixels, and their number."""
    weight = np.asarray(exposures.scene.weight, np.float64)
    misfit = estimate.residual_adu.astype(np.float64)
    return float((weight * misfit**2).sum()), int((weight > 0).sum())


def shear_result(exposures: ExposureSet, posterior: Posterior, method: str) -> ShearResult:
    """The shear row of a sub-tile."""
    manifest = exposures.manifest
    ra, dec = _centre(manifest.sky_bounds.core_ra, manifest.sky_bounds.core_dec)
    row = {
        "tile_id": manifest.tile_id,
        "subtile_row": manifest.sub_tile_row,
        "subtile_col": manifest.sub_tile_col,
        "ra_deg": ra,
        "dec_deg": dec,
        "method": method,
        "status": posterior.status,
        "flags": int(posterior.flags),
        "n_quadrants": exposures.n_quadrants_used,
    }
    if posterior.estimate is not None:
        estimate = posterior.estimate
        chi2, n_pixels = chi2_total(exposures, estimate)
        psf_e1, psf_e2, psf_fwhm = psf_shapes(exposures.psf_moments[exposures.used]).mean()
        row |= {
            "n_sources": int(exposures.used.sum()),
            "n_modelled": int((exposures.n_exposures > 0).sum()),
            "n_pixels": n_pixels,
            "chi2": chi2,
            "convergence": float(estimate.convergence),
            "ellipticity_sigma": estimate.ellipticity_sigma,
            "ellipticity_sigma_err": estimate.ellipticity_sigma_err,
            "g1": float(posterior.shear[0]),
            "g2": float(posterior.shear[1]),
            "psf_e1": psf_e1,
            "psf_e2": psf_e2,
            "psf_fwhm": psf_fwhm,
        }
        if not posterior.flags & SubtileFlag.SINGULAR_CURVATURE:
            row |= {
                "g1_err": float(np.sqrt(posterior.shear_covariance[0, 0])),
                "g2_err": float(np.sqrt(posterior.shear_covariance[1, 1])),
                "g1g2_cov": float(posterior.shear_covariance[0, 1]),
            }
    return ShearResult(**row)


def source_results(exposures: ExposureSet, posterior: Posterior) -> SourceResults:
    """One row per core source; those that were not modelled have flags and no values."""
    sources = exposures.sources
    modelled = np.flatnonzero(sources.is_core)
    core = set(exposures.manifest.core_source_ids)
    dropped = {i: source for i, source in sources.dropped.items() if i in core}
    n, n_dropped = len(modelled), len(dropped)
    values = (
        _Fits.nothing(n) if posterior.estimate is None else _fits(exposures, posterior, modelled)
    )
    nothing = _Fits.nothing(n_dropped)
    lost = [int(source.flags) for source in dropped.values()]
    return SourceResults(
        object_id=np.append(sources.object_id[modelled], np.array(list(dropped), np.int64)),
        ra_deg=np.append(sources.ra[modelled], [source.ra for source in dropped.values()]),
        dec_deg=np.append(sources.dec[modelled], [source.dec for source in dropped.values()]),
        kind=np.ma.append(
            np.ma.asarray(sources.kind[modelled]), np.ma.masked_all(n_dropped, np.uint8)
        ),
        n_exposures=np.append(exposures.n_exposures[modelled], np.zeros(n_dropped, np.int16)),
        flags=np.append(sources.flags[modelled] | values.flags, np.array(lost, np.int32)),
        parameters=np.append(values.parameters, nothing.parameters, axis=0),
        covariance=np.append(values.covariance, nothing.covariance, axis=0),
        chi2=np.append(values.chi2, nothing.chi2),
        n_pixels=np.append(values.n_pixels, nothing.n_pixels),
        blend=np.ma.append(
            np.ma.asarray(exposures.blends.blend[modelled]), np.ma.masked_all(n_dropped, np.int32)
        ),
        samples=_samples(posterior, modelled, n + n_dropped),
        psf=psf_shapes(exposures.psf_moments[modelled]).padded(n_dropped),
    )


def _samples(posterior: Posterior, rows: np.ndarray, n: int) -> SampleColumns | None:
    """The samples of the reported sources, which stand first among n rows of the file."""
    if posterior.estimate is None or posterior.estimate.samples is None:
        return None
    found = posterior.estimate.samples
    count = found.shapes.shape.shape[1]
    columns = SampleColumns(
        shape=np.zeros((n, count), complex),
        log_weight=np.full((n, count), -np.inf),
        effective=np.zeros(n),
    )
    # sampled sources are core galaxies, so that each has its row
    at = np.searchsorted(rows, found.source)
    columns.shape[at], columns.log_weight[at] = found.shapes.shape, found.shapes.log_weight
    columns.effective[at] = found.effective
    return columns


class _Fits(NamedTuple):
    """What the fit says of n sources."""

    parameters: np.ndarray  # (n, 6)
    covariance: np.ndarray  # (n, 6, 6)
    chi2: np.ndarray  # (n,)
    n_pixels: np.ndarray  # (n,)
    flags: np.ndarray  # (n,)

    @classmethod
    def nothing(cls, n: int) -> "_Fits":
        """What no fit says."""
        missing = np.full((n, 6, 6), np.nan)
        zero = np.zeros(n, np.int32)
        return cls(missing[:, 0], missing, missing[:, 0, 0], zero, zero)


def _fits(exposures: ExposureSet, posterior: Posterior, rows: np.ndarray) -> _Fits:
    estimate = posterior.estimate
    parameters = np.array(estimate.parameters[rows], np.float64)
    covariance = np.array(estimate.covariance[rows], np.float64)
    chi2 = np.array(posterior.chi2[rows], np.float64)
    n_pixels = posterior.n_pixels[rows].astype(np.int32)
    flags = np.zeros(len(rows), np.int32)
    variances = np.diagonal(covariance, axis1=1, axis2=2)
    unseen = exposures.n_exposures[rows] == 0
    singular = ~unseen & ~(np.isfinite(variances) & (variances >= 0)).all(axis=1)
    flags[unseen] |= SourceFlag.NOT_OBSERVED
    flags[singular] |= SourceFlag.SINGULAR_CURVATURE
    flags[np.hypot(parameters[:, 2], parameters[:, 3]) > _NEAR_EDGE_OF_DISC] |= SourceFlag.AT_BOUND
    flags[estimate.unsettled[rows]] |= SourceFlag.NOT_CONVERGED
    flags[exposures.blends.divided[rows]] |= SourceFlag.NEAR_NEIGHBOUR
    flags[~unseen & _is_poor(chi2, n_pixels)] |= SourceFlag.POOR_FIT
    if estimate.samples is not None:
        chained = estimate.samples.source[estimate.samples.by_chain]
        flags[np.isin(rows, chained)] |= SourceFlag.SHORT_CHAIN
    # What no pixel saw has no value; a prior is not a measurement.
    parameters[unseen], covariance[unseen | singular], chi2[unseen] = np.nan, np.nan, np.nan
    return _Fits(parameters, covariance, chi2, n_pixels, flags)


def _is_poor(chi2: np.ndarray, n_pixels: np.ndarray) -> np.ndarray:
    """Whether chi-square is far from the number of pixels, beyond chance."""
    per_pixel = chi2 / np.maximum(n_pixels, 1)
    chance = 5.0 * np.sqrt(2.0 / np.maximum(n_pixels, 1))
    return (per_pixel < _CHI2_PER_PIXEL[0] - chance) | (per_pixel > _CHI2_PER_PIXEL[1] + chance)


@contextmanager
def _memory_errors_explained(exposures: ExposureSet) -> Iterator[None]:
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise MemoryExhaustedError(
            f"{exposures.manifest.stem}: {jax.devices()[0].device_kind} has not enough memory for "
            f"{len(exposures.sources.object_id)} sources in {len(exposures.digests)} quadrants: "
            f"{str(error).splitlines()[0]}. Ask for more memory (compute.mem_mb) or cut the sky "
            f"finer (tiling.sub_tile_grid)."
        ) from error


def _data_flags(exposures: ExposureSet) -> SubtileFlag:
    flags = SubtileFlag(0)
    if exposures.sources.dropped.keys() & set(exposures.manifest.core_source_ids):
        flags |= SubtileFlag.CORE_SOURCES_DROPPED
    if (exposures.sources.is_core & (exposures.n_exposures == 0)).any():
        flags |= SubtileFlag.CORE_SOURCES_UNSEEN
    if exposures.n_quadrants_used < len(exposures.manifest.quadrants):
        flags |= SubtileFlag.QUADRANTS_UNUSED
    if len({key.split("/")[0] for key in exposures.digests}) == 1:
        flags |= SubtileFlag.SINGLE_EXPOSURE
    return flags


def _centre(ra_range: tuple[float, float], dec_range: tuple[float, float]) -> tuple[float, float]:
    """Middle of the bounds, in degrees; a range across 0h has its low end above its high end."""
    low, high = ra_range
    width = (high - low) % 360.0
    return (low + 0.5 * width) % 360.0, 0.5 * (dec_range[0] + dec_range[1])


def _log_history(stem: str, estimate: Estimate) -> None:
    history = estimate.history
    for i, moving in enumerate(history.moving):
        logger.info(
            "%s: sweep %d: shear moves by %.2g of its error, %d sources move, %d held back",
            stem,
            i + 1,
            history.shear_move[i],
            moving,
            history.rejected[i],
        )
