"""From shears that were inferred to biases: g_found = (1 + m) g + x g_other + c, by component.

A block's images have opposite shears, (g, g) and (-g, -g) in even, (g, -g) and (-g, g) in odd
blocks. By least squares over a block, 1 + m_j is the slope of component j as it was found with the
true one, and c_j the mean of what was found. The slope holds the cross response x_j as well, which
has the other sign in odd blocks: it cancels in the mean of as many even as odd blocks, x_j / n is
left of an odd number n, and half the difference of the two kinds is x_j. Errors are those of a
bootstrap over the units of galaxies (`influence`), or over blocks where a method has no influences.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, t

from constellation.validation.records import Block

Floats = NDArray[np.float64]

FEWEST_BLOCKS = 5  # whose scatter is taken for an error
NAMES = ("m1", "m2", "c1", "c2")


@dataclass(frozen=True)
class Measured:
    """Four numbers per block, and by how much each unit of galaxies moves them.

    The numbers are m1, m2, c1 and c2, in this order.
    """

    method: str
    block: NDArray[np.int64]  # (b,)
    values: Floats  # (b, 4)
    moves: dict[int, Floats]  # (u, 4) by block; empty for methods without influences

    @property
    def mean(self) -> Floats:
        """(4,)"""
        return self.values.mean(axis=0)

    def errors(self) -> Floats:
        """Bootstrap errors (4,); NaN where no unit is known and blocks are too few to tell.

        What is drawn again enters linearly, so that infinitely many draws need none. A few blocks
        tell their scatter badly: their errors hold 68 % of Student's distribution.
        """
        if self.moves:
            units, widening = np.concatenate([self.moves[b] for b in self.block]), 1.0
        elif len(self.block) >= FEWEST_BLOCKS:
            units, widening = self.values, t.ppf(norm.cdf(1.0), len(self.block) - 1)
        else:
            return np.full(self.values.shape[1], np.nan)
        n = len(units)
        squares = ((units - units.mean(axis=0)) ** 2).sum(axis=0)
        return widening * np.sqrt(n / max(n - 1, 1) * squares) / len(self.block)

    def minus(self, other: Measured) -> Measured:
        """The difference from another case of the same galaxies, block by block."""
        block = np.intersect1d(self.block, other.block)
        one, two = (np.searchsorted(item.block, block) for item in (self, other))
        moves = {}
        if self.moves and other.moves:
            moves = {int(b): self.moves[b] - other.moves[b] for b in block}
        return Measured(self.method, block, self.values[one] - other.values[two], moves)


def measure(blocks: list[Block], method: str) -> Measured | None:
    """The biases of a method in the blocks of one case; None if no block has it."""
    found = {}
    for item in sorted(blocks, key=lambda block: block.block):
        answers = [answer for answer in item.answers if answer.method == method]
        # a part of which some image has no galaxy: where truths do not cancel, c would enter m
        if answers and np.allclose(np.sum([a.true_shear for a in answers], axis=0), 0.0):
            found[item.block] = _of_block(item, answers, method)
    if not found:
        return None
    moves = {b: moved for b, (_, moved) in found.items() if moved is not None}
    values = np.array([value for value, _ in found.values()])
    return Measured(method, np.array(list(found)), values, moves)


def _of_block(item: Block, answers: list, method: str) -> tuple[Floats, Floats | None]:
    true = np.array([answer.true_shear for answer in answers])
    shear = np.array([answer.shear for answer in answers])
    # least squares of g_found on (g_true, 1), component by component: the truths are balanced
    slope = true / (true**2).sum(axis=0)
    level = np.full(true.shape, 1.0 / len(true))
    value = np.concatenate([(slope * shear).sum(axis=0) - 1.0, (level * shear).sum(axis=0)])
    moved = None
    for row, (g1, g2) in enumerate(true):
        for table in item.influence:
            chosen = (
                (table["METHOD"].to_numpy(zero_copy_only=False) == method)
                & (table["TRUE_G1"].to_numpy() == g1)
                & (table["TRUE_G2"].to_numpy() == g2)
            )
            if not chosen.any():
                continue
            parts = [table[name].to_numpy()[chosen] for name in ("MOVES_G1", "MOVES_G2")]
            both = np.column_stack(parts)
            own = np.hstack([both * slope[row], both * level[row]])
            moved = own if moved is None else moved + own
    return value, moved


def cross_response(measured: Measured) -> Floats:
    """How much of the other component each one takes (2,); needs blocks of both kinds.

    In even blocks the two components of the shear are equal, in odd ones opposite.
    """
    even = measured.block % 2 == 0
    if even.all() or not even.any():
        return np.full(2, np.nan)
    slopes = measured.values[:, :2]
    return 0.5 * (slopes[even].mean(axis=0) - slopes[~even].mean(axis=0))


def psf_leakage(measured: Measured, other: Measured, psf_change: tuple[float, float]) -> Floats:
    """alpha with its error (2,): by how much c follows the PSF's ellipticity."""
    difference = measured.minus(other)
    change = np.array([[0.0, 0.0, *psf_change]]).T
    along = change / (change**2).sum()
    followed = replace(
        difference,
        values=difference.values @ along,
        moves={block: moved @ along for block, moved in difference.moves.items()},
    )
    return np.array([*followed.mean, *followed.errors()])
