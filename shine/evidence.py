"""The evidence of each blend for a shear and a population, from weighted samples of shapes.

Of a blend with samples s_ik of its members i, weights exp(l_k) and the density p(s | g, sigma) of
`shine.population`, the evidence is sum_k w_k with w_k = exp(l_k) prod_i p(s_ik | g, sigma). With
r = |s|^2, t = Re(g* s), G = |g|^2 the intrinsic ellipticity e of an observed shape s has

    |e|^2 = (r - 2t + G) / (1 - 2t + G r),     |e| < 1 exactly where r < 1

so that no evaluation needs complex numbers. Samples are kept in arrays of few different widths, and
read block by block: most of the time of any inference from samples goes here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Integers = NDArray[np.integer]

_LEAST_WIDTH = 16
_BLOCK = 1 << 15  # samples: a few arrays of a block stay in a processor's cache


@dataclass(frozen=True)
class _Block:
    """Blends of about as many samples each: m galaxies in b blends, K samples."""

    s1: Floats  # (m, K)
    s2: Floats
    r: Floats
    first: Integers  # (b,) the first member of each blend; members are next to each other
    members: Integers  # (b,)
    log_weight: Floats  # (b, K), at most 0; -inf where there is no sample or one beyond the disc
    count: Integers  # (b,) samples
    blend: Integers  # (b,) which of all blends

    @property
    def has_blends(self) -> bool:
        return len(self.first) < len(self.s1)

    def per_member(self, values: Floats) -> Floats:
        """(m, 1) from one value for each of all blends."""
        return np.repeat(values[self.blend], self.members)[:, None]


class Evidence:
    """The evidences of b blends; each may be asked for at a shear and dispersion of its own.

    `blend` (n,) says which galaxies share their samples; the blends are numbered by its sorted
    values. `scale` (b,) was taken off the log weights: evidences are relative to it. Raises
    ValueError for a blend without any sample.
    """

    def __init__(self, shape: NDArray[np.complexfloating], log_weight: Floats, blend: Integers):
        order = np.argsort(blend, kind="stable")
        sorted_blend = blend[order]
        first = np.flatnonzero(np.append(True, sorted_blend[1:] != sorted_blend[:-1]))
        self.n_blends = len(first)
        self.members = np.diff(np.append(first, len(order)))
        weights = log_weight[order[first]]
        real = np.isfinite(weights)
        self.count = real.sum(axis=1)
        self.scale = np.max(weights, axis=1, initial=-np.inf, where=real)
        used = weights.shape[1] - np.argmax(real[:, ::-1], axis=1)
        self._blocks = list(self._cut(shape, weights, (order, first), used))
        empty = sum(int(np.isneginf(block.log_weight).all(axis=1).sum()) for block in self._blocks)
        if empty:
            raise ValueError(f"{empty} blends without any sample of a shape within the unit disc")

    def _cut(self, shape, weights, rows, used) -> Iterator[_Block]:
        order, first = rows
        width = np.maximum(_LEAST_WIDTH, 1 << np.ceil(np.log2(used)).astype(int))
        width = np.minimum(width, weights.shape[1])
        for K in np.unique(width):
            chosen = np.flatnonzero(width == K)
            start = np.append(0, np.cumsum(self.members[chosen]))
            most = max(1, _BLOCK // K)
            cuts = np.searchsorted(start, np.arange(0, start[-1], most))
            cuts = np.unique(np.append(cuts, len(chosen)))
            for low, high in pairwise(cuts):
                blend = chosen[low:high]
                members = self.members[blend]
                place = np.cumsum(members) - members
                inside = np.arange(members.sum()) - np.repeat(place, members)
                galaxy = order[np.repeat(first[blend], members) + inside]
                s = shape[galaxy, :K]
                s1, s2 = s.real.astype(float), s.imag.astype(float)
                r = s1 * s1 + s2 * s2
                log_weight = weights[blend, :K] - self.scale[blend][:, None]
                beyond = np.logical_or.reduceat(r >= 1.0, place, axis=0)
                log_weight[beyond] = -np.inf
                # a missing sample counts for nothing, and must not divide by zero
                s1, s2, r = (np.where(r < 1.0, x, 0.0) for x in (s1, s2, r))
                count = self.count[blend]
                yield _Block(s1, s2, r, place, members, log_weight, count, blend)

    def terms(self, shear: Floats, sigma: Floats) -> tuple[Floats, Floats]:
        """Log evidences (b,) at shears (b, 2) and dispersions (b,), and what to add (b,).

        The log of a mean of K weights is low by half its relative variance, which the second
        corrects: (sum w^2 / (sum w)^2 - 1/K) / 2.
        """
        evidence, correction = np.empty(self.n_blends), np.empty(self.n_blends)
        for block in self._blocks:
            total, squares, top = _sums(block, shear, sigma)
            with np.errstate(divide="ignore", invalid="ignore"):
                evidence[block.blend] = np.log(total) + top
                unevenness = squares / total**2
            correction[block.blend] = 0.5 * (unevenness - 1.0 / block.count)
        g2 = np.sum(shear**2, axis=1)
        disc = 2.0 * np.pi * sigma**2 * -np.expm1(-0.5 / sigma**2)
        return evidence + self.members * (2.0 * np.log1p(-g2) - np.log(disc)), correction

    def scores(self, shear: Floats, sigma: Floats) -> tuple[Floats, Floats]:
        """Gradient (b, 2) and minus the Hessian (b, 2, 2) in g of the corrected log evidences."""
        gradient, hessian = np.empty((self.n_blends, 2)), np.empty((self.n_blends, 3))
        for block in self._blocks:
            gradient[block.blend], hessian[block.blend] = _derivatives(block, shear, sigma)
        response = -hessian[:, [0, 1, 1, 2]].reshape(-1, 2, 2)
        # of the factor (1 - |g|^2)^2 of every member
        below = 1.0 - np.sum(shear**2, axis=1)
        members = self.members[:, None]
        gradient -= 4.0 * members * shear / below[:, None]
        outer = shear[:, :, None] * shear[:, None, :] / below[:, None, None] ** 2
        response += members[..., None] * (4.0 * np.eye(2) / below[:, None, None] + 8.0 * outer)
        return gradient, response


def _shape_terms(block: _Block, shear: Floats, sigma: Floats) -> tuple[Floats, Floats, Floats]:
    """Numerator and denominator (m, K) of |e|^2, and the weights' exponent (b, K)."""
    g1, g2 = block.per_member(shear[:, 0]), block.per_member(shear[:, 1])
    size = g1 * g1 + g2 * g2
    twice = (2.0 * g1) * block.s1 + (2.0 * g2) * block.s2
    above = block.r - twice
    above += size
    below = size * block.r
    below -= twice
    below += 1.0
    exponent = above / below
    exponent *= -0.5 / block.per_member(sigma) ** 2
    if block.has_blends:
        exponent = np.add.reduceat(exponent, block.first, axis=0)
    exponent += block.log_weight
    return above, below, exponent


