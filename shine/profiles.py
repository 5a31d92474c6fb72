"""The galaxies' light profiles: circular, known by their Fourier transform at unit flux.

A transform is a function of q = (|k| r_h)^2, where r_h is the half-light radius. It is evaluated
for every wave number of every stamp, with its first two derivatives and in single precision, so it
is plain arithmetic, smooth and finite for all q >= 0. What it needs to know of a source's shape
index (a Sersic n, say) comes as a short vector of coefficients, made once on the host.
"""

import abc
import dataclasses
import functools
from collections.abc import Callable
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.polynomial import Chebyshev
from scipy.special import gamma, kv

from shine import sersic_table

HLR_OVER_SCALE = 1.6783469900166605  # exponential disc: half-light radius / scale radius
BULGE_OVER_DISC = 0.6  # of the two half-light radii, in `BulgeDisc`


@dataclasses.dataclass(frozen=True)
class Profile(abc.ABC):
    """One family of profiles. Hashable: two of a class are equal, so jit may take it as static.

    `index_name` is None for a family of one member; whatever index is given is ignored then.
    """

    name: ClassVar[str]
    n_coefficients: ClassVar[int] = 0
    index_name: ClassVar[str | None] = None
    default_index: ClassVar[float] = 0.0
    index_range: ClassVar[tuple[float, float]] = (-np.inf, np.inf)

    def coefficients(self, index: np.ndarray) -> Float[np.ndarray, "n c"]:
        """What `transform` needs of each source, float32; one row per index."""
        index = np.asarray(index, np.float64)
        low, high = self.index_range
        slack = 1e-6  # a bound in single precision may lie outside by a rounding
        inside = (index >= low - slack) & (index <= high + slack)
        if self.index_name is not None and not np.all(inside):
            raise ValueError(f"{self.name}: {self.index_name} must lie in [{low}, {high}]")
        return self._coefficients(index).astype(np.float32)

    def _coefficients(self, index: np.ndarray) -> np.ndarray:
        return np.zeros((index.size, 0))

    @abc.abstractmethod
    def transform(self, q: Array, coefficients: Float[Array, "c"]) -> Array:
        """Fourier transform at unit flux for q of any shape; 1 at q = 0."""

    @abc.abstractmethod
    def light_radius(self, outside: float, index: np.ndarray) -> Float[np.ndarray, "n"]:
        """Radius beyond which the fraction `outside` of the light lies, in half-light radii."""


class Gaussian(Profile):
    """I ~ 2^(-r^2), r in half-light radii; F = exp(-q / (4 ln 2))."""

    name = "gaussian"

    def transform(self, q: Array, coefficients: Array) -> Array:
        return jnp.exp(q * (-0.25 / np.log(2.0)))

    def light_radius(self, outside: float, index: np.ndarray) -> np.ndarray:
        return np.full(np.shape(index), sersic_table.light_radius(0.5, outside))


class Exponential(Profile):
    """The disc of Freeman (1970), I ~ exp(-r / r_s); F = (1 + k^2 r_s^2)^(-3/2)."""

    name = "exponential"

    def transform(self, q: Array, coefficients: Array) -> Array:
        t = 1.0 + q * HLR_OVER_SCALE**-2
        return jax.lax.rsqrt(t) / t

    def light_radius(self, outside: float, index: np.ndarray) -> np.ndarray:
        return np.full(np.shape(index), sersic_table.light_radius(1.0, outside))


class DeVaucouleurs(Profile):
    """The r^(1/4) law of de Vaucouleurs (1948), I ~ exp(-7.669 r^(1/4)); fitted as Sersic's."""

    name = "de_vaucouleurs"

    def transform(self, q: Array, coefficients: Array) -> Array:
        return _fitted(q, _de_vaucouleurs())

    def light_radius(self, outside: float, index: np.ndarray) -> np.ndarray:
        return np.full(np.shape(index), sersic_table.light_radius(4.0, outside))


class Sersic(Profile):
    """The r^(1/n) law of Sersic (1968), I ~ exp(-b(n) r^(1/n)), see `sersic_table`.

    The fitted transform is within 2e-5 of the exact one, its integral over a band within 2.5e-4.
    """

    name = "sersic"
    n_coefficients = sersic_table.N_COEFFICIENTS
    index_name = "sersic_n"
    default_index = 1.0
    index_range = sersic_table.INDEX_RANGE

    def _coefficients(self, index: np.ndarray) -> np.ndarray:
        return sersic_table.coefficients(index)

    def transform(self, q: Array, coefficients: Array) -> Array:
        return _fitted(q, coefficients)

    def light_radius(self, outside: float, index: np.ndarray) -> np.ndarray:
        return sersic_table.light_radius(index, outside)


