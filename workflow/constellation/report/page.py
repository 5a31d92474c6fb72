"""The page: its charts, its pictures and its words, put into the template."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from base64 import b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from constellation.report import plots, sections
from constellation.report.assets import FOLDER, read_asset
from constellation.report.beside import Beside, log_span
from constellation.report.campaign import Campaign, Request
from constellation.report.pictures import Picture, copy_pictures, replace_folder
from constellation.report.plots import Plot
from constellation.report.sections import flag_name
from constellation.report.sky import MOST_FIELDS, Map, Sky
from constellation.run_layout import Run
from shine.atomic import write_atomically
from shine.errors import InputError, SubtileFlag, explain

MOST_OPEN = 64  # sub-tiles that a page shows without being asked


@dataclass(frozen=True)
class Figure:
    """One chart of the page, with the file that holds it too."""

    markup: Markup
    caption: str
    file: str


def write_report(request: Request) -> list[Path]:
    """Write the page, and beside it the folder of its charts and, of a large one, its pictures.

    Returns both paths. The same files give the same bytes. Raises `InputError` naming a file that
    is missing or damaged, `ConfigurationError` for bad settings.
    """
    run = Run.from_config(request.settings)
    campaign = Campaign(run, request.results)
    if campaign.shear.num_rows == 0:
        action = "Run the campaign first."
        where = campaign.catalogue.folder / "shear.parquet"
        raise InputError(explain(where, "no sub-tile", "at least one", action))
    if request.dvc_lock is not None and not request.dvc_lock.is_file():
        action = "Give the dvc.lock of the repository, or leave --dvc-lock out."
        raise InputError(explain(request.dvc_lock, "no such file", "dvc.lock", action))
    output = request.output
    folder = output.with_name(f"{output.stem}_files")
    output.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=output.parent))
    try:
        beside = Beside(request.results, output)
        named = made / folder.name  # so that links name the folder as it will be called
        named.mkdir()
        panels = {s.stem: beside.path("subtiles", s, ".png") for s in campaign.subtiles}
        pictures = copy_pictures({name: p for name, p in panels.items() if p}, named)
        figures = _figures(campaign, named)
        html = _render(request, campaign, beside, (pictures, figures))
        replace_folder(folder, named)
        write_atomically(output, html.encode("utf-8"))
    finally:
        shutil.rmtree(made)
    return [output, folder]


def _figures(campaign: Campaign, folder: Path) -> dict[str, list[Figure]]:
    sky = Sky(campaign)
    curves = plots.convergence(campaign)
    has_truth = bool(np.isfinite(campaign.truth).any())
    errors = plots.spread("errors", campaign.g_err.mean(axis=1), "error of g in a sub-tile")
    chi2 = campaign.numbers("CHI2") / campaign.numbers("N_PIXELS").clip(1.0)
    quality = [plots.comparison(campaign), plots.pulls(campaign)] if has_truth else []
    quality += [errors, plots.spread("chi2", chi2, "chi² per pixel", ".4f")]
    if len(campaign.effective_samples):
        curves = [*curves, plots.samples(campaign)]
    took = []
    if (campaign.seconds("TOTAL_S") > 0.0).any():
        took = [
            plots.spread(name.lower().replace("_", "-"), campaign.seconds(name), label, form)
            for name, label, form in (
                ("SOLVE_S", "time of solving [s]", ",.1f"),
                ("LOAD_S", "time of loading [s]", ",.1f"),
                ("COMPILE_S", "time of compiling [s]", ",.1f"),
                ("PEAK_RSS_MB", "most memory held [MB]", ",.0f"),
            )
        ]
    coverage = _maps("coverage", sky.coverage(), "Coverage")
    shear = _maps("shear", sky.shear(), "Shear")
    named = {
        "sky": [plot for pair in zip(coverage, shear, strict=True) for plot in pair],
        "quality": quality,
        "convergence": curves,
        "psf": _maps("psf", sky.psf_maps(), "PSF ellipticity, and FWHM as colour,"),
        "timings": took,
    }
    return {name: [_figure(plot, folder) for plot in found] for name, found in named.items()}


def _maps(name: str, maps: Iterable[Map], what: str) -> list[Plot]:
    return [
        Plot(
            f"{name}-{n}",
            found.chart,
            f"{what} of {found.what} {found.field.name}.",
            found.description,
        )
        for n, found in enumerate(maps, 1)
    ]


def _figure(plot: Plot, folder: Path) -> Figure:
    markup = plot.chart.markup(plot.description)
    style = read_asset("charts.css")  # on paper, for slides: always in its light colours
    opening, _, rest = str(markup).partition(">")
    (folder / f"{plot.name}.svg").write_text(
        f'{opening} font-family="sans-serif" font-size="12"><style>{style}</style>{rest}\n',
        encoding="utf-8",
    )
    return Figure(markup, plot.caption, f"{folder.name}/{plot.name}.svg")


def _render(
    request: Request,
    campaign: Campaign,
    beside: Beside,
    made: tuple[dict[str, Picture], dict[str, list[Figure]]],
) -> str:
    pictures, figures = made
    style = "".join(map(read_asset, ("charts.css", "dark.css", "page.css")))
    script = read_asset("page.js")
    span = log_span(campaign.subtiles, beside)
    data = campaign.run.config.data
    values: dict[str, Any] = {
        "name": Path(str(data.survey)).name,
        "survey": str(data.survey),
        "results": str(campaign.run.results),
        "method": ", ".join(sorted(set(campaign.shear["METHOD"].to_pylist()))),
        "verdict": sections.verdict(campaign),
        "span": span,
        "flags": [(flag_name(flag), flag.meaning) for flag in SubtileFlag],
        "counts": sections.counts(campaign),
        "checks": sections.checks(campaign),
        "looks": sections.first_looks(campaign),
        "tiles": sections.tiles(campaign, beside, pictures),
        "worst": plots.worst_ends(campaign),
        "timings": sections.timings(campaign),
        "slowest": sections.slowest(campaign),
        "failures": sections.failures(campaign, beside),
        "origins": sections.origins(campaign),
        "versions": sections.versions(campaign),
        "digests": sections.files(campaign, request.dvc_lock),
        "snapshot": request.iceberg_snapshot,
        "settings": sections.settings_text(request.settings),
        "figures": figures,
        "n_fields": len(Sky(campaign).fields),
        "most_fields": MOST_FIELDS,
        "has_truth": campaign.run.truth is not None,
        "is_open": len(campaign.subtiles) <= MOST_OPEN,
        "links": _links(beside),
        "style": Markup(style),
        "script": Markup(script),
        "policy": _policy(style, script),
    }
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("page.html").render(values)


def _links(beside: Beside) -> list[tuple[str, str]]:
    """Links to the files that the page was made of, those that are there."""
    names = (
        ("catalogue/shear.parquet", "shear of all sub-tiles"),
        ("catalogue/files.parquet", "files of the sources"),
        ("catalogue/failures.parquet", "failures"),
        ("quality/checks.txt", "quality checks"),
        ("quality/quality.png", "figure of the checks"),
        ("measurements.parquet", "times and memory"),
        ("summary/summary.txt", "summary"),
    )
    found = ((beside.link_to(name), text) for name, text in names)
    return [(link, text) for link, text in found if link]


def _policy(style: str, script: str) -> str:
    """A Content-Security-Policy: nothing from elsewhere, and no other script than the page's."""
    hashes = (
        b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode()
        for text in (style, script)
    )
    style_hash, script_hash = hashes
    return (
        f"default-src 'none'; img-src 'self' data: file:; style-src 'sha256-{style_hash}'; "
        f"script-src 'sha256-{script_hash}'; base-uri 'none'; form-action 'none'"
    )
