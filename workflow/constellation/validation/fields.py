"""A block of full scenes: a survey for each shear and turn, run through shine."""

from __future__ import annotations

import shutil
from itertools import product
from pathlib import Path

import numpy as np
import pyarrow as pa

from constellation.validation import field_files
from constellation.validation.asking import ask, given_prior, settings_of, with_posterior
from constellation.validation.campaign import Campaign, Case
from constellation.validation.drawing.field import FieldScene
from constellation.validation.files import write_block_manifest
from constellation.validation.records import Answer, Block
from constellation.validation.shears import shears
from shine.population import ShapePrior
from shine.reinference import reinfer


def run_field(campaign: Campaign, case: Case, block: int, root: Path) -> Block:
    """Two shears, and the galaxies as they are and turned by 90 degrees."""
    scene = FieldScene(case.field, campaign.seed, block)
    answers = []
    catalogue = root / "catalogue.fits"
    ids, core = field_files.write_catalogue(scene, catalogue)
    for number, member in enumerate(product(shears(case.field.shear, block), (False, True))):
        place = root / f"{number}"
        quadrants = field_files.write_field(scene, member, place)
        write_block_manifest(quadrants, (catalogue, ids, core), place / "manifest.yaml")
        for method in case.methods:
            settings = settings_of(campaign, case, (method, block))
            found, sources = ask(place, settings, member[0])
            answers += found
            if method == "marginal":
                answers += by_blend(found[0], sources, given_prior(settings))
        shutil.rmtree(place)  # 0.1 GB
    return Block(case.name, block, answers, [])


def by_blend(answer: Answer, sources: pa.Table, prior: ShapePrior) -> list[Answer]:
    """The shear of the galaxies that were fitted alone, and of those fitted with neighbours."""
    _, blend, size = np.unique(sources["BLEND"], return_inverse=True, return_counts=True)
    has = pa.compute.is_valid(sources["SAMPLE_LOG_WEIGHT"]).to_numpy()
    answers = []
    for name, chosen in (("alone", size[blend] == 1), ("blended", size[blend] > 1)):
        if (has & chosen).any():
            posterior = reinfer(sources.filter(pa.array(chosen)), prior)
            answers.append(with_posterior(answer, posterior, f"marginal_{name}"))
    return answers
