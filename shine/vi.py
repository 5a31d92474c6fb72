"""`method: vi`: independent Gaussians fitted to the posterior by stochastic gradients.

NumPyro's SVI with its AutoNormal guide, in coordinates whitened by the curvature at the mode: so
the guide, which knows no correlations of its own, has those of the Laplace approximation, and
starts as that approximation.
"""

import logging
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float
from numpyro import handlers
from numpyro.infer import SVI, init_to_value
from numpyro.infer.autoguide import AutoNormal
from numpyro.infer.elbo import ELBO
from numpyro.infer.util import log_density

from shine.inference_config import ViConfig
from shine.numpyro_model import SHEAR, SOURCES, Target, model, sites

logger = logging.getLogger(__name__)

_WINDOW = 200  # steps; each ends with a verdict
# ELBO per coordinate that may still be gained: a mean off by 0.045 of its error loses as much
_ELBO_PER_COORDINATE = 1e-3
_CHECK_PAIRS, _MOMENT_PAIRS = 32, 256  # of opposite draws
_SHEAR_NODES = 7  # per component: integrates the shear over the guide


@dataclass(frozen=True)
class ViResult:
    """The posterior as the guide has it (host arrays)."""

    shear: np.ndarray  # (2,) posterior mean of the reduced shear g1, g2
    shear_covariance: np.ndarray  # (2, 2)
    parameters: np.ndarray  # (n, 6) means of flux, hlr, intrinsic e1, e2, offset u, v
    covariance: np.ndarray  # (n, 6, 6)
    elbo: np.ndarray  # (steps taken,) estimates, less the log posterior at the mode
    shear_move: float  # how far the shear's mean is from its optimum, in errors
    converged: bool


class _PathwiseElbo(ELBO):
    """The ELBO whose gradient takes the path of the draw alone.

    What it leaves out has mean zero, and what is left vanishes as the guide comes to match the
    posterior (Roeder, Wu & Duvenaud 2017): the last steps need no averaging.
    """

    def loss(self, rng_key, param_map, model, guide, *args, **kwargs) -> Array:
        """Minus the ELBO by one draw."""
        run = handlers.seed(handlers.substitute(guide, data=param_map), rng_key)
        draw = run(*args, **kwargs)
        fixed = jax.lax.stop_gradient(param_map)
        guide_term, _ = log_density(handlers.substitute(guide, data=draw), args, kwargs, fixed)
        model_term, _ = log_density(model, args, kwargs, draw)
        return guide_term - model_term


def fit_vi(target: Target, config: ViConfig, seed: int) -> ViResult:
    """Fit the guide, in windows of steps until a window's end finds it converged.

    Converged means that the ELBO no longer rises (beyond chance and a thousandth per coordinate),
    and that its gradient, estimated afresh, puts the shear's optimum nearer than
    `config.tolerance` errors: too small a learning rate is not taken for convergence.
    Check `ViResult.converged`.
    """
    with jax.enable_x64(False):
        return _fit(target, config, seed)


