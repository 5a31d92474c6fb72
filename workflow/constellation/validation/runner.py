"""One block of a case: images drawn, run through shine from files to files, and what it answered.

The images are deleted; the same seed draws them again.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import yaml

from constellation.validation import files
from constellation.validation.campaign import Campaign, Case
from constellation.validation.coverage import matched_priors, posterior_ranks
from constellation.validation.drawing.scene import GridScene
from constellation.validation.influence import influences
from constellation.validation.records import Answer, Block
from constellation.validation.truth import Truth
from shine.errors import ConvergenceError, SourceFlag, Status
from shine.euclid.cli import run_subtile
from shine.euclid.config import load_config
from shine.population import ShapePrior
from shine.reinference import reinfer
from shine.results import read_shear, read_sources


def run_block(campaign: Campaign, case: Case, block: int, scratch: Path) -> Block:
    """Draw and measure one block; everything is made below `scratch`, and removed."""
    scene = GridScene(case.scene, campaign.seed, block)
    answers, influence, ranks = [], [], {}
    with tempfile.TemporaryDirectory(prefix="validation-", dir=scratch) as folder:
        root = Path(folder).resolve()  # a manifest counts paths from its own folder
        catalogue = root / "catalogue.fits"
        ids = files.write_catalogue(scene, catalogue)
        for member, shear in enumerate(_shears(campaign, case, block)):
            place = root / f"{member}"
            place.mkdir()
            quadrant = files.write_image(scene, scene.draw(shear), place)
            files.write_scene_manifest(scene, [quadrant], (catalogue, ids), place / "manifest.yaml")
            for method in case.methods:
                settings = _settings(campaign, case, method)
                if case.coverage:
                    settings = matched_priors(settings, scene)
                truth = Truth(
                    shear, ids, scene.sources, scene.unit, case.scene.galaxies.ellipticity_sigma
                )
                found, moved, sources = _ask(place, settings, truth)
                answers += found
                if case.coverage and method == "marginal":
                    ranks = posterior_ranks(sources, truth, found[0])
                elif not case.coverage:
                    influence += moved
    return Block(case.name, block, answers, influence, ranks)


def _shears(campaign: Campaign, case: Case, block: int) -> list[tuple[float, float]]:
    size = case.scene.shear
    if not case.coverage:
        return shears(size, block)
    g1, g2 = np.random.default_rng((campaign.seed, block, 4)).uniform(-size, size, 2)
    return [(float(g1), float(g2))]


def shears(size: float, block: int) -> list[tuple[float, float]]:
    """The reduced shears of a block's images: opposite ones, on one diagonal or the other."""
    other = size if block % 2 == 0 else -size
    return [(size, other), (-size, -other)]


def _settings(campaign: Campaign, case: Case, method: str) -> dict[str, Any]:
    settings = campaign.settings(case)
    return settings | {"inference": settings.get("inference", {}) | {"method": method}}


def _ask(
    place: Path, settings: dict[str, Any], truth: Truth
) -> tuple[list[Answer], list[pa.Table], pa.Table]:
    """Run shine on the manifest in a folder; its answers, their influences, and the sources."""
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
    record = json.loads(result.with_suffix(".run.json").read_text())["measurements"]
    unsettled = sources["FLAGS"].to_numpy() & int(SourceFlag.NOT_CONVERGED)
    common = {
        "true_shear": truth.shear,
        "n_galaxies": int(row["N_SOURCES"]),
        "converged": row["STATUS"] == Status.OK,
        "settled_share": float(np.mean(unsettled == 0)),
        "chi2_per_pixel": row["CHI2"] / row["N_PIXELS"],
        "cpu_s": cpu_s,
        "compile_s": record["compile_s"],
        **truth.compared(sources),
    }
    answer = Answer(
        method=method,
        shear=(row["G1"], row["G2"]),
        covariance=(row["G1_ERR"] ** 2, row["G1G2_COV"], row["G2_ERR"] ** 2),
        ellipticity_sigma=row["ELLIPTICITY_SIGMA"],
        **common,
    )
    if method != "marginal":
        return [answer], [], sources
    return *_marginal(load_config(config), sources, (answer, common, truth)), sources


def _marginal(config, sources: pa.Table, context) -> tuple[list[Answer], list[pa.Table]]:
    """The answers with the dispersion as configured, and inferred."""
    answer, common, truth = context
    sigma = config.gal.priors.ellipticity.sigma
    shear_sigma = config.gal.priors.shear.sigma
    fixed = reinfer(sources, ShapePrior(sigma, infer_sigma=False, shear_sigma=shear_sigma))
    cov = fixed.covariance
    answers = [
        Answer(
            method="marginal",
            shear=(float(fixed.shear[0]), float(fixed.shear[1])),
            covariance=(float(cov[0, 0]), float(cov[0, 1]), float(cov[1, 1])),
            ellipticity_sigma=None,
            **common,
        )
    ]
    priors = [ShapePrior(sigma, infer_sigma=False)]
    if config.inference.marginal.infer_dispersion:
        answers.append(answer.renamed("marginal_inferred"))
        priors.append(ShapePrior(answer.ellipticity_sigma, infer_sigma=True))
    tables = []
    for found, prior in zip(answers, priors, strict=True):
        moved = influences(sources, np.array(found.shear), prior)
        unit = truth.rows(moved.object_id) // truth.unit
        total = np.zeros((len(truth.ids) // truth.unit, 2))
        np.add.at(total, unit, moved.shear)
        tables.append(
            pa.table(
                {
                    "METHOD": [found.method] * len(total),
                    "TRUE_G1": np.full(len(total), found.true_shear[0]),
                    "TRUE_G2": np.full(len(total), found.true_shear[1]),
                    "UNIT": np.arange(len(total)),
                    "MOVES_G1": total[:, 0],
                    "MOVES_G2": total[:, 1],
                }
            )
        )
    return answers, tables
