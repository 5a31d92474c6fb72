"""One block of a case measured by other codes: the images that shine gets, drawn once more."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

import numpy as np
import pyarrow as pa

from constellation.validation.campaign import Campaign, Case
from constellation.validation.drawing.scene import GridScene
from constellation.validation.peers.estimate import Shapes
from constellation.validation.peers.told import Told
from constellation.validation.records import Answer, Block
from constellation.validation.shears import shears
from shine.errors import ConfigurationError, ConvergenceError, explain


def run_peers(campaign: Campaign, case: Case, block: int) -> Block:
    """Ask all of a case's `peers` about a block's images, which have opposite shears.

    Raises `ConfigurationError` if a code is not installed, if none is asked for, or if the images
    are not of isolated galaxies with a formula; `ConvergenceError` if a code measures no galaxy.
    """
    _check(case)
    codes = [_code(name) for name in case.peers]
    scene = GridScene(case.scene, campaign.seed, block)
    told = Told(scene)
    answers, influence = [], []
    for shear in shears(case.scene.shear, block):
        image = scene.draw(shear)
        for code in codes:
            for shapes in code.measure(told, image):
                if not shapes.settled.any():
                    raise ConvergenceError(
                        explain(
                            f"case {case.name}, block {block}, shear {shear}",
                            f"no galaxy measured by {shapes.method}",
                            "at least one",
                            "Look at the case's scene, or take the code out of its `peers`.",
                        )
                    )
                answer, moves = _answer(shapes, scene.unit, shear)
                answers.append(answer)
                influence.append(moves)
    return Block(case.name, block, answers, influence)


def _check(case: Case) -> None:
    """Refuse what `GridScene` under opposite shears would not draw as the case's own road does."""
    refused = {
        "no `peers`": not case.peers,
        "`field`": case.field is not None,
        "`coverage`": case.coverage is not None,
        "`profile: real`": case.scene.galaxies.profile == "real",
    }
    found = [name for name, is_so in refused.items() if is_so]
    if found:
        raise ConfigurationError(
            explain(
                f"case {case.name}",
                " and ".join(found),
                "`peers` and isolated galaxies with a formula, under opposite shears",
                "Give `peers` to such a case.",
            )
        )


def _code(name: str) -> ModuleType:
    try:
        return import_module(f"constellation.validation.peers.with_{name}")
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        action = "Install it: `make validate-peers` does it."
        raise ConfigurationError(
            explain("other codes", f"no module {name}", "the group `peers`", action)
        ) from error


def _answer(shapes: Shapes, unit: int, true_shear: tuple[float, float]) -> tuple[Answer, pa.Table]:
    shear, moved = shapes.shear()
    moved = moved.reshape(-1, unit).sum(axis=1)
    by_component = np.stack([moved.real, moved.imag])
    covariance = by_component @ by_component.T
    answer = Answer(
        method=shapes.method,
        true_shear=true_shear,
        shear=(shear.real, shear.imag),
        covariance=(float(covariance[0, 0]), float(covariance[0, 1]), float(covariance[1, 1])),
        ellipticity_sigma=None,
        n_galaxies=int(shapes.settled.sum()),
        converged=bool(shapes.settled.all()),
        settled_share=float(shapes.settled.mean()),
        chi2_per_pixel=shapes.chi2_per_pixel,
        cpu_s=shapes.cpu_s,
    )
    table = pa.table(
        {
            "METHOD": [shapes.method] * len(moved),
            "TRUE_G1": np.full(len(moved), true_shear[0]),
            "TRUE_G2": np.full(len(moved), true_shear[1]),
            "MOVES_G1": moved.real,
            "MOVES_G2": moved.imag,
        }
    )
    return answer, table
