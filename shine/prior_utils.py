"""From configured priors to whitened coordinates and Gauss-Newton residuals.

The solver works in coordinates z (one row of six per source) in which the priors are about unit
Gaussians, so that one step length suits flux, size, shape and position alike:

    Normal     value = center + sigma z          residual z
    LogNormal  value = center exp(sigma z)       residual z
    Uniform    value = low + (high-low) / (1 + exp(-z))   no residual (flat)

The shape coordinates are the plane t with **observed** shape s = t / sqrt(1 + |t|^2), so |s| < 1
always holds. The prior on shape is on the intrinsic ellipticity e = (s - g) / (1 - g* s) (Seitz &
Schneider 1997), which is where the shear g enters: the pixels know s alone.
The mode is that of the density in (log) flux, (log) size, intrinsic ellipticity, offset and shear.
"""

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from shine.config import LogNormal, Normal, Priors

# Samples of observed shapes must cover all shears and dispersions that are asked of them later.
INTERIM_WIDENING = 1.4
POINT_HLR_ARCSEC = 1e-4  # a star: far below any pixel


class SourcePrior(eqx.Module):
    """Priors of all sources of a sub-tile, as arrays; the kinds of link are static."""

    flux_kind: str = eqx.field(static=True)
    hlr_kind: str = eqx.field(static=True)
    flux: Float[Array, "n 2"]  # (center, sigma) or (low, high), uJy
    hlr: Float[Array, "n 2"]  # arcsec
    ellipticity_sigma: Float[Array, ""]
    offset_sigma_arcsec: Float[Array, ""]
    shear_sigma: Float[Array, ""]
    start: Float[Array, "n 6"]  # coordinates of the catalogue's values, round
    lensed: Bool[Array, "n"]  # carries shear: its intrinsic shape is e = s (-) g, else e = s
    point: Bool[Array, "n"]  # a star: no size, no shape
    # Whether the residual is that of the density in the coordinates z, rather than in the
    # parameters: the density that samples follow, and not the mode that people expect.
    in_coordinates: bool = eqx.field(static=True, default=False)
    # Whether the priors of flux and size are log-normal around the catalogue's values, of one
    # width: method marginal may then infer the population that the galaxies follow instead.
    around_catalogue: bool = eqx.field(static=True, default=False)

    @classmethod
    def build(cls, priors: Priors, catalogue: "CatalogueValues") -> "SourcePrior":
        """Bring the configured priors and the catalogue's values together (host arrays)."""
        flux = _columns(priors.flux, catalogue.flux_ujy)
        hlr = _columns(priors.half_light_radius, catalogue.hlr_arcsec)
        start = np.zeros((len(catalogue.lensed), 6), np.float32)
        start[:, 0] = _inverse_link(priors.flux.type, flux, catalogue.flux_ujy)
        start[:, 1] = _inverse_link(priors.half_light_radius.type, hlr, catalogue.hlr_arcsec)
        start[catalogue.point, 1] = 0.0
        return cls(
            flux_kind=priors.flux.type,
            hlr_kind=priors.half_light_radius.type,
            flux=flux.astype(np.float32),
            hlr=hlr.astype(np.float32),
            ellipticity_sigma=np.float32(priors.ellipticity.sigma),
            offset_sigma_arcsec=np.float32(priors.offset.sigma),
            shear_sigma=np.float32(priors.shear.sigma),
            start=start,
            lensed=catalogue.lensed,
            point=catalogue.point,
            around_catalogue=all(
                isinstance(of, LogNormal) and of.center == "catalog"
                for of in (priors.flux, priors.half_light_radius)
            ),
        )

    def rows(self, index: Int[np.ndarray, "k"]) -> "SourcePrior":
        """The priors of some of the sources (host arrays); index -1 stands for no source.

        No source is a star without light, whatever its other values.
        """
        n = len(self.lensed)
        chosen = jax.tree.map(
            lambda a: np.asarray(a)[index] if np.ndim(a) and len(a) == n else a, self
        )
        return eqx.tree_at(
            lambda prior: (prior.lensed, prior.point),
            chosen,
            (chosen.lensed & (index >= 0), chosen.point | (index < 0)),
        )

    def lensing_only(self, source: Int[np.ndarray, "k"]) -> "SourcePrior":
        """With no shear carried by other sources than these: what is not seen has no say."""
        return replace(self, lensed=self.lensed & np.isin(np.arange(len(self.lensed)), source))

    def interim(self) -> "SourcePrior":
        """The prior under which samples are drawn: of observed shapes, in the coordinates."""
        return replace(self, in_coordinates=True)

    @property
    def interim_sigma(self) -> Float[Array, "n"]:
        """Dispersion of the observed shapes under which samples are drawn."""
        return self.ellipticity_sigma * jnp.where(self.lensed, INTERIM_WIDENING, 1.0)

    def observed(self, z: Float[Array, "n 6"]) -> Float[Array, "n 6"]:
        """Flux, half-light radius, observed shape and offset: what `shine.render` draws."""
        flux = _link(self.flux_kind, self.flux, z[:, 0])
        hlr = jnp.where(self.point, POINT_HLR_ARCSEC, _link(self.hlr_kind, self.hlr, z[:, 1]))
        shape = jnp.where(self.point[:, None], 0.0, to_disc(z[:, 2:4]))
        offset = self.offset_sigma_arcsec * z[:, 4:6]
        return jnp.column_stack([flux, hlr, shape, offset])

    def intrinsic(self, z: Float[Array, "n 6"], shear: Float[Array, "2"]) -> Float[Array, "n 6"]:
        """As `observed`, with the shape that each galaxy would have without lensing by `shear`."""
        observed = self.observed(z)
        unlensed = jnp.where(self.point[:, None], 0.0, unlens(observed[:, 2:4], shear))
        return observed.at[:, 2:4].set(unlensed)

    def residual(self, z: Float[Array, "n 6"], shear: Float[Array, "2"]) -> Float[Array, "n 6"]:
        """Whose half square is minus the log prior of the sources (up to a constant)."""
        shape = to_disc(z[:, 2:4])
        shape = jnp.where(self.lensed[:, None], unlens(shape, shear), shape)
        ellipticity = shape / self.ellipticity_sigma
        if self.in_coordinates:
            ellipticity = _with_measure(z[:, 2:4], self.interim_sigma[:, None])
        # A star's shape coordinates do nothing: hold them at zero.
        ellipticity = jnp.where(self.point[:, None], z[:, 2:4], ellipticity)
        hlr = jnp.where(self.point, z[:, 1], _flat_or_unit(self.hlr_kind, z[:, 1]))
        return jnp.column_stack(
            [_flat_or_unit(self.flux_kind, z[:, 0]), hlr, ellipticity, z[:, 4:]]
        )

    def log_measure(self, z: Float[Array, "n 6"]) -> Float[Array, "n"]:
        """Log of |d(parameters) / dz|, as far as it varies, of the priors flat in a parameter.

        With `in_coordinates`, -|residual|^2 / 2 + log_measure is the log density in z.
        """
        flat = jax.nn.log_sigmoid(z) + jax.nn.log_sigmoid(-z)
        total = flat[:, 0] if self.flux_kind == "Uniform" else jnp.zeros_like(z[:, 0])
        if self.hlr_kind == "Uniform":
            total += jnp.where(self.point, 0.0, flat[:, 1])
        return total


