"""The shear of a set of galaxies from samples of their observed shapes.

The intrinsic ellipticities follow p(e | sigma) ~ exp(-|e|^2 / 2 sigma^2) in the unit disc, so that
an observed shape s has the density p(s | g, sigma) = p(e(s)) |de/ds| with e = (s - g)/(1 - g* s),
|de/ds| = (1 - |g|^2)^2 / |1 - g* s|^4. With weighted samples s_ik of what the pixels say of each
galaxy (`shine.importance`) the posterior is

    p(g, sigma | D) ~ p(g) p(sigma) prod_i sum_k exp(l_ik) p(s_ik | g, sigma)

(members of a blend share their samples: the product over them stands inside the sum). The prior
is p(g) ~ exp(-|g|^2 / 2 sigma_g^2) / (1 - |g|^2)^2: lensing moves shapes rigidly in the disc's
hyperbolic geometry, whose area d^2g / (1 - |g|^2)^2 no shear changes (the group's invariant
measure; Jaynes 1968). So the posterior's mean is unbiased for any number of galaxies; under a prior
flat in d^2g it is 4 error^2 too small, 0.25 % for a hundred galaxies.

The log of a mean of K weights is low by half its relative variance; each blend's term is corrected
for that by (sum w^2 / (sum w)^2 - 1/K) / 2 (`shine.evidence`). Plain NumPy: it needs neither
pixels nor JAX.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from shine.evidence import Evidence

Floats = NDArray[np.floating]

# Steps of finite differences: g1, g2, log sigma; the posterior is smooth on the scale of sigma
_STEP = np.array([3e-3, 3e-3, 2e-2])
_NODES = 5  # Gauss-Hermite nodes per dimension
_LOG_SIGMA_PRIOR_SIGMA = 0.5
_MOST_SAMPLES = 1 << 22  # of groups that are inferred side by side: 130 MB


@dataclass(frozen=True)
class ShapePrior:
    """What is believed of the shear and the population before looking."""

    ellipticity_sigma: float  # dispersion of each component of the intrinsic ellipticity
    infer_sigma: bool = True  # whether it is inferred with the shear; then this is a first guess
    shear_sigma: float = 3.0  # of a Gaussian on each component of g, by invariant area


@dataclass(frozen=True)
class ShapeSamples:
    """K weighted samples of the observed shape of each of n galaxies."""

    shape: NDArray[np.complexfloating]  # (n, K) s1 + i s2
    log_weight: Floats  # (n, K) l_ik; -inf where padded. Members of a blend have the same
    blend: NDArray[np.integer]  # (n,) galaxies of equal numbers were sampled together

    def select(self, chosen: NDArray[np.bool_ | np.integer]) -> "ShapeSamples":
        """Some of the galaxies."""
        return ShapeSamples(self.shape[chosen], self.log_weight[chosen], self.blend[chosen])

    def turned(self, angle_rad: Floats) -> "ShapeSamples":
        """The shapes in frames whose axes are turned by -angle (n,): directions grow by angle."""
        turn = np.exp(2j * np.asarray(angle_rad))[:, None]
        return ShapeSamples(self.shape * turn, self.log_weight, self.blend)


@dataclass(frozen=True)
class ShearPosterior:
    """The shear of a set of galaxies, marginal over their dispersion."""

    shear: Floats  # (2,) posterior mean of g1, g2
    covariance: Floats  # (2, 2)
    ellipticity_sigma: float  # posterior mean; the given one if it was not inferred
    ellipticity_sigma_err: float  # 0 if it was not inferred
    n_galaxies: int
    _samples: ShapeSamples
    _prior: ShapePrior

    def log_density(self, shear: Floats) -> Floats:
        """Log posterior density at shears (..., 2), up to a constant, at the mean dispersion."""
        density = _Posterior(self._samples, np.zeros(self.n_galaxies, int), self._prior)
        log_sigma = np.log(self.ellipticity_sigma)
        points = np.reshape(shear, (-1, 2))
        values = [density(np.append(g, log_sigma)[None])[0] for g in points]
        return np.reshape(values, np.shape(shear)[:-1])

    def log_weights(self, samples: ShapeSamples) -> Floats:
        """Log weights (n, K) of samples given the posterior's mean shear and dispersion."""
        log_p = log_population(samples.shape, complex(*self.shear), self.ellipticity_sigma)
        return samples.log_weight + over_members(log_p, samples.blend)

    def weights(self, samples: ShapeSamples) -> Floats:
        """The same as weights of sum 1 for each galaxy."""
        return softmax(self.log_weights(samples), axis=1)


