"""The population of fluxes and sizes of a scene's galaxies, from samples of each of them.

How many shapes of a faint galaxy the noise allows depends on the fluxes and sizes that it may have:
what is believed of these decides about its shear (docs/validation.md). A catalogue's values are no
such belief, for they were measured on the same sky. So the population is inferred: log flux and log
half-light radius follow a mixture of Gaussians,

    p(ln F, ln r) = sum_j share_j N(ln F, ln r | mean_j, covariance_j)

fitted to noisy galaxies by expectation maximisation (extreme deconvolution: Bovy, Hogg & Roweis
2011, Ann. Appl. Stat. 5, 1657), weighted samples standing for what the pixels say of each galaxy.
A conjugate prior holds every component as if `_BELIEVED` galaxies without noise had been seen in
it, around the mean of all and as wide as the priors around the catalogue's values: so a few
galaxies keep those widths, and galaxies all alike seem to differ by more than they do (by 0.1 in
ln r, if a thousand of S/N 20 differ by 0.05).
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]

_MOST_COMPONENTS, _GALAXIES_EACH = 3, 100
_BELIEVED = 2.0
# Of the log likelihood of all galaxies; the prior's part in what a step gains is too small to count
_MOST_STEPS, _LEAST_GAIN = 200, 0.01


@dataclass(frozen=True)
class FluxSizeSamples:
    """K weighted samples of each of n galaxies."""

    value: Floats  # (n, K, 2) ln flux / uJy, ln half-light radius / arcsec
    log_weight: Floats  # (n, K) free of any prior of these; -inf where padded
    blend: NDArray[np.integer]  # (n,) members of a blend were sampled together: one weight for all


@dataclass(frozen=True)
class FluxSizePopulation:
    """A mixture of J Gaussians in (ln flux / uJy, ln half-light radius / arcsec)."""

    share: Floats  # (J,)
    mean: Floats  # (J, 2)
    covariance: Floats  # (J, 2, 2)

    def log_density(self, value: Floats) -> Floats:
        """Log density (...) at values (..., 2)."""
        terms = self._terms(value.reshape(-1, 2).T)
        return np.logaddexp.reduce(terms, axis=0).reshape(value.shape[:-1])

    def as_dict(self) -> dict[str, list]:
        """For a record in JSON: shares (J,), means (J, 2) and covariances (J, 2, 2)."""
        return {name: values.tolist() for name, values in vars(self).items()}

    def _terms(self, value: Floats) -> Floats:
        """Log share times density of each component: (J, R) at values (2, R)."""
        inverse = np.linalg.inv(self.covariance)
        norm = np.log(self.share) + 0.5 * np.linalg.slogdet(inverse)[1] - np.log(2.0 * np.pi)
        terms = np.empty((len(norm), value.shape[1]))
        for j, ((a, b), (_, c)) in enumerate(inverse):
            x, y = value - self.mean[j][:, None]
            terms[j] = norm[j] - 0.5 * (a * x * x + 2.0 * b * x * y + c * y * y)
        return terms


def infer_population(samples: FluxSizeSamples, width: Floats) -> FluxSizePopulation:
    """The most probable population of all galaxies.

    `width` (2,) is how far ln flux and ln size are believed to scatter before looking. Raises
    ValueError for no galaxy at all.
    """
    n = len(samples.blend)
    if not n:
        raise ValueError("no galaxy to infer a population from")
    rows = _Rows.of(samples)
    weight, _ = rows.normalised(np.zeros(len(rows.sample)))
    galaxy = np.nonzero(np.isfinite(samples.log_weight))[0]
    mean = np.stack([np.bincount(galaxy, weight * v, n) for v in rows.value], axis=1)
    n_components = min(max(n // _GALAXIES_EACH, 1), _MOST_COMPONENTS)
    belief = _Belief(mean.mean(axis=0), np.diag(np.square(width)))
    # from faint to bright
    rank = np.argsort(np.argsort(mean[:, 0], kind="stable")) * n_components // n
    own = np.where(np.arange(n_components)[:, None] == rank[galaxy], weight, 0.0)
    likelihood = -np.inf
    for _ in range(_MOST_STEPS):
        found = _maximised(rows.value, own, belief)
        terms = found._terms(rows.value)
        total = np.logaddexp.reduce(terms, axis=0)
        weight, reached = rows.normalised(total)
        if reached - likelihood < _LEAST_GAIN:
            break
        own, likelihood = np.exp(terms - total) * weight, reached
    return found


class _Belief(NamedTuple):
    mean: Floats  # (2,)
    covariance: Floats  # (2, 2)


class _Rows(NamedTuple):
    """The samples of all galaxies, one after the other: R rows, of which members share S."""

    value: Floats  # (2, R)
    sample: NDArray[np.integer]  # (R,) which of the blends' samples
    log_weight: Floats  # (S,) blend by blend
    first: NDArray[np.integer]  # (b,) the first sample of each blend
    count: NDArray[np.integer]  # (b,)

    @classmethod
    def of(cls, samples: FluxSizeSamples) -> "_Rows":
        real = np.isfinite(samples.log_weight)
        galaxy, column = np.nonzero(real)
        number = samples.blend[galaxy].astype(np.int64) * real.shape[1] + column
        number, at, sample = np.unique(number, return_index=True, return_inverse=True)
        blend = number // real.shape[1]
        first = np.flatnonzero(np.append(True, blend[1:] != blend[:-1]))
        return cls(
            value=samples.value[real].astype(float).T.copy(),
            sample=sample,
            log_weight=samples.log_weight[real][at],
            first=first,
            count=np.diff(np.append(first, len(blend))),
        )

    def normalised(self, log_density: Floats) -> tuple[Floats, float]:
        """Each row's weight (R,) given the galaxies' log densities (R,), and the log likelihood."""
        log_p = self.log_weight + np.bincount(self.sample, log_density, len(self.log_weight))
        top = np.maximum.reduceat(log_p, self.first)
        weight = np.exp(log_p - np.repeat(top, self.count))
        total = np.add.reduceat(weight, self.first)
        weight /= np.repeat(total, self.count)
        return weight[self.sample], float(np.sum(np.log(total) + top))


def _maximised(value: Floats, own: Floats, belief: _Belief) -> FluxSizePopulation:
    """The best mixture if of each sample (2, R) the components have the parts (J, R)."""
    some = own.sum(axis=1) + _BELIEVED
    mean = (own @ value.T + _BELIEVED * belief.mean) / some[:, None]
    covariance = np.empty((len(own), 2, 2))
    for j, part in enumerate(own):
        away, off = value - mean[j][:, None], belief.mean - mean[j]
        believed = _BELIEVED * (belief.covariance + np.outer(off, off))
        covariance[j] = ((part * away) @ away.T + believed) / some[j]
    return FluxSizePopulation(some / some.sum(), mean, covariance)
