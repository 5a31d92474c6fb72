"""The campaign's figures as tables in Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from constellation.validation.analysis import NAMES
from constellation.validation.outcomes import Outcome
from constellation.validation.peers import METHOD_NAMES as PEER_NAMES

if TYPE_CHECKING:
    from constellation.validation.report import Report

METHOD_NAMES = {
    "marginal": "marginal, dispersion given",
    "marginal_inferred": "marginal, dispersion inferred",
    "marginal_alone": "marginal, galaxies fitted alone",
    "marginal_blended": "marginal, galaxies fitted with neighbours",
    "marginal_halves": "marginal, from half of the samples",
}
LEVELS = {
    0: "noiseless single galaxies",
    1: "isolated galaxies of one kind",
    2: "isolated galaxies of a deep survey",
    3: "full scenes",
    4: "galaxies that are not what the model says",
}


def markdown(report: Report) -> str:
    """Tables of all figures, level by level; m in 10^-3, c in 10^-4."""
    found, command = report.outcomes, report.command
    lines = [
        f"Made by `{command}`. Errors are those of a bootstrap over units of galaxies, or over "
        "blocks of full scenes and of half of the samples; where blocks are too few for it, none "
        "is given: such figures say little. m is in 10⁻³, c in 10⁻⁴; galaxies are counted once for "
        "both shears of a pair, in full scenes once for each turn; ms is the processor time of a "
        "galaxy in one image, converged the share of galaxies whose fit did. m from n blocks, n "
        "odd, holds 1/n of the cross response, a third of what m1 and m2 differ by where it is the "
        "pixels' axes that decide; so do differences. As many blocks run at a time as there are "
        f"cores; they took {report.cost.wall_s / 60:.1f} minutes one with another, and "
        f"{report.cost.processor_s / 60:.1f} minutes of processor time.",
    ]
    for level in sorted({item.case.level for item in found}):
        lines += ["", f"**Level {level}: {LEVELS[level]}**", ""]
        lines += ["| case | method | galaxies | m1 | m2 | c1 | c2 | ms | converged |"]
        lines += ["|---|---|---|---|---|---|---|---|---|"]
        lines += [_row(item) for item in found if item.case.level == level]
    compared = [item for item in found if item.against is not None]
    if compared:
        lines += ["", "**Differences between cases of the same galaxies and noise**", ""]
        lines += ["| case | minus | method | Δm1 | Δm2 | Δc1 | Δc2 | PSF leakage α |"]
        lines += ["|---|---|---|---|---|---|---|---|"]
        lines += [_difference_row(item) for item in compared]
    if report.peers:
        lines += ["", "**Other codes on the same images** (s: processor time of a galaxy)", ""]
        lines += ["| case | code | galaxies | m1 | m2 | c1 | c2 | s |"]
        lines += ["|---|---|---|---|---|---|---|---|"]
        lines += [_peer_row(item) for item in report.peers]
    for item in report.calibrations:
        lines += ["", f"**Coverage: {item.case.shows}** ({item.n_scenes} scenes)", ""]
        lines += ["| method | interval | promised | found |", "|---|---|---|---|"]
        for name, levels in item.covered.items():
            lines += [
                f"| {METHOD_NAMES.get(name, name)} | {level.level} % | {level.promised:.3f} | "
                f"{level.found:.3f} ± {level.error:.3f} |"
                for level in levels
            ]
        lines += ["", "Ranks of the truth in its posterior, and the mean and the variance of their"]
        lines += ["Gaussian deviates. Those of flux and size take posteriors for Gaussian: their"]
        lines += [
            "skewness makes the histogram uneven, and leaves mean and variance as they are.",
            "",
        ]
        lines += ["| ranks of | mean | variance | chance of a histogram as uneven |"]
        lines += ["|---|---|---|---|"]
        lines += [
            f"| {name} | {ranks.mean:+.3f} ± {ranks.mean_err:.3f} | {ranks.variance:.3f} ± "
            f"{ranks.variance_err:.3f} | {ranks.chance:.1g} |"
            for name, ranks in item.ranks.items()
        ]
    return "\n".join(lines) + "\n"


def _row(item: Outcome) -> str:
    numbers = item.numbers
    cells = [_with_error(numbers, name) for name in NAMES]
    method = METHOD_NAMES.get(item.measured.method, item.measured.method)
    ms = numbers["cpu_ms_per_galaxy"]
    return (
        f"| {item.case.shows} | {method} | {numbers['n_galaxies']:,} | {' | '.join(cells)} | "
        f"{'' if ms is None else f'{ms:.1f}'} | {100 * numbers['settled_galaxies']:.1f} % |"
    )


def _difference_row(item: Outcome) -> str:
    cells = [_with_error(item.numbers, f"delta_{name}") for name in NAMES]
    method = METHOD_NAMES.get(item.measured.method, item.measured.method)
    leakage = ""
    if item.numbers.get("psf_leakage_err") is not None:
        leakage = f"{item.numbers['psf_leakage']:+.1e} ± {item.numbers['psf_leakage_err']:.0e}"
    return f"| {item.case.shows} | {item.minus} | {method} | {' | '.join(cells)} | {leakage} |"


def _peer_row(item: Outcome) -> str:
    method, numbers = item.measured.method, item.numbers
    code = PEER_NAMES.get(method) or f"shine, {METHOD_NAMES.get(method, method)}"
    cells = [_with_error(numbers, name) for name in NAMES]
    return (
        f"| {item.case.shows} | {code} | {numbers['n_galaxies']:,} | {' | '.join(cells)} | "
        f"{1e-3 * numbers['cpu_ms_per_galaxy']:.2g} |"
    )


def _with_error(numbers: dict[str, Any], name: str) -> str:
    scale = 1e3 if name.rsplit("_", maxsplit=1)[-1].startswith("m") else 1e4
    error = numbers[f"{name}_err"]
    value = f"{scale * numbers[name]:+.2f}"
    return value if error is None else f"{value} ± {scale * error:.2f}"
