"""How the figures of products are written, and their colours."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

from matplotlib.figure import Figure

from shine.atomic import write_atomically

# Okabe and Ito's colours, told apart by colour-blind readers too
BLUE, VERMILION, GREEN, ORANGE = "#0072B2", "#D55E00", "#009E73", "#E69F00"


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, atomically; the same figure gives the same bytes."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    write_atomically(path, buffer.getvalue())
