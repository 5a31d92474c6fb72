"""Samples of shapes as source files have them."""

import numpy as np
import pyarrow as pa

from shine.population import ShapeSamples
from shine.result_schema import LOG_WEIGHT_STEPS, SHAPE_STEPS


def source_table(samples: ShapeSamples) -> pa.Table:
    n, k = samples.shape.shape
    pairs = np.stack([samples.shape.real, samples.shape.imag], axis=2).reshape(n, 2 * k)
    return pa.table(
        {
            "OBJECT_ID": np.arange(n),
            "BLEND": np.arange(n),
            **dict.fromkeys(("TILE_ID", "SUBTILE_ROW", "SUBTILE_COL"), np.zeros(n, int)),
            "SHAPE_SAMPLES": pa.array(list(np.rint(pairs * SHAPE_STEPS).astype(np.int16))),
            "SAMPLE_LOG_WEIGHT": pa.array(
                list(np.rint(samples.log_weight * LOG_WEIGHT_STEPS).astype(np.int16))
            ),
        }
    )
