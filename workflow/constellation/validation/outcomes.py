"""What a campaign's cases say: biases by method, what they differ by, and limits they break."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from constellation.validation.analysis import (
    NAMES,
    Measured,
    cross_response,
    measure,
    psf_leakage,
)
from constellation.validation.campaign import Campaign, Case
from constellation.validation.coverage import Covered, Ranks, covered, rank_tests
from constellation.validation.peers import METHOD_NAMES as PEER_NAMES
from constellation.validation.records import Block
from shine.errors import InputError, explain

METHODS = (
    "marginal",
    "marginal_inferred",
    "marginal_alone",
    "marginal_blended",
    "marginal_halves",
    "map",
    "vi",
    "nuts",
    *PEER_NAMES,
)
# of what `marginal` measured, in no time of their own
PARTS = ("marginal_alone", "marginal_blended", "marginal_halves")


@dataclass(frozen=True)
class Outcome:
    """A method's figures in one case."""

    case: Case
    measured: Measured
    against: Measured | None  # the same galaxies' difference from `minus`
    numbers: dict[str, Any]  # as in the JSON

    @property
    def minus(self) -> str | None:
        """From what `against` is the difference."""
        if self.measured.method == "marginal_halves":
            return "from all samples"
        return self.case.compared_with


def read_blocks(campaign: Campaign, folder: Path) -> dict[str, list[Block]]:
    """The blocks of all cases, from `{folder}/{case}/{block}.parquet`.

    Raises `InputError` if one is missing.
    """
    found = {}
    for case in campaign.cases:
        paths = [folder / case.name / f"{number}.parquet" for number in range(case.blocks)]
        for path in paths:
            if not path.exists():
                action = "Run `make validate` again: it goes on where it stopped."
                raise InputError(explain(path, "no such file", "a block's result", action))
        found[case.name] = [Block.read(path) for path in paths]
    return found


def outcomes(campaign: Campaign, blocks: dict[str, list[Block]]) -> list[Outcome]:
    """Every case and method, in the campaign's order."""
    found = []
    for case in campaign.cases:
        if case.coverage:
            continue
        for method in METHODS:
            measured = measure(blocks[case.name], method)
            if measured is None:
                continue
            against, leakage = None, None
            if method == "marginal_halves":
                against = measured.minus(measure(blocks[case.name], "marginal"))
            elif case.compared_with is not None:
                reference = campaign.case(case.compared_with)
                other = measure(blocks[reference.name], method)
                if other is not None:
                    against = measured.minus(other)
                    leakage = _leakage(case, reference, (measured, other))
            numbers = _numbers(blocks[case.name], measured) | _differences(against, leakage)
            found.append(Outcome(case, measured, against, numbers))
    return found


def broken_limits(found: list[Outcome]) -> list[str]:
    """What does not keep to its case's limits, a line for each."""
    lines = []
    for item in found:
        limits = item.case.limits.get(item.measured.method)
        if limits is None:
            continue
        name, share = f"{item.case.name}, {item.measured.method}", item.numbers["converged"]
        if share < 1.0:
            lines.append(f"{name}: {share:.0%} of the runs converged, expected all")
        asked = {"m1": limits.m, "m2": limits.m, "c1": limits.c, "c2": limits.c}
        asked |= dict.fromkeys(("position_u_arcsec", "position_v_arcsec"), limits.position_arcsec)
        for number, limit in asked.items():
            if limit is None:
                continue
            value, error = item.numbers[number], item.numbers.get(f"{number}_err") or 0.0
            if not abs(value) <= limit + 3.0 * error:
                lines.append(
                    f"{name}: {number} = {value:+.2g} ± {error:.1g}, expected at most {limit:g} "
                    "and three errors"
                )
    return lines


@dataclass(frozen=True)
class Calibration:
    """How often the intervals of a case's scenes hold the truth, and the ranks of the truths."""

    case: Case
    n_scenes: int
    covered: dict[str, list[Covered]]  # by method
    ranks: dict[str, Ranks]  # by parameter


def calibrations(campaign: Campaign, blocks: dict[str, list[Block]]) -> list[Calibration]:
    """Those of the campaign's coverage cases."""
    found = []
    for case in campaign.cases:
        if not case.coverage:
            continue
        own = blocks[case.name]
        names = {answer.method for block in own for answer in block.answers}
        by_method = {name: covered(own, name) for name in METHODS if name in names}
        n_scenes = sum(answer.method == "marginal" for block in own for answer in block.answers)
        found.append(Calibration(case, n_scenes, by_method, rank_tests(own)))
    return found


def _numbers(blocks: list[Block], measured: Measured) -> dict[str, Any]:
    answers = [a for block in blocks for a in block.answers if a.method == measured.method]
    mean, errors = measured.mean, measured.errors()
    numbers: dict[str, Any] = {}
    for k, name in enumerate(NAMES):
        numbers[name], numbers[f"{name}_err"] = float(mean[k]), _or_none(errors[k])
    cross = cross_response(measured)
    numbers["cross1"], numbers["cross2"] = _or_none(cross[0]), _or_none(cross[1])
    numbers["n_galaxies"] = round(sum(a.n_galaxies for a in answers) / 2)  # once for both shears
    numbers["blocks"] = len(measured.block)
    # the median leaves out the runs that had to compile
    cpu_ms = float(np.median([1e3 * a.cpu_s / a.n_galaxies for a in answers]))
    numbers["cpu_ms_per_galaxy"] = None if measured.method in PARTS else cpu_ms
    numbers["converged"] = float(np.mean([a.converged for a in answers]))
    numbers["settled_galaxies"] = float(np.mean([a.settled_share for a in answers]))
    numbers["chi2_per_pixel"] = _or_none(np.mean([a.chi2_per_pixel for a in answers]))
    if all(a.position_arcsec is not None for a in answers):
        offsets = np.mean([a.position_arcsec for a in answers], axis=0)
        numbers["position_u_arcsec"], numbers["position_v_arcsec"] = map(float, offsets)
        numbers["flux_ratio"] = float(np.mean([a.flux_ratio for a in answers]))
        numbers["size_ratio"] = float(np.mean([a.size_ratio for a in answers]))
    inferred = [a.ellipticity_sigma for a in answers if a.ellipticity_sigma is not None]
    numbers["ellipticity_sigma"] = float(np.mean(inferred)) if inferred else None
    return numbers


def _differences(against: Measured | None, leakage: np.ndarray | None) -> dict[str, Any]:
    if against is None:
        return {}
    mean, errors = against.mean, against.errors()
    numbers = {f"delta_{name}": float(mean[k]) for k, name in enumerate(NAMES)}
    numbers |= {f"delta_{name}_err": _or_none(errors[k]) for k, name in enumerate(NAMES)}
    if leakage is not None:
        numbers |= {"psf_leakage": float(leakage[0]), "psf_leakage_err": _or_none(leakage[1])}
    return numbers


def _leakage(case: Case, reference: Case, pair: tuple[Measured, Measured]) -> np.ndarray | None:
    """How c follows the PSF's ellipticity, where nothing else differs."""
    if case.field is not None or reference.field is not None:
        return None
    own, other = case.scene.psf, reference.scene.psf
    change = own.e1 - other.e1, own.e2 - other.e2
    turned = own.model_copy(update={"e1": other.e1, "e2": other.e2})
    alike = case.scene.model_copy(update={"psf": turned}) == reference.scene
    if not alike or case.shine != reference.shine or change == (0.0, 0.0):
        return None
    return psf_leakage(*pair, change)


def _or_none(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
