"""Samples of what the pixels say of each blend, by importance sampling from its Laplace
approximation.

With the shapes observed (lensed), the pixels do not know the shear: each blend is sampled once,
under an interim prior, all its members' parameters together. A sample of source i is kept as its
observed shape s_ik and the log weight

    l_k = log [ likelihood x interim prior / proposal ] - sum over lensed members log interim(s_ik)

so that for any population p(s | g) of observed shapes the evidence of the blend is
sum_k exp(l_k) prod_i p(s_ik | g) (Hogg, Myers & Bovy 2010; Schneider et al. 2015). Where the
weights of a blend are too uneven, it is sampled again, more often and from a proposal of the right
moments, and if that does not do, by a short Markov chain.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import gammaln

from shine import newton
from shine.blocks import in_blocks, in_parallel
from shine.fit import Family, Fit
from shine.flux_size import FluxSizePopulation, FluxSizeSamples, infer_population
from shine.inference_config import MarginalConfig
from shine.population import ShapeSamples, ShearPosterior, over_members
from shine.prior_utils import SourcePrior
from shine.scene import Batch, Scene, batches, gather

# Student's t instead of a Gaussian: its tails keep the weights bounded
_FREEDOM, _FREEDOM_AGAIN = 12.0, 6.0
_MORE = 4  # times as many samples in the second attempt
_CHAIN_STEPS, _ACCEPTANCE = 120, 0.25


@dataclass(frozen=True)
class Samples:
    """K weighted samples of each of n sources, blend by blend (host arrays)."""

    z: np.ndarray  # (n, K, 6) coordinates; NaN for sources that were not sampled
    log_weight: np.ndarray  # (n, K) of the interim posterior; -inf where padded
    n_samples: np.ndarray  # (n,) int, 0 for sources that were not sampled
    effective: np.ndarray  # (n,) effective number of samples
    by_chain: np.ndarray  # (n,) bool, whether a Markov chain made them


class _Draws(NamedTuple):
    """Samples of b blends of c sources."""

    z: np.ndarray  # (b, K, c, 6)
    log_weight: np.ndarray  # (b, K)
    at_most: np.ndarray | float = np.inf  # (b,) effective samples

    def weights(self) -> np.ndarray:
        """(b, K), of sum 1; all the same where no sample has any."""
        top = self.log_weight.max(axis=1, keepdims=True)
        weight = np.exp(np.where(np.isfinite(top), self.log_weight - top, 0.0))
        return weight / weight.sum(axis=1, keepdims=True)

    @property
    def effective(self) -> np.ndarray:
        found = 1.0 / np.sum(self.weights() ** 2, axis=1)
        none = ~np.isfinite(self.log_weight).any(axis=1)
        return np.where(none, 0.0, np.minimum(found, self.at_most))

    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Weighted mean (b, 6c) and covariance (b, 6c, 6c)."""
        weight = self.weights()
        flat = self.z.reshape(*self.log_weight.shape, -1)
        mean = np.einsum("bk,bki->bi", weight, flat)
        away = flat - mean[:, None]
        return mean, np.einsum("bk,bki,bkj->bij", weight, away, away)


def sample(
    scene: Scene, prior: SourcePrior, fit: Fit, config: MarginalConfig, seed: tuple[int, ...]
) -> Samples:
    """Sample every blend that has a lensed member around its mode `fit`.

    `prior` and `fit` are those of the interim posterior (`SourcePrior.in_coordinates`).
    """
    n, most = len(fit.z), _MORE * config.samples
    result = Samples(
        z=np.full((n, most, 6), np.nan, np.float32),
        log_weight=np.full((n, most), -np.inf),
        n_samples=np.zeros(n, int),
        effective=np.zeros(n),
        by_chain=np.zeros(n, bool),
    )
    for k, family in enumerate(fit.families):
        rows = np.flatnonzero((prior.lensed[family.source] & (family.source >= 0)).any(axis=1))
        if len(rows):
            rng = np.random.default_rng((*seed, k))
            _Sampler(scene, prior, fit, config).run(family, rows, rng, result)
    longest = max(int(result.n_samples.max(initial=0)), 1)
    return Samples(
        result.z[:, :longest],
        result.log_weight[:, :longest],
        result.n_samples,
        result.effective,
        result.by_chain,
    )


