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
for that by (sum w^2 / (sum w)^2 - 1/K) / 2. Plain NumPy: it needs neither pixels nor JAX.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]

# Steps of finite differences: g1, g2, log sigma; the posterior is smooth on the scale of sigma
_STEP = np.array([3e-3, 3e-3, 2e-2])
_NODES = 5  # Gauss-Hermite nodes per dimension
_LOG_SIGMA_PRIOR_SIGMA = 0.5


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

    def select(self, chosen: NDArray[np.bool_]) -> "ShapeSamples":
        """Some of the galaxies."""
        return ShapeSamples(self.shape[chosen], self.log_weight[chosen], self.blend[chosen])


@dataclass(frozen=True)
class ShearPosterior:
    """The shear of a set of galaxies, marginal over their dispersion."""

    shear: Floats  # (2,) posterior mean of g1, g2
    covariance: Floats  # (2, 2)
    ellipticity_sigma: float  # posterior mean; the given one if it was not inferred
    ellipticity_sigma_err: float  # 0 if it was not inferred
    n_galaxies: int
    _density: "_Posterior"

    def log_density(self, shear: Floats) -> Floats:
        """Log posterior density at shears (..., 2), up to a constant, at the mean dispersion."""
        points = np.reshape(shear, (-1, 2))
        log_sigma = np.log(self.ellipticity_sigma)
        values = [self._density(np.append(g, log_sigma)) for g in points]
        return np.reshape(values, np.shape(shear)[:-1])

    def log_weights(self, samples: ShapeSamples) -> Floats:
        """Log weights (n, K) of samples given the posterior's mean shear and dispersion."""
        log_p = log_population(samples.shape, complex(*self.shear), self.ellipticity_sigma)
        together = np.zeros((int(samples.blend.max()) + 1, log_p.shape[1]))
        np.add.at(together, samples.blend, log_p)
        return samples.log_weight + together[samples.blend]


def infer_shear(samples: ShapeSamples, prior: ShapePrior) -> ShearPosterior:
    """Posterior of the shear that all the galaxies share.

    Mean and covariance by Gauss-Hermite quadrature around the mode. Raises ValueError for no
    galaxy at all.
    """
    if not len(samples.shape):
        raise ValueError("no galaxy to infer a shear from")
    posterior = _Posterior(samples, prior)
    free = slice(0, 3 if prior.infer_sigma else 2)
    start = np.array([0.0, 0.0, np.log(prior.ellipticity_sigma)])

    def full(x: Floats) -> Floats:
        return np.append(x, start[2]) if not prior.infer_sigma else x

    def energy(x: Floats) -> float:
        value = -posterior(full(x))
        return value if np.isfinite(value) else 1e30

    mode = start[free]
    for _ in range(30):
        slope, curvature = _derivatives(energy, mode)
        step = -np.linalg.solve(_made_positive(curvature), slope)
        step /= max(1.0, np.abs(step / np.array([0.1, 0.1, 0.4])[free]).max())
        while energy(mode + step) > energy(mode) + 1e-9 and np.abs(step).max() > 1e-9:
            step = 0.5 * step
        mode = mode + step
        if np.sqrt(step @ curvature @ step) < 1e-3:
            break
    mean, covariance = _moments(energy, mode, _made_positive(_derivatives(energy, mode)[1]))
    sigma, sigma_err = prior.ellipticity_sigma, 0.0
    if prior.infer_sigma:
        sigma = float(np.exp(mean[2] + 0.5 * covariance[2, 2]))
        sigma_err = float(sigma * np.sqrt(covariance[2, 2]))
    return ShearPosterior(
        shear=mean[:2],
        covariance=covariance[:2, :2],
        ellipticity_sigma=sigma,
        ellipticity_sigma_err=sigma_err,
        n_galaxies=len(samples.shape),
        _density=posterior,
    )


