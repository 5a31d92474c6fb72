"""The estimators of the shear of one scene: `estimate` picks one by `method`."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import jax
import numpy as np
from jaxtyping import Array

from shine import importance, inference
from shine.blocks import in_blocks
from shine.fit import Fit, History
from shine.importance import Samples
from shine.inference_config import InferenceSettings
from shine.laplace import laplace
from shine.population import ShapePrior, ShapeSamples, ShearPosterior, infer_shear
from shine.prior_utils import SourcePrior
from shine.scene import Scene

_UNSETTLED_SIGMA = 0.3  # a source that the last step moved by more has not converged
_POOR_SHARE = 0.02  # of the galaxies, whose samples are too uneven even in a Markov chain
_FEW_EFFECTIVE = 8.0


@dataclass(frozen=True)
class SourceSamples:
    """The samples of the sources that have any, for the result files."""

    source: np.ndarray  # (m,) rows of the sources
    shapes: ShapeSamples
    effective: np.ndarray  # (m,) effective number of samples
    by_chain: np.ndarray  # (m,) bool


@dataclass(frozen=True)
class Estimate:
    """What an estimator says of a scene."""

    shear: np.ndarray  # (2,)
    shear_covariance: np.ndarray  # (2, 2)
    parameters: np.ndarray  # (n, 6) flux, hlr, intrinsic e1, e2, offset u, v
    covariance: np.ndarray  # (n, 6, 6)
    residual_adu: np.ndarray  # (p,) data minus model
    unsettled: np.ndarray  # (n,) bool, sources that had not converged
    converged: bool
    convergence: float  # method map: the shear's last move; else its Monte Carlo error; in errors
    history: History
    ellipticity_sigma: float | None = None  # of the population, with its error, where inferred
    ellipticity_sigma_err: float | None = None
    samples: SourceSamples | None = None
    diagnostics: dict = field(default_factory=dict)  # what else the method says of itself


@dataclass(frozen=True)
class Problem:
    """A scene with its priors; `blend` (n,) numbers the blends of its sources."""

    scene: Scene
    prior: SourcePrior
    blend: np.ndarray
    seed: tuple[int, ...]
    checkpoint: Path | None = None  # where method nuts keeps its state after the warm-up


def estimate(problem: Problem, settings: InferenceSettings) -> Estimate:
    """Infer the shear of a scene by `settings.method`."""
    return ESTIMATORS[settings.method](problem, settings)


def _map(problem: Problem, settings: InferenceSettings) -> Estimate:
    scene, prior = problem.scene, problem.prior
    if settings.optimizer == "adam":
        from shine import adam

        fit = adam.fit_adam(scene, prior, settings.adam, settings.solver).fit
    else:
        fit = inference.find_mode(scene, prior, settings.solver)
    mode = laplace(prior, fit)
    return Estimate(
        shear=mode.shear,
        shear_covariance=mode.shear_covariance,
        parameters=mode.parameters,
        covariance=mode.covariance,
        **_search_of(problem, fit),
        converged=fit.converged,
        convergence=fit.shear_move,
    )


def _marginal(problem: Problem, settings: InferenceSettings) -> Estimate:
    scene, prior = problem.scene, problem.prior.interim()
    fit = inference.find_mode(scene, prior, settings.solver)
    samples = importance.sample(scene, prior, fit, settings.marginal, problem.seed)
    shapes = importance.shape_samples(prior, samples, problem.blend)
    belief = ShapePrior(
        ellipticity_sigma=float(prior.ellipticity_sigma),
        infer_sigma=settings.marginal.infer_dispersion,
        shear_sigma=float(prior.shear_sigma),
    )
    answer = infer_shear(shapes, belief)
    source = np.flatnonzero(prior.lensed & (samples.n_samples > 0))
    diagnostics = {}
    if settings.marginal.infer_population and prior.around_catalogue:
        # an answer from the catalogue's values is near enough to weigh the samples by
        shapes, population = importance.of_population(prior, samples, shapes, answer)
        answer = infer_shear(shapes, belief)
        diagnostics["flux_size_population"] = population.as_dict()
    weight = answer.weights(shapes)
    mode = laplace(prior, fit)
    parameters, covariance = _posterior_moments(prior, samples.z[source], (source, weight), answer)
    mode.parameters[source], mode.covariance[source] = parameters, covariance
    few = samples.effective[source] < _FEW_EFFECTIVE
    return Estimate(
        shear=answer.shear,
        shear_covariance=answer.covariance,
        parameters=mode.parameters,
        covariance=mode.covariance,
        **_search_of(problem, fit),
        converged=fit.converged and few.mean() <= _POOR_SHARE,
        convergence=_monte_carlo_error(shapes, belief, answer),
        ellipticity_sigma=answer.ellipticity_sigma if belief.infer_sigma else None,
        ellipticity_sigma_err=answer.ellipticity_sigma_err if belief.infer_sigma else None,
        samples=SourceSamples(
            source, shapes, _effective(samples, source, weight), samples.by_chain[source]
        ),
        diagnostics=diagnostics,
    )


def _vi(problem: Problem, settings: InferenceSettings) -> Estimate:
    from shine import numpyro_model, vi  # NumPyro takes seconds to import

    fit = inference.find_mode(problem.scene, problem.prior, settings.solver)
    target = numpyro_model.Target.near(problem.scene, problem.prior, fit)
    found = vi.fit_vi(target, settings.vi, _whole_seed(problem))
    return Estimate(
        shear=found.shear,
        shear_covariance=found.shear_covariance,
        parameters=found.parameters,
        covariance=found.covariance,
        **_search_of(problem, fit),
        converged=found.converged,
        convergence=found.shear_move,
    )


def _nuts(problem: Problem, settings: InferenceSettings) -> Estimate:
    from shine import numpyro_model, nuts

    fit = inference.find_mode(problem.scene, problem.prior, settings.solver)
    target = numpyro_model.Target.near(problem.scene, problem.prior, fit)
    found = nuts.sample_nuts(target, settings.nuts, _whole_seed(problem), problem.checkpoint)
    return Estimate(
        shear=found.shear_mean,
        shear_covariance=found.shear_covariance,
        parameters=found.parameters,
        covariance=found.covariance,
        **_search_of(problem, fit),
        converged=found.converged,
        convergence=float(1.0 / np.sqrt(found.n_eff.min())),
        diagnostics={
            "r_hat": found.r_hat.tolist(),
            "effective_samples": found.n_eff.tolist(),
            "divergences": int(found.divergences),
        },
    )


def _whole_seed(problem: Problem) -> int:
    return int(np.random.SeedSequence(problem.seed).generate_state(1)[0])


ESTIMATORS: dict[str, Callable[[Problem, InferenceSettings], Estimate]] = {
    "map": _map,
    "marginal": _marginal,
    "vi": _vi,
    "nuts": _nuts,
}


def _search_of(problem: Problem, fit: Fit) -> dict:
    """What every estimate says of the search that it rests on."""
    return {
        "residual_adu": np.asarray(fit.residual_adu),
        "unsettled": _unsettled(problem, fit),
        "history": fit.history,
    }


def _unsettled(problem: Problem, fit: Fit) -> np.ndarray:
    """Sources whose blend's last step was long (n,)."""
    result = np.zeros(len(fit.z), bool)
    known = problem.blend >= 0
    result[known] = fit.expected[problem.blend[known]] > 0.5 * _UNSETTLED_SIGMA**2
    return result


