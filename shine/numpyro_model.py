"""The NumPyro model of a scene, in coordinates whitened by the curvature at the joint mode.

A sampler sees `sources` (n, 6) and `shear_coordinates` (2,), x and y, in which the posterior is
about a unit Gaussian:

    shear_t = mode + R y                      R R^T the shear's Laplace covariance
    z       = mode + L x - X (shear_t - mode)  L L^T a blend's covariance at fixed shear

with X the blend's answer to the shear (`shine.fit.Family`): so no correlation within a blend,
or with the shear, is left for a sampler to find. The map is linear and its Jacobian a constant.
"""

from functools import partial
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jaxtyping import Array, Float, Int
from numpyro.distributions import constraints

from shine.density import Pixels, log_likelihood, log_shear_prior, log_source_prior
from shine.fit import Family, Fit
from shine.prior_utils import SourcePrior, to_disc
from shine.scene import Scene

SOURCES, SHEAR = "sources", "shear_coordinates"
_LEAST_LOGISTIC_CURVATURE = 0.05


class _Group(NamedTuple):
    """The b blends of c sources."""

    source: Int[Array, "b c"]  # rows of their sources; where there is none, the row after the last
    root: Float[Array, "b 6c 6c"]  # L
    response: Float[Array, "b 6c 2"]  # X


class Whitening(eqx.Module):
    """The map from x and y to the coordinates z and shear_t."""

    z: Float[Array, "n 6"]  # the mode
    shear_t: Float[Array, "2"]
    shear_root: Float[Array, "2 2"]
    groups: tuple[_Group, ...]

    @classmethod
    def of(cls, prior: SourcePrior, fit: Fit) -> "Whitening":
        """From the mode and the curvature there, on the host in double precision."""
        n = len(prior.lensed)
        families = [family for family in (*fit.families, _unseen(prior, fit)) if len(family.blend)]
        return cls(
            z=jnp.asarray(fit.z[:n]),
            shear_t=jnp.asarray(fit.shear_t),
            shear_root=jnp.asarray(_root(fit.shear_curvature)),
            groups=tuple(
                _Group(
                    source=jnp.asarray(np.where(family.source < 0, n, family.source), jnp.int32),
                    root=jnp.asarray(_root(family.gauss_newton + _logistic(prior, fit.z, family))),
                    response=jnp.asarray(family.response),
                )
                for family in families
            ),
        )

    def coordinates(
        self, x: Float[Array, "n 6"], y: Float[Array, "2"]
    ) -> tuple[Float[Array, "n 6"], Float[Array, "2"]]:
        """z and shear_t."""
        # in full single precision on an accelerator, too: the density must be smooth in x and y
        product = partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)
        moved = product("gh,h->g", self.shear_root, y)
        x = jnp.pad(x, ((0, 1), (0, 0)))
        step = jnp.zeros_like(x)
        for group in self.groups:
            own = x[group.source].reshape(len(group.source), -1)
            own = product("bij,bj->bi", group.root, own)
            own -= product("big,g->bi", group.response, moved)
            step = step.at[group.source].set(own.reshape(*group.source.shape, 6))
        return self.z + step[:-1], self.shear_t + moved


class Target(eqx.Module):
    """The posterior of a scene near its mode: what `fit_vi` and `sample_nuts` work on."""

    prior: SourcePrior
    pixels: Pixels
    whitening: Whitening

    @classmethod
    def near(cls, scene: Scene, prior: SourcePrior, fit: Fit) -> "Target":
        """Around the mode that `shine.inference.find_mode` has found.

        Only the scene's n sources: the rows that pad the prior are left out.
        """
        rows = np.arange(scene.n_sources)
        with jax.enable_x64(False):
            prior = jax.device_put(prior.rows(rows))
            z = jnp.asarray(fit.z[rows])
            pixels = Pixels.of(scene, prior.observed(z))
            return cls(prior, pixels, Whitening.of(prior, fit))

    def around(self, whitening: Whitening) -> "Target":
        """The same posterior, in other coordinates and relative to their origin."""
        pixels = self.pixels.referred_to(self.prior.observed(whitening.z))
        return Target(self.prior, pixels, whitening)

    def log_density(self, x: Float[Array, "n 6"], y: Float[Array, "2"]) -> Float[Array, ""]:
        """Log posterior density of the coordinates, less that at the mode."""
        return _log_density(self, x, y)

    def parameters(
        self, x: Float[Array, "n 6"], y: Float[Array, "2"]
    ) -> tuple[Float[Array, "2"], Float[Array, "n 6"]]:
        """The shear, and the sources' flux, size, intrinsic ellipticity and offset."""
        return _parameters(self, x, y)

    def origin(self) -> dict[str, Array]:
        """The mode in the model's sites."""
        return {SOURCES: jnp.zeros_like(self.whitening.z), SHEAR: jnp.zeros(2)}


