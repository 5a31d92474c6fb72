"""Where a search for the mode stands: what `shine.inference` hands on."""

from dataclasses import dataclass, field

import jax
import numpy as np


@dataclass
class History:
    """One entry per sweep."""

    shear_move: list[float] = field(default_factory=list)  # in errors of the shear
    moving: list[int] = field(default_factory=list)  # sources that move by more than the tolerance
    rejected: list[int] = field(default_factory=list)  # sources whose step brought nothing
    expected: list[float] = field(default_factory=list)  # rise of the log posterior still promised


@dataclass
class Family:
    """The blends of c sources (slots), and the curvature that each was last seen with."""

    blend: np.ndarray  # (b,) blends of the scene
    source: np.ndarray  # (b, c) rows of their sources; -1 where there is none
    gauss_newton: np.ndarray  # (b, 6c, 6c) positive definite
    hessian: np.ndarray  # (b, 6c, 6c) the exact one, made positive definite
    response: np.ndarray  # (b, 6c, 2) how the sources answer the shear: dz = -response dt

    @classmethod
    def of(cls, blend: np.ndarray, source: np.ndarray) -> "Family":
        """Before anything is known of their curvature."""
        b, size = len(blend), 6 * source.shape[1]
        unit = np.broadcast_to(np.eye(size, dtype=np.float32), (b, size, size))
        return cls(blend, source, unit.copy(), unit.copy(), np.zeros((b, size, 2), np.float32))


@dataclass
class Fit:
    """Where all the blends are (host arrays, but for the pixels)."""

    z: np.ndarray  # (n, 6)
    shear_t: np.ndarray  # (2,)
    shear_curvature: np.ndarray  # (2, 2) of shear_t, marginal over all sources
    residual_adu: jax.Array  # (p,) data minus model
    expected: np.ndarray  # (b,) rise of the log posterior that the last step promised
    families: list[Family]
    converged: bool = False
    shear_move: float = np.inf  # of the last step, in errors
    history: History = field(default_factory=History)
