"""What each blend says of the shear (`shine.scores`), with its place on the sky."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from constellation.products.frames import great_circles, positions
from constellation.sphere import Floats, Integers, unit_vectors
from shine.reinference import shape_samples
from shine.scores import shape_scores

Complex = NDArray[np.complexfloating]


@dataclass(frozen=True)
class BlendScores:
    """Of b blends: positions in degrees, galaxies, and the terms of g1 + i g2 in their own frames.

    `gradient` is q1 + i q2, `response` half the trace of R: a sum over many has
    g = g0 + sum q / sum R. The rest of R is of spin 4 and averages out, as shapes do.
    """

    ra: Floats
    dec: Floats
    members: Integers
    gradient: Complex
    response: Floats


def blend_scores(
    table: pa.Table,
    ellipticity_sigma: float,
    around: Callable[[Floats, Floats], Complex] | None = None,
) -> BlendScores:
    """The scores of the galaxies in rows of a source table that all have samples.

    `around` gives the shears g0 to expand around at positions, in their own frames; zero without.
    """
    samples = shape_samples(table)
    ra, dec = np.asarray(table["RA"]), np.asarray(table["DEC"])
    blend, members = np.unique(samples.blend, return_inverse=True, return_counts=True)[1:]
    middles = np.zeros((len(members), 3))
    np.add.at(middles, blend, unit_vectors(ra, dec))
    at = positions(middles)
    path = great_circles(ra, dec, at[0][blend], at[1][blend])
    turn = np.where(members[blend] > 1, path.turn, 0.0)
    shear = np.zeros(len(members), complex) if around is None else around(*at)
    scores = shape_scores(
        samples.turned(turn), ellipticity_sigma, np.column_stack([shear.real, shear.imag])
    )
    gradient = scores.gradient[:, 0] + 1j * scores.gradient[:, 1]
    return BlendScores(*at, members, gradient, 0.5 * np.trace(scores.response, axis1=1, axis2=2))
