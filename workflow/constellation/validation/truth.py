"""What a validation image shows, against what was found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from constellation.mock_survey.population import Sources


@dataclass(frozen=True)
class Truth:
    """The galaxies of a block's images."""

    ids: np.ndarray  # (n,)
    galaxies: Sources  # in the same order
    unit: int  # so many of them, one after the other, are one galaxy
    ellipticity_sigma: float

    def rows(self, object_id: np.ndarray) -> np.ndarray:
        """The places of galaxies among the true ones."""
        order = np.argsort(self.ids)
        return order[np.searchsorted(self.ids, object_id, sorter=order)]

    def compared(self, found: pa.Table) -> dict[str, Any]:
        """The fits of the galaxies against the truth, on average."""
        true = self.galaxies[self.rows(found["OBJECT_ID"].to_numpy())]
        column = {name: found[name].to_numpy() for name in found.column_names if name in _COMPARED}
        west = (true.ra - column["RA"]) * np.cos(np.radians(true.dec)) + column["OFFSET_U"] / 3600.0
        north = column["DEC"] - true.dec + column["OFFSET_V"] / 3600.0
        return {
            "position_arcsec": (
                3600.0 * float(np.nanmean(west)),
                3600.0 * float(np.nanmean(north)),
            ),
            "flux_ratio": float(np.nanmedian(column["FLUX"] / true.flux_ujy)),
            "size_ratio": float(np.nanmedian(column["HALF_LIGHT_RADIUS"] / true.hlr_arcsec)),
        }


_COMPARED = ("RA", "DEC", "OFFSET_U", "OFFSET_V", "FLUX", "HALF_LIGHT_RADIUS")
