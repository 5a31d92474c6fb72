"""The convergence of a field, by the inversion of Kaiser & Squires (1993, ApJ 404, 441).

On the tangent plane with l1 to west and l2 to north, the transforms of shear and convergence are
related by gamma = D kappa, D = (l1 + i l2)^2 / |l|^2, so that kappa = D* gamma: its real part is
the E mode, its imaginary part the B mode, which lensing does not make. The shear is the local mean
of what all blends say (`scores`), weighted by a Gaussian S of their distance:

    g(x) = S * sum (q + R g0) / S * sum R

first around g0 = 0, then once more around its own outcome. Reduced shear is taken for the shear.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy import fft
from scipy.ndimage import gaussian_filter

from constellation.products.frames import great_circles
from constellation.products.grid import Grid
from constellation.products.reading import Galaxies
from constellation.products.saving import described_table
from constellation.products.scores import Complex, blend_scores
from constellation.sphere import Flags, Floats
from shine.errors import InputError, explain

_PASSES = 2
_LEAST_GALAXIES = 5.0  # within the smoothing; of fewer no map is made
_DRAWS = 100  # of noise: the error is known to 7 per cent
_MOST_SHEAR = 0.7  # to expand around: beyond, it is noise

_DESCRIPTIONS = {
    "X": ("", "column of the image, from 0, growing to west"),
    "Y": ("", "row of the image, from 0, growing to north"),
    "RA": ("deg", "right ascension of the pixel's centre"),
    "DEC": ("deg", "declination"),
    "KAPPA_E": ("", "convergence, up to a constant"),
    "KAPPA_B": ("", "B mode: zero by lensing"),
    "KAPPA_ERR": ("", "standard deviation of each by shapes and noise; neighbours are correlated"),
    "G1": ("", "smoothed reduced shear in the frame of the image's centre"),
    "G2": ("", "smoothed reduced shear, along the direction u = v"),
    "N_SOURCES": ("", "galaxies in the pixel itself"),
}


@dataclass(frozen=True)
class MassMap:
    """Images (rows, columns) of a grid; where too few galaxies are near, `known` is False."""

    grid: Grid
    smoothing_arcmin: float
    known: Flags
    shear: Complex
    kappa: Complex  # E + i B
    error: Floats
    n_galaxies: Floats

    def table(self) -> pa.Table:
        """One row for each known pixel."""
        y, x = np.nonzero(self.known)
        ra, dec = self.grid.positions(x, y)
        values = {
            "X": x.astype(np.int32),
            "Y": y.astype(np.int32),
            "RA": ra,
            "DEC": dec,
            "KAPPA_E": self.kappa.real[y, x],
            "KAPPA_B": self.kappa.imag[y, x],
            "KAPPA_ERR": self.error[y, x],
            "G1": self.shear.real[y, x],
            "G2": self.shear.imag[y, x],
            "N_SOURCES": self.n_galaxies[y, x].astype(np.int32),
        }
        smoothing = {"smoothing_sigma_arcmin": f"{self.smoothing_arcmin:g}"}
        return described_table(values, _DESCRIPTIONS, self.grid.description | smoothing)

    def images(self) -> dict[str, tuple[Floats, str]]:
        """The images for a FITS file, NaN where unknown, and what they show."""
        planes = {
            "KAPPA_E": self.kappa.real,
            "KAPPA_B": self.kappa.imag,
            "KAPPA_ERR": self.error,
            "G1": self.shear.real,
            "G2": self.shear.imag,
        }
        images = {
            name: (np.where(self.known, image, np.nan), _DESCRIPTIONS[name][1])
            for name, image in planes.items()
        }
        return images | {"N_SOURCES": (self.n_galaxies, _DESCRIPTIONS["N_SOURCES"][1])}

    def peak(self) -> tuple[int, int]:
        """Column and row of the pixel where the convergence is most significant."""
        significance = np.where(self.known, self.kappa.real / self.error, -np.inf)
        y, x = np.unravel_index(np.argmax(significance), significance.shape)
        return int(x), int(y)


def mass_map(
    galaxies: Galaxies, grid: Grid, smoothing_arcmin: float, ellipticity_sigma: float
) -> MassMap:
    """The convergence on a grid; reads the files that it needs one by one, twice.

    `smoothing_arcmin` is the standard deviation of the Gaussian. Raises `InputError` where nowhere
    are enough galaxies.
    """
    smooth = _Smoothing(smoothing_arcmin / grid.pixel_arcmin)
    shear = np.zeros(grid.shape, complex)
    for _ in range(_PASSES):
        sums = _sums(galaxies, grid, ellipticity_sigma, shear)
        known = smooth(sums.n_galaxies) * smooth.area >= _LEAST_GALAXIES
        if not known.any():
            found = f"nowhere {_LEAST_GALAXIES:.0f} galaxies within the smoothing"
            where = galaxies.catalogue.folder
            raise InputError(explain(where, found, "more", "Smooth more, or move the area."))
        shear = smooth.mean(sums.gradient + sums.weighted, sums.response, known)
    rng = np.random.default_rng(0)
    power = np.zeros(grid.shape)
    for _ in range(_DRAWS):
        noise = rng.standard_normal((2, *grid.shape)) * np.sqrt(0.5 * sums.power)
        drawn = smooth.mean(noise[0] + 1j * noise[1], sums.response, known)
        power += 0.5 * np.abs(kaiser_squires(drawn)) ** 2
    error = np.sqrt(power / _DRAWS)
    kappa = kaiser_squires(shear)
    return MassMap(grid, smoothing_arcmin, known, shear, kappa, error, sums.n_galaxies)


def kaiser_squires(shear: Complex) -> Complex:
    """Convergence E + i B (rows, columns) of a shear on square pixels, columns to west, rows north.

    The shear beyond the image is taken for zero, up to its own size around it, and the mean of the
    convergence over all that for zero.
    """
    shape = [fft.next_fast_len(2 * n) for n in shear.shape]
    l2, l1 = np.meshgrid(*(fft.fftfreq(n) for n in shape), indexing="ij")
    both = l1 + 1j * l2
    length2 = np.abs(both) ** 2
    length2[0, 0] = 1.0
    kernel = np.conj(both**2) / length2
    padded = fft.ifft2(kernel * fft.fft2(shear, shape))
    return padded[: shear.shape[0], : shear.shape[1]]


@dataclass(frozen=True)
class _Sums:
    """Over the blends in each pixel, in the frame of the image's centre."""

    gradient: Complex
    weighted: Complex  # response times the shear expanded around
    response: Floats
    power: Floats  # |gradient|^2
    n_galaxies: Floats


