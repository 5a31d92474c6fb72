"""What a sub-tile's result files hold, as Python objects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shine.errors import Status
from shine.provenance import Provenance
from shine.result_schema import PARAMETERS

if TYPE_CHECKING:  # reading results needs no transforms
    from shine.psf_moments import PsfShapes


@dataclass(frozen=True)
class ShearResult:
    """The shear of one sub-tile; units and meanings: `shine.result_schema.SHEAR_COLUMNS`.

    None stands for a missing value. The shear, its errors and covariance come together, and only
    with status OK or NOT_CONVERGED.
    """

    tile_id: int
    subtile_row: int
    subtile_col: int
    ra_deg: float
    dec_deg: float
    method: str
    status: Status = Status.NOT_ATTEMPTED
    flags: int = 0
    g1: float | None = None
    g2: float | None = None
    g1_err: float | None = None
    g2_err: float | None = None
    g1g2_cov: float | None = None
    n_sources: int = 0
    convergence: float | None = None
    n_modelled: int = 0
    n_quadrants: int = 0
    n_pixels: int = 0
    chi2: float | None = None
    ellipticity_sigma: float | None = None
    ellipticity_sigma_err: float | None = None
    psf_e1: float | None = None
    psf_e2: float | None = None
    psf_fwhm: float | None = None


@dataclass(frozen=True)
class SampleColumns:
    """K samples of each of n sources; a source without any has no finite weight."""

    shape: NDArray[np.complexfloating]  # (n, K) observed s1 + i s2
    log_weight: NDArray[np.floating]  # (n, K)
    effective: NDArray[np.floating]  # (n,) effective number of samples


@dataclass(frozen=True)
class SourceResults:
    """The core sources of one sub-tile, one entry per source in every array.

    Units and meanings: `shine.result_schema.SOURCE_COLUMNS`. NaN stands for a missing value, and
    so do masked entries of a masked array. The errors in the file are the roots of the
    covariance's diagonal.
    """

    object_id: ArrayLike
    ra_deg: ArrayLike
    dec_deg: ArrayLike
    kind: ArrayLike
    parameters: ArrayLike  # (n, 6) in the order of PARAMETERS
    covariance: ArrayLike  # (n, 6, 6)
    chi2: ArrayLike
    n_pixels: ArrayLike
    n_exposures: ArrayLike
    flags: ArrayLike
    blend: ArrayLike
    samples: SampleColumns | None = None
    psf: PsfShapes | None = None

    @classmethod
    def empty(cls) -> SourceResults:
        """No source at all."""
        none, n = np.zeros(0), len(PARAMETERS)
        return cls(
            object_id=none,
            ra_deg=none,
            dec_deg=none,
            kind=none,
            parameters=np.zeros((0, n)),
            covariance=np.zeros((0, n, n)),
            chi2=none,
            n_pixels=none,
            n_exposures=none,
            flags=none,
            blend=none,
        )


@dataclass(frozen=True)
class RunRecord:
    """What a result depends on and leaves out, and what this run measured (JSON values)."""

    provenance: Provenance
    measurements: Mapping[str, Any] = field(default_factory=dict)
    input_versions: Mapping[str, Any] = field(default_factory=dict)  # file -> size, time or tag
    left_out: Mapping[str, Mapping[str, int]] = field(default_factory=dict)  # kind -> reason -> n
