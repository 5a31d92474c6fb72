"""The Fourier transform of Sersic's profile: exact on the host, and a fit that JAX evaluates fast.

Sersic (1968): I(r) = exp(-b r^(1/n)), r in half-light radii, where b(n) solves P(2 n, b) = 1/2 and
P is the regularised incomplete gamma function (Ciotti & Bertin 1999 expand it; here it is solved).
The transform at unit flux, F(k) = int I J0(k r) r dr / int I r dr, has no closed form, but its
Mellin transform by k has, a product of gamma functions, for that of J0 and that of I have. Inverted
along Re s = 1 (0 < Re s < 2 + 1/n is allowed; there the factors of J0 have modulus 1),

    F = 1/(2 pi kappa) int_0^inf Re[ kappa^(-iy) Gamma((1 + iy)/2) / Gamma((1 - iy)/2)
                                     Gamma(n (1 - iy)) / Gamma(2 n) ] dy,   kappa = k / (2 b^n).

The integrand is analytic and falls as exp(-pi n y / 2): the trapezoid rule converges exponentially,
for a cuspy profile as for one whose transform oscillates.

The fit is F = t^2 P(t) with t = (1 + c q)^(-1/(2 n)), q = k^2 and P a polynomial: for large k, F is
a series in k^(-1/n), which is what t becomes, and at q = 0 it is as smooth as F.
"""

import functools

import numpy as np
from numpy.polynomial import chebyshev
from scipy.special import gammaincc, gammainccinv, gammaincinv, loggamma

INDEX_RANGE = (0.3, 6.2)
DEGREE = 16
N_COEFFICIENTS = 3 + DEGREE + 1
_NODES = 40  # of the table along ln n
# The fit serves 0 <= q <= this times n; beyond, it stays smooth and small. The flatter the profile,
# the sooner there is nothing left of its transform.
_LARGEST_Q = 1e5


def light_radius(index: np.ndarray | float, outside: float) -> np.ndarray:
    """Radius beyond which the fraction `outside` of the light lies, in half-light radii.

    The light beyond r is 1 - P(2 n, b r^(1/n)) (Ciotti & Bertin 1999).
    """
    n = np.asarray(index, np.float64)
    return (gammainccinv(2.0 * n, outside) / gammaincinv(2.0 * n, 0.5)) ** n


def light_outside(index: float, radius: np.ndarray) -> np.ndarray:
    """The fraction of the light beyond `radius` half-light radii, the inverse of `light_radius`."""
    return gammaincc(2.0 * index, gammaincinv(2.0 * index, 0.5) * radius ** (1.0 / index))


def exact_transform(index: float, q: np.ndarray) -> np.ndarray:
    """F for one index at q > 0, in double precision, to 1e-11 for any q > 1e-8."""
    # exp(-pi n y / 2) times a power of y: nothing is left at the end for any index of the range
    y = 0.1 * np.arange(int(400.0 / index) + 1)
    log_gammas = 2j * loggamma(0.5 + 0.5j * y).imag
    log_gammas += loggamma(index * (1.0 - 1j * y)) - loggamma(2.0 * index)
    weight = np.full(y.size, 0.1)
    weight[0] = 0.05
    log_kappa = 0.5 * np.log(q) - np.log(2.0) - index * np.log(gammaincinv(2.0 * index, 0.5))
    terms = np.exp(log_gammas - (1.0 + 1j * y) * log_kappa[:, None])
    return terms.real @ weight / (2.0 * np.pi)


def coordinate(index: np.ndarray | float) -> np.ndarray:
    """The numbers (3, ...) that take q to the polynomial's variable: c, the power, the stretch.

    t = (1 + c q)^(-power), and x = 1 - stretch (1 - t) runs from 1 at q = 0 to -1 at the largest q.
    c(n) was searched for the smallest error of the fit; anything smooth and near would do.
    """
    log_n = np.log(index)
    c = np.exp(-2.14 + (3.35 + 0.94 * log_n) * log_n)
    power = 0.5 / np.asarray(index)
    last = (1.0 + c * _LARGEST_Q * index) ** -power
    return np.stack([c, power, 2.0 / (1.0 - last)])


def fit(index: float) -> np.ndarray:
    """Coefficients (N_COEFFICIENTS,) for one index: the coordinate, then P by rising power of x."""
    c, power, stretch = coordinate(index)
    x = np.cos(np.pi * (np.arange(4 * DEGREE) + 0.5) / (4 * DEGREE))
    t = 1.0 - (1.0 - x) / stretch
    ratio = exact_transform(index, np.expm1(-np.log(t) / power) / c) / t**2
    # the last point is q = 0, and heavy, so that the flux comes out exactly
    weight = np.append(np.ones(x.size), 1e4)
    fitted = chebyshev.chebfit(np.append(x, 1.0), np.append(ratio, 1.0), DEGREE, w=weight)
    return np.concatenate([[c, power, stretch], chebyshev.cheb2poly(fitted)])


def coefficients(index: np.ndarray) -> np.ndarray:
    """Those of `fit` for any indices of the range (n, N_COEFFICIENTS), interpolated in ln n."""
    index = np.asarray(index, np.float64)
    polynomials = chebyshev.chebval(_position(index), _table())
    return np.concatenate([coordinate(index), polynomials]).T


@functools.lru_cache(maxsize=1)
def _table() -> np.ndarray:
    """Chebyshev coefficients by ln n (_NODES, DEGREE + 1) of the coefficients of P."""
    nodes = np.cos(np.pi * (np.arange(_NODES) + 0.5) / _NODES)
    low, high = np.log(INDEX_RANGE)
    indices = np.exp(low + 0.5 * (nodes + 1.0) * (high - low))
    return chebyshev.chebfit(nodes, np.stack([fit(n)[3:] for n in indices]), _NODES - 1)


def _position(index: np.ndarray) -> np.ndarray:
    """ln n on [-1, 1]."""
    low, high = np.log(INDEX_RANGE)
    return 2.0 * (np.log(index) - low) / (high - low) - 1.0
