"""Simulation-based calibration: the ranks of truths within their posteriors.

If the truth is drawn from the priors that the inference believes in, its rank within a posterior is
uniform (Talts et al. 2018). Ranks are between 0 and 1: of observed shapes among the weighted
samples, of flux and size by their mean and error, which is all that is stored, as if they were
Gaussian.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from scipy.special import logsumexp, stdtr

from constellation.validation.records import Answer
from constellation.validation.truth import Truth
from shine.population import log_population
from shine.reinference import shape_samples


def posterior_ranks(
    sources: pa.Table, truth: Truth, answer: Answer, rng: np.random.Generator
) -> dict[str, list[float]]:
    """Ranks (n,) of the truth in each galaxy's posterior, given the shear that was found.

    `rng` breaks the ties of truths between the same two samples.
    """
    table = sources.filter(pa.compute.is_valid(sources["SAMPLE_LOG_WEIGHT"]))
    true = truth.galaxies[truth.rows(table["OBJECT_ID"].to_numpy())]
    samples = shape_samples(table)
    sigma = float(truth.ellipticity_sigma)
    shape = samples.shape
    log_w = samples.log_weight + log_population(shape, complex(*answer.shear), sigma)
    weight = np.exp(log_w - logsumexp(log_w, axis=1, keepdims=True))
    g, e = complex(*answer.true_shear), true.e1 + 1j * true.e2
    lensed = (e + g) / (1.0 + np.conj(g) * e)
    effective = np.maximum(1.0 / np.sum(weight**2, axis=1), 2.0)
    ranks = {}
    for name, drawn, value in (
        ("s1", shape.real, lensed.real),
        ("s2", shape.imag, lensed.imag),
    ):
        below = effective * (weight * (drawn < value[:, None])).sum(axis=1)
        # K samples leave K + 1 places for the truth
        ranks[name] = (below + rng.uniform(size=len(below))) / (effective + 1.0)
    for name, column, value in (
        ("flux", "FLUX", true.flux_ujy),
        ("size", "HALF_LIGHT_RADIUS", true.hlr_arcsec),
    ):
        mean, error = table[column].to_numpy(), table[f"{column}_ERR"].to_numpy()
        # mean and variance have errors of their own, those of as many samples
        pull = (value - mean) / (error * np.sqrt((effective + 1.0) / (effective - 1.0)))
        ranks[name] = stdtr(effective - 1.0, pull)  # Student's
    return {name: [round(float(rank), 4) for rank in found] for name, found in ranks.items()}
