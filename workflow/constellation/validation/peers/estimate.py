"""From what a code says of each galaxy to one shear, and how each galaxy moves it.

The shear g solves sum_i (a_i - R_i g) = 0: a is an ellipticity and R its response to shear, or a
weighted ellipticity and its weight. If galaxy i counted w_i times, g would move by
sum_i (w_i - 1) (a_i - R_i g) / sum R to first order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Complex = NDArray[np.complex128]


@dataclass(frozen=True)
class Shapes:
    """One image's galaxies as a code has measured them; 1 + i 2 of components u west, v north."""

    method: str
    moment: Complex  # a (n,)
    response: NDArray[np.float64]  # R (n,)
    settled: NDArray[np.bool_]  # (n,) whether the galaxy counts; the others have a = R = 0
    chi2_per_pixel: float  # NaN where the code fits nothing
    cpu_s: float  # of all galaxies

    def shear(self) -> tuple[complex, Complex]:
        """The reduced shear, and by how much each galaxy moves it (n,)."""
        total = self.response.sum()
        shear = complex(self.moment.sum() / total)
        return shear, (self.moment - self.response * shear) / total