class _Sampler:
    def __init__(self, scene: Scene, prior: SourcePrior, fit: Fit, config: MarginalConfig) -> None:
        self.scene, self.prior, self.fit, self.config = scene, prior, fit, config

    def run(
        self, family: Family, rows: np.ndarray, rng: np.random.Generator, result: Samples
    ) -> None:
        """Sample some blends of a family into `result`."""
        mode = np.where(family.source[..., None] >= 0, self.fit.z[family.source], 0.0)
        size = mode.shape[1] * 6
        laplace = np.linalg.inv(_without_empty(family))
        count = self.config.samples
        around = (mode.reshape(-1, size)[rows], laplace[rows], _FREEDOM)
        draws = self._draw(family, rows, (around, count), rng)
        enough = self.config.least_effective * count
        poor = np.flatnonzero(draws.effective < enough)
        self._keep(result, family, rows, draws)
        if not len(poor):
            return
        # Of few effective samples the moments are poor: half Laplace's covariance steadies them
        mean, covariance = _Draws(draws.z[poor], draws.log_weight[poor]).moments()
        again = rows[poor]
        around = (mean, covariance + 0.5 * laplace[again], _FREEDOM_AGAIN)
        draws = self._draw(family, again, (around, _MORE * count), rng)
        self._keep(result, family, again, draws)
        still = np.flatnonzero(draws.effective < enough)
        if len(still):
            few = _Draws(draws.z[still], draws.log_weight[still])
            chain = self._chain(family, again[still], few, rng)
            self._keep(result, family, again[still], chain, by_chain=True)

    def _draw(self, family: Family, rows: np.ndarray, proposal, rng) -> _Draws:
        """Independent samples from Student's t around a mean (b, d), with weights."""
        (mean, covariance, freedom), count = proposal
        size = mean.shape[1]
        root = np.linalg.cholesky(covariance)
        normal = rng.standard_normal((len(rows), count, size))
        stretch = np.sqrt(freedom / rng.chisquare(freedom, (len(rows), count)))
        flat = mean[:, None] + np.einsum("bij,bkj->bki", root, normal) * stretch[..., None]
        distance = np.sum(normal**2, axis=2) * stretch**2
        log_determinant = np.log(np.diagonal(root, axis1=1, axis2=2)).sum(axis=1)
        log_proposal = -0.5 * (freedom + size) * np.log1p(distance / freedom)
        log_proposal += gammaln(0.5 * (freedom + size)) - gammaln(0.5 * freedom)
        log_proposal -= 0.5 * size * np.log(np.pi * freedom) + log_determinant[:, None]
        z = flat.reshape(len(rows), count, -1, 6).astype(np.float32)
        return _Draws(z, self._log_posterior(family, rows, z) - log_proposal)

    def _chain(self, family: Family, rows: np.ndarray, start: _Draws, rng) -> _Draws:
        """Random-walk Metropolis from samples drawn by their weights; equal weights after it."""
        count = self.config.samples
        weight = start.weights()
        chosen = np.stack([rng.choice(len(w), count, p=w / w.sum()) for w in weight])
        z = np.take_along_axis(start.z, chosen[..., None, None], axis=1)
        size = z.shape[2] * 6
        # Steps of the shape that the draws found, and of a length that each blend's chains learn
        covariance = start.moments()[1] + 0.1 * np.linalg.inv(_without_empty(family)[rows])
        root = np.linalg.cholesky(covariance)
        scale = np.full(len(rows), 2.38 / np.sqrt(size))
        here = self._log_posterior(family, rows, z)
        for _ in range(_CHAIN_STEPS):
            normal = rng.standard_normal((len(rows), count, size))
            step = np.einsum("b,bij,bkj->bki", scale, root, normal)
            trial = (z + step.reshape(z.shape)).astype(np.float32)
            there = self._log_posterior(family, rows, trial)
            accept = np.log(rng.uniform(size=here.shape)) < there - here
            z = np.where(accept[..., None, None], trial, z)
            here = np.where(accept, there, here)
            scale *= np.exp(accept.mean(axis=1) - _ACCEPTANCE)
        # No more than the chains' different beginnings: they may not have mixed
        distinct = np.array([len(np.unique(row)) for row in chosen])
        equal = np.where(np.isfinite(here), 0.0, -np.inf)
        return _Draws(z, equal, distinct)

    def _log_posterior(self, family: Family, rows: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Log of the interim posterior (b, K) in the coordinates, relative to the mode."""
        n_blends, count, n_members = z.shape[:3]
        place = np.full(len(self.scene.members), -1)
        place[family.blend[rows]] = np.arange(len(rows))
        active = place >= 0
        source = family.source[rows]
        mode = np.where(source[..., None] >= 0, self.fit.z[source], 0.0).astype(np.float32)

        def each(function, values: np.ndarray) -> np.ndarray:
            repeated = np.broadcast_to(source[:, None], (n_blends, values.shape[1], n_members))
            prior = self.prior.rows(repeated.ravel())
            return in_blocks(function, (prior, values.reshape(-1, 6)))

        before = each(_observed, mode[:, None]).reshape(n_blends, n_members, 6)
        after = each(_observed, z).reshape(z.shape)
        prior_rise = each(_log_prior, z).reshape(n_blends, count, -1)
        prior_rise = prior_rise - each(_log_prior, mode[:, None]).reshape(n_blends, 1, -1)
        empty = -0.5 * np.sum(z.astype(float) ** 2, axis=-1)  # any density: nothing depends on it
        prior_rise = np.where((source >= 0)[:, None], prior_rise, empty).sum(axis=2)
        rise = np.empty((n_blends, count))
        for start in range(0, count, newton.DRAWS):
            part = np.arange(start, start + newton.DRAWS) % count  # one length for all calls

            def compare(batch: Batch, part=part) -> np.ndarray:
                own = place[batch.blend]  # of padding: any
                chunk = gather(self.scene, self.fit.residual_adu, batch)
                return newton.compare_many(
                    self.scene.profile, chunk, before[own], after[own][:, part]
                )

            todo = list(batches(self.scene, active))
            for batch, found in in_parallel(compare, todo):
                real = batch.blend >= 0
                new = np.asarray(found)[real]
                rise[np.ix_(place[batch.blend[real]], part)] = new
        # A sample that is not a number lies where the model has no meaning
        return np.where(np.isfinite(rise), rise + prior_rise, -np.inf)

    def _keep(self, result: Samples, family, rows, draws: _Draws, by_chain: bool = False) -> None:
        count = draws.log_weight.shape[1]
        for slot, source in enumerate(family.source[rows].T):
            there = source >= 0
            own = source[there]
            result.log_weight[own] = -np.inf
            result.log_weight[own, :count] = draws.log_weight[there]
            result.z[own, :count] = draws.z[there, :, slot]
            # without a single finite weight a source says nothing, and is left out
            result.n_samples[own] = np.where(draws.effective[there] > 0.0, count, 0)
            result.effective[own] = draws.effective[there]
            result.by_chain[own] = by_chain


def _without_empty(family: Family) -> np.ndarray:
    """The curvature (b, 6c, 6c) with the identity for places without a source."""
    empty = np.repeat(family.source < 0, 6, axis=1)
    there = ~(empty[:, :, None] | empty[:, None, :])
    unit = np.eye(empty.shape[1]) * empty[:, None, :]
    return np.where(there, family.hessian.astype(float), unit)


@jax.jit
def _observed(prior: SourcePrior, z: jax.Array) -> jax.Array:
    return prior.observed(z)


@jax.jit
def _log_prior(prior: SourcePrior, z: jax.Array) -> jax.Array:
    return prior.log_measure(z) - 0.5 * jnp.sum(prior.residual(z, jnp.zeros(2)) ** 2, axis=1)


def of_population(
    prior: SourcePrior, samples: Samples, shapes: ShapeSamples, answer: ShearPosterior
) -> tuple[ShapeSamples, FluxSizePopulation]:
    """The samples weighted by the galaxies' fluxes and sizes, not the catalogue's; and these.

    `shapes` are the `shape_samples`, `answer` is the shear and dispersion given which the
    population is inferred. Priors of flux and size have to be log-normal, of one width for all
    sources. Members of a blend that are not lensed keep theirs.
    """
    source = np.flatnonzero(prior.lensed & (samples.n_samples > 0))
    center, width = np.moveaxis(np.stack([prior.flux, prior.hlr], axis=1)[source], 2, 0)
    z = np.nan_to_num(samples.z[source, :, :2].astype(float))
    value = np.log(center)[:, None] + width[:, None] * z
    interim = -0.5 * np.sum(z**2, axis=2)
    freed = replace(shapes, log_weight=shapes.log_weight - over_members(interim, shapes.blend))
    known = FluxSizeSamples(value, answer.log_weights(freed), shapes.blend)
    population = infer_population(known, width[0])
    gained = over_members(population.log_density(value), shapes.blend)
    return replace(freed, log_weight=freed.log_weight + gained), population


def shape_samples(prior: SourcePrior, samples: Samples, blend: np.ndarray) -> ShapeSamples:
    """The observed shapes of the sampled, lensed sources, and their weights freed of the prior.

    `blend` (n,) numbers the blends. Sources come in their order: `np.flatnonzero(lensed)`.
    """
    rows = np.flatnonzero(prior.lensed & (samples.n_samples > 0))
    plane = np.nan_to_num(samples.z[rows].astype(float)[..., 2:4])
    radius2 = np.sum(plane**2, axis=-1)
    shape = (plane[..., 0] + 1j * plane[..., 1]) / np.sqrt(1.0 + radius2)
    sigma = np.asarray(prior.interim_sigma)[rows, None]
    own = 0.5 * np.abs(shape) ** 2 / sigma**2  # minus the log of the interim prior
    label = blend[rows]
    return ShapeSamples(shape, samples.log_weight[rows] + over_members(own, label), label)
