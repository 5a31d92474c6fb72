"""The joint mode of all sources and the shear, by damped Gauss-Newton, with Laplace errors.

Prior and likelihood are sums of squares, so the curvature is H = J^T W J + R^T R with the
derivatives J of the model image and R of the prior's residuals. In the coordinates of
`shine.prior_utils` the pixels do not depend on the shear at all: it meets the sources only
through the prior on their intrinsic shapes. Per step

    H_zz X = [b_z, H_zg]      conjugate gradients, each source's own 6 x 6 block as preconditioner;
                              isolated sources are solved exactly, iterations serve the blends
    S = H_gg - H_gz X_g       the shear's 2 x 2 Schur complement: its inverse is the covariance of
                              the shear, marginal over all source parameters

(Levenberg 1944, Marquardt 1963; Nocedal & Wright 2006, ch. 10).
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, Float

from shine.config import SolverConfig
from shine.prior_utils import SourcePrior, to_disc
from shine.scene import Jacobian, Scene

_DAMPING_START, _DAMPING_LEAST = 1e-2, 1e-7
_LEAST_GAIN_RATIO, _TRUSTED_GAIN = 0.1, 1e-4
_LONGEST_STEP = (2.0, 2.0, 0.5, 0.5, 2.0, 2.0)  # of the whitened coordinates
_LONGEST_SHEAR_STEP = 0.1
_CG_TOLERANCE, _CG_MOST = 1e-4, 60
# Least curvature of (log) flux and size, which a flat prior leaves free where no pixel is. None for
# the shape: there its prior's curvature must cancel exactly against that of the shear.
_RIDGE = (1e-4, 1e-4, 0.0, 0.0, 0.0, 0.0)


class History(eqx.Module):
    """One entry per iteration; unused ones are NaN."""

    remaining: Float[Array, "k"]  # expected rise of the log posterior still to come
    rejected: Float[Array, "k"]  # sources whose step did not bring what it promised


class Mode(eqx.Module):
    """The joint mode, its errors, and how the solver got there."""

    shear: Float[Array, "2"]  # reduced shear g1, g2
    shear_covariance: Float[Array, "2 2"]
    parameters: Float[Array, "n 6"]  # flux, hlr, intrinsic e1, e2, offset u, v
    covariance: Float[Array, "n 6 6"]  # marginal over the shear, neighbours held at the mode
    model_adu: Float[Array, "p"]
    remaining: Float[Array, ""]  # expected rise of the log posterior still to come
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


class _State(NamedTuple):
    point: _Point
    laplace: _Laplace
    damping: Array  # (n,)
    remaining: Array
    settled: Array  # the search seems over: the next pass is undamped, for verdict and errors
    finished: Array
    iteration: Array
    history: History


class _System(NamedTuple):
    """The Gauss-Newton system at one point, undamped."""

    model: Array  # (p,) model image, ADU
    jacobian: Jacobian
    link: Array  # (n, 6, 6) d(observed)/d(z)
    residual_z: Array  # (n, 6, 6)
    blocks: Array  # (n, 6, 6)
    cross: Array  # (n, 6, 2)
    shear_block: Array  # (2, 2)
    force_z: Array  # (n, 6) minus the gradient of the log posterior's negative
    force_g: Array  # (2,)


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
        damping=jnp.full(n, _DAMPING_START),
        remaining=jnp.float32(jnp.inf),
        settled=jnp.bool_(False),
        finished=jnp.bool_(False),
        iteration=jnp.int32(0),
        history=History(empty, empty),
    )

    def step(state: _State) -> _State:
        system = _linearise(scene, prior, state.point)
        damping = jnp.where(state.settled, 0.0, state.damping)
        dz, dt, schur, x_cross = _solve(scene, system, damping)
        expected = 0.5 * jnp.sum(system.force_z * dz, axis=1)
        # Damping hides what it holds back; to first order it divides by 1 + damping.
        remaining = jnp.sum((1.0 + damping) * expected) + 0.5 * jnp.vdot(system.force_g, dt)
        trial = _shortened(state.point, (dz, dt))
        gain = _gain_per_source(
            scene, prior, (state.point, system.model), (trial, scene.model(prior.observed(trial.z)))
        )
        # A gain that drowns in rounding says nothing; so small a step is trusted.
        better = (gain > _LEAST_GAIN_RATIO * expected) | (expected < _TRUSTED_GAIN)
        settled = ~state.settled & (remaining < config.tolerance)
        finished = state.settled & (remaining < config.tolerance)
        i = state.iteration
        return _State(
            point=_Point(
                jnp.where((better & ~state.settled)[:, None], trial.z, state.point.z),
                jnp.where(state.settled, state.point.t, trial.t),
            ),
            laplace=_Laplace(system.model, system.blocks, x_cross, schur),
            damping=jnp.where(
                state.settled,
                state.damping,
                jnp.clip(damping * jnp.where(better, 0.1, 10.0), _DAMPING_LEAST, 1e6),
            ),
            remaining=remaining,
            # The last pass allowed is an undamped one, whatever was reached.
            settled=settled | (i == k - 2),
            finished=finished | (i == k - 1),
            iteration=i + 1,
            history=History(
                state.history.remaining.at[i].set(remaining),
                state.history.rejected.at[i].set(jnp.sum(~better)),
            ),
        )

    state = jax.lax.while_loop(lambda state: ~state.finished, step, state)
    return _mode(prior, state, config)


def _linearise(scene: Scene, prior: SourcePrior, point: _Point) -> _System:
    """Gauss-Newton system at a point."""
    observed = prior.observed(point.z)
    model, jacobian = scene.linearise(observed)
    link = _per_source_derivative(prior.observed, point.z)
    residual = prior.residual(point.z, to_disc(point.t))
    residual_z = _per_source_derivative(lambda z: prior.residual(z, to_disc(point.t)), point.z)
    residual_g = jax.jacfwd(lambda t: prior.residual(point.z, to_disc(t)))(point.t)
    shear_residual = to_disc(point.t) / prior.shear_sigma
    shear_residual_g = jax.jacfwd(lambda t: to_disc(t) / prior.shear_sigma)(point.t)
    misfit = scene.weight * (scene.data_adu - model)
    return _System(
        model=model,
        jacobian=jacobian,
        link=link,
        residual_z=residual_z,
        blocks=_sandwich(link, jacobian.blocks(scene))
        + _sandwich(residual_z)
        + jnp.diag(jnp.array(_RIDGE)),
        cross=jnp.einsum("nrk,nrg->nkg", residual_z, residual_g),
        shear_block=jnp.einsum("nrg,nrh->gh", residual_g, residual_g)
        + shear_residual_g.T @ shear_residual_g,
        force_z=jnp.einsum("nok,no->nk", link, jacobian.gradient(scene, misfit))
        - jnp.einsum("nrk,nr->nk", residual_z, residual),
        force_g=-jnp.einsum("nrg,nr->g", residual_g, residual)
        - shear_residual_g.T @ shear_residual,
    )


def _solve(scene: Scene, system: _System, damping: Array):
    """The damped step (dz, dt), the Schur complement S and X_g = H_zz^-1 H_zg.

    Each source has its own `damping` (n,): one that is hard to fit does not hold up the others.
    """
    diagonal = jnp.einsum("nkk->nk", system.blocks)
    extra = damping[:, None] * diagonal
    ridge = jnp.array(_RIDGE)
    damped = system.blocks + jnp.einsum("nk,kl->nkl", extra, jnp.eye(6))
    root = jnp.linalg.cholesky(damped)

    def to_sigma(force: Array) -> Array:  # L^-1 force
        return solve_triangular(root, force[..., None], lower=True)[..., 0]

    def from_sigma(step: Array) -> Array:  # L^-T step
        return solve_triangular(root, step[..., None], lower=True, trans=1)[..., 0]

    def curvature(step: Array) -> Array:
        """H_zz in coordinates where each source's own block is the identity."""
        dz = from_sigma(step)
        image = system.jacobian.push(scene, jnp.einsum("nok,nk->no", system.link, dz))
        data = system.jacobian.gradient(scene, scene.weight * image)
        prior = jnp.einsum("nrk,nrl,nl->nk", system.residual_z, system.residual_z, dz)
        return to_sigma(jnp.einsum("nok,no->nk", system.link, data) + prior + (ridge + extra) * dz)

    right = jnp.stack([system.force_z, system.cross[..., 0], system.cross[..., 1]])
    solution, _ = jax.vmap(
        lambda b: jax.scipy.sparse.linalg.cg(curvature, b, tol=_CG_TOLERANCE, maxiter=_CG_MOST)
    )(jax.vmap(to_sigma)(right))
    x_force, x1, x2 = jax.vmap(from_sigma)(solution)
    x_cross = jnp.stack([x1, x2], axis=-1)
    schur = system.shear_block - jnp.einsum("nkg,nkh->gh", system.cross, x_cross)
    schur = 0.5 * (schur + schur.T)
    dt = jnp.linalg.solve(schur, system.force_g - jnp.einsum("nkg,nk->g", system.cross, x_force))
    return x_force - x_cross @ dt, dt, schur, x_cross