class CatalogueValues(eqx.Module):
    """Per source what the priors take from the catalogue (host arrays)."""

    flux_ujy: np.ndarray  # (n,)
    hlr_arcsec: np.ndarray  # (n,)
    lensed: np.ndarray  # (n,) bool
    point: np.ndarray  # (n,) bool


def unlens(shape: Float[Array, "n 2"], shear: Float[Array, "2"]) -> Float[Array, "n 2"]:
    """Intrinsic ellipticity e = (s - g) / (1 - g* s) of observed shapes s."""
    g1, g2 = shear[0], shear[1]
    s1, s2 = shape[:, 0], shape[:, 1]
    top = jnp.stack([s1 - g1, s2 - g2])
    below = jnp.stack([1.0 - g1 * s1 - g2 * s2, g2 * s1 - g1 * s2])  # 1 - g* s
    norm = below[0] ** 2 + below[1] ** 2
    real = (top[0] * below[0] + top[1] * below[1]) / norm
    imaginary = (top[1] * below[0] - top[0] * below[1]) / norm
    return jnp.column_stack([real, imaginary])


def to_disc(t: Float[Array, "*n 2"]) -> Float[Array, "*n 2"]:
    """Map the plane onto the open unit disc; the identity to second order at the centre."""
    return t * jax.lax.rsqrt(1.0 + jnp.sum(t**2, axis=-1, keepdims=True))


def _with_measure(t: Float[Array, "n 2"], sigma: Array) -> Float[Array, "n 2"]:
    """Residual of the density exp(-|s|^2 / 2 sigma^2) in the disc as seen in the plane.

    The map s(t) shrinks areas by (1 + |t|^2)^-2, so that half the squared residual is
    |s|^2 / (2 sigma^2) + 2 log(1 + |t|^2).
    """
    radius2 = jnp.sum(t**2, axis=-1, keepdims=True)
    # log(1 + x) / x, regular at 0
    small = radius2 < 1e-4
    safe = jnp.where(small, 1.0, radius2)
    relative = jnp.where(small, 1.0 - 0.5 * radius2, jnp.log1p(safe) / safe)
    return t * jnp.sqrt(1.0 / (sigma**2 * (1.0 + radius2)) + 4.0 * relative)


def _columns(prior, catalogue_value: np.ndarray) -> np.ndarray:
    if isinstance(prior, Normal | LogNormal):
        center = catalogue_value if prior.center == "catalog" else prior.center
        columns = (center, prior.sigma)
    else:
        columns = (prior.low, prior.high)
    return np.column_stack([np.broadcast_to(column, catalogue_value.shape) for column in columns])


def _inverse_link(kind: str, columns: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Coordinate of a value, kept within the range where the solver can move."""
    first, second = columns[:, 0], columns[:, 1]
    if kind == "Normal":
        z = (value - first) / second
    elif kind == "LogNormal":
        z = np.log(value / first) / second
    else:
        fraction = np.clip((value - first) / (second - first), 1e-4, 1.0 - 1e-4)
        return np.log(fraction / (1.0 - fraction))
    return np.clip(z, -3.0, 3.0)


def _link(kind: str, columns: Array, z: Array) -> Array:
    first, second = columns[:, 0], columns[:, 1]
    if kind == "Normal":
        return first + second * z
    if kind == "LogNormal":
        return first * jnp.exp(second * z)
    return first + (second - first) * jax.nn.sigmoid(z)


def _flat_or_unit(kind: str, z: Array) -> Array:
    return jnp.zeros_like(z) if kind == "Uniform" else z
