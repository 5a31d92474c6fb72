"""Errors, statuses and flags: what can go wrong, sorted by what the operator should do about it.

Only the command line turns an error into an exit code; everything else raises.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Any, Protocol, Self

INTERRUPTED_EXIT_CODE = 130


class ShineError(Exception):
    """Base of the errors that shine raises on purpose; `exit_code` is the process's exit status."""

    exit_code = 1


class ConfigurationError(ShineError):
    """The configuration is wrong: correct it; running again unchanged cannot help."""

    exit_code = 2


class InputError(ShineError):
    """An input file is missing, damaged or lacks something required: fetch or repair it."""

    exit_code = 3


class ConvergenceError(ShineError):
    """The fit did not converge: the result is written and flagged; look at its diagnostics."""

    exit_code = 4


class MemoryExhaustedError(ShineError):
    """Memory ran out: run again with more of it, or with smaller sub-tiles."""

    exit_code = 5


class ResultError(ShineError):
    """A result breaks its own schema: a mistake in the code, never in the input."""


def explain(where: object, found: str, expected: str, action: str) -> str:
    """Compose an error message: `where` names the file and the HDU, column or key."""
    return f"{where}: found {found}, expected {expected}. {action}"


class _ValidationError(Protocol):
    """The part of pydantic's ValidationError that matters here (keeps this module light)."""

    def errors(self) -> list[Any]: ...


def list_problems(validation_error: _ValidationError) -> str:
    """Return what pydantic found wrong: `key: problem (found ...)`, joined by `; `."""
    problems = []
    for error in validation_error.errors():
        key = ".".join(str(part) for part in error["loc"]) or "top level"
        if error["type"] == "extra_forbidden":
            problems.append(f"{key}: unknown key")
        elif error["type"] == "missing":
            problems.append(f"{key}: required key is missing")
        elif error["type"] == "secret":
            problems.append(f"{key}: {error['msg']}")
        else:
            found = repr(error["input"])
            shown = found if len(found) <= 80 else found[:77] + "..."
            problems.append(f"{key}: {error['msg']} (found {shown})")
    return "; ".join(problems)


class Status(IntEnum):
    """What became of a sub-tile (column STATUS); starts at NOT_ATTEMPTED."""

    meaning: str

    def __new__(cls, value: int, meaning: str) -> Self:
        member = int.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member

    NOT_ATTEMPTED = 0, "inference has not run"
    OK = 1, "shear inferred and converged"
    NO_SOURCES = 2, "no usable galaxy in the core area"
    NO_QUADRANTS = 3, "no detector quadrant sees the sub-tile"
    NOT_CONVERGED = 4, "inference stopped before it converged"
    FAILED = 5, "inference failed; the log says why"


class MeaningfulFlag(IntFlag):
    """An IntFlag whose members each carry a one-line English `meaning`."""

    meaning: str

    def __new__(cls, value: int, meaning: str) -> Self:
        member = int.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member


class SubtileFlag(MeaningfulFlag):
    """What to know about a sub-tile's result (column FLAGS of the shear row)."""

    CORE_SOURCES_DROPPED = 1 << 0, "some core sources are not modelled; their flags say why"
    CORE_SOURCES_UNSEEN = 1 << 1, "some selected core galaxies have no usable pixel"
    QUADRANTS_UNUSED = 1 << 2, "some listed quadrants overlap no source"
    SINGLE_EXPOSURE = 1 << 3, "all pixels come from one exposure"
    NOT_CONVERGED = 1 << 4, "the convergence criterion was not met"
    SINGULAR_CURVATURE = 1 << 5, "the curvature at the mode is not positive definite: no errors"
    POOR_FIT = 1 << 6, "chi2 per pixel around the galaxies is far from one"


class Kind(IntEnum):
    """How a source enters the model (column KIND of the source rows)."""

    GALAXY = 0  # selected: carries the shear
    NUISANCE = 1  # a galaxy that is not selected: modelled, carries no shear
    STAR = 2  # point-like: modelled


class SourceFlag(MeaningfulFlag):
    """What to know about a source (column FLAGS of the source rows)."""

    NOT_OBSERVED = 1 << 0, "no unmasked pixel in any quadrant"
    BAD_POSITION = 1 << 1, "the catalogue's position is not finite"
    BAD_FLUX = 1 << 2, "the catalogue's flux is not finite or not positive"
    NOT_VIS_DETECTED = 1 << 3, "not detected in VIS"
    SPURIOUS = 1 << 4, "spurious by the catalogue's flag or probability"
    POINT_LIKE = 1 << 5, "point-like: modelled as a star"
    SATURATED = 1 << 6, "saturated"
    MASKED = 1 << 7, "its pixels are masked, it is not modelled"
    QUALITY_EXCLUDED = 1 << 8, "excluded by DET_QUALITY_FLAG: modelled, carries no shear"
    LOW_SNR = 1 << 9, "signal-to-noise below the selection: modelled, carries no shear"
    TOO_SMALL = 1 << 10, "smaller than the selection: modelled, carries no shear"
    SIZE_UNKNOWN = 1 << 11, "no measured size: the fit starts from a default one"
    SIZE_FLOORED = 1 << 12, "unresolved size: the fit starts from the smallest one"
    CONTAMINATED = 1 << 13, "the catalogue warns of a neighbour or of bad pixels"
    BLENDED = 1 << 14, "blended by the catalogue's flag"
    NOT_CONVERGED = 1 << 15, "its parameters had not converged"
    AT_BOUND = 1 << 16, "a parameter lies at the bound of its range"
    SINGULAR_CURVATURE = 1 << 17, "no error could be derived from the curvature"
    NEAR_NEIGHBOUR = 1 << 18, "too large a blend: a near neighbour is fitted apart from it"
    POOR_FIT = 1 << 19, "chi2 of its pixels is far from their number"
    SHORT_CHAIN = 1 << 20, "its samples are those of a short Markov chain"
    BAD_PSF = 1 << 21, "in some quadrant a PSF stamp near it is broken: not fitted there"
    NO_SERSIC_FIT = 1 << 22, "not in the morphology catalogue: the fit starts from moments"


def meanings(flags: MeaningfulFlag) -> list[str]:
    """Return the one-line meaning of each bit set in `flags`, lowest bit first."""
    return [member.meaning for member in type(flags) if member in flags]