def _sums(block: _Block, shear: Floats, sigma: Floats) -> tuple[Floats, Floats, Floats]:
    """Sums of the weights and of their squares, and the log of their unit, all (b,)."""
    _, below, exponent = _shape_terms(block, shear, sigma)
    top, weight = _weights(block, below, exponent)
    return weight.sum(axis=1), np.einsum("bk,bk->b", weight, weight), top


def _weights(block: _Block, below: Floats, exponent: Floats) -> tuple[Floats, Floats]:
    top = exponent.max(axis=1)
    top = np.where(np.isfinite(top), top, 0.0)
    exponent -= top[:, None]
    weight = np.exp(exponent, out=exponent)
    if block.has_blends:
        below = np.multiply.reduceat(below, block.first, axis=0)
    weight /= below * below
    return top, weight


def _derivatives(block: _Block, shear: Floats, sigma: Floats) -> tuple[Floats, Floats]:
    """Gradient (b, 2) and Hessian (b, 3: 11, 12, 22) but for the factor (1 - |g|^2)^2."""
    above, below, exponent = _shape_terms(block, shear, sigma)
    _, weight = _weights(block, below, exponent)
    weight /= weight.sum(axis=1, keepdims=True)
    half = 0.5 / block.per_member(sigma) ** 2
    ratio = above / below
    slopes, down, fall = [], [], []
    for g, s in ((shear[:, 0], block.s1), (shear[:, 1], block.s2)):
        g = block.per_member(g)  # noqa: PLW2901
        d_below = 2.0 * (g * block.r - s)
        d_ratio = (2.0 * (g - s) - ratio * d_below) / below
        slopes.append(-half * d_ratio - 2.0 * d_below / below)
        down.append(d_below / below)
        fall.append(d_ratio)
    bends = []
    for a, b in ((0, 0), (0, 1), (1, 1)):
        straight = 2.0 if a == b else 0.0  # of the numerator; of the denominator r times that
        d2_below = straight * block.r / below
        d2_ratio = straight / below - fall[a] * down[b] - fall[b] * down[a] - ratio * d2_below
        bends.append(-half * d2_ratio - 2.0 * (d2_below - down[a] * down[b]))
    if block.has_blends:
        slopes = [np.add.reduceat(x, block.first, axis=0) for x in slopes]
        bends = [np.add.reduceat(x, block.first, axis=0) for x in bends]
    return _of_log_mean(weight, slopes, bends)


def _of_log_mean(
    weight: Floats, slopes: list[Floats], bends: list[Floats]
) -> tuple[Floats, Floats]:
    """Derivatives of log sum w + (sum w^2 / (sum w)^2) / 2 from those of log w (b, K)."""
    mean = [np.einsum("bk,bk->b", weight, x) for x in slopes]
    away = [x - m[:, None] for x, m in zip(slopes, mean, strict=True)]
    square = weight * weight
    gradient = [m + np.einsum("bk,bk->b", square, x) for m, x in zip(mean, away, strict=True)]
    hessian = []
    for bend, (a, b) in zip(bends, ((0, 0), (0, 1), (1, 1)), strict=True):
        both = away[a] * away[b]
        plain = np.einsum("bk,bk->b", weight, bend + both)
        more = np.einsum("bk,bk->b", square, 2.0 * both + bend - plain[:, None])
        hessian.append(plain + more)
    return np.stack(gradient, axis=1), np.stack(hessian, axis=1)
