"""Draw docs/conventions.png: `.venv/bin/python docs/draw_conventions.py`.

The ellipses are circles put through GalSim's own shear matrices, so the picture cannot drift from
the convention it explains.
"""

from pathlib import Path

import galsim
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

SKY, DETECTOR, SHAPE = "#0072B2", "#D55E00", "#009E73"
ROLL_DEG = 37.0


def main() -> None:
    figure = Figure(figsize=(12.5, 4.4), layout="constrained")
    sky, shapes, detector = figure.subplots(1, 3)
    draw_sky(sky)
    draw_shapes(shapes)
    draw_detector(detector)
    figure.savefig(Path(__file__).with_name("conventions.png"), dpi=110)


def draw_sky(axes: Axes) -> None:
    axes.set_title("sky, seen from inside the sphere")
    for (x, y), name in {
        (1, 0): "u = west",
        (0, 1): "v = north",
        (-1, 0): "east (RA grows)",
    }.items():
        colour = SKY if name[1] == " " else "0.6"
        arrow(axes, (0, 0), (x, y), colour)
        axes.text(1.08 * x, 1.08 * y + 0.06, name, color=colour, ha="center", va="bottom")
    axes.text(
        0,
        -0.25,
        "origin: the source's catalogue position\nu, v in arcsec on the tangent plane\n"
        "offset (u, v) = true - catalogue",
        ha="center",
        va="top",
    )
    frame(axes, 1.6)


def draw_shapes(axes: Axes) -> None:
    axes.set_title("reduced shear of 0.3 acting on a circle")
    angle = np.linspace(0, 2 * np.pi, 200)
    circle = 0.42 * np.stack([np.cos(angle), np.sin(angle)])
    for (x, y), shear, name in (
        ((-0.75, 0.75), galsim.Shear(g1=0.3), "g1 > 0: east-west"),
        ((0.75, 0.75), galsim.Shear(g1=-0.3), "g1 < 0: north-south"),
        ((-0.75, -0.7), galsim.Shear(g2=0.3), "g2 > 0: along u = v\n(north-west, south-east)"),
        ((0.75, -0.7), galsim.Shear(g2=-0.3), "g2 < 0: along u = -v\n(north-east, south-west)"),
    ):
        u, v = shear.getMatrix() @ circle
        axes.fill(x + u, y + v, color=SHAPE, alpha=0.35)
        axes.plot(x + circle[0], y + circle[1], color="0.5", lw=0.8, ls="--")
        axes.text(x, y - 0.68, name, ha="center", va="center", fontsize=9)
    frame(axes, 1.6)


def draw_detector(axes: Axes) -> None:
    axes.set_title(f"detector quadrant, rolled by {ROLL_DEG:.0f}°")
    for edge in np.arange(6) - 0.5:
        axes.plot([edge, edge], [-0.5, 4.5], color="0.8", lw=0.8)
        axes.plot([-0.5, 4.5], [edge, edge], color="0.8", lw=0.8)
    axes.plot(0, 0, "o", color=DETECTOR)
    axes.text(0.12, 0.05, "(0, 0): centre of\nthe first pixel", fontsize=8, va="bottom")
    source = np.array([2.3, 2.1])
    axes.plot(*source, "*", color=SKY, ms=12)
    cos, sin = np.cos(np.deg2rad(ROLL_DEG)), np.sin(np.deg2rad(ROLL_DEG))
    for direction, name in (((cos, sin), "u"), ((-sin, cos), "v")):
        tip = source + 1.5 * np.array(direction)
        arrow(axes, source, tip, SKY)
        axes.text(*(tip + 0.12), name, color=SKY)
    axes.text(2.45, 1.95, "(2.3, 2.1)", fontsize=8, va="top")
    axes.text(
        2,
        -0.75,
        "J = d(u, v) / d(x, y) of the full WCS\nat the source takes the sky to pixels",
        ha="center",
        va="top",
    )
    axes.set(xlim=(-0.7, 4.9), ylim=(-1.6, 4.7), aspect="equal", xlabel="x [px]", ylabel="y [px]")
    axes.set(xticks=range(5), yticks=range(5))


def arrow(axes: Axes, start, end, colour: str) -> None:
    axes.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": colour, "lw": 2})


def frame(axes: Axes, reach: float) -> None:
    axes.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
    axes.set_axis_off()


if __name__ == "__main__":
    main()
