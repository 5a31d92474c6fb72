"""The classic route that our engine is compared with: JAX-GalSim objects, vmap and Adam.

Each (source, quadrant) pair is a tree of JAX-GalSim objects,

    Exponential -> shear by the intrinsic e -> shear by g -> shift, convolved with the PSF's
    InterpolatedImage, drawn through the local affine WCS,

drawn under vmap, and automatic differentiation through the drawing drives Adam, 200 steps at
learning rate 0.002. The route draws all sources in all quadrants, seen there or not: its cost is
that of one pair, measured on a subset of real pairs, times the number of combinations.

Where a choice is ours it is the classic route's gain. Each stamp is compared with its own pixels:
sources that share pixels are fitted as if alone, and adding stamps up costs nothing. The PSF is
effective (pixel included), so nothing is convolved with a pixel. Pairs are drawn in chunks that fit
the cache: one vmap over all takes twice as long on a CPU.
"""

import time
import warnings
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import jax_galsim
import numpy as np
import optax
from jaxtyping import Array, Float

from shine.config import Priors

STAMP_SIZE = 64
STEPS, LEARNING_RATE = 200, 0.002
# JAX needs the size of the FFT before it knows the profile: JAX-GalSim takes it from here when the
# least and the largest size agree. Twice the stamp, so that light does not wrap around into it.
FFT_SIZE = 2 * STAMP_SIZE
_GSPARAMS = jax_galsim.GSParams(minimum_fft_size=FFT_SIZE, maximum_fft_size=FFT_SIZE)
_PRIORS = Priors()


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Pairs:
    """m (source, quadrant) pairs, cut out as 64 px stamps, of n sources."""

    data_adu: np.ndarray  # (m, 64, 64) background-subtracted, indexed [y, x]
    weight: np.ndarray  # (m, 64, 64) 1 / variance, ADU^-2; 0 where masked or outside
    jacobian: np.ndarray  # (m, 2, 2) d(u, v)/d(x, y), arcsec per pixel
    centre: np.ndarray  # (m, 2) catalogue position (x, y); (0, 0) is the first pixel's centre
    psf: np.ndarray  # (m, 21, 21) effective PSF, centred
    adu_per_ujy: np.ndarray  # (m,)
    source: np.ndarray  # (m,) int, row in `start`
    start: np.ndarray  # (n, 6) flux (uJy), half-light radius (arcsec), e1, e2, du, dv (arcsec)


@dataclass(frozen=True)
class ClassicCost:
    """What the classic route's gradient costs on this machine."""

    n_pairs: int
    compile_s: float  # tracing included; less where a compilation cache knows the program
    gradient_s: float  # one value_and_grad over the pairs, best of the repeats
    gradient_s_per_pair: float


def gradient_seconds(pairs: Pairs, repeats: int = 5) -> ClassicCost:
    """Time one value and gradient of the log posterior over these pairs."""
    pairs = jax.device_put(pairs)
    parameters = start_parameters(pairs)
    begin = time.perf_counter()
    program = jax.jit(jax.value_and_grad(log_posterior)).lower(parameters, pairs).compile()
    compile_s = time.perf_counter() - begin
    seconds = []
    jax.block_until_ready(program(parameters, pairs))  # the first call also allocates
    for _ in range(repeats):
        begin = time.perf_counter()
        jax.block_until_ready(program(parameters, pairs))
        seconds.append(time.perf_counter() - begin)
    n_pairs, gradient_s = len(pairs.source), min(seconds)
    return ClassicCost(n_pairs, compile_s, gradient_s, gradient_s / n_pairs)


def fit(
    pairs: Pairs, steps: int = STEPS, learning_rate: float = LEARNING_RATE
) -> tuple[np.ndarray, np.ndarray]:
    """Adam from the catalogue's values and no shear.

    Returns the shear (2,) and the log posterior (steps + 1,) before each step and at the end, up
    to a constant.
    """
    optimiser = optax.adam(learning_rate)

    @jax.jit
    def run(pairs):  # an argument: what a program closes over is compiled into it
        def step(carry, _):
            parameters, state = carry
            value, slope = jax.value_and_grad(log_posterior)(parameters, pairs)
            updates, state = optimiser.update(jax.tree.map(jnp.negative, slope), state)
            return (optax.apply_updates(parameters, updates), state), (value, parameters["shear"])

        start = start_parameters(pairs)
        return jax.lax.scan(step, (start, optimiser.init(start)), length=steps + 1)[1]

    trace, shear = run(pairs)
    return np.asarray(shear[-1]), np.asarray(trace)


