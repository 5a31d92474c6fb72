"""How the tables and figures of products are made, and the figures' colours."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from shine.atomic import write_atomically
from shine.result_schema import CONVENTIONS

# Okabe and Ito's colours, told apart by colour-blind readers too
BLUE, VERMILION, GREEN, ORANGE = "#0072B2", "#D55E00", "#009E73", "#E69F00"

Descriptions = Mapping[str, tuple[str, str]]  # unit and meaning of each column


def described_table(
    values: Mapping[str, ArrayLike | pa.Array], about: Descriptions, metadata: Mapping[str, str]
) -> pa.Table:
    """A table whose columns say their units and meanings; masked arrays may have nulls."""
    arrays = {name: pa.array(column) for name, column in values.items()}
    fields = []
    for name, array in arrays.items():
        nullable = isinstance(values[name], np.ma.MaskedArray)
        described = {"unit": about[name][0], "description": about[name][1]}
        fields.append(pa.field(name, array.type, nullable, described))
    schema = pa.schema(fields, {"conventions": CONVENTIONS, **metadata})
    return pa.table(list(arrays.values()), schema)


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, atomically; the same figure gives the same bytes."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    write_atomically(path, buffer.getvalue())
