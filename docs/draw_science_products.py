"""Draw docs/science-products.png: a simulated cluster, from samples of shapes to its products.

Run from the top folder: PYTHONPATH=. .venv/bin/python docs/draw_science_products.py
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from matplotlib.figure import Figure
from pyarrow import parquet

from constellation.cli import main
from constellation.mock_survey.lensing import reduced_shear
from constellation.mock_survey.lensing_config import NfwShear
from constellation.products.grid import Grid
from constellation.products.saving import BLUE, ORANGE, VERMILION, save_figure
from tests.constellation.products.simulated import publish, shapes

PLACE = (57.0, -51.0)
CLUSTER = (57.05, -51.03)
SIDE_ARCMIN, PER_ARCMIN2 = 24.0, 30.0
HALO = NfwShear(type="nfw", mass_msun_h=6e14, redshift=0.25, ra=CLUSTER[0], dec=CLUSTER[1])


def make(folder: Path) -> None:
    """Publish a catalogue of the field, and run two commands on it."""
    rng = np.random.default_rng(3)
    grid = Grid.of_area((*PLACE, SIDE_ARCMIN, SIDE_ARCMIN), 1.0)
    n = round(PER_ARCMIN2 * SIDE_ARCMIN**2)
    sky = grid.wcs.pixel_to_world(*rng.uniform(-0.5, SIDE_ARCMIN - 0.5, (2, n)))
    g1, g2 = reduced_shear(HALO, sky.ra.deg, sky.dec.deg, None)
    samples = shapes(g1 + 1j * g2, rng, count=24, noise=0.12, paired=False)
    publish(folder / "catalogue", sky.ra.deg, sky.dec.deg, samples)
    catalogue = ["--catalogue", str(folder / "catalogue")]
    at = [str(x) for x in CLUSTER]
    area = [*map(str, PLACE), str(SIDE_ARCMIN), str(SIDE_ARCMIN)]
    for command in (
        ["convergence-map", "--area", *area],
        ["profile", "--at", *at, "--min", "0.5", "--max", "12"],
    ):
        if main([*command, *catalogue, "--output", str(folder / f"{command[0]}.parquet")]):
            raise SystemExit(1)


def draw(folder: Path, path: Path) -> None:
    """E mode, B mode, and the profile with the truth."""
    figure = Figure(figsize=(14.0, 4.4), dpi=100, layout="constrained")
    panels = figure.subplots(1, 3)
    rows = parquet.read_table(folder / "convergence-map.parquet")
    x, y = rows["X"].to_numpy(), rows["Y"].to_numpy()
    half = SIDE_ARCMIN / 2.0
    for axes, mode in zip(panels[:2], "EB", strict=True):
        image, significance = np.full((2, y.max() + 1, x.max() + 1), np.nan)
        image[y, x] = rows[f"KAPPA_{mode}"].to_numpy()
        significance[y, x] = image[y, x] / rows["KAPPA_ERR"].to_numpy()
        style = {"origin": "lower", "extent": (half, -half, -half, half)}
        drawn = axes.imshow(image, cmap="PuOr_r", vmin=-0.25, vmax=0.25, **style)
        axes.contour(significance, levels=[4, 6, 8], colors="black", linewidths=0.8, **style)
        axes.set(xlabel="ΔRA cos(Dec) [arcmin]", ylabel="ΔDec [arcmin]")
        axes.set_title(f"κ, {mode} mode; contours at 4, 6, 8 σ")
    figure.colorbar(drawn, ax=panels[:2], shrink=0.8)
    table = parquet.read_table(folder / "profile.parquet")
    radius = table["R_MEAN"].to_numpy()
    axes = panels[2]
    for name, colour, marker, label in (
        ("G_T", BLUE, "o", "tangential"),
        ("G_X", ORANGE, "s", "cross"),
    ):
        errors = table[f"{name}_ERR"].to_numpy()
        look = {"fmt": marker, "color": colour, "capsize": 2, "label": label}
        axes.errorbar(radius, table[name].to_numpy(), errors, **look)
    fine = np.geomspace(0.5, 12.0, 200)
    true = np.hypot(*reduced_shear(HALO, np.full(200, CLUSTER[0]), CLUSTER[1] + fine / 60.0, None))
    axes.plot(fine, true, color=VERMILION, label="true (GalSim)")
    axes.axhline(0.0, color="0.5", lw=0.8)
    axes.set(xscale="log", xlabel="separation [arcmin]", title="reduced shear around the cluster")
    axes.legend()
    save_figure(figure, path)


if __name__ == "__main__":
    with TemporaryDirectory() as name:
        make(Path(name))
        draw(Path(name), Path(__file__).with_name("science-products.png"))