def log_population(shape: NDArray[np.complexfloating], shear: complex, sigma: float) -> Floats:
    """log p(s | g, sigma), normalised over the unit disc; -inf outside of it."""
    below = 1.0 - np.conj(shear) * shape
    e2 = np.abs((shape - shear) / below) ** 2
    disc = 2.0 * np.pi * sigma**2 * -np.expm1(-0.5 / sigma**2)
    jacobian = (1.0 - np.abs(shear) ** 2) ** 2 / np.abs(below) ** 4
    with np.errstate(divide="ignore"):
        inside = np.log((e2 < 1.0).astype(float))
    return inside - 0.5 * e2 / sigma**2 + np.log(jacobian / disc)


class _Posterior:
    """The log posterior of (g1, g2, log sigma), up to a constant."""

    def __init__(self, samples: ShapeSamples, prior: ShapePrior) -> None:
        order = np.argsort(samples.blend, kind="stable")
        self._shape = samples.shape[order].astype(np.complex128)
        blend = samples.blend[order]
        self._first = np.flatnonzero(np.append(True, blend[1:] != blend[:-1]))
        log_weight = samples.log_weight[order][self._first].astype(float)
        self._log_weight = log_weight - log_weight.max(axis=1, keepdims=True)
        self._count = np.isfinite(log_weight).sum(axis=1)
        self._prior = prior

    def __call__(self, x: Floats) -> float:
        g1, g2, log_sigma = x
        prior = self._prior
        if g1**2 + g2**2 >= 1.0:
            return -np.inf
        evidence, correction = self._terms(complex(g1, g2), float(np.exp(log_sigma)))
        away = (log_sigma - np.log(prior.ellipticity_sigma)) / _LOG_SIGMA_PRIOR_SIGMA
        size2 = g1**2 + g2**2
        log_prior = -0.5 * size2 / prior.shear_sigma**2 - 2.0 * np.log1p(-size2)
        if prior.infer_sigma:
            log_prior -= 0.5 * away**2
        return float(np.sum(evidence + correction) + log_prior)

    def weights(self, shear: complex, sigma: float) -> Floats:
        """Log weights (blends, K) of the samples given the shear and the population."""
        log_p = log_population(self._shape, shear, sigma)
        return self._log_weight + np.add.reduceat(log_p, self._first, axis=0)

    def _terms(self, shear: complex, sigma: float) -> tuple[Floats, Floats]:
        log_w = self.weights(shear, sigma)
        most = log_w.max(axis=1, keepdims=True)
        w = np.exp(log_w - most)
        total = w.sum(axis=1)
        unevenness = (w**2).sum(axis=1) / total**2
        return np.log(total) + most[:, 0], 0.5 * (unevenness - 1.0 / self._count)


def _derivatives(energy, x: Floats) -> tuple[Floats, Floats]:
    """Gradient and Hessian by central differences."""
    d, step = len(x), _STEP[: len(x)]
    unit = np.diag(step)
    here = energy(x)
    up = np.array([energy(x + unit[i]) for i in range(d)])
    down = np.array([energy(x - unit[i]) for i in range(d)])
    hessian = np.diag((up + down - 2.0 * here) / step**2)
    for i in range(d):
        for j in range(i):
            both = energy(x + unit[i] + unit[j]) - up[i] - up[j] + here
            hessian[i, j] = hessian[j, i] = both / (step[i] * step[j])
    return (up - down) / (2.0 * step), hessian


def _made_positive(matrix: Floats) -> Floats:
    values, vectors = np.linalg.eigh(matrix)
    floor = max(1e-6 * np.abs(values).max(), 1e-12)
    return (vectors * np.maximum(np.abs(values), floor)) @ vectors.T


def _moments(energy, mode: Floats, curvature: Floats) -> tuple[Floats, Floats]:
    """Mean and covariance of exp(-energy) by quadrature in coordinates where it is nearly round."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES)
    root = np.linalg.cholesky(np.linalg.inv(curvature))
    grid = np.array(list(product(nodes, repeat=len(mode))))
    log_weight = np.log([np.prod(w) for w in product(weights, repeat=len(mode))])
    points = mode + grid @ root.T
    log_p = np.array([-energy(point) for point in points])
    log_ratio = log_p + 0.5 * np.sum(grid**2, axis=1) + log_weight
    p = np.exp(log_ratio - log_ratio.max())
    p /= p.sum()
    mean = p @ points
    away = points - mean
    return mean, (away * p[:, None]).T @ away