class Spergel(Profile):
    """Spergel (2010, ApJS 191, 58): F = (1 + k^2 r_0^2)^(-1 - nu), I ~ (r/r_0)^nu K_nu(r/r_0).

    nu = 1/2 is the exponential disc, nu = -0.6 resembles a de Vaucouleurs bulge.
    """

    name = "spergel"
    n_coefficients = 2
    index_name = "spergel_nu"
    default_index = 0.5
    index_range = (-0.85, 4.0)

    def _coefficients(self, index: np.ndarray) -> np.ndarray:
        return np.stack([_spergel_radius(0.5)(np.log1p(index)) ** -2, -1.0 - index], axis=-1)

    def transform(self, q: Array, coefficients: Array) -> Array:
        return jnp.exp(coefficients[1] * jnp.log(1.0 + coefficients[0] * q))

    def light_radius(self, outside: float, index: np.ndarray) -> np.ndarray:
        y = np.log1p(np.asarray(index, np.float64))
        return _spergel_radius(outside)(y) / _spergel_radius(0.5)(y)


class BulgeDisc(Profile):
    """De Vaucouleurs bulge and exponential disc of one centre and one shape.

    The index is the bulge's share of the flux. The half-light radius is the **disc's**, also in
    `light_radius`; the bulge's is `BULGE_OVER_DISC` times that.
    """

    name = "bulge_disc"
    n_coefficients = 1
    index_name = "bulge_to_total"
    default_index = 0.0
    index_range = (0.0, 1.0)

    def _coefficients(self, index: np.ndarray) -> np.ndarray:
        return index[:, None]

    def transform(self, q: Array, coefficients: Array) -> Array:
        disc = Exponential().transform(q, coefficients)
        bulge = _fitted(q * BULGE_OVER_DISC**2, _de_vaucouleurs())
        return disc + coefficients[0] * (bulge - disc)

    def light_radius(self, outside: float, index: np.ndarray) -> np.ndarray:
        share = np.asarray(index, np.float64)

        def light_beyond(r: np.ndarray) -> np.ndarray:
            disc = sersic_table.light_outside(1.0, r)
            return disc + share * (sersic_table.light_outside(4.0, r / BULGE_OVER_DISC) - disc)

        of_disc = sersic_table.light_radius(1.0, outside)
        of_bulge = BULGE_OVER_DISC * sersic_table.light_radius(4.0, outside)
        low, high = min(of_disc, of_bulge), max(of_disc, of_bulge)
        return _bisect(light_beyond, outside, np.full(share.shape, low), np.full(share.shape, high))


def _fitted(q: Array, numbers: Array | tuple[float, ...]) -> Array:
    """The fit of `sersic_table`: t^2 P, by Horner's rule."""
    c, power, stretch, *polynomial = (numbers[j] for j in range(sersic_table.N_COEFFICIENTS))
    t = jnp.exp(-power * jnp.log(1.0 + c * q))
    x = 1.0 - stretch * (1.0 - t)
    return t * t * functools.reduce(lambda total, p: total * x + p, reversed(polynomial))


@functools.lru_cache(maxsize=1)
def _de_vaucouleurs() -> tuple[float, ...]:
    return tuple(sersic_table.fit(4.0).tolist())


@functools.lru_cache
def _spergel_radius(outside: float) -> Callable[[np.ndarray], np.ndarray]:
    """The radius beyond which `outside` of the light lies, by r_0, as a function of ln(1 + nu).

    With u = r / r_0 and m = 1 + nu, the light beyond r is 2 (u / 2)^m K_m(u) / Gamma(m) (Spergel
    2010). Its logarithm is so smooth that a polynomial through few solutions gives it for any nu.
    """

    def log_radius(y: np.ndarray) -> np.ndarray:
        m = np.exp(y)
        return np.log(
            _bisect(
                lambda u: 2.0 * (0.5 * u) ** m * kv(m, u) / gamma(m),
                outside,
                np.full(m.shape, 1e-20),
                np.full(m.shape, 100.0),
            )
        )

    fitted = Chebyshev.interpolate(log_radius, 40, domain=np.log1p(Spergel.index_range))
    return lambda y: np.exp(fitted(y))


def _bisect(
    light_beyond: Callable[[np.ndarray], np.ndarray],
    outside: float,
    low: np.ndarray,
    high: np.ndarray,
) -> np.ndarray:
    """Where the falling function `light_beyond` of the radius is `outside`."""
    for _ in range(60):
        middle = np.sqrt(low * high)
        too_near = light_beyond(middle) > outside
        low, high = np.where(too_near, middle, low), np.where(too_near, high, middle)
    return np.sqrt(low * high)


PROFILES: dict[str, Profile] = {
    profile.name: profile
    for profile in (
        Gaussian(),
        Exponential(),
        DeVaucouleurs(),
        Sersic(),
        Spergel(),
        BulgeDisc(),
    )
}