def _posterior_moments(
    prior: SourcePrior,
    z: np.ndarray,
    weighed: tuple[np.ndarray, np.ndarray],
    answer: ShearPosterior,
) -> tuple[np.ndarray, np.ndarray]:
    """Mean (m, 6) and covariance (m, 6, 6) of the parameters, given the shear and population.

    From samples z (m, K, 6), which `weighed` says to be of the sources (m,) with weights (m, K).
    """
    source, weight = weighed
    count = weight.shape[1]
    rows = prior.rows(np.repeat(source, count))
    shear = answer.shear.astype(np.float32)
    values = in_blocks(_intrinsic, (rows, np.nan_to_num(z).reshape(-1, 6)), shear)
    values = values.reshape(len(source), count, 6).astype(float)
    mean = np.einsum("mk,mki->mi", weight, values)
    away = values - mean[:, None]
    return mean, np.einsum("mk,mki,mkj->mij", weight, away, away)


def _effective(samples: Samples, source: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Effective number (m,) of the sources' samples of weights (m, K)."""
    found = 1.0 / np.sum(weight**2, axis=1)
    # states of a chain are no more than the places where it began
    independent = samples.effective[source] / samples.n_samples[source]
    return np.where(samples.by_chain[source], found * independent, found)


def _monte_carlo_error(shapes: ShapeSamples, belief: ShapePrior, answer: ShearPosterior) -> float:
    """By how much the two halves of the samples disagree on the shear, in its errors."""
    halves = [
        infer_shear(
            ShapeSamples(shapes.shape[:, k::2], shapes.log_weight[:, k::2], shapes.blend), belief
        )
        for k in range(2)
    ]
    apart = 0.5 * (halves[0].shear - halves[1].shear)
    return float(np.sqrt(apart @ np.linalg.solve(answer.covariance, apart) / 2.0))


@jax.jit
def _intrinsic(prior: SourcePrior, z: Array, shear: Array) -> Array:
    """The sources' parameters (n, 6) without lensing by `shear`."""
    return prior.intrinsic(z, shear)
