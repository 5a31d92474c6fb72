"""From noiseless light to a raw-looking quadrant: sky, noise, defects and their flags."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .config import MockSurveyConfig
from .flags import Flag
from .focal_plane import QuadrantFrame
from .scene import Scene
from .seeds import Stream, generator

EDGE_PIXELS = 4
# Objects are marked where they exceed this many times the sky noise.
OBJECT_TO_NOISE = 1.5
# Pixels around a saturated core that the SATURATEDSTAR bit covers.
SATURATED_STAR_PIXELS = 12

Image = NDArray[np.float32]


@dataclass(frozen=True)
class Frame:
    """A quadrant's images (rows, columns): counts, their RMS and the sky in ADU, and flags."""

    sci: Image
    rms: Image
    flg: NDArray[np.int32]
    bkg: Image


def observe(config: MockSurveyConfig, frame: QuadrantFrame, scene: Scene) -> Frame:
    """Add sky, photon and read noise, and defects.

    The RMS holds the noise of the true light, also under defects.
    """
    detector = config.detector
    rng = generator(config.seed, Stream.PIXEL_NOISE, frame.exposure, frame.index)
    bkg = sky_adu(config, frame)
    light = scene.galaxies_adu + scene.stars_adu
    electrons = (bkg + light).astype(np.float64) * detector.gain
    rms = (np.sqrt(electrons + detector.read_noise_e**2) / detector.gain).astype(np.float32)
    if detector.noise == "poisson":
        counts = rng.poisson(electrons).astype(np.float32)
    else:
        unit = rng.standard_normal(frame.shape, dtype=np.float32)
        counts = (electrons + np.sqrt(electrons) * unit).astype(np.float32)
    counts += detector.read_noise_e * rng.standard_normal(frame.shape, dtype=np.float32)
    sci = counts / np.float32(detector.gain)

    flg = np.zeros(frame.shape, dtype=np.int32)
    noise = OBJECT_TO_NOISE * rms
    flg[light > noise] |= Flag.OBJECTS
    flg[scene.stars_adu > noise] |= Flag.STARSIGNAL
    for edge in (np.s_[:EDGE_PIXELS], np.s_[-EDGE_PIXELS:]):
        flg[edge, :] |= Flag.QUADEDGE
        flg[:, edge] |= Flag.QUADEDGE
    _cosmic_rays(config, frame, sci, flg)
    _saturate(detector.saturation_adu, bkg + light, sci, flg)
    _static_defects(config, frame, sci, flg)
    return Frame(sci=sci, rms=rms, flg=flg, bkg=bkg)


def sky_adu(config: MockSurveyConfig, frame: QuadrantFrame) -> Image:
    """Smooth sky over a quadrant: a level of its exposure and a tilted, curved surface."""
    level = generator(config.seed, Stream.SKY, frame.exposure).uniform(-0.05, 0.05)
    tilt = generator(config.seed, Stream.SKY, frame.exposure, frame.index).uniform(-1, 1, 4)
    rows, columns = frame.shape
    y = np.linspace(-0.5, 0.5, rows)[:, None]
    x = np.linspace(-0.5, 0.5, columns)[None, :]
    surface = tilt[0] * x + tilt[1] * y + tilt[2] * x * y + tilt[3] * (x**2 - y**2)
    mean = config.detector.sky_adu * (1 + level)
    return (mean * (1 + config.detector.sky_gradient * surface)).astype(np.float32)