def _fit(target: Target, config: ViConfig, seed: int) -> ViResult:
    # of a guide's model only the sites count: those alone are quick to look at
    guide = AutoNormal(sites, init_loc_fn=init_to_value(values=target.origin()), init_scale=1.0)
    svi = SVI(model, guide, optax.adam(config.learning_rate), _PathwiseElbo())
    key_start, key_check, key_moments = jax.random.split(jax.random.PRNGKey(seed), 3)
    handlers.seed(guide, key_start)(target)  # looks at the sites, once and for all
    state = jax.jit(svi.init)(key_start, target)
    steps = jax.jit(partial(_window, svi))  # no other guide has a use for it: it ends with this one
    n_coordinates = 2 + target.whitening.z.size
    elbo, converged = np.zeros(0), False
    for k in range(-(-config.steps // _WINDOW)):
        state, window, locs, scales = steps(state, target)
        elbo = np.append(elbo, window)
        rise, noise = _rise(window)
        move = float(_shear_move(target, (locs, scales), jax.random.fold_in(key_check, k)))
        flat = rise < 2.0 * noise + _ELBO_PER_COORDINATE * n_coordinates
        converged = bool(flat and move < config.tolerance)
        logger.info("vi: %d steps, ELBO %.3f, shear move %.3f", len(elbo), window.mean(), move)
        if converged:
            break
    if not converged:
        logger.warning("vi: not converged after %d steps: shear move %.3f", len(elbo), move)
    return ViResult(
        *_shear_moments(target, locs[SHEAR], scales[SHEAR]),
        *jax.device_get(_moments(target, (locs, scales), key_moments)),
        elbo=elbo,
        shear_move=move,
        converged=converged,
    )


def _window(svi: SVI, state, target: Target):
    """Some steps: state, ELBO of each, and the guide's means and scales over the second half."""

    def step(carry, k):
        state, sums = carry
        state, loss = svi.update(state, target)
        late = jnp.where(k >= _WINDOW // 2, 2.0 / _WINDOW, 0.0)
        sums = jax.tree.map(lambda total, a: total + late * a, sums, svi.get_params(state))
        return (state, sums), -loss

    nothing = jax.tree.map(jnp.zeros_like, svi.get_params(state))
    (state, mean), elbo = jax.lax.scan(step, (state, nothing), jnp.arange(_WINDOW))
    locs, scales = (
        {site: mean[f"{site}_auto_{kind}"] for site in (SOURCES, SHEAR)}
        for kind in ("loc", "scale")
    )
    return state, elbo, locs, scales


def _rise(elbo: np.ndarray) -> tuple[float, float]:
    """Rise of the ELBO between the halves of a window, and the rise's error."""
    halves = np.split(np.asarray(elbo, float), 2)
    noise = np.sqrt(sum(half.var() / len(half) for half in halves))
    return float(halves[1].mean() - halves[0].mean()), float(noise)


@jax.jit
def _shear_move(target: Target, guide, key: Array) -> Float[Array, ""]:
    """Where the ELBO's gradient puts the optimum of the shear's mean, in errors.

    At the optimum the gradient of the log posterior is zero on average over the guide.
    """
    locs, scales = guide

    def slope(step) -> Float[Array, "2"]:
        at = jax.tree.map(lambda loc, scale, eps: loc + scale * eps, locs, scales, step)
        return scales[SHEAR] * jax.grad(target.log_density, argnums=1)(at[SOURCES], at[SHEAR])

    def pair(key: Array) -> Float[Array, "2"]:
        step = _unit_draw(target, key)
        return 0.5 * (slope(step) + slope(jax.tree.map(jnp.negative, step)))

    slopes = jax.lax.map(pair, jax.random.split(key, _CHECK_PAIRS))
    return jnp.linalg.norm(slopes.mean(axis=0))


def _unit_draw(target: Target, key: Array) -> dict[str, Array]:
    key_x, key_y = jax.random.split(key)
    x = jax.random.normal(key_x, target.whitening.z.shape)
    return {SOURCES: x, SHEAR: jax.random.normal(key_y, (2,))}


def _shear_moments(target: Target, loc: Array, scale: Array) -> tuple[np.ndarray, np.ndarray]:
    """Mean (2,) and covariance (2, 2) of the shear, by Gauss-Hermite quadrature."""
    node, weight = np.polynomial.hermite_e.hermegauss(_SHEAR_NODES)
    y = np.stack(np.meshgrid(node, node), axis=-1).reshape(-1, 2) * np.asarray(scale, float)
    weight = np.outer(weight, weight).ravel() / weight.sum() ** 2
    mode = target.whitening
    t = np.asarray(mode.shear_t, float) + (y + np.asarray(loc)) @ np.asarray(mode.shear_root).T
    shear = t / np.sqrt(1.0 + (t**2).sum(axis=1, keepdims=True))
    mean = weight @ shear
    return mean, (weight[:, None] * (shear - mean)).T @ (shear - mean)


@jax.jit
def _moments(target: Target, guide, key: Array) -> tuple[Array, Array]:
    """Means (n, 6) and covariances (n, 6, 6) of the sources' parameters, by pairs of draws."""
    locs, scales = guide
    middle = target.parameters(locs[SOURCES], locs[SHEAR])[1]

    def both(sums, key: Array):
        step = _unit_draw(target, key)
        for sign in (1.0, -1.0):
            at = jax.tree.map(
                lambda loc, s, eps, sign=sign: loc + sign * s * eps, locs, scales, step
            )
            off = target.parameters(at[SOURCES], at[SHEAR])[1] - middle
            sums = (sums[0] + off, sums[1] + off[:, :, None] * off[:, None, :])
        return sums, None

    nothing = (jnp.zeros_like(middle), jnp.zeros((*middle.shape, 6)))
    sums, _ = jax.lax.scan(both, nothing, jax.random.split(key, _MOMENT_PAIRS))
    mean, square = jax.tree.map(lambda a: a / (2 * _MOMENT_PAIRS), sums)
    return middle + mean, square - mean[:, :, None] * mean[:, None, :]