def extrapolated_seconds(
    cost: ClassicCost, n_sources: int, n_quadrants: int, steps: int = STEPS
) -> float:
    """Time of the whole fit, compilation included: all sources drawn in all quadrants."""
    return cost.compile_s + steps * n_sources * n_quadrants * cost.gradient_s_per_pair


def log_posterior(parameters: dict[str, Array], pairs: Pairs) -> Float[Array, ""]:
    """Gaussian likelihood of the stamps' pixels and the priors, up to a constant.

    The `parameters` are those that Adam moves: "sources" (n, 6), with the logarithms of flux and
    size, and "shear" (2,).
    """
    sources = _physical(parameters["sources"])
    model = draw(sources[pairs.source], parameters["shear"], pairs)
    misfit = jnp.where(pairs.weight > 0, pairs.data_adu - model, 0.0)  # a masked pixel may be NaN
    chi_squared = jnp.sum(pairs.weight * misfit**2)
    moved = parameters["sources"] - start_parameters(pairs)["sources"]
    residuals = [
        moved[:, 0] / _PRIORS.flux.sigma,
        moved[:, 1] / _PRIORS.half_light_radius.sigma,
        parameters["sources"][:, 2:4] / _PRIORS.ellipticity.sigma,
        parameters["sources"][:, 4:6] / _PRIORS.offset.sigma,
        parameters["shear"] / _PRIORS.shear.sigma,
    ]
    return -0.5 * (chi_squared + sum(jnp.sum(residual**2) for residual in residuals))


def start_parameters(pairs: Pairs) -> dict[str, Array]:
    """Catalogue values and no shear, as Adam moves them (see `log_posterior`)."""
    start = jnp.asarray(pairs.start, jnp.float32)
    return {"sources": start.at[:, :2].set(jnp.log(start[:, :2])), "shear": jnp.zeros(2)}


def draw(
    intrinsic: Float[Array, "m 6"], shear: Float[Array, "2"], pairs: Pairs
) -> Float[Array, "m 64 64"]:
    """Stamps in ADU of one row of physical parameters (as in `Pairs.start`) per pair."""

    def one(source, jacobian, centre, psf, adu_per_ujy):
        flux_ujy, hlr, e1, e2, du, dv = source
        wcs = jax_galsim.JacobianWCS(*jacobian.ravel())
        galaxy = jax_galsim.Exponential(
            half_light_radius=hlr, flux=flux_ujy * adu_per_ujy, gsparams=_GSPARAMS
        )
        galaxy = galaxy.shear(g1=e1, g2=e2).shear(g1=shear[0], g2=shear[1]).shift(du, dv)
        # The stamp of the PSF lies in the detector's pixels. No search for its extent: the size
        # of the FFT is given.
        psf = jax_galsim.InterpolatedImage(
            jax_galsim.Image(psf, wcs=wcs),
            gsparams=_GSPARAMS,
            calculate_stepk=False,
            calculate_maxk=False,
        )
        # GalSim counts from the middle of the stamp, between pixels where their number is even
        offset = centre - 0.5 * (STAMP_SIZE - 1)
        return (
            jax_galsim.Convolve(galaxy, psf, gsparams=_GSPARAMS)
            .drawImage(
                nx=STAMP_SIZE,
                ny=STAMP_SIZE,
                wcs=wcs,
                offset=jax_galsim.PositionD(offset[0], offset[1]),
                method="no_pixel",
            )
            .array
        )

    with warnings.catch_warnings():
        # it asks for double precision, which JAX does not give here: we compare in single too
        warnings.filterwarnings("ignore", "Explicitly requested dtype", UserWarning)
        seen = (intrinsic, pairs.jacobian, pairs.centre, pairs.psf, pairs.adu_per_ujy)
        return jax.lax.map(lambda pair: one(*pair), seen, batch_size=_chunk())


def _chunk() -> int:
    # One at a time is the fastest on a CPU: 36 complex values per pixel of the transform, which the
    # PSF is interpolated from, fill its cache.
    return 1 if jax.default_backend() == "cpu" else 256


def _physical(sources: Float[Array, "n 6"]) -> Float[Array, "n 6"]:
    return sources.at[:, :2].set(jnp.exp(sources[:, :2]))
