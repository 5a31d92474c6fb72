"""One damped Newton step of many blends: what the pixels say, the step, and what it brings.

Prior and likelihood are sums of squares, so the curvature of a blend is H = J^T W J + R^T R with
the derivatives J of its stamps and R of the prior's residuals. In the coordinates of
`shine.prior_utils` the pixels do not depend on the shear g at all: it meets the sources only
through the prior on their intrinsic shapes. So a blend answers a change of the shear by
dz = -X dg, X = H^-1 H_zg, and gives the shear the curvature H_gg - H_gz X, marginal over all that
is unknown of it.

What touches pixels (`measure`, `compare`) is compiled once per stamp size and number of members;
the algebra (`propose`) runs on the host.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import export
from jaxtyping import Array, Float
from numpy.typing import NDArray

from shine import render
from shine.prior_utils import SourcePrior, to_disc
from shine.profiles import Profile
from shine.programs import program
from shine.render import Derivatives
from shine.scene import Chunk

Floats = NDArray[np.floating]
Energy = Callable[[Floats], Floats]  # of points (b, c, 6)

# Least curvature of (log) flux and size, which a flat prior leaves free where no pixel is. None for
# the shape: there its prior's curvature must cancel exactly against that of the shear.
_RIDGE = (1e-4, 1e-4, 0.0, 0.0, 0.0, 0.0)
_LEAST_CURVATURE = 0.1
_ROUNDING = 1e-6  # of single-precision sums over a stamp, relative to the diagonal
# The range of a linearisation: log flux, log size, shape, position in their coordinates
_LONGEST_STEP = np.array([2.0, 2.0, 0.5, 0.5, 2.0, 2.0])
# Cache-sized batches of stamps are several times faster on a CPU than one large batch; of the last
# one what stands empty is drawn, too.
_BATCH = 8
DRAWS = 32  # points that one call of `compare_many` takes


class PriorTerms(NamedTuple):
    """What the prior says of n sources near their coordinates z."""

    link: Floats  # (n, 6, 6) d(observed)/dz
    residual: Floats  # (n, 6)
    residual_z: Floats  # (n, 6, 6)
    residual_g: Floats  # (n, 6, 2)
    # (n, 6, 6) second derivatives of half the squared residual minus pull . observed
    energy_curvature: Floats


export.register_namedtuple_serialization(PriorTerms, serialized_name="shine.PriorTerms")


class Proposal(NamedTuple):
    """A step of b blends of c sources, and the curvature where it begins."""

    trial: Floats  # (b, c, 6)
    prior_gain: Floats  # (b,) rise of the log prior by the step
    hoped: Floats  # (b,) rise of the log posterior that the step promises
    expected: Floats  # (b,) ... that an undamped one would
    gauss_newton: Floats  # (b, 6c, 6c) curvature, positive definite
    hessian: Floats  # (b, 6c, 6c) the exact one, made positive definite
    response: Floats  # (b, 6c, 2) X
    shear_curvature: Floats  # (b, 2, 2)


@program(n_static=1)
def measure(profile: Profile, chunk: Chunk, observed: Float[Array, "b c 6"]) -> Derivatives:
    """What the pixels say of each blend of a chunk: `shine.render.Derivatives` (b, ...).

    The pull is the gradient of the log likelihood, the curvature J^T W J that of a linear model,
    and the bend what it lacks to the true one.
    """

    def view(arguments) -> Derivatives:
        frame, galaxies, residual, weight = arguments
        pixels = jnp.stack([weight, weight * residual])
        return render.render_derivatives(profile, frame, galaxies, pixels)

    arguments = (chunk.frame, chunk.galaxies(observed), chunk.residual, chunk.weight)
    terms = _for_views(view, arguments, chunk, _BATCH)
    return jax.tree.map(lambda a: _per_blend(a, chunk), terms)


@program(n_static=1)
def compare(
    profile: Profile, chunk: Chunk, before: Float[Array, "b c 6"], after: Float[Array, "b c 6"]
) -> tuple[Float[Array, "b"], Float[Array, "v n n"]]:
    """Rise of each blend's log likelihood from one point to another, and the stamps' change.

    The chunk's residuals are those at the first point; all other blends stay as they are. The rise
    is summed as a difference, so that float32 holds it.
    """
    size = chunk.residual.shape[-1]

    def view(arguments) -> tuple[Array, Array]:
        frame, old, new, residual, weight = arguments
        change = render.render(profile, size, frame, new) - render.render(profile, size, frame, old)
        return jnp.sum(weight * change * (residual - 0.5 * change)), change

    arguments = (chunk.frame, chunk.galaxies(before), chunk.galaxies(after))
    arguments += (chunk.residual, chunk.weight)
    rise, change = _for_views(view, arguments, chunk, _BATCH)
    return _per_blend(rise, chunk), change


@program(n_static=1)
def compare_many(
    profile: Profile, chunk: Chunk, before: Float[Array, "b c 6"], after: Float[Array, "b k c 6"]
) -> Float[Array, "b k"]:
    """As `compare`, from one point to k others."""
    size = chunk.residual.shape[-1]

    def view(arguments) -> Array:
        frame, residual, weight, slot = arguments

        def draw(observed: Array) -> Array:
            galaxies = render.Galaxies(observed, chunk.coefficients[slot], chunk.present[slot])
            return render.render(profile, size, frame, galaxies)

        change = jax.vmap(draw)(after[slot]) - draw(before[slot])
        return jnp.sum(weight * change * (residual - 0.5 * change), axis=(1, 2))

    arguments = (chunk.frame, chunk.residual, chunk.weight, chunk.slot)
    per_view = _for_views(view, arguments, chunk, 1)
    return _per_blend(per_view, chunk)


def propose(
    terms: PriorTerms, pixels: Derivatives, z: Floats, damping: Floats, prior_energy: Energy
) -> Proposal:
    """The damped Newton step of each blend, on the host in float64.

    Small systems, but for bright sources ill-conditioned ones, which single precision does not
    hold. `terms` and `pixels` are arrays (b, c, ...), `damping` is (b,), and `prior_energy` gives
    minus the log prior (b,) anywhere.
    """
    n_blends, n_members = z.shape[:2]
    size = 6 * n_members

    def blocks(own: Floats) -> Floats:
        """Square blocks (b, c, 6, 6) of the sources, along the diagonals of their blends'."""
        return np.einsum("bcij,cd->bcidj", own, np.eye(n_members)).reshape(-1, size, size)

    def flat(values: Floats) -> Floats:
        return values.reshape(n_blends, size, -1)

    sandwich = np.einsum("bcri,bcrj->bcij", terms.residual_z, terms.residual_z)
    gauss_newton = np.einsum("bcoi,bcodp,bdpj->bcidj", terms.link, pixels.curvature, terms.link)
    gauss_newton = gauss_newton.reshape(-1, size, size) + blocks(sandwich + np.diag(_RIDGE))
    second_order = blocks(
        terms.energy_curvature
        - sandwich
        - np.einsum("bcoi,bcop,bcpj->bcij", terms.link, pixels.bend, terms.link)
    )
    force = np.einsum("bcoi,bco->bci", terms.link, pixels.pull)
    force -= np.einsum("bcri,bcr->bci", terms.residual_z, terms.residual)
    # A unit diagonal, and rounding of the single-precision sums kept from making it indefinite
    scale = 1.0 / np.sqrt(np.einsum("bii->bi", gauss_newton))[..., None]
    whiten = scale * scale.swapaxes(1, 2)
    unit = gauss_newton * whiten + _ROUNDING * np.eye(size)
    newton = _positive(unit, second_order * whiten)
    damped = newton * (1.0 + damping[:, None, None] * np.eye(size))
    dz = (scale * np.linalg.solve(damped, scale * flat(force))).reshape(z.shape)
    cross = flat(np.einsum("bcri,bcrg->bcig", terms.residual_z, terms.residual_g))
    response = scale * np.linalg.solve(unit, scale * cross)
    shear_block = np.einsum("bcrg,bcrh->bgh", terms.residual_g, terms.residual_g)
    # shortened source by source where it leaves the range of the linearisation
    fraction = 1.0 / np.maximum(1.0, np.max(np.abs(dz) / _LONGEST_STEP, axis=-1))
    trial = z + dz * fraction[..., None]
    promised = 0.5 * np.sum(force * dz, axis=-1)
    return Proposal(
        trial=trial,
        prior_gain=prior_energy(z) - prior_energy(trial),
        hoped=np.sum(promised * fraction * (2.0 - fraction), axis=1),
        expected=(1.0 + damping) * promised.sum(axis=1),
        gauss_newton=gauss_newton,
        hessian=newton / whiten,
        response=response,
        shear_curvature=shear_block - np.einsum("big,bih->bgh", cross, response),
    )


