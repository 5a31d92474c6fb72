"""The Gauss-Newton system of all sources and the shear at one point, and its solution.

Prior and likelihood are sums of squares, so the curvature is H = J^T W J + R^T R with the
derivatives J of the model image and R of the prior's residuals. In the coordinates of
`shine.prior_utils` the pixels do not depend on the shear at all: it meets the sources only
through the prior on their intrinsic shapes. So with forces b, the gradients of the log posterior,

    H_zz X = [b_z, H_zg]      conjugate gradients, each source's own 6 x 6 block as preconditioner;
                              isolated sources are solved exactly, iterations serve the blends
    S = H_gg - H_gz X_g       the shear's 2 x 2 Schur complement: its inverse is the covariance of
                              the shear, marginal over all source parameters
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, Float

from shine.prior_utils import SourcePrior, to_disc
from shine.scene import Jacobian, Scene

_CG_MOST = 60
# Least curvature of (log) flux and size, which a flat prior leaves free where no pixel is. None for
# the shape: there its prior's curvature must cancel exactly against that of the shear.
_RIDGE = (1e-4, 1e-4, 0.0, 0.0, 0.0, 0.0)

_LEAST_CURVATURE = 0.1


class System(NamedTuple):
    """The Gauss-Newton system at one point, undamped."""

    model: Array  # (p,) model image, ADU
    jacobian: Jacobian
    link: Array  # (n, 6, 6) d(observed)/d(z)
    residual_z: Array  # (n, 6, 6)
    blocks: Array  # (n, 6, 6)
    cross: Array  # (n, 6, 2)
    shear_block: Array  # (2, 2)
    force_z: Array  # (n, 6) gradient of the log posterior
    force_g: Array  # (2,)
    second_order: Array  # (n, 6, 6) the true curvature of each source minus its block


class Steering(NamedTuple):
    """How to solve a system."""

    damping: Array  # (n,) each source has its own: one that is hard to fit does not hold up others
    newton: Array  # (n,) bool, whether to use the second-order terms too
    tolerance: Array  # of the conjugate gradients


def linearise(scene: Scene, prior: SourcePrior, z: Array, t: Array) -> System:
    """Gauss-Newton system at a point."""
    observed = prior.observed(z)
    model, jacobian = scene.linearise(observed)
    link = per_source_derivative(prior.observed, z)
    residual = prior.residual(z, to_disc(t))
    residual_z = per_source_derivative(lambda z: prior.residual(z, to_disc(t)), z)
    residual_g = jax.jacfwd(lambda t: prior.residual(z, to_disc(t)))(t)
    shear_residual = to_disc(t) / prior.shear_sigma
    shear_residual_g = jax.jacfwd(lambda t: to_disc(t) / prior.shear_sigma)(t)
    misfit = scene.weight * (scene.data_adu - model)
    pull = jacobian.gradient(scene, misfit)

    def energy_slope(z: Array) -> Array:
        """Gradient of the prior's energy minus the pull of the misfit on the observed values."""
        return jax.grad(
            lambda z: (
                0.5 * jnp.sum(prior.residual(z, to_disc(t)) ** 2)
                - jnp.sum(pull * prior.observed(z))
            )
        )(z)

    return System(
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
        force_z=jnp.einsum("nok,no->nk", link, pull)
        - jnp.einsum("nrk,nr->nk", residual_z, residual),
        force_g=-jnp.einsum("nrg,nr->g", residual_g, residual)
        - shear_residual_g.T @ shear_residual,
        second_order=per_source_derivative(energy_slope, z)
        - _sandwich(residual_z)
        - _sandwich(link, scene.bend(observed, misfit)),
    )


def solve(scene: Scene, system: System, steering: Steering):
    """The damped step (dz, dt), the Schur complement S and X_g = H_zz^-1 H_zg."""
    newton = jnp.where(
        steering.newton[:, None, None],
        _positive(system.blocks, system.second_order),
        system.blocks,
    )
    # The second-order terms steer the sources alone: with them S need not be positive.
    blocks = jnp.stack([newton, system.blocks, system.blocks])
    diagonal = steering.damping[:, None] * jnp.einsum("bnkk->bnk", blocks)
    damped = blocks + diagonal[..., None] * jnp.eye(6)

    def solved(right: Array, damped: Array) -> Array:
        """H_zz^-1 right (n, 6), where each source's own block is `damped` (n, 6, 6)."""
        root = jnp.linalg.cholesky(damped)
        extra = damped - system.blocks + jnp.diag(jnp.array(_RIDGE))

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
            more = jnp.einsum("nkl,nl->nk", extra, dz)
            return to_sigma(jnp.einsum("nok,no->nk", system.link, data) + prior + more)

        solution, _ = jax.scipy.sparse.linalg.cg(
            curvature, to_sigma(right), tol=steering.tolerance, maxiter=_CG_MOST
        )
        return from_sigma(solution)

    right = jnp.stack([system.force_z, system.cross[..., 0], system.cross[..., 1]])
    x_force, x1, x2 = jax.vmap(solved)(right, damped)
    x_cross = jnp.stack([x1, x2], axis=-1)
    schur = system.shear_block - jnp.einsum("nkg,nkh->gh", system.cross, x_cross)
    schur = 0.5 * (schur + schur.T)
    dt = jnp.linalg.solve(schur, system.force_g - jnp.einsum("nkg,nk->g", system.cross, x_force))
    return x_force - x_cross @ dt, dt, schur, x_cross


def per_source_derivative(function, z: Float[Array, "n 6"]) -> Float[Array, "n 6 6"]:
    """d function(z)[i, :] / d z[i, :] for a function that acts on each row by itself."""
    columns = jax.vmap(
        lambda basis: jax.jvp(function, (z,), (jnp.broadcast_to(basis, z.shape),))[1]
    )
    return jnp.moveaxis(columns(jnp.eye(6)), 0, -1)


def _positive(blocks: Array, second_order: Array) -> Array:
    """Gauss-Newton blocks plus second-order terms, made positive definite (n, 6, 6).

    Relative to the block, each principal curvature counts by its modulus, and as _LEAST_CURVATURE
    at least: so a step leads away from a saddle, and not too far (saddle-free Newton, Dauphin et
    al. 2014).
    """
    root = jnp.linalg.cholesky(blocks)
    half = solve_triangular(root, second_order, lower=True)
    relative = solve_triangular(root, half.swapaxes(1, 2), lower=True)
    relative = jnp.eye(6) + 0.5 * (relative + relative.swapaxes(1, 2))
    values, vectors = jnp.linalg.eigh(relative)
    values = jnp.maximum(jnp.abs(values), _LEAST_CURVATURE)
    scaled = root @ vectors
    return jnp.einsum("nik,nk,njk->nij", scaled, values, scaled)


def _sandwich(outer: Array, inner: Array | None = None) -> Array:
    """outer^T inner outer, source by source; the identity where `inner` is not given."""
    if inner is None:
        return jnp.einsum("nrk,nrl->nkl", outer, outer)
    return jnp.einsum("nok,nop,npl->nkl", outer, inner, outer)
