"""The joint mode of all sources and the shear, by damped Gauss-Newton, with Laplace errors.

Each step solves the system of `shine.curvature`. Blends are the unit of caution: each has its own
damping, and takes a step or leaves it by what the step brought to its own pixels (Levenberg 1944,
Marquardt 1963; Nocedal & Wright 2006, ch. 10). A last pass gives the errors.
"""

from functools import partial
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from shine.config import SolverConfig
from shine.curvature import Steering, System, linearise, per_source_derivative, solve
from shine.prior_utils import SourcePrior, to_disc
from shine.scene import Scene

_DAMPING_START, _DAMPING_LEAST, _DAMPING_FIRM, _DAMPING_MOST = 1e-2, 1e-4, 0.3, 1e4
_TRUSTED_GAIN = 1e-4
_LEAST_RATIO, _POOR_RATIO, _GOOD_RATIO = 0.05, 0.25, 0.75  # of the gain to what was promised
_LONGEST_STEP = (2.0, 2.0, 0.5, 0.5, 2.0, 2.0)  # of the whitened coordinates
_LONGEST_SHEAR_STEP = 0.1
_UNSETTLED_SHARE = 0.02  # of the sources; those are flagged, and one does not hold up thousands
_CG_SEARCH, _CG_ERRORS = 0.05, 1e-4


class History(eqx.Module):
    """One entry per iteration; unused ones are NaN."""

    shear_move: Float[Array, "k"]  # as in `Mode`, but with damping, which makes it smaller
    moving: Float[Array, "k"]  # sources that move by more than the tolerance
    rejected: Float[Array, "k"]  # sources whose step did not bring what it promised


class Mode(eqx.Module):
    """The joint mode, its errors, and how the solver got there."""

    shear: Float[Array, "2"]  # reduced shear g1, g2
    shear_covariance: Float[Array, "2 2"]
    parameters: Float[Array, "n 6"]  # flux, hlr, intrinsic e1, e2, offset u, v
    covariance: Float[Array, "n 6 6"]  # marginal over the shear, neighbours held at the mode
    model_adu: Float[Array, "p"]
    # How far the last step led, in standard deviations
    shear_move: Float[Array, ""]
    source_move: Float[Array, "n"]
    converged: Array
    history: History


class _Point(NamedTuple):
    z: Array  # (n, 6)
    t: Array  # (2,) shear coordinates


class _Laplace(NamedTuple):
    """The curvature at a point, as far as the errors need it."""

    model: Array  # (p,) model image, ADU
    blocks: Array  # (n, 6, 6)
    x_cross: Array  # (n, 6, 2) H_zz^-1 H_zg
    schur: Array  # (2, 2)


class _Moves(NamedTuple):
    """How far the last step led, in standard deviations."""

    shear: Array
    source: Array  # (n,)


class _State(NamedTuple):
    point: _Point
    laplace: _Laplace
    moves: _Moves
    damping: Array  # (n,)
    converged: Array
    settled: Array  # the search is over: one pass is left, for the errors
    finished: Array
    iteration: Array
    history: History


def find_mode(scene: Scene, prior: SourcePrior, config: SolverConfig) -> Mode:
    """Maximise the joint posterior of all sources and the shear.

    Runs wholly on the device; wrap it in `jax.jit` with `config` static. Check `Mode.converged`:
    it is False when `config.max_iterations` steps were not enough.
    """
    n, p, k = scene.n_sources, scene.data_adu.shape[0], config.max_iterations
    empty = jnp.full(k, jnp.nan)
    state = _State(
        point=_Point(prior.start, jnp.zeros(2)),
        laplace=_Laplace(jnp.zeros(p), jnp.zeros((n, 6, 6)), jnp.zeros((n, 6, 2)), jnp.eye(2)),
        moves=_Moves(jnp.float32(jnp.inf), jnp.full(n, jnp.inf)),
        damping=jnp.full(n, _DAMPING_START),
        converged=jnp.bool_(False),
        settled=jnp.bool_(False),
        finished=jnp.bool_(False),
        iteration=jnp.int32(0),
        history=History(empty, empty, empty),
    )
    state = jax.lax.while_loop(
        lambda state: ~state.finished, partial(_step, scene, prior, config), state
    )
    return _mode(prior, state)


