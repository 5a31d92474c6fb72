"""The log posterior of a whole scene as one differentiable function, for samplers in general.

The coordinates are those of the mode: z (n, 6), one row per source (see `shine.prior_utils`), and
shear_t (2,), with the shear g = to_disc(shear_t). Here the density is that **in the coordinates**,
with every Jacobian, as samples follow it; `log_mode_prior` is the prior whose maximum the mode is.

Everything is kept relative to a reference point, near which the samples are: sums over millions of
pixels and thousands of sources would leave single precision nothing for what moves between two
samples. On an accelerator the pixels' sums depend on the order of its threads in the last bits.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from shine.prior_utils import SourcePrior, to_disc, unlens
from shine.profiles import Profile
from shine.render import Galaxies, StampFrame, render
from shine.scene import Scene

_LOG_ROOT_2_PI = 0.5 * np.log(2.0 * np.pi)
# Views drawn at a time: cache-sized on a CPU, enough to fill an accelerator
_BATCH_CPU, _BATCH_ACCELERATOR = 16, 1024


class _Views(NamedTuple):
    """The m views of one tier: its stamps of c sources."""

    frame: StampFrame  # (m, ...)
    pixel: Int[Array, "m n*n"]  # place of each stamp pixel in the scene's vector
    source: Int[Array, "m c"]  # rows of the sources
    present: Float[Array, "m c"]  # 0 where there is no source
    coefficients: Float[Array, "m c k"]


class Pixels(eqx.Module):
    """What the log likelihood needs of a scene (arrays of JAX, to be passed to compiled code)."""

    views: tuple[_Views, ...]
    weight: Float[Array, "p"]  # ADU^-2
    data_adu: Float[Array, "p"]
    reference_adu: Float[Array, "p"]  # the model at the reference point
    sizes: tuple[int, ...] = eqx.field(static=True)  # of the tiers' stamps
    profile: Profile = eqx.field(static=True)

    @classmethod
    def of(cls, scene: Scene, observed: Float[Array, "n 6"]) -> "Pixels":
        """The pixels of a scene; `observed` are the sources' parameters at the reference point."""
        views = tuple(_views(scene, k) for k in range(len(scene.tiers)))
        data = jnp.asarray(scene.data_adu)
        pixels = cls(
            views=jax.device_put(views),
            weight=jnp.asarray(scene.weight),
            data_adu=data,
            reference_adu=jnp.zeros_like(data),
            sizes=tuple(tier.size for tier in scene.tiers),
            profile=scene.profile,
        )
        return pixels.referred_to(observed)

    def referred_to(self, observed: Float[Array, "n 6"]) -> "Pixels":
        """The same with another reference point."""
        return eqx.tree_at(lambda p: p.reference_adu, self, _draw(self, jnp.asarray(observed)))


def draw(pixels: Pixels, observed: Float[Array, "n 6"]) -> Float[Array, "p"]:
    """The model of all pixels in ADU.

    Memory in reverse mode is that of one batch of stamps: each is drawn again on the way back.
    """
    batch = _BATCH_CPU if jax.default_backend() == "cpu" else _BATCH_ACCELERATOR
    total = jnp.zeros_like(pixels.data_adu)
    for size, views in zip(pixels.sizes, pixels.views, strict=True):

        @jax.checkpoint
        def stamp(view, size=size) -> Array:
            frame, galaxies = view
            return render(pixels.profile, size, frame, galaxies).ravel()

        galaxies = Galaxies(observed[views.source], views.coefficients, views.present)
        stamps = jax.lax.map(stamp, (views.frame, galaxies), batch_size=batch)
        total = total.at[views.pixel].add(stamps)
    return total


def log_likelihood(pixels: Pixels, observed: Float[Array, "n 6"]) -> Float[Array, ""]:
    """Log likelihood of the sources' observed parameters, less that at the reference point."""
    change = draw(pixels, observed) - pixels.reference_adu
    residual = pixels.data_adu - pixels.reference_adu
    return jnp.sum(pixels.weight * change * (residual - 0.5 * change))


def log_prior(
    prior: SourcePrior, z: Float[Array, "n 6"], shear_t: Float[Array, "2"]
) -> Float[Array, ""]:
    """Log density of the priors in the coordinates z and shear_t, up to a constant."""
    return jnp.sum(log_source_prior(prior, z, shear_t)) + log_shear_prior(prior, shear_t)


