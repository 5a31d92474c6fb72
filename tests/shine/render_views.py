"""Views of sources, as `shine.render` takes them: PSFs, frames, galaxies."""

import galsim
import jax
import jax.numpy as jnp
import numpy as np

from shine import render
from shine.profiles import PROFILES
from shine.psf import psf_transform
from tests.shine.galsim_scenes import ADU_PER_UJY, psf_stamp

SIZE = 160  # holds the largest galaxy of the first test: what lies beyond a stamp wraps around
# Well sampled at 0.1 arcsec, so that the sampled PSF carries all there is.
BROAD_PSF = galsim.Gaussian(fwhm=0.35).shear(g1=0.05, g2=0.02)
# Far from it. At 0.05 arcsec a star's peak is still 1e-3 off, what a galaxy has left of that is
# not; all that a telescope lets through is there for a star, too.
SHARP_PSF = galsim.Moffat(beta=3.5, fwhm=0.12).shear(g1=0.03, g2=-0.02)
AIRY_PSF = galsim.Airy(lam=700, diam=1.2, obscuration=0.3, scale_unit=galsim.arcsec)
# GalSim's own FFT and tables, an order of magnitude finer than its defaults
GSPARAMS = galsim.GSParams(kvalue_accuracy=1e-7, maxk_threshold=1e-5, maximum_fft_size=16384)
AT = (2.0, 0.3, 0.2, -0.3, 0.05, -0.02)
NEIGHBOUR = (0.7, 0.15, -0.4, 0.1, -0.03, 0.06)

draw = jax.jit(render.render, static_argnums=(0, 1))
differentiate = jax.jit(render.render_derivatives, static_argnums=0)


def oversampled_psf(matrix, psf, size, oversampling):
    """The effective PSF at fractions of a pixel: (size, size) samples, in light per pixel."""
    pixel = galsim.JacobianWCS(*matrix.ravel()).toWorld(galsim.Pixel(1.0))
    image = galsim.Convolve(psf, pixel, gsparams=GSPARAMS).drawImage(
        nx=size,
        ny=size,
        wcs=galsim.JacobianWCS(*(matrix / oversampling).ravel()),
        method="no_pixel",
        dtype=float,
    )
    return (image.array * oversampling**2).astype(np.float32)


def frame(matrix, *centres, psf=BROAD_PSF, size=SIZE, oversampling=1):
    """How a detector of the `matrix` sees sources at `centres` (x, y)."""
    if oversampling == 1:
        stamp = psf_stamp(matrix, psf, size=min(43, size - 1))
    else:
        stamp = oversampled_psf(matrix, psf, oversampling * size - 1, oversampling)
    return render.StampFrame(
        inverse_jacobian=jnp.asarray(np.linalg.inv(matrix), jnp.float32),
        centre=jnp.asarray(centres, jnp.float32),
        adu_per_ujy=jnp.float32(ADU_PER_UJY),
        psf_hat=jnp.asarray(psf_transform(stamp, size, oversampling)),
    )


def galaxies(*observed, profile="exponential", index=0.0, present=None):
    """The sources of one stamp, of one profile and index."""
    n = len(observed)
    return render.Galaxies(
        observed=jnp.asarray(observed, jnp.float32),
        coefficients=jnp.asarray(PROFILES[profile].coefficients(np.full(n, index))),
        present=jnp.ones(n, jnp.float32) if present is None else jnp.asarray(present, jnp.float32),
    )


def stamp(frame, galaxies, profile="exponential", size=SIZE):
    return np.asarray(draw(PROFILES[profile], size, frame, galaxies))


def double(tree):
    """In double precision; call it within `jax.enable_x64`."""
    return jax.tree.map(
        lambda a: a.astype(jnp.complex128 if jnp.iscomplexobj(a) else jnp.float64), tree
    )
