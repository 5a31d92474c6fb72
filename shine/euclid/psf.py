"""The PSF of one detector quadrant: a 9 x 9 grid of stamps, interpolated to any position.

The stamps hold the effective PSF: the pixel response is in them, so a model convolved by them must
not be convolved by the pixel again (`PsfConfig.pixel` says so of a file that is otherwise). Their
sums, 0.93 to 0.97, say how much light the stamp holds; they are kept as they are, and what fitted
optics send beyond them is added (`PsfConfig.model`). Taken for granted
until `PsfConfig` says otherwise: the first row of stamps belongs to the lowest y, and the nodes are
the centres of nine by nine cells.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shine.errors import InputError, explain
from shine.euclid.config import PsfConfig
from shine.psf import convolve_pixel
from shine.psf_moments import adaptive_moments, sampled_twice
from shine.super_resolution import SuperResolver

Floats = NDArray[np.float64]

GRID_NODES = 9


@dataclass(frozen=True)
class PsfGrid:
    """PSF stamps (9, 9, k, k), indexed [y node, x node, y, x], centred on the middle pixel."""

    stamps: NDArray[np.float32]
    x_nodes: NDArray[np.float64]  # (9,) 0-based pixel positions in the quadrant, ascending
    y_nodes: NDArray[np.float64]
    usable: NDArray[np.bool_]  # (9, 9) nodes whose stamp is finite and has a positive sum
    where: str  # file and HDU
    oversampling: int = 1  # samples per pixel, in each direction
    margin: int = 0  # samples around what the file holds, which the fitted optics fill

    @classmethod
    def from_image(cls, image: NDArray, frame_shape: tuple[int, int], where: str) -> Self:
        """Cut a PSF image (9 k, 9 k) into its stamps, for a quadrant of `frame_shape` (ny, nx).

        `where` names the file and HDU in the InputError raised if the image is not square, k is not
        odd, or no stamp is finite with a positive sum.
        """
        side = image.shape[0]
        size, rest = divmod(side, GRID_NODES)
        if image.shape != (side, side) or rest or size % 2 == 0:
            raise InputError(
                explain(
                    where,
                    f"an image of {image.shape[0]} x {image.shape[-1]} pixels",
                    f"a square grid of {GRID_NODES} x {GRID_NODES} stamps of odd size (189 x 189)",
                    "Check that this is the PSF grid of the VIS calibration.",
                )
            )
        cells = image.reshape(GRID_NODES, size, GRID_NODES, size)
        stamps = np.ascontiguousarray(cells.swapaxes(1, 2), dtype=np.float32)
        usable = np.isfinite(stamps).all(axis=(2, 3))
        usable &= np.where(usable, stamps.sum(axis=(2, 3), dtype=np.float64), 0.0) > 0.0
        if not usable.any():
            found = "no stamp that is finite and has a positive sum"
            action = "Fetch or make this PSF grid again."
            raise InputError(explain(where, found, "stamps that sum to nearly one", action))
        stamps[~usable] = stamps[usable].mean(axis=0)  # never used: see `knows`
        ny, nx = frame_shape
        return cls(stamps, _cell_centres(nx), _cell_centres(ny), usable, where)

    def arranged(self, config: PsfConfig) -> Self:
        """The grid with its stamps at the places where the configuration wants them."""
        grid = self
        if config.grid_order == "columns":
            stamps, usable = grid.stamps.swapaxes(0, 1), grid.usable.T
            grid = replace(grid, stamps=np.ascontiguousarray(stamps), usable=usable)
        if config.grid_nodes == "edges":
            sides = (GRID_NODES * (n[1] - n[0]) for n in (grid.x_nodes, grid.y_nodes))
            x_nodes, y_nodes = (np.linspace(-0.5, side - 0.5, GRID_NODES) for side in sides)
            grid = replace(grid, x_nodes=x_nodes, y_nodes=y_nodes)
        return grid

    def modelled(self, config: PsfConfig, pixel_arcsec: float, x: Floats, y: Floats) -> Self:
        """The grid as the configuration wants it read: effective, and with what sampling.

        It is good for `at` at 0-based pixel positions x, y (n,) alone: super-resolution is most of
        the time of loading, and stamps that none of them needs are NaN. InputError names the file
        if no model of the telescope fits the stamps.
        """
        stamps, factor = self.stamps, {"native": 1, "optics": 1, "oversampled": 2}[config.model]
        margin = 0
        if config.pixel == "to_convolve":
            stamps = convolve_pixel(stamps, factor)
        if config.model == "optics":
            try:
                resolver = _resolver(stamps.tobytes(), stamps.shape[-1], pixel_arcsec)
                fine = resolver.resolve(self._around(x, y).ravel())
            except ValueError as error:
                action = "Check the file, or take it as it is with inference.psf.model: native."
                raise InputError(explain(self.where, str(error), "PSF stamps", action)) from error
            margin = (fine.shape[-1] - (2 * stamps.shape[-1] - 1)) // 2
            stamps, factor = fine.reshape(*stamps.shape[:2], *fine.shape[1:]), 2
        return replace(self, stamps=stamps, oversampling=factor, margin=margin)

    def _around(self, x: Floats, y: Floats) -> NDArray[np.bool_]:
        """The nodes (9, 9) between which the positions lie."""
        columns, rows = _bracket(self.x_nodes, x)[0], _bracket(self.y_nodes, y)[0]
        nodes = np.zeros(self.usable.shape, bool)
        for row, column in product((rows, rows + 1), (columns, columns + 1)):
            nodes[row, column] = True
        return nodes

    def knows(self, x: ArrayLike, y: ArrayLike) -> NDArray[np.bool_]:
        """Whether the PSF at 0-based pixel positions (n,) rests on usable stamps alone."""
        known = np.ones(np.atleast_1d(x).shape, bool)
        for row, column, weight in self._corners(x, y):
            known &= self.usable[row, column] | (weight == 0.0)
        return known

    def at(self, x: ArrayLike, y: ArrayLike) -> NDArray[np.float32]:
        """PSF stamps (n, k, k) at 0-based pixel positions (n,) of the quadrant.

        Bilinear between the nodes, constant beyond the outer ones, not renormalised. Positions that
        are not finite raise ValueError.
        """
        stamps = np.zeros((*np.atleast_1d(x).shape, *self.stamps.shape[2:]), np.float32)
        for row, column, weight in self._corners(x, y):
            stamps += weight.astype(np.float32)[:, None, None] * self.stamps[row, column]
        return stamps

    def moments_at(self, x: Floats, y: Floats) -> Floats:
        """Adaptive moments (n, 2, 2) of the PSF there, along x and y, pixel².

        Those of the nodes, bilinear between them as the stamps are: they differ from those of the
        stamp there by the square of what the PSF changes from node to node. NaN where a stamp has
        none.
        """
        nodes = self._around(x, y)
        moments = np.full((*nodes.shape, 2, 2), np.nan)
        stamps, factor = self.stamps[nodes], self.oversampling
        if factor == 1:
            stamps, factor = sampled_twice(stamps), 2
        moments[nodes] = adaptive_moments(stamps) / factor**2
        found = np.zeros((len(x), 2, 2))
        for row, column, weight in self._corners(x, y):
            share = weight[:, None, None]
            found += np.where(share > 0.0, share * moments[row, column], 0.0)
        return found

    def _corners(self, x: ArrayLike, y: ArrayLike) -> Iterator[tuple[NDArray, NDArray, Floats]]:
        """The four nodes around each position: rows, columns and weights, (n,) each."""
        columns, right = _bracket(self.x_nodes, np.atleast_1d(np.asarray(x, np.float64)))
        rows, above = _bracket(self.y_nodes, np.atleast_1d(np.asarray(y, np.float64)))
        for row, weight_y in ((rows, 1.0 - above), (rows + 1, above)):
            for column, weight_x in ((columns, 1.0 - right), (columns + 1, right)):
                yield row, column, weight_x * weight_y


@functools.lru_cache(maxsize=150)  # of a row of a tile's sub-tiles in four exposures: 390 MB
def _resolver(content: bytes, size: int, pixel_arcsec: float) -> SuperResolver:
    """Kept, for neighbouring sub-tiles share quadrants, and exposures may share a PSF."""
    return SuperResolver(np.frombuffer(content, np.float32).reshape(-1, size, size), pixel_arcsec)


def _cell_centres(n_pixels: int) -> NDArray[np.float64]:
    return (np.arange(GRID_NODES) + 0.5) * n_pixels / GRID_NODES - 0.5


def _bracket(
    nodes: NDArray[np.float64], position: NDArray[np.float64]
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Index of the node at or below each position, and the weight of the next one."""
    if not np.isfinite(position).all():
        raise ValueError("the PSF is asked for at positions that are not finite")
    place = (position - nodes[0]) / (nodes[1] - nodes[0])  # the nodes are evenly spaced
    place = np.clip(place, 0.0, len(nodes) - 1.0)
    below = np.minimum(place.astype(np.intp), len(nodes) - 2)
    return below, place - below