@program()
def prior_terms(
    prior: SourcePrior, z: Float[Array, "n 6"], pull: Float[Array, "n 6"], shear_t: Array
) -> PriorTerms:
    """Derivatives of the prior; `pull` is the gradient of the log likelihood, `shear_t` (2,)."""
    shear = to_disc(shear_t)

    def energy_slope(z: Array) -> Array:
        return jax.grad(
            lambda z: (
                0.5 * jnp.sum(prior.residual(z, shear) ** 2) - jnp.sum(pull * prior.observed(z))
            )
        )(z)

    return PriorTerms(
        link=per_source_derivative(prior.observed, z),
        residual=prior.residual(z, shear),
        residual_z=per_source_derivative(lambda z: prior.residual(z, shear), z),
        residual_g=jax.jacfwd(lambda t: prior.residual(z, to_disc(t)))(shear_t),
        energy_curvature=per_source_derivative(energy_slope, z),
    )


def per_source_derivative(function, z: Float[Array, "n 6"]) -> Float[Array, "n 6 6"]:
    """d function(z)[i, :] / d z[i, :] for a function that acts on each row by itself."""
    columns = jax.vmap(
        lambda basis: jax.jvp(function, (z,), (jnp.broadcast_to(basis, z.shape),))[1]
    )
    return jnp.moveaxis(columns(jnp.eye(6)), 0, -1)