def _cosmic_rays(
    config: MockSurveyConfig, frame: QuadrantFrame, sci: Image, flg: NDArray[np.int32]
) -> None:
    """Straight tracks of random direction, length and charge."""
    rng = generator(config.seed, Stream.COSMIC_RAYS, frame.exposure, frame.index)
    rows, columns = frame.shape
    n = int(rng.poisson(config.detector.cosmic_rays_per_megapixel * rows * columns / 1e6))
    x, y = rng.uniform(-0.5, columns - 0.5, n), rng.uniform(-0.5, rows - 0.5, n)
    angle = rng.uniform(0, 2 * np.pi, n)
    steps = 1 + np.minimum(rng.exponential(8.0, n), 200).astype(int)
    charge = np.exp(rng.normal(5.5, 1.0, n))
    track = np.repeat(np.arange(n), steps)
    step = 0.7 * (np.arange(len(track)) - np.repeat(np.cumsum(steps) - steps, steps))
    column = np.rint(x[track] + step * np.cos(angle[track])).astype(int)
    row = np.rint(y[track] + step * np.sin(angle[track])).astype(int)
    inside = (column >= 0) & (column < columns) & (row >= 0) & (row < rows)
    row, column, track = row[inside], column[inside], track[inside]
    np.add.at(sci, (row, column), charge[track].astype(np.float32))
    flg[row, column] |= Flag.INVALID | Flag.COSMIC


def _saturate(saturation: float, light: Image, sci: Image, flg: NDArray[np.int32]) -> None:
    """Clip full wells, with charge that bleeds along the columns, and mark their stars."""
    flg[sci >= saturation] |= Flag.INVALID | Flag.SAT
    np.minimum(sci, saturation, out=sci)
    full = light > saturation
    if not full.any():
        return
    bleeding = full.copy()
    for column in np.flatnonzero(full.any(axis=0)):
        filled = np.flatnonzero(full[:, column])
        reach = 2 * len(filled)
        bleeding[max(filled[0] - reach, 0) : filled[-1] + reach + 1, column] = True
    sci[bleeding] = saturation
    flg[_grown(bleeding, np.ones((3, 3), bool))] |= Flag.INVALID | Flag.SAT
    away = np.abs(np.arange(-SATURATED_STAR_PIXELS, SATURATED_STAR_PIXELS + 1))
    diamond = away[:, None] + away <= SATURATED_STAR_PIXELS
    flg[_grown(full, diamond)] |= Flag.SATURATEDSTAR


def _grown(mask: NDArray[np.bool_], shape: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The mask with a centred shape around each of its few pixels: a dilation, but sparse."""
    pixels, (rows, columns) = np.argwhere(mask), mask.shape
    grown = np.zeros_like(mask)
    for offset in np.argwhere(shape) - np.array(shape.shape) // 2:
        row, column = (pixels + offset).T
        inside = (row >= 0) & (row < rows) & (column >= 0) & (column < columns)
        grown[row[inside], column[inside]] = True
    return grown


def _static_defects(
    config: MockSurveyConfig, frame: QuadrantFrame, sci: Image, flg: NDArray[np.int32]
) -> None:
    """Hot pixels, dead columns and a dead cluster: the same in every exposure of a quadrant."""
    detector = config.detector
    rng = generator(config.seed, Stream.BAD_PIXELS, frame.index)
    rows, columns = frame.shape
    n_hot = int(rng.poisson(detector.hot_pixels_per_megapixel * rows * columns / 1e6))
    hot = rng.integers(0, rows, n_hot), rng.integers(0, columns, n_hot)
    charge = np.exp(rng.normal(7.0, 1.0, n_hot)).astype(np.float32)
    sci[hot] = np.minimum(sci[hot] + charge, detector.saturation_adu)
    flg[hot] |= Flag.INVALID | Flag.HOT
    for _ in range(detector.bad_columns_per_quadrant):
        column, first = int(rng.integers(columns)), int(rng.integers(rows))
        sci[first:, column] = 0.0
        flg[first:, column] |= Flag.INVALID | Flag.BAD_COLUMN
    if detector.bad_columns_per_quadrant:
        # A dead cluster holds no number at all: readers must not let NaN through.
        row, column = int(rng.integers(rows)), int(rng.integers(columns))
        cluster = np.s_[row : row + 6, column : column + 6]
        sci[cluster] = np.nan
        flg[cluster] |= Flag.INVALID | Flag.BAD_CLUSTER | Flag.NO_DATA
