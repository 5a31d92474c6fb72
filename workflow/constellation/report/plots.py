"""Charts of how well the shear was inferred, how the solver converged, and what it took."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from constellation.report.campaign import Campaign, Floats
from constellation.report.drawing import Chart, Scale, histogram, plain

MOST_ERROR_BARS = 200  # beyond, they would hide the points
N_WORST = 3


@dataclass(frozen=True)
class Plot:
    """A chart, its caption, and what a screen reader says in its place."""

    name: str  # of its file
    chart: Chart
    caption: str
    description: str


def comparison(campaign: Campaign) -> Plot:
    """Inferred against true shear."""
    g, truth, err = campaign.g, campaign.truth, campaign.g_err
    known = np.isfinite(g) & np.isfinite(truth)
    with_bars = len(g) <= MOST_ERROR_BARS
    reach = np.concatenate([g - err, g + err]) if with_bars else g
    chart = Chart(Scale.around(truth), Scale.around(reach))
    chart.diagonal()
    size = 6.0 if with_bars else 2.5
    for n, (colour, name) in enumerate((("blue", "g₁"), ("orange", "g₂"))):
        if with_bars:
            low = np.stack([truth[:, n], g[:, n] - err[:, n]], axis=-1)
            high = np.stack([truth[:, n], g[:, n] + err[:, n]], axis=-1)
            chart.segments(low, high, colour, 1.2)
        chart.dots(truth[:, n], g[:, n], colour, size)
        chart.legend.append((colour, name))
    chart.frame("true shear", "inferred shear")
    difference = (g - truth)[known]
    mean = float(difference.mean()) if len(difference) else np.nan
    text = (
        f"Inferred against true shear, {known.sum():,} components; mean difference "
        f"{plain(mean, '+.4f')}."
    )
    caption = "Inferred against true shear of each sub-tile; dashed: equal."
    return Plot("comparison", chart, caption, text)


def pulls(campaign: Campaign) -> Plot:
    """How (inferred - true) / error is spread, against the normal distribution."""
    found = campaign.pulls[np.isfinite(campaign.pulls)]
    reach = max(4.0, float(np.ceil(np.abs(found).max(initial=0.0))))
    edges = np.linspace(-reach, reach, 4 * round(reach) + 1)
    counts = np.histogram(found, edges)[0]
    x = np.linspace(-reach, reach, 161)
    normal = np.exp(-0.5 * x**2) / np.sqrt(2.0 * np.pi) * len(found) * (edges[1] - edges[0])
    top = Scale(0.0, 1.1 * max(counts.max(), normal.max(), 1.0), whole=True)
    chart = Chart(Scale(-reach, reach), top)
    chart.bars(edges, counts, "blue")
    chart.lines([(x, normal)], "orange", 2.0)
    chart.legend += [("blue", "pulls"), ("orange", "N(0, 1)")]
    chart.frame("(inferred − true) / error", "number per bin")
    rms = plain(float(np.sqrt(np.mean(found**2))) if len(found) else np.nan, ".2f")
    caption = f"Pulls of g₁ and g₂, rms {rms}: 1 if the errors are right."
    largest = plain(float(np.abs(found).max()) if len(found) else np.nan, ".2f")
    text = f"Histogram of {len(found):,} pulls: rms {rms}, largest {largest}."
    return Plot("pulls", chart, caption, text)


def spread(name: str, values: Floats, label: str, form: str = ".3g") -> Plot:
    """A histogram of one number per sub-tile, written in the form `form`."""
    known = values[np.isfinite(values)]
    median, low, high = (
        (np.median(known), known.min(), known.max()) if len(known) else (np.nan,) * 3
    )
    numbers = f"median {plain(median, form)}, from {plain(low, form)} to {plain(high, form)}"
    caption = f"{label}: {numbers}."
    return Plot(
        name,
        histogram(values, label, "blue"),
        caption[0].upper() + caption[1:],
        f"Histogram of {label} of {len(known):,} sub-tiles: {numbers}.",
    )


def samples(campaign: Campaign) -> Plot:
    """How many effective samples the sources have."""
    values = campaign.effective_samples
    low, median = np.quantile(values, [0.05, 0.5])
    numbers = f"median {median:.0f}, 5 % have fewer than {low:.0f}"
    chart = histogram(values, "effective samples", "green", "sources")
    caption = f"Effective samples of each source: {numbers}."
    text = f"Histogram of the effective samples of {len(values):,} sources: {numbers}."
    return Plot("samples", chart, caption, text)


def convergence(campaign: Campaign) -> list[Plot]:
    """Curves of the solver's sweeps."""
    curves = {
        "promised": ("expected", "promised rise of ln posterior", True),
        "moving": ("moving", "sources that still move", False),
        "shear-move": ("shear_move", "move of the shear [errors]", True),
    }
    plots: list[Plot] = []
    for name, (key, label, log) in curves.items():
        found = {
            place: np.array(history[key])
            for place, history in enumerate(campaign.histories)
            if history is not None and history[key]
        }
        if not found or not any((values > 0.0).any() for values in found.values()):
            continue  # of method marginal, no sweep moves the shear
        plots.append(_curves(name, found, label, log))
    return plots


def worst_ends(campaign: Campaign) -> list[tuple[str, float]]:
    """The sub-tiles whose solver promised most when it ended, and the rise of ln posterior."""
    ends = [
        (subtile.stem, history["expected"][-1])
        for subtile, history in zip(campaign.subtiles, campaign.histories, strict=True)
        if history is not None and history["expected"]
    ]
    return sorted(ends, key=lambda end: -end[1])[:N_WORST]


def _curves(name: str, found: dict[int, Floats], label: str, log: bool) -> Plot:
    n_sweeps = max(len(values) for values in found.values())
    sweeps = np.arange(1, n_sweeps + 1)
    # one that has ended stays where it is
    held = np.array([np.pad(v, (0, n_sweeps - len(v)), mode="edge") for v in found.values()])
    median = np.median(held, axis=0)
    worst = sorted(found.values(), key=lambda values: -values[-1])[:N_WORST]
    y = Scale.around(held, log) if log else Scale(0.0, 1.06 * float(held.max()))
    chart = Chart(Scale(0.7, n_sweeps + 0.3, whole=True), y)
    for curves, colour, width in (
        (list(found.values()), "blue faint", 0.8),
        (worst, "orange", 1.4),
        ([median], "ink", 2.4),
    ):
        chart.lines([(sweeps[: len(v)], v) for v in curves], colour, width)
    few = min(N_WORST, len(found))
    chart.legend += [("ink", "median"), ("blue", "each sub-tile"), ("orange", f"the {few} worst")]
    chart.frame("sweep", label)
    text = (
        f"{label[0].upper()}{label[1:]} in each of up to {n_sweeps} sweeps of {len(found):,} "
        f"sub-tiles: the median goes from {_short(median[0])} to {_short(median[-1])}; "
        f"the worst ends at {_short(float(worst[0][-1]))}."
    )
    return Plot(name, chart, f"{label[0].upper()}{label[1:]}, sweep by sweep.", text)


def _short(value: float) -> str:
    return plain(float(value), ".3g")
