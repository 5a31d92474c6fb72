"""One block of a case: images drawn, run through shine from files to files, and what it answered.

The images are deleted; the same seed draws them again.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import yaml

from constellation.validation import files
from constellation.validation.campaign import Campaign, Case
from constellation.validation.coverage import matched_priors, posterior_ranks
from constellation.validation.drawing.field import FieldScene
from constellation.validation.drawing.scene import GridScene
from constellation.validation.influence import influences
from constellation.validation.records import Answer, Block
from constellation.validation.truth import Truth
from shine.errors import ConvergenceError, SourceFlag, Status
from shine.euclid.cli import run_subtile
from shine.euclid.config import EuclidConfig
from shine.population import ShapePrior
from shine.reinference import reinfer
from shine.results import read_shear, read_sources


def run_block(campaign: Campaign, case: Case, block: int, scratch: Path) -> Block:
    """Draw and measure one block; everything is made below `scratch`, and removed."""
    with tempfile.TemporaryDirectory(prefix="validation-", dir=scratch) as folder:
        root = Path(folder).resolve()  # a manifest counts paths from its own folder
        if case.field is not None:
            return _run_field(campaign, case, block, root)
        return _run_grid(campaign, case, block, root)


def shears(size: float, block: int) -> list[tuple[float, float]]:
    """The reduced shears of a block's images: opposite ones, on one diagonal or the other."""
    other = size if block % 2 == 0 else -size
    return [(size, other), (-size, -other)]


def _run_grid(campaign: Campaign, case: Case, block: int, root: Path) -> Block:
    """Isolated galaxies: one image for each shear."""
    scene = GridScene(case.scene, campaign.seed, block)
    answers, influence, ranks = [], [], {}
    catalogue = root / "catalogue.fits"
    ids = files.write_catalogue(scene, catalogue)
    listed = catalogue, ids, np.ones(len(ids), bool)
    truth = Truth(ids, scene.sources, scene.unit, case.scene.galaxies.ellipticity_sigma)
    for member, shear in enumerate(_shears(campaign, case, block)):
        place = root / f"{member}"
        place.mkdir()
        quadrant = files.write_image(scene, scene.draw(shear), place)
        files.write_block_manifest([quadrant], listed, place / "manifest.yaml")
        for method in case.methods:
            settings = _settings(campaign, case, (method, block))
            if case.coverage:
                settings = matched_priors(settings, scene)
            found, sources = _ask(place, settings, shear)
            answers += [replace(answer, **truth.compared(sources)) for answer in found]
            if method != "marginal":
                continue
            if case.coverage:
                ranks = posterior_ranks(sources, truth, found[0])
            else:
                influence += [_moves(answer, sources, truth, settings) for answer in found]
    return Block(case.name, block, answers, influence, ranks)


def _run_field(campaign: Campaign, case: Case, block: int, root: Path) -> Block:
    """Full scenes: two shears, and the galaxies as they are and turned by 90 degrees."""
    scene = FieldScene(case.field, campaign.seed, block)
    answers = []
    catalogue = root / "catalogue.fits"
    ids, core = files.write_field_catalogue(scene, catalogue)
    for number, member in enumerate(product(shears(case.field.shear, block), (False, True))):
        place = root / f"{number}"
        quadrants = files.write_field(scene, member, place)
        files.write_block_manifest(quadrants, (catalogue, ids, core), place / "manifest.yaml")
        for method in case.methods:
            answers += _ask(place, _settings(campaign, case, (method, block)), member[0])[0]
        shutil.rmtree(place)  # 0.1 GB
    return Block(case.name, block, answers, [])


def _shears(campaign: Campaign, case: Case, block: int) -> list[tuple[float, float]]:
    size = case.scene.shear
    if not case.coverage:
        return shears(size, block)
    g1, g2 = np.random.default_rng((campaign.seed, block, 4)).uniform(-size, size, 2)
    return [(float(g1), float(g2))]


def _settings(campaign: Campaign, case: Case, asked: tuple[str, int]) -> dict[str, Any]:
    """What a block's runs are told; as sub-tiles do, each block has its own random samples."""
    method, block = asked
    settings = campaign.settings(case)
    own = {"method": method, "seed": block}
    return settings | {"inference": settings.get("inference", {}) | own}


def _ask(
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
    record = json.loads(result.with_suffix(".run.json").read_text())["measurements"]
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
        compile_s=record["compile_s"],
    )
    if method != "marginal":
        return [answer], sources
    prior = _given(settings)
    fixed = reinfer(sources, prior)
    cov = fixed.covariance
    given = replace(
        answer,
        shear=(float(fixed.shear[0]), float(fixed.shear[1])),
        covariance=(float(cov[0, 0]), float(cov[0, 1]), float(cov[1, 1])),
        ellipticity_sigma=None,
    )
    return [given, replace(answer, method="marginal_inferred")], sources


def _given(settings: dict[str, Any]) -> ShapePrior:
    """The population as configured, its dispersion given."""
    priors = EuclidConfig.model_validate(settings).gal.priors
    return ShapePrior(priors.ellipticity.sigma, False, priors.shear.sigma)


def _moves(answer: Answer, sources: pa.Table, truth: Truth, settings: dict[str, Any]) -> pa.Table:
    """How each unit of galaxies moves an answer."""
    prior = _given(settings)
    if answer.ellipticity_sigma is not None:
        prior = replace(prior, ellipticity_sigma=answer.ellipticity_sigma, infer_sigma=True)
    moved = influences(sources, np.array(answer.shear), prior)
    n_units = len(truth.ids) // truth.unit
    total = np.zeros((n_units, 2))
    np.add.at(total, truth.rows(moved.object_id) // truth.unit, moved.shear)
    return pa.table(
        {
            "METHOD": [answer.method] * n_units,
            "TRUE_G1": np.full(n_units, answer.true_shear[0]),
            "TRUE_G2": np.full(n_units, answer.true_shear[1]),
            "UNIT": np.arange(n_units),
            "MOVES_G1": total[:, 0],
            "MOVES_G2": total[:, 1],
        }
    )
