"""The sources' parameters and their covariances from the curvature at the mode."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from shine import newton
from shine.fit import Fit
from shine.prior_utils import SourcePrior, to_disc


@dataclass(frozen=True)
class Mode:
    """The joint mode and its errors, in the parameters that people read."""

    shear: np.ndarray  # (2,) reduced shear g1, g2
    shear_covariance: np.ndarray  # (2, 2)
    parameters: np.ndarray  # (n, 6) flux, hlr, intrinsic e1, e2, offset u, v
    covariance: np.ndarray  # (n, 6, 6) marginal over the shear and the blend's other members


def laplace(prior: SourcePrior, fit: Fit) -> Mode:
    """The parameters and their covariances from the curvature at the mode."""
    covariance_z = np.full((len(fit.z), 6, 6), np.nan)
    answer = np.zeros((len(fit.z), 6, 2))
    for family in fit.families:
        inverse = np.linalg.inv(family.gauss_newton.astype(float))
        for slot, source in enumerate(family.source.T):
            own, there = slice(6 * slot, 6 * slot + 6), source >= 0
            covariance_z[source[there]] = inverse[there, own, own]
            answer[source[there]] = family.response[there, own]
    shear_covariance = np.linalg.inv(fit.shear_curvature)
    found = _to_parameters(prior, (fit.z, fit.shear_t), (covariance_z, answer), shear_covariance)
    return Mode(*(np.array(value) for value in found))


@jax.jit
def _to_parameters(prior, point, answers, t_covariance):
    """Shear, parameters and their covariances from those in the solver's coordinates."""
    z, t = point
    conditional, answer = answers
    shear = to_disc(t)
    z_covariance = conditional + jnp.einsum("nkg,gh,nlh->nkl", answer, t_covariance, answer)
    by_t = jax.jacfwd(to_disc)(t)
    by_z = newton.per_source_derivative(lambda z: prior.intrinsic(z, shear), z)
    by_g = jax.jacfwd(lambda t: prior.intrinsic(z, to_disc(t)))(t)
    # cov(z, t) = -answer cov(t)
    mixed = -jnp.einsum("nok,nkg,gh,nph->nop", by_z, answer, t_covariance, by_g)
    covariance = (
        jnp.einsum("nok,nkl,npl->nop", by_z, z_covariance, by_z)
        + mixed
        + mixed.swapaxes(1, 2)
        + jnp.einsum("nog,gh,nph->nop", by_g, t_covariance, by_g)
    )
    return shear, by_t @ t_covariance @ by_t.T, prior.intrinsic(z, shear), covariance