@dataclass(frozen=True)
class GroupShears:
    """The shears of G groups of galaxies, sorted by their labels; as in `ShearPosterior`."""

    label: NDArray  # (G,)
    shear: Floats  # (G, 2)
    covariance: Floats  # (G, 2, 2)
    ellipticity_sigma: Floats  # (G,)
    ellipticity_sigma_err: Floats  # (G,)
    n_galaxies: NDArray[np.integer]  # (G,)


def infer_shear(samples: ShapeSamples, prior: ShapePrior) -> ShearPosterior:
    """Posterior of the shear that all the galaxies share.

    Mean and covariance by Gauss-Hermite quadrature around the mode. Raises ValueError for no
    galaxy at all.
    """
    if not len(samples.shape):
        raise ValueError("no galaxy to infer a shear from")
    found = infer_groups(samples, np.zeros(len(samples.shape), int), prior)
    return ShearPosterior(
        shear=found.shear[0],
        covariance=found.covariance[0],
        ellipticity_sigma=float(found.ellipticity_sigma[0]),
        ellipticity_sigma_err=float(found.ellipticity_sigma_err[0]),
        n_galaxies=len(samples.shape),
        _samples=samples,
        _prior=prior,
    )


def infer_groups(samples: ShapeSamples, label: NDArray, prior: ShapePrior) -> GroupShears:
    """`infer_shear` for all galaxies of one label (n,), for each label there is.

    Many groups are inferred side by side; the answer for one does not depend on the others. Of a
    blend that is divided between groups each takes the samples for its own members.
    """
    values, group = np.unique(label, return_inverse=True)
    order = np.argsort(group, kind="stable")
    first = np.searchsorted(group[order], np.arange(len(values) + 1))
    most_rows = max(_MOST_SAMPLES // samples.shape.shape[1], 1)
    parts, low = [], 0
    while low < len(values):
        high = np.searchsorted(first, first[low] + most_rows, "right")
        high = min(max(int(high) - 1, low + 1), len(values))
        rows = order[first[low] : first[high]]
        parts.append(_infer(samples.select(rows), group[rows] - low, prior))
        low = high
    shear, covariance, sigma, sigma_err = (np.concatenate(x) for x in zip(*parts, strict=True))
    return GroupShears(values, shear, covariance, sigma, sigma_err, np.diff(first))


def log_population(shape: NDArray[np.complexfloating], shear: complex, sigma: float) -> Floats:
    """log p(s | g, sigma), normalised over the unit disc; -inf outside of it."""
    below = 1.0 - np.conj(shear) * shape
    e2 = np.abs((shape - shear) / below) ** 2
    disc = 2.0 * np.pi * sigma**2 * -np.expm1(-0.5 / sigma**2)
    jacobian = (1.0 - np.abs(shear) ** 2) ** 2 / np.abs(below) ** 4
    with np.errstate(divide="ignore"):
        inside = np.log((e2 < 1.0).astype(float))
    return inside - 0.5 * e2 / sigma**2 + np.log(jacobian / disc)


def over_members(values: Floats, blend: NDArray[np.integer]) -> Floats:
    """The sum (n, K) of values (n, K) over all members of each galaxy's blend."""
    together = np.zeros((int(blend.max(initial=-1)) + 1, values.shape[1]))
    np.add.at(together, blend, values)
    return together[blend]


class _Posterior:
    """The log posteriors of (g1, g2, log sigma) of G groups, each up to a constant."""

    def __init__(
        self, samples: ShapeSamples, group: NDArray[np.integer], prior: ShapePrior
    ) -> None:
        # blends in the order of their groups, so that a group's are next to each other
        pairs = group.astype(np.int64) * (int(samples.blend.max()) + 1) + samples.blend
        which, blend = np.unique(pairs, return_inverse=True)
        self.evidence = Evidence(samples.shape, samples.log_weight, blend)
        self._group = which // (int(samples.blend.max()) + 1)
        self.n_groups = int(self._group[-1]) + 1
        self._first = np.searchsorted(self._group, np.arange(self.n_groups))
        self._prior = prior

    def __call__(self, x: Floats) -> Floats:
        """(G,) at points (G, 3); -inf where |g| is not below 1."""
        prior = self._prior
        within = np.sum(x[:, :2] ** 2, axis=1) < 1.0
        shear = np.where(within[:, None], x[:, :2], 0.0)
        size = np.sum(shear**2, axis=1)
        sigma = np.exp(x[:, 2])
        evidence, correction = self.evidence.terms(shear[self._group], sigma[self._group])
        away = (x[:, 2] - np.log(prior.ellipticity_sigma)) / _LOG_SIGMA_PRIOR_SIGMA
        log_prior = -0.5 * size / prior.shear_sigma**2 - 2.0 * np.log1p(-size)
        if prior.infer_sigma:
            log_prior -= 0.5 * away**2
        value = np.add.reduceat(evidence + correction, self._first) + log_prior
        return np.where(within, value, -np.inf)


def _infer(samples: ShapeSamples, group: NDArray[np.integer], prior: ShapePrior):
    """Shears (G, 2), covariances (G, 2, 2), dispersions (G,) and their errors (G,)."""
    posterior = _Posterior(samples, group, prior)
    free = 3 if prior.infer_sigma else 2
    n, log_sigma = posterior.n_groups, np.log(prior.ellipticity_sigma)

    def energy(x: Floats) -> Floats:
        full = x if prior.infer_sigma else np.column_stack([x, np.full(n, log_sigma)])
        value = -posterior(full)
        return np.where(np.isfinite(value), value, 1e30)

    mode = np.tile(np.array([0.0, 0.0, log_sigma])[:free], (n, 1))
    moving = np.ones(n, bool)
    for _ in range(30):
        slope, curvature = _derivatives(energy, mode)
        step = -np.linalg.solve(_made_positive(curvature), slope[..., None])[..., 0]
        size = np.abs(step / np.array([0.1, 0.1, 0.4])[:free]).max(axis=1, keepdims=True)
        step = np.where(moving[:, None], step / np.maximum(1.0, size), 0.0)
        step = _shortened(energy, mode, step)
        mode = mode + step
        moving &= np.sqrt(np.abs(np.einsum("gi,gij,gj->g", step, curvature, step))) >= 1e-3
        if not moving.any():
            break
    mean, covariance = _moments(energy, mode, _made_positive(_derivatives(energy, mode)[1]))
    sigma, sigma_err = np.full(n, prior.ellipticity_sigma), np.zeros(n)
    if prior.infer_sigma:
        sigma = np.exp(mean[:, 2] + 0.5 * covariance[:, 2, 2])
        sigma_err = sigma * np.sqrt(covariance[:, 2, 2])
    return mean[:, :2], covariance[:, :2, :2], sigma, sigma_err


_Energy = Callable[[Floats], Floats]


def _shortened(energy: _Energy, mode: Floats, step: Floats) -> Floats:
    """Steps (G, d) halved until none goes uphill."""
    here = energy(mode)
    while True:
        uphill = (energy(mode + step) > here + 1e-9) & (np.abs(step).max(axis=1) > 1e-9)
        if not uphill.any():
            return step
        step = np.where(uphill[:, None], 0.5 * step, step)


def _derivatives(energy: _Energy, x: Floats) -> tuple[Floats, Floats]:
    """Gradients (G, d) and Hessians (G, d, d) by central differences."""
    d = x.shape[1]
    step = _STEP[:d]
    unit = np.diag(step)
    here = energy(x)
    up = np.array([energy(x + unit[i]) for i in range(d)]).T
    down = np.array([energy(x - unit[i]) for i in range(d)]).T
    hessian = np.zeros((len(x), d, d))
    for i in range(d):
        hessian[:, i, i] = (up[:, i] + down[:, i] - 2.0 * here) / step[i] ** 2
        for j in range(i):
            both = energy(x + unit[i] + unit[j]) - up[:, i] - up[:, j] + here
            hessian[:, i, j] = hessian[:, j, i] = both / (step[i] * step[j])
    return (up - down) / (2.0 * step), hessian


def _made_positive(matrix: Floats) -> Floats:
    values, vectors = np.linalg.eigh(matrix)
    size = np.abs(values)
    floor = np.maximum(1e-6 * size.max(axis=-1, keepdims=True), 1e-12)
    return (vectors * np.maximum(size, floor)[..., None, :]) @ np.swapaxes(vectors, -1, -2)


def _moments(energy: _Energy, mode: Floats, curvature: Floats) -> tuple[Floats, Floats]:
    """Mean and covariance of exp(-energy) by quadrature in coordinates where it is nearly round."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES)
    root = np.linalg.cholesky(np.linalg.inv(curvature))
    d = mode.shape[1]
    grid = np.array(list(product(nodes, repeat=d)))
    log_weight = np.log([np.prod(w) for w in product(weights, repeat=d)])
    points = mode + np.einsum("gij,qj->qgi", root, grid)
    log_p = np.array([-energy(point) for point in points])
    log_ratio = log_p + (0.5 * np.sum(grid**2, axis=1) + log_weight)[:, None]
    p = np.exp(log_ratio - log_ratio.max(axis=0))
    p /= p.sum(axis=0)
    mean = np.einsum("qg,qgi->gi", p, points)
    away = points - mean
    return mean, np.einsum("qg,qgi,qgj->gij", p, away, away)
