"""Galaxies of a known population: shapes as measured, and exactly weighted samples of them."""

from __future__ import annotations

import numpy as np

from shine.population import ShapeSamples

SHEAR = 0.06 - 0.04j
SIGMA = 0.25
NOISE = 0.12  # of a measured shape, each component


def lens(e, shear):
    return (e + shear) / (1.0 + np.conj(shear) * e)


def intrinsic(n, rng):
    """Ellipticities of the truncated Gaussian."""
    e = np.zeros(0, complex)
    while len(e) < n:
        more = SIGMA * (rng.standard_normal(n) + 1j * rng.standard_normal(n))
        e = np.append(e, more[np.abs(more) < 1.0])
    return e[:n]


def measured(n, rng, shear=SHEAR, noise=NOISE):
    """Lensed shapes with Gaussian noise."""
    away = noise * (rng.standard_normal(n) + 1j * rng.standard_normal(n))
    return lens(intrinsic(n, rng), shear) + away


def samples_of(seen, count, rng, noise=NOISE):
    """Exactly weighted samples from a proposal wider than the posterior of a wide population."""
    population_variance, variance = (1.4 * SIGMA) ** 2, noise**2
    shrunk = population_variance / (population_variance + variance)
    width = 1.3 * np.sqrt(shrunk * variance)
    z = rng.standard_normal((len(seen), count)) + 1j * rng.standard_normal((len(seen), count))
    shape = shrunk * seen[:, None] + width * z
    log_weight = 0.5 * np.abs(z) ** 2 - 0.5 * np.abs(shape - seen[:, None]) ** 2 / variance
    return ShapeSamples(shape, log_weight, np.arange(len(seen)))
