"""A block of isolated galaxies: images drawn, run through shine, and what it answered."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from constellation.validation import files
from constellation.validation.asking import ask, given_prior, settings_of
from constellation.validation.campaign import Campaign, Case
from constellation.validation.drawing.scene import GridScene, Purpose
from constellation.validation.influence import influences
from constellation.validation.ranks import posterior_ranks
from constellation.validation.records import Answer, Block
from constellation.validation.shears import shears
from constellation.validation.truth import Truth
from shine.population import ShapePrior, ShapeSamples, infer_shear
from shine.reinference import shape_samples


def run_grid(
    campaign: Campaign, case: Case, block: int, root: Path, kind: type[GridScene] = GridScene
) -> Block:
    """The same galaxies under opposite shears, one image each."""
    scene = kind(case.scene, campaign.seed, block)
    listed, truth = _catalogue(scene, root)
    answers, influence = [], []
    for member, shear in enumerate(shears(case.scene.shear, block)):
        place = _draw(scene, shear, listed, root / f"{member}")
        for method in case.methods:
            settings = settings_of(campaign, case, (method, block))
            if case.known:
                settings = known_priors(settings, scene)
            found, sources = ask(place, settings, shear)
            answers += [replace(answer, **truth.compared(sources)) for answer in found]
            if method == "marginal":
                influence += [_moves(answer, sources, truth, settings) for answer in found]
                if case.halves:
                    answers.append(of_halves(found[0], sources, given_prior(settings)))
    return Block(case.name, block, answers, influence)


def of_halves(answer: Answer, sources: pa.Table, prior: ShapePrior) -> Answer:
    """The mean of the shears from the even and from the odd samples of all galaxies.

    It has the noise of the shear from all samples, to first order, but the bias of half of them.
    """
    all_of = shape_samples(sources.filter(pa.compute.is_valid(sources["SAMPLE_LOG_WEIGHT"])))
    halves = [
        infer_shear(
            ShapeSamples(all_of.shape[:, half::2], all_of.log_weight[:, half::2], all_of.blend),
            prior,
        )
        for half in (0, 1)
    ]
    mean = 0.5 * (halves[0].shear + halves[1].shear)
    return replace(answer, method="marginal_halves", shear=(float(mean[0]), float(mean[1])))


def run_coverage(campaign: Campaign, case: Case, block: int, root: Path) -> Block:
    """Images that have nothing in common, each under a shear of its own."""
    answers, ranks = [], {}
    for number in range(case.coverage * block, case.coverage * (block + 1)):
        scene = GridScene(case.scene, campaign.seed, number)
        shear = scene.random_shear()
        folder = root / f"{number}"
        listed, truth = _catalogue(scene, folder)
        place = _draw(scene, shear, listed, folder)
        settings = known_priors(settings_of(campaign, case, ("marginal", number)), scene)
        found, sources = ask(place, settings, shear)
        answers += found
        rng = scene.rng(Purpose.RANKS)
        for name, own in posterior_ranks(sources, truth, found[0], rng).items():
            ranks.setdefault(name, []).extend(own)
    return Block(case.name, block, answers, [], ranks)


def known_priors(settings: dict[str, Any], scene: GridScene) -> dict[str, Any]:
    """shine's settings with the priors that the scene's galaxies follow."""
    galaxies = scene.settings.galaxies
    gal = settings.get("gal", {})
    flux = {"center": scene.typical_flux_ujy, "sigma": galaxies.flux_scatter}
    size = {"center": galaxies.hlr_arcsec, "sigma": galaxies.hlr_scatter}
    priors = {
        "flux": {"type": "LogNormal"} | flux,
        "half_light_radius": {"type": "LogNormal"} | size,
        "ellipticity": {"sigma": galaxies.ellipticity_sigma},
        "offset": {"sigma": scene.position_scatter_arcsec},
    }
    return settings | {"gal": gal | {"priors": priors | gal.get("priors", {})}}


Listed = tuple[Path, np.ndarray, np.ndarray]


def _catalogue(scene: GridScene, folder: Path) -> tuple[Listed, Truth]:
    """The catalogue (path, ids, which are core) written into a folder, and what is true of it."""
    folder.mkdir(exist_ok=True)
    path = folder / "catalogue.fits"
    ids = files.write_catalogue(scene, path)
    sigma = scene.settings.galaxies.ellipticity_sigma
    return (path, ids, np.ones(len(ids), bool)), Truth(ids, scene.sources, scene.unit, sigma)


def _draw(scene: GridScene, shear: tuple[float, float], listed: Listed, folder: Path) -> Path:
    """Write an image with its manifest into a folder."""
    folder.mkdir(exist_ok=True)
    quadrant = files.write_image(scene, scene.draw(shear), folder)
    files.write_block_manifest([quadrant], listed, folder / "manifest.yaml")
    return folder


def _moves(answer: Answer, sources: pa.Table, truth: Truth, settings: dict[str, Any]) -> pa.Table:
    """How each unit of galaxies moves an answer."""
    prior = given_prior(settings)
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
            "MOVES_G1": total[:, 0],
            "MOVES_G2": total[:, 1],
        }
    )
