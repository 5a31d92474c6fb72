"""`method: map` by `optimizer: adam`: the classic route to the joint mode.

A fixed number of Adam steps of a fixed rate from the catalogue, all sources and the shear at once.
Whether they were enough, a Newton step from where they end tells.
"""

import logging
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from shine.density import Pixels, log_likelihood, log_mode_prior
from shine.fit import Fit
from shine.inference import UNSETTLED_SHARE, Search, without_light
from shine.inference_config import AdamConfig, SolverConfig
from shine.prior_utils import SourcePrior, to_disc
from shine.scene import Scene

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class AdamResult:
    """Where Adam ends, and how it got there (host arrays)."""

    fit: Fit  # for `shine.inference.laplace`; its one `history` entry is the Newton step's
    shear: np.ndarray  # (steps, 2) reduced shear g1, g2 after each step
    log_posterior: np.ndarray  # (steps,) before each step, less that at the start

    @property
    def converged(self) -> bool:
        """Whether a Newton step would move shear and sources by less than the tolerances."""
        return self.fit.converged


def fit_adam(
    scene: Scene, prior: SourcePrior, config: AdamConfig, solver: SolverConfig
) -> AdamResult:
    """Climb the posterior whose maximum is that of `shine.inference.find_mode`.

    Only the tolerances of `solver` count, and mean the same as there. Check
    `AdamResult.converged`: the classic 200 steps of 0.002 are seldom enough.
    """
    with jax.enable_x64(False):
        prior_here = jax.device_put(prior)
        start = jnp.asarray(prior.start)
        pixels = Pixels.of(scene, prior_here.observed(start))
        (z, shear_t), shear, log_posterior = jax.device_get(
            _climb(config.learning_rate, config.steps, pixels, prior_here)
        )
    fit = newton_step_from(scene, prior, solver, (z, shear_t))
    log = logger.info if fit.converged else logger.warning
    log(
        "adam: %s after %d steps: a Newton step moves the shear by %.3f errors",
        "converged" if fit.converged else "not converged",
        config.steps,
        fit.shear_move,
    )
    return AdamResult(fit, shear, log_posterior)


def newton_step_from(
    scene: Scene,
    prior: SourcePrior,
    config: SolverConfig,
    point: tuple[Float[np.ndarray, "n 6"], Float[np.ndarray, "2"]],
) -> Fit:
    """The curvature at a point z, shear_t, and what a Newton step from there would do.

    The `Fit` stays at the point: `shear_move` and `expected` are those of the step not taken, and
    `converged` says whether `find_mode` would have stopped here.
    """
    z, shear_t = (np.array(value, np.float32) for value in point)
    search = Search(scene, prior, config)
    fit = search.fit
    fit.z, fit.shear_t = z, shear_t
    search.fitted_t[:] = shear_t
    observed = search._observed(z)
    search._compare(search.seen, without_light(observed), observed)
    residual_adu = fit.residual_adu
    rejected = search._sweep(search.seen)
    search._move_shear()
    fit.z, fit.shear_t, fit.residual_adu = z, shear_t, residual_adu
    active = search.seen & (fit.expected > 0.5 * config.source_tolerance**2)
    settled = active.sum() <= UNSETTLED_SHARE * search.seen.sum()
    fit.converged = bool(settled and fit.shear_move < config.shear_tolerance)
    fit.history.shear_move.append(float(fit.shear_move))
    fit.history.moving.append(int(search.count[active].sum()))
    fit.history.rejected.append(rejected)
    fit.history.expected.append(float(fit.expected.sum()))
    return fit


@partial(jax.jit, static_argnums=(0, 1))
def _climb(
    learning_rate: float, steps: int, pixels: Pixels, prior: SourcePrior
) -> tuple[tuple[Array, Array], Array, Array]:
    optimiser = optax.adam(learning_rate)
    start = (jnp.asarray(prior.start), jnp.zeros(2))
    reference = log_mode_prior(prior, *start)

    def loss(point: tuple[Array, Array]) -> Array:
        z, shear_t = point
        prior_term = log_mode_prior(prior, z, shear_t) - reference
        return -log_likelihood(pixels, prior.observed(z)) - prior_term

    def step(carry, _):
        point, state = carry
        value, slope = jax.value_and_grad(loss)(point)
        change, state = optimiser.update(slope, state)
        point = optax.apply_updates(point, change)
        return (point, state), (to_disc(point[1]), -value)

    (point, _), (shear, log_posterior) = jax.lax.scan(
        step, (start, optimiser.init(start)), length=steps
    )
    return point, shear, log_posterior