def sites(target: Target) -> tuple[Array, Array]:
    """The model's sites alone, x and y, with no density of their own."""
    shape = target.whitening.z.shape
    x = numpyro.sample(SOURCES, dist.ImproperUniform(constraints.real, (), shape))
    y = numpyro.sample(SHEAR, dist.ImproperUniform(constraints.real, (), (2,)))
    return x, y


def model(target: Target) -> None:
    """The NumPyro model: its density is the posterior's in the coordinates z and shear_t.

    Sites `sources` (n, 6) and `shear_coordinates` (2,), whitened; deterministic `shear` (2,).
    """
    x, y = sites(target)
    numpyro.deterministic("shear", target.parameters(x, y)[0])
    numpyro.factor("log_posterior", target.log_density(x, y))


# Compiled, since NumPyro looks at a model step by step before it compiles it.
@jax.jit
def _log_density(target: Target, x: Array, y: Array) -> Array:
    prior, mode = target.prior, target.whitening
    z, shear_t = mode.coordinates(x, y)
    # as a difference source by source, which single precision holds
    sources = log_source_prior(prior, z, shear_t) - log_source_prior(prior, mode.z, mode.shear_t)
    shear = log_shear_prior(prior, shear_t) - log_shear_prior(prior, mode.shear_t)
    return log_likelihood(target.pixels, prior.observed(z)) + jnp.sum(sources) + shear


@jax.jit
def _parameters(target: Target, x: Array, y: Array) -> tuple[Array, Array]:
    z, shear_t = target.whitening.coordinates(x, y)
    shear = to_disc(shear_t)
    return shear, target.prior.intrinsic(z, shear)


def _unseen(prior: SourcePrior, fit: Fit) -> Family:
    """Sources that no pixel sees, of which only the prior is known."""
    seen = np.zeros(len(prior.lensed), bool)
    for family in fit.families:
        seen[family.source[family.source >= 0]] = True
    rows = np.flatnonzero(~seen)
    family = Family.of(np.full(len(rows), -1), rows[:, None])
    shape = np.where(np.asarray(prior.point)[rows], 1.0, prior.ellipticity_sigma**-2)
    family.gauss_newton[:, 2, 2] = family.gauss_newton[:, 3, 3] = shape
    return family


def _logistic(prior: SourcePrior, z: np.ndarray, family: Family) -> np.ndarray:
    """The curvature that a prior flat in a parameter has in its coordinate."""
    here = np.where(family.source[..., None] >= 0, z[family.source], 0.0)
    sigmoid = 1.0 / (1.0 + np.exp(-here.astype(float)))
    curvature = np.maximum(2.0 * sigmoid * (1.0 - sigmoid), _LEAST_LOGISTIC_CURVATURE)
    flat = [prior.flux_kind == "Uniform", prior.hlr_kind == "Uniform", *4 * [False]]
    diagonal = np.where(flat, curvature, 0.0).reshape(len(family.source), -1)
    return diagonal[..., None] * np.eye(diagonal.shape[1])


def _root(curvature: np.ndarray) -> np.ndarray:
    """L with L L^T the inverse of each curvature."""
    lower = np.linalg.cholesky(curvature.astype(float))
    return np.linalg.inv(lower).swapaxes(-1, -2).astype(np.float32)