def _sums(galaxies: Galaxies, grid: Grid, ellipticity_sigma: float, shear: Complex) -> _Sums:
    flat = np.ravel(shear * np.minimum(1.0, _MOST_SHEAR / np.maximum(np.abs(shear), 1e-9)))

    def turn(ra: Floats, dec: Floats) -> Complex:
        """What takes a spin-2 quantity to the frame of the image's centre."""
        return np.exp(2j * great_circles(ra, dec, grid.ra, grid.dec).turn)

    def around(ra: Floats, dec: Floats) -> Complex:
        pixel = grid.pixels(ra, dec)
        return np.where(pixel >= 0, flat[pixel], 0.0) * np.conj(turn(ra, dec))

    n = grid.shape[0] * grid.shape[1]
    gradient, weighted = np.zeros(n, complex), np.zeros(n, complex)
    response, power, count = np.zeros((3, n))
    for table in galaxies.by_file(grid.near):
        inside = grid.pixels(np.asarray(table["RA"]), np.asarray(table["DEC"])) >= 0
        if not inside.any():
            continue
        scores = blend_scores(table.filter(pa.array(inside)), ellipticity_sigma, around)
        # the middle of galaxies inside is inside; but for its rounding
        pixel = np.maximum(grid.pixels(scores.ra, scores.dec), 0)
        turned = scores.gradient * turn(scores.ra, scores.dec)
        np.add.at(gradient, pixel, turned)
        np.add.at(weighted, pixel, scores.response * flat[pixel])
        np.add.at(response, pixel, scores.response)
        np.add.at(power, pixel, np.abs(turned) ** 2)
        np.add.at(count, pixel, scores.members)
    return _Sums(*(x.reshape(grid.shape) for x in (gradient, weighted, response, power, count)))


@dataclass(frozen=True)
class _Smoothing:
    """A Gaussian of a standard deviation in pixels."""

    sigma_px: float

    @property
    def area(self) -> float:
        """Pixels that it averages over."""
        return 4.0 * np.pi * self.sigma_px**2

    def __call__(self, image: NDArray) -> NDArray:
        return gaussian_filter(image, self.sigma_px, mode="constant")

    def mean(self, sums: Complex, weights: Floats, known: Flags) -> Complex:
        """The weighted mean where it is known, else zero."""
        total = np.where(known, self(weights), 1.0)
        return np.where(known, (self(sums.real) + 1j * self(sums.imag)) / total, 0.0)