def log_source_prior(
    prior: SourcePrior, z: Float[Array, "n 6"], shear_t: Float[Array, "2"]
) -> Float[Array, "n"]:
    """Log density of each source's coordinates, given the shear.

    A prior flat in a parameter becomes that of a logistic variable. Coordinates that mean nothing,
    such as the shape of a star, are standard normal.
    """
    normal = -0.5 * z**2 - _LOG_ROOT_2_PI
    logistic = jax.nn.log_sigmoid(z) + jax.nn.log_sigmoid(-z)
    flux = logistic[:, 0] if prior.flux_kind == "Uniform" else normal[:, 0]
    size = logistic[:, 1] if prior.hlr_kind == "Uniform" else normal[:, 1]
    size = jnp.where(prior.point, normal[:, 1], size)
    shape = jnp.where(
        prior.point, normal[:, 2] + normal[:, 3], _log_shape_prior(prior, z[:, 2:4], shear_t)
    )
    return flux + size + shape + normal[:, 4] + normal[:, 5]


def log_shear_prior(prior: SourcePrior, shear_t: Float[Array, "2"]) -> Float[Array, ""]:
    """Log density of shear_t up to a constant: a Gaussian of the shear, by invariant area.

    That area is d^2g / (1 - |g|^2)^2 (see `shine.population`), which is that of shear_t.
    """
    return -0.5 * jnp.sum(to_disc(shear_t) ** 2) / prior.shear_sigma**2


def log_mode_prior(
    prior: SourcePrior, z: Float[Array, "n 6"], shear_t: Float[Array, "2"]
) -> Float[Array, ""]:
    """What `shine.inference.find_mode` adds to the log likelihood, up to a constant.

    The prior density in (log) flux, (log) size, intrinsic ellipticity, offset and shear.
    """
    shear = to_disc(shear_t)
    shear_term = jnp.sum((shear / prior.shear_sigma) ** 2)
    return -0.5 * (jnp.sum(prior.residual(z, shear) ** 2) + shear_term)


_draw = jax.jit(draw)


def _views(scene: Scene, k: int) -> _Views:
    tier = scene.tiers[k]
    n_views, slots = int(tier.first[-1]), tier.frame.centre.shape[1]  # padding lies behind
    blend = np.repeat(tier.blend, np.diff(tier.first))
    source = scene.members[blend, :slots]
    return _Views(
        frame=jax.tree.map(lambda a: np.asarray(a)[:n_views], tier.frame),
        pixel=np.asarray(tier.pixel)[:n_views],
        source=np.maximum(source, 0).astype(np.int32),
        present=(source >= 0).astype(np.float32),
        coefficients=np.asarray(scene.coefficients)[source],
    )


def _log_shape_prior(prior: SourcePrior, t: Float[Array, "n 2"], shear_t: Array) -> Array:
    """Log density of the shapes' coordinates t.

    A Gaussian of the intrinsic e = (s - g) / (1 - g* s) in the unit disc, times
    |de/ds| = (1 - |g|^2)^2 / |1 - g* s|^4 (the square of the map's complex derivative) and |ds/dt|.
    """
    shear, shape = to_disc(shear_t), to_disc(t)
    real = 1.0 - shear[0] * shape[:, 0] - shear[1] * shape[:, 1]
    imaginary = shear[1] * shape[:, 0] - shear[0] * shape[:, 1]
    log_lensing = -2.0 * jnp.log1p(jnp.sum(shear_t**2)) - 2.0 * jnp.log(real**2 + imaginary**2)
    intrinsic = jnp.where(prior.lensed[:, None], unlens(shape, shear), shape)
    return (
        _log_disc_gaussian(intrinsic, prior.ellipticity_sigma)
        + jnp.where(prior.lensed, log_lensing, 0.0)
        + _log_disc_measure(t)
    )


def _log_disc_gaussian(value: Float[Array, "*n 2"], sigma: Array) -> Float[Array, "*n"]:
    """Log of exp(-|value|^2 / 2 sigma^2), normalised over the unit disc."""
    norm = jnp.log(2.0 * jnp.pi * sigma**2) + jnp.log(-jnp.expm1(-0.5 / sigma**2))
    return -0.5 * jnp.sum(value**2, axis=-1) / sigma**2 - norm


def _log_disc_measure(t: Float[Array, "*n 2"]) -> Float[Array, "*n"]:
    """Log of |ds/dt| = (1 + |t|^2)^-2 for s = to_disc(t)."""
    return -2.0 * jnp.log1p(jnp.sum(t**2, axis=-1))
