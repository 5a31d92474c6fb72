"""A small, well-specified scene for the generic methods, and what they are compared with."""

from functools import cache

import numpy as np

from shine.config import CentredNormal, Priors
from shine.fit import Fit
from shine.inference import find_mode
from shine.inference_config import NutsConfig, SolverConfig
from shine.numpyro_model import Target
from shine.nuts import NutsResult, sample_nuts
from shine.prior_utils import SourcePrior
from shine.scene import Scene
from tests.shine.galsim_scenes import Galaxy, build, draw, jacobian, noise_for_snr

SHEAR = (0.04, -0.03)
SIGMA_E = 0.12
SHAPE = (140, 280)
NUTS = NutsConfig(warmup=150, draws=500, chains=2)


def galaxies() -> list[Galaxy]:
    """Six isolated galaxies, and a blend of two 9 pixels apart; each shape has both signs."""
    rng = np.random.default_rng(5)
    centres = [(35, 35), (105, 35), (175, 35), (35, 105), (105, 105), (175, 105)]
    centres += [(245, 66), (245, 75)]
    found = []
    for k, centre in enumerate(centres):
        x, y = centre + rng.uniform(-0.5, 0.5, 2)
        if k % 2 == 0:
            angle = rng.uniform(0, 2 * np.pi)
            e = np.sqrt(2.0) * SIGMA_E * np.array([np.cos(angle), np.sin(angle)])
        found.append(Galaxy(x, y, 10.0, rng.uniform(0.25, 0.4), *(e if k % 2 == 0 else -e)))
    return found


@cache
def small_scene(snr: float = 60.0) -> tuple[Scene, SourcePrior]:
    """One exposure of the galaxies, with noise."""
    matrix, sources = jacobian(20), galaxies()
    sigma = noise_for_snr(snr, matrix, sources[0])
    image = draw(sources, SHEAR, matrix, SHAPE)
    image = image + np.random.default_rng(1).normal(scale=sigma, size=SHAPE)
    priors = Priors(ellipticity=CentredNormal(sigma=SIGMA_E))
    return build(sources, [(image, np.full(SHAPE, sigma**-2), matrix)], priors=priors)


@cache
def mode() -> Fit:
    """The joint mode, well settled."""
    fit = find_mode(*small_scene(), SolverConfig(shear_tolerance=1e-3))
    assert fit.converged
    return fit


@cache
def target() -> Target:
    """The posterior around the mode."""
    return Target.near(*small_scene(), mode())


@cache
def nuts() -> NutsResult:
    """Samples of the posterior."""
    return sample_nuts(target(), NUTS, seed=0)
