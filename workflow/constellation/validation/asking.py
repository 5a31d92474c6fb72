"""shine, asked about images through its usual road: from files to files."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import yaml

from constellation.validation.campaign import Campaign, Case
from constellation.validation.records import Answer
from shine.errors import ConvergenceError, SourceFlag, Status
from shine.euclid.cli import run_subtile
from shine.euclid.config import EuclidConfig
from shine.population import ShapePrior, ShearPosterior
from shine.reinference import reinfer
from shine.results import read_shear, read_sources


def settings_of(campaign: Campaign, case: Case, asked: tuple[str, int]) -> dict[str, Any]:
    """What a block's runs are told; as sub-tiles do, each block has its own random samples.

    Another seed of the campaign must give others, too, or its result were not independent.
    """
    method, block = asked
    settings = campaign.settings(case)
    own = {"method": method, "seed": 100_000 * campaign.seed + block}
    return settings | {"inference": settings.get("inference", {}) | own}


def ask(
    place: Path, settings: dict[str, Any], shear: tuple[float, float]
) -> tuple[list[Answer], pa.Table]:
    """Run shine on the manifest in a folder; its answers, and the sources."""
    method = settings["inference"]["method"]
    config = place / f"{method}.yaml"
    config.write_text(yaml.safe_dump(settings))
    output = place / method
    started = time.process_time()
    try:
        result = run_subtile(place / "manifest.yaml", config, output)
    except ConvergenceError:
        result = next(path for path in output.glob("*_*_*.parquet") if "sources" not in path.name)
    cpu_s = time.process_time() - started
    [row] = read_shear(result).to_pylist()
    sources = read_sources(result.with_name(f"{result.stem}_sources.parquet"))
    unsettled = sources["FLAGS"].to_numpy() & int(SourceFlag.NOT_CONVERGED)
    answer = Answer(
        method=method,
        true_shear=shear,
        shear=(row["G1"], row["G2"]),
        covariance=(row["G1_ERR"] ** 2, row["G1G2_COV"], row["G2_ERR"] ** 2),
        ellipticity_sigma=row["ELLIPTICITY_SIGMA"],
        n_galaxies=int(row["N_SOURCES"]),
        converged=row["STATUS"] == Status.OK,
        settled_share=float(np.mean(unsettled == 0)),
        chi2_per_pixel=row["CHI2"] / row["N_PIXELS"],
        cpu_s=cpu_s,
    )
    if method != "marginal":
        return [answer], sources
    given = with_posterior(answer, reinfer(sources, given_prior(settings)), method)
    return [given, replace(answer, method="marginal_inferred")], sources


def with_posterior(answer: Answer, posterior: ShearPosterior, method: str) -> Answer:
    """The answer with the shear of a posterior whose dispersion was given."""
    cov = posterior.covariance
    return replace(
        answer,
        method=method,
        shear=(float(posterior.shear[0]), float(posterior.shear[1])),
        covariance=(float(cov[0, 0]), float(cov[0, 1]), float(cov[1, 1])),
        ellipticity_sigma=None,
        n_galaxies=posterior.n_galaxies,
    )


def given_prior(settings: dict[str, Any]) -> ShapePrior:
    """The population as configured, its dispersion given."""
    priors = EuclidConfig.model_validate(settings).gal.priors
    return ShapePrior(priors.ellipticity.sigma, False, priors.shear.sigma)