def _shortened(point: _Point, step: tuple[Array, Array]) -> _Point:
    """Take the step, shortened source by source where it leaves the range of the linearisation."""
    dz, dt = step
    excess = jnp.max(jnp.abs(dz) / jnp.array(_LONGEST_STEP), axis=1, keepdims=True)
    return _Point(
        point.z + dz / jnp.maximum(excess, 1.0),
        point.t + dt / jnp.maximum(jnp.max(jnp.abs(dt)) / _LONGEST_SHEAR_STEP, 1.0),
    )


def _gain_per_source(scene: Scene, prior: SourcePrior, old: tuple, new: tuple) -> Array:
    """Log posterior at `new` minus at `old`, in the stamps and priors of each source, (n,).

    Summed as differences, so that float32 holds it. A pixel of a blend counts for each of its
    sources, for they answer for it together.
    """
    (old_point, old_model), (new_point, new_model) = old, new
    mean = 0.5 * (new_model + old_model)
    data = scene.weight * (new_model - old_model) * (scene.data_adu - mean)
    before, after = (prior.residual(p.z, to_disc(p.t)) for p in (old_point, new_point))
    return scene.sum_per_source(data) + 0.5 * jnp.sum((before - after) * (before + after), axis=1)


def _mode(prior: SourcePrior, state: _State, config: SolverConfig) -> Mode:
    """The mode with its Laplace covariances, in the parameters that people read."""
    z, t = state.point
    x_cross = state.laplace.x_cross
    t_covariance = jnp.linalg.inv(state.laplace.schur)
    z_covariance = jnp.linalg.inv(state.laplace.blocks) + jnp.einsum(
        "nkg,gh,nlh->nkl", x_cross, t_covariance, x_cross
    )
    shear = to_disc(t)
    by_t = jax.jacfwd(to_disc)(t)
    by_z = _per_source_derivative(lambda z: prior.intrinsic(z, shear), z)
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
        remaining=state.remaining,
        converged=state.remaining < config.tolerance,
        history=state.history,
    )


def _per_source_derivative(function, z: Float[Array, "n 6"]) -> Float[Array, "n 6 6"]:
    """d function(z)[i, :] / d z[i, :] for a function that acts on each row by itself."""
    columns = jax.vmap(
        lambda basis: jax.jvp(function, (z,), (jnp.broadcast_to(basis, z.shape),))[1]
    )
    return jnp.moveaxis(columns(jnp.eye(6)), 0, -1)


def _sandwich(outer: Array, inner: Array | None = None) -> Array:
    """outer^T inner outer, source by source; the identity where `inner` is not given."""
    if inner is None:
        return jnp.einsum("nrk,nrl->nkl", outer, outer)
    return jnp.einsum("nok,nop,npl->nkl", outer, inner, outer)