def _step(scene: Scene, prior: SourcePrior, config: SolverConfig, state: _State) -> _State:
    """One linearisation; a step for every blend that gains by it, or the errors, which end it."""
    system = linearise(scene, prior, *state.point)
    # Second-order terms could spoil the system of a blend, which its members' blocks do not make.
    size = jnp.zeros(scene.n_sources).at[scene.blend].add(1.0)[scene.blend]
    final = state.settled
    steering = Steering(
        damping=jnp.where(final, 0.0, state.damping),
        newton=~final & (size == 1.0),
        tolerance=jnp.where(final, _CG_ERRORS, _CG_SEARCH),
    )
    dz, dt, schur, x_cross = solve(scene, system, steering)
    promised = 0.5 * jnp.sum(system.force_z * dz, axis=1)
    moves = _moves(state.damping * promised + promised, schur, dt)
    n_moving = jnp.sum(moves.source > config.source_tolerance)
    n_real = jnp.sum(scene.blend != scene.n_sources - 1)
    close = (moves.shear < config.shear_tolerance) & (n_moving <= _UNSETTLED_SHARE * n_real)
    trial, fraction = _shortened(state.point, (dz, dt))
    expected = promised * fraction * (2.0 - fraction)
    gain = _gain(scene, prior, system, (state.point, trial))
    ratio = _gain_ratio(scene, expected, gain)
    better = ratio > _LEAST_RATIO
    # The shear has no damping of its own: it moves if all together gain, or if most of those who
    # inform it do.
    majority = jnp.sum(jnp.where(better, 1, -1) * prior.lensed) > 0
    t = jnp.where(majority | (jnp.sum(gain) > 0.0), trial.t, state.point.t)
    firmer = jnp.clip(10.0 * state.damping, _DAMPING_FIRM, _DAMPING_MOST)
    looser = jnp.maximum(0.1 * state.damping, _DAMPING_LEAST)
    i = state.iteration
    searched = _State(
        point=_Point(jnp.where(better[:, None], trial.z, state.point.z), t),
        laplace=state.laplace,
        moves=moves,
        damping=jnp.where(
            ratio < _POOR_RATIO, firmer, jnp.where(ratio > _GOOD_RATIO, looser, state.damping)
        ),
        converged=close,
        settled=close | (i == config.max_iterations - 2),  # the last pass is for the errors
        finished=i == config.max_iterations - 1,
        iteration=i + 1,
        history=History(
            state.history.shear_move.at[i].set(moves.shear),
            state.history.moving.at[i].set(n_moving),
            state.history.rejected.at[i].set(jnp.sum(~better)),
        ),
    )
    ended = state._replace(
        laplace=_Laplace(system.model, system.blocks, x_cross, schur),
        finished=jnp.bool_(True),
        iteration=i + 1,
    )
    return jax.tree.map(partial(jnp.where, final), ended, searched)


def _moves(promised: Array, schur: Array, dt: Array) -> _Moves:
    """How far a step leads; `promised` (n,) is what it would bring without damping."""
    return _Moves(
        shear=jnp.sqrt(jnp.vdot(dt, schur @ dt)),
        source=jnp.sqrt(jnp.maximum(2.0 * promised, 0.0)),
    )


def _shortened(point: _Point, step: tuple[Array, Array]) -> tuple[_Point, Array]:
    """Take the step, shortened source by source where it leaves the range of the linearisation.

    Returns where it leads, and the fraction (n,) of its step that each source takes.
    """
    dz, dt = step
    excess = jnp.max(jnp.abs(dz) / jnp.array(_LONGEST_STEP), axis=1)
    fraction = 1.0 / jnp.maximum(excess, 1.0)
    shear_excess = jnp.max(jnp.abs(dt)) / _LONGEST_SHEAR_STEP
    return _Point(
        point.z + dz * fraction[:, None], point.t + dt / jnp.maximum(shear_excess, 1.0)
    ), fraction


def _gain_ratio(scene: Scene, expected: Array, gain: Array) -> Array:
    """Gain over what was promised, (n,): of the whole blend, which takes its step or leaves it."""
    expected, gain = (jnp.zeros_like(x).at[scene.blend].add(x) for x in (expected, gain))
    # A gain that drowns in rounding says nothing; so small a step is trusted.
    ratio = jnp.where(expected < _TRUSTED_GAIN, 1.0, gain / jnp.maximum(expected, _TRUSTED_GAIN))
    return ratio[scene.blend]


def _gain(scene: Scene, prior: SourcePrior, system: System, points: tuple[_Point, _Point]) -> Array:
    """Log posterior at the second point minus at the first, source by source, (n,).

    The terms of all sources add up to the whole gain exactly: with residual r and change of the
    image dm = sum_i dm_i, the log likelihood rises by sum_i <dm_i, r - dm / 2>. Summed as
    differences, so that float32 holds it.
    """
    old, new = points
    new_model, new_stamps = scene.draw(prior.observed(new.z))
    old_stamps = system.jacobian.unlinearised(scene, prior.observed(old.z))
    mean_residual = scene.weight * (scene.data_adu - 0.5 * (new_model + system.model))
    change = jax.tree.map(jnp.subtract, new_stamps, old_stamps)
    before, after = (prior.residual(p.z, to_disc(p.t)) for p in points)
    return scene.project(change, mean_residual) + 0.5 * jnp.sum(
        (before - after) * (before + after), axis=1
    )


def _mode(prior: SourcePrior, state: _State) -> Mode:
    """The mode with its Laplace covariances, in the parameters that people read."""
    z, t = state.point
    x_cross = state.laplace.x_cross
    t_covariance = jnp.linalg.inv(state.laplace.schur)
    z_covariance = jnp.linalg.inv(state.laplace.blocks) + jnp.einsum(
        "nkg,gh,nlh->nkl", x_cross, t_covariance, x_cross
    )
    shear = to_disc(t)
    by_t = jax.jacfwd(to_disc)(t)
    by_z = per_source_derivative(lambda z: prior.intrinsic(z, shear), z)
    by_g = jax.jacfwd(lambda t: prior.intrinsic(z, to_disc(t)))(t)
    # cov(z, t) = -X_g S^-1
    mixed = -jnp.einsum("nok,nkg,gh,nph->nop", by_z, x_cross, t_covariance, by_g)
    covariance = (
        jnp.einsum("nok,nkl,npl->nop", by_z, z_covariance, by_z)
        + mixed
        + mixed.swapaxes(1, 2)
        + jnp.einsum("nog,gh,nph->nop", by_g, t_covariance, by_g)
    )
    return Mode(
        shear=shear,
        shear_covariance=by_t @ t_covariance @ by_t.T,
        parameters=prior.intrinsic(z, shear),
        covariance=covariance,
        model_adu=state.laplace.model,
        shear_move=state.moves.shear,
        source_move=state.moves.source,
        converged=state.converged,
        history=state.history,
    )