def _for_views(function, arguments, chunk: Chunk, batch: int):
    """`function` of each view, some at a time; zero for padding, on which no time is spent."""

    function = jax.jit(function)  # traced once for both uses

    def views(start: Array):
        return jax.tree.map(lambda a: jax.lax.dynamic_slice_in_dim(a, start, batch), arguments)

    def work(i: Array, results):
        start = i * batch
        found = jax.vmap(function)(views(start))
        return jax.tree.map(
            lambda whole, part: jax.lax.dynamic_update_slice_in_dim(whole, part, start, 0),
            results,
            found,
        )

    view = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), arguments)
    found, n = jax.eval_shape(function, view), len(chunk.slot)
    nothing = jax.tree.map(lambda a: jnp.zeros((n, *a.shape), a.dtype), found)
    return jax.lax.fori_loop(0, (chunk.n_views + batch - 1) // batch, work, nothing)


def _per_blend(values: Float[Array, "v *k"], chunk: Chunk) -> Float[Array, "b *k"]:
    return jax.ops.segment_sum(values, chunk.slot, num_segments=chunk.present.shape[0])


def _positive(unit: Floats, second_order: Floats) -> Floats:
    """The exact curvature, made positive definite (b, 6c, 6c).

    Relative to the Gauss-Newton part `unit`, each principal curvature counts by its modulus, and as
    _LEAST_CURVATURE at least: so a step leads away from a saddle, and not too far (saddle-free
    Newton, Dauphin et al. 2014).
    """
    root = np.linalg.cholesky(unit)
    half = np.linalg.solve(root, second_order)
    relative = np.linalg.solve(root, half.swapaxes(1, 2))
    values, vectors = np.linalg.eigh(0.5 * (relative + relative.swapaxes(1, 2)))
    values = np.maximum(np.abs(1.0 + values), _LEAST_CURVATURE)
    scaled = root @ vectors
    return (scaled * values[:, None, :]) @ scaled.swapaxes(1, 2)
