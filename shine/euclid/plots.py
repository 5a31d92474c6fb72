"""Pictures of one sub-tile: what was observed, what the model says, what is left."""

from pathlib import Path

import numpy as np

from shine.atomic import write_atomically
from shine.euclid.scene import Display, ExposureSet


def plot_residuals(exposures: ExposureSet, model_adu: np.ndarray | None, path: Path | str) -> None:
    """Write observed | model | chi panels of the quadrant that sees most core sources, as PNG.

    `model_adu` (p,) is the model at the scene's pixels, None without one. Masked pixels are blue;
    pixels that no modelled source reaches are empty in the model and in chi.
    """
    import io

    from matplotlib.figure import Figure

    figure = Figure(figsize=(13.5, 4.4))
    view = exposures.display
    if view is None:
        figure.text(0.5, 0.5, f"{exposures.manifest.stem}: nothing to show", ha="center")
    else:
        _draw(figure, view, model_adu, exposures.manifest.stem)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=160, metadata={"Software": None})
    write_atomically(path, buffer.getvalue())


def _draw(figure, view: Display, model_adu: np.ndarray | None, stem: str) -> None:
    rows, columns = _core_window(view)
    place = view.place[rows, columns]
    valid = view.weight[rows, columns] > 0
    modelled = (place >= 0) & (model_adu is not None)
    observed = np.where(valid, view.image_adu[rows, columns], np.nan)
    model = np.zeros(place.shape)
    if model_adu is not None:
        model[modelled] = model_adu[place[modelled]]
    chi = np.where(
        modelled & valid,
        (view.image_adu[rows, columns] - model) * np.sqrt(view.weight[rows, columns]),
        np.nan,
    )
    noise = 1.0 / np.sqrt(np.median(view.weight[rows, columns][valid])) if valid.any() else 1.0
    extent = (columns.start - 0.5, columns.stop - 0.5, rows.start - 0.5, rows.stop - 0.5)
    panels = (
        ("observed", np.arcsinh(observed / noise), "gray_r", (-2.0, 5.0), "asinh(signal / noise)"),
        ("model", np.arcsinh(model / noise), "gray_r", (-2.0, 5.0), "asinh(signal / noise)"),
        (
            f"chi, rms {np.std(chi[modelled & valid]):.3f}" if modelled.any() else "chi",
            chi,
            "RdBu_r",
            (-5.0, 5.0),
            "(observed - model) / rms",
        ),
    )
    # placed by hand: an automatic layout takes longer than all the drawing
    edges = {"left": 0.055, "right": 0.955, "bottom": 0.1, "top": 0.87, "wspace": 0.24}
    axes = figure.subplots(1, 3, sharex=True, sharey=True, gridspec_kw=edges)
    for axis, (title, image, colours, (low, high), label) in zip(axes, panels, strict=True):
        axis.set_facecolor("#bcd7ee")
        drawn = axis.imshow(
            image, cmap=colours, vmin=low, vmax=high, extent=extent, interpolation="nearest"
        )
        axis.set_title(title)
        figure.colorbar(drawn, ax=axis, label=label, fraction=0.046, pad=0.03)
        axis.set_xlabel("x [px]")
    axes[0].set_ylabel("y [px]")
    figure.suptitle(f"sub-tile {stem}, quadrant {view.name}, core area")


def _core_window(view: Display, most: int = 700) -> tuple[slice, slice]:
    """Rows and columns around the core sources, at most `most` pixels wide."""
    height, width = view.place.shape
    if not len(view.core_xy):
        return slice(0, min(height, most)), slice(0, min(width, most))
    centre = np.median(view.core_xy, axis=0)
    slices = []
    for c, length in ((centre[1], height), (centre[0], width)):
        start = int(np.clip(c - most / 2, 0, max(length - most, 0)))
        slices.append(slice(start, min(start + most, length)))
    return slices[0], slices[1]
