"""Models of the optics, fitted to undersampled PSF stamps.

A space telescope's PSF is narrower than two pixels: sampled at the native pixel its transform is
aliased, and a model convolved by it is biased in shear. Between the pixels the PSF is known from
physics: the effective PSF has the transform

    E(k) = flux x T(s) x exp(-h |k|) x sinc(kx / 2) sinc(ky / 2) x exp(-i k.x0),

k in rad per pixel, that is optics x halo x square pixel x centroid; s = k^T Q k for a positive
definite 2 x 2 matrix Q (pixel^2), and the halo is Lorentzian (scattered light, charge diffusion).
Three optics are tried:

    telescope   T = A(w |k|) exp(-s / 2): annular aperture (O'Neill 1956) at w times the nominal
                wavelength x Gaussian jitter
    Moffat      T = 2 (q / 2)^n K_n(q) / Gamma(n), q = sqrt(s), n = beta - 1 (Trujillo et al. 2001)
    stretched   T = exp(-s^(c / 2)): c = 5/3 is Kolmogorov's turbulence (Fried 1966), 2 a Gaussian
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy.special import gamma, kv

Array = NDArray[np.float64]

DIAMETER_M = 1.2
WAVELENGTH_M = 725e-9  # effective, VIS band
OBSCURATION = 0.33  # linear
CUTOFF_PER_ARCSEC = DIAMETER_M / WAVELENGTH_M / np.degrees(1.0) / 3600.0

# The telescope is physics, the others are only shapes: they must fit this much better in chi^2
OTHER_GAIN = 4.0

# Parameters: flux, x0, y0, log of trace(Q) / 2, e1 and e2 of Q, h, log of w, n or c. The last
# two are fitted on one stamp of a call and held for the others.
N_PARAMETERS = 8
N_OWN = 6
LOWER = np.array([-np.inf, -np.inf, -np.inf, -7.0, -0.7, -0.7, 0.0, -np.inf])
UPPER = np.array([np.inf, np.inf, np.inf, 5.0, 0.7, 0.7, 2.0, np.inf])
START_HALO = 0.1  # pixels
SHAPE_STEP = 1e-3  # of the finite difference by the log of the shape
MAX_STEPS = 60
TOLERANCE = 1e-6  # rms change of the model in a step, relative to the stamp's peak


@dataclass(frozen=True)
class _Grid:
    """Half plane of wave vectors: a period of `n` native pixels, sampled f times as finely."""

    n: int
    kx: Array  # (1, f n / 2 + 1) rad per pixel, up to pi f
    ky: Array  # (f n, 1)
    k: Array  # (f n, f n / 2 + 1)
    pixel: Array  # (f n, f n / 2 + 1) transform of the native pixel


@dataclass(frozen=True)
class Optics:
    """One kind of optics, on the grid that stamps of one size are fitted on."""

    kind: Callable[[int], "Optics"]  # the same optics for stamps of a size (px)
    grid: _Grid
    profile: Callable[[Array, float], tuple[Array, Array]]  # s, shape (w, n or c) -> T, dT/ds
    size: float  # trace(Q) / 2 to start from
    shapes: tuple[float, float, float]  # least, first and greatest


def fitted_parameters(stamps: Array, guess: Array, optics: Optics) -> Array:
    """The parameters (m, 8) that fit stamps (m, k, k); ValueError where one does not converge."""
    size = stamps.shape[-1]
    fitted, chi2, going = _fit(stamps, guess, optics, N_OWN)
    if len(going):
        worst = going[chi2[going].argmax()]
        x, y = fitted[worst, 1:3]
        raise ValueError(
            f"the optics fit of {len(going)} in {len(stamps)} PSF stamps did not converge in "
            f"{MAX_STEPS} steps: rms residual up to {np.sqrt(chi2[worst]) / size:.2g} of the peak, "
            f"centroid ({x:.2f}, {y:.2f}) px from the centre"
        )
    return fitted


def model_images(parameters: Array, optics: Optics, size: int) -> Array:
    """The models (m, 2 k - 1, 2 k - 1) of stamps of `size` k, at half pixels.

    `optics` may be on a wider grid than what was fitted: light that falls slowly folds back into
    an image within a short period.
    """
    hats = _transforms(parameters, optics, 0)[:, 0]
    return 4.0 * _crop(_images(hats, 2 * optics.grid.n), 2 * size - 1)


def choose_optics(stamp: Array, cutoff: float) -> tuple[Optics, Array]:
    """The optics that fit one stamp (1, k, k) best, and its parameters (1, 8)."""
    size = stamp.shape[-1]
    found = []
    for kind in (functools.partial(_telescope, cutoff=cutoff), _moffat, _stretched):
        optics = kind(size)
        start = np.zeros((1, N_PARAMETERS))
        start[:, :3] = centroids(stamp)
        start[:, 3] = np.log(optics.size)
        start[:, 6:] = START_HALO, np.log(optics.shapes[1])
        near, _, _ = _fit(stamp, start, optics, N_OWN)
        fitted, chi2, _ = _fit(stamp, near, optics, N_PARAMETERS)
        found.append((chi2[0], optics, fitted))
    telescope, *others = found
    other = min(others, key=lambda one: one[0])
    _, optics, fitted = other if other[0] * OTHER_GAIN < telescope[0] else telescope
    return optics, fitted


def _telescope(size: int, cutoff: float) -> Optics:
    grid = _make_grid(size, 2)
    nodes = np.linspace(0.0, 1.0, 1001)  # of the frequency in units of the cut-off
    mtf = annular_mtf(nodes, OBSCURATION)

    @functools.lru_cache(maxsize=4)  # most fits hold the wavelength
    def aperture(wavelength: float) -> Array:
        return np.interp(grid.k * (wavelength / (2.0 * np.pi * cutoff)), nodes, mtf)

    def profile(s: Array, wavelength: float) -> tuple[Array, Array]:
        value = aperture(float(wavelength)) * np.exp(-0.5 * s)
        return value, -0.5 * value

    kind = functools.partial(_telescope, cutoff=cutoff)
    return Optics(kind, grid, profile, 0.15, (0.93, 1.0, 1.08))


def _moffat(size: int) -> Optics:
    q = np.geomspace(1e-3, 100.0, 1000)  # tabulated: K_n costs a hundred times an interpolation
    nodes = q**2

    def profile(s: Array, n: float) -> tuple[Array, Array]:
        values = 2.0 * (q / 2.0) ** n * kv(n, q) / gamma(n)
        slopes = -0.5 * (q / 2.0) ** (n - 1.0) * kv(n - 1.0, q) / gamma(n)
        return np.interp(s, nodes, values), np.interp(s, nodes, slopes)

    return Optics(_moffat, _make_grid(size, 4), profile, 1.5, (0.4, 1.5, 20.0))


def _stretched(size: int) -> Optics:
    def profile(s: Array, c: float) -> tuple[Array, Array]:
        s = np.maximum(s, 1e-12)  # the slope has a pole at 0
        value = np.exp(-(s ** (c / 2.0)))
        return value, -0.5 * c * s ** (c / 2.0 - 1.0) * value

    return Optics(_stretched, _make_grid(size, 4), profile, 0.3, (0.8, 1.7, 2.0))


def annular_mtf(frequency: Array, obscuration: float) -> Array:
    """Modulation transfer of an annular aperture at `frequency` in units of its cut-off D / lambda.

    The normalised overlap of two annuli a distance 2 `frequency` apart, the outer radius being 1
    and the inner one `obscuration` (O'Neill 1956, J. Opt. Soc. Am. 46, 285).
    """
    apart = 2.0 * np.abs(frequency)
    overlap = (
        _lens(apart, 1.0, 1.0)
        - 2.0 * _lens(apart, 1.0, obscuration)
        + _lens(apart, obscuration, obscuration)
    )
    return overlap / (np.pi * (1.0 - obscuration**2))


def _lens(apart: Array, r: float, t: float) -> Array:
    """Area common to two discs of radii r >= t whose centres are `apart`."""
    d = np.clip(apart, max(r - t, 1e-12), r + t)  # one in the other, or out of touch
    angle_r = np.arccos(np.clip((d**2 + r**2 - t**2) / (2.0 * d * r), -1.0, 1.0))
    angle_t = np.arccos(np.clip((d**2 + t**2 - r**2) / (2.0 * d * t), -1.0, 1.0))
    return r**2 * (angle_r - np.sin(2.0 * angle_r) / 2.0) + t**2 * (
        angle_t - np.sin(2.0 * angle_t) / 2.0
    )


def _make_grid(size: int, finer: int) -> _Grid:
    n = 2 * scipy.fft.next_fast_len((3 * size + 3) // 4, real=True)  # half a stamp of empty room
    kx = 2.0 * np.pi * np.arange(finer * n // 2 + 1)[None, :] / n
    ky = 2.0 * np.pi * (scipy.fft.fftfreq(finer * n) * finer)[:, None]
    pixel = np.sinc(kx / (2.0 * np.pi)) * np.sinc(ky / (2.0 * np.pi))
    return _Grid(n, kx, ky, np.hypot(kx, ky), pixel)


def _transforms(p: Array, optics: Optics, n_slopes: int) -> NDArray[np.complex128]:
    """The models' transforms on the grid and their derivatives by the first 0, 6 or 8 parameters.

    p is (m, 8), the result (m, 1 + n_slopes, rows, columns); shape is the first row's for all.
    """
    flux, x, y, log_size, e1, e2, halo, _ = p.T[:, :, None, None]
    grid, log_shape = optics.grid, p[0, 7]
    kx, ky = grid.kx, grid.ky
    size = np.exp(log_size)
    plus, cross = kx**2 - ky**2, 2.0 * kx * ky
    s = size * (kx**2 + ky**2 + e1 * plus + e2 * cross)
    value, slope = optics.profile(s, np.exp(log_shape))
    common = np.exp(-halo * grid.k) * grid.pixel * (np.exp(-1j * kx * x) * np.exp(-1j * ky * y))
    hats = np.empty((len(p), 1 + n_slopes, *grid.k.shape), np.complex128)
    unit = common * value
    hats[:, 0] = flux * unit
    if n_slopes:
        by_s = common * (flux * slope)
        hats[:, 1] = unit
        hats[:, 2] = hats[:, 0] * (-1j * kx)
        hats[:, 3] = hats[:, 0] * (-1j * ky)
        hats[:, 4] = by_s * s
        hats[:, 5] = by_s * (size * plus)
        hats[:, 6] = by_s * (size * cross)
    if n_slopes > N_OWN:
        hats[:, 7] = hats[:, 0] * (-grid.k)
        further, _ = optics.profile(s, np.exp(log_shape + SHAPE_STEP))
        hats[:, 8] = common * flux * (further - value) / SHAPE_STEP
    return hats


def _images(hats: NDArray[np.complex128], n: int) -> Array:
    """Periodic images (..., n, n) of transforms on the half plane, their aliases folded in."""
    while hats.shape[-2] > n:
        half = hats.shape[-2] // 2
        rows = hats[..., :half, :] + hats[..., half:, :]
        # column j takes j - half, the mirror image of half - j; row i takes that of -i
        hats = rows[..., : half // 2 + 1].copy()
        mirrored = rows[..., half : half - half // 2 - 1 : -1].conj()
        hats[..., 0, :] += mirrored[..., 0, :]
        hats[..., 1:, :] += mirrored[..., :0:-1, :]
    return scipy.fft.irfft2(hats)


def _crop(images: Array, size: int) -> Array:
    """Odd images of `size` out of periodic ones centred on pixel (0, 0)."""
    window = np.arange(size) - size // 2
    return images[..., window[:, None], window[None, :]]


def _fit(
    stamps: Array, start: Array, optics: Optics, n_free: int
) -> tuple[Array, Array, NDArray[np.intp]]:
    """Least squares by Levenberg-Marquardt in the first parameters, all stamps (m, k, k) at once.

    Returns p (m, 8), chi^2 (m,) and the indices of the stamps that have not converged.
    """
    size = stamps.shape[-1]
    lower, upper = LOWER.copy(), UPPER.copy()
    lower[7], _, upper[7] = np.log(optics.shapes)
    lower, upper = lower[:n_free], upper[:n_free]

    def evaluate(p: Array, chosen: NDArray[np.intp]) -> tuple[Array, Array, Array]:
        hats = _transforms(p, optics, n_free)
        images = _crop(_images(hats, optics.grid.n), size).reshape(len(p), -1, size**2)
        left = stamps[chosen].reshape(len(p), -1) - images[:, 0]
        slopes = images[:, 1:]
        normal = slopes @ slopes.swapaxes(1, 2)
        return (left**2).sum(axis=1), normal, (slopes @ left[..., None])[..., 0]

    best = start.copy()
    active = np.arange(len(stamps))
    chi2, normal, gradient = evaluate(best, active)
    damping = np.full(len(stamps), 1e-3)
    for _ in range(MAX_STEPS):
        p, pull = best[active, :n_free], gradient[active]
        held = ((p <= lower) & (pull < 0.0)) | ((p >= upper) & (pull > 0.0))  # against a limit
        matrix = np.where(held[:, :, None] | held[:, None, :], 0.0, normal[active])
        diagonal = np.einsum("mii->mi", matrix)
        # the floor keeps a parameter that has no effect where it is
        ridge = damping[active, None] * diagonal + 1e-9 * diagonal.max(axis=1, keepdims=True)
        damped = matrix + ridge[..., None] * np.eye(n_free)
        step = np.linalg.solve(damped, np.where(held, 0.0, pull)[..., None])[..., 0]
        # all but the flux are far from linear over more than this
        step /= np.maximum(1.0, np.abs(step[:, 1:]).max(axis=1, keepdims=True))
        step = np.clip(p + step, lower, upper) - p
        moved = np.sqrt(np.einsum("mi,mij,mj->m", step, matrix, step)) / size
        going = (moved > TOLERANCE) | (damping[active] > 1.0)  # much damped steps prove nothing
        active = active[going]
        if not len(active):
            break
        trial = best[active]
        trial[:, :n_free] += step[going]
        trial_chi2, trial_normal, trial_gradient = evaluate(trial, active)
        better = trial_chi2 <= chi2[active]
        taken = active[better]
        best[taken], chi2[taken] = trial[better], trial_chi2[better]
        normal[taken], gradient[taken] = trial_normal[better], trial_gradient[better]
        damping[active] *= np.where(better, 0.1, 10.0)
    return best, chi2, active


def centroids(stamps: Array) -> Array:
    """Flux, x and y (m, 3) in pixels from the centre, of the 3 x 3 pixels about the brightest."""
    m, size, _ = stamps.shape
    row, column = np.unravel_index(stamps.reshape(m, -1).argmax(axis=1), (size, size))
    row, column = (np.clip(i, 1, size - 2)[:, None] + np.arange(-1, 2) for i in (row, column))
    core = stamps[np.arange(m)[:, None, None], row[:, :, None], column[:, None, :]]
    total = core.sum(axis=(1, 2))
    x = (core.sum(axis=1) * (column - size // 2)).sum(axis=1) / total
    y = (core.sum(axis=2) * (row - size // 2)).sum(axis=1) / total
    return np.stack([stamps.sum(axis=(1, 2)), x, y], axis=1)
