"""Campaigns: what their files may say, what their blocks hold, and the one in short."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import yaml

from constellation.cli import main
from constellation.validation.analysis import measure
from constellation.validation.asking import settings_of
from constellation.validation.campaign import Campaign, Case, Limits, load_campaign
from constellation.validation.fields import by_blend
from constellation.validation.grids import of_halves
from constellation.validation.outcomes import Outcome, broken_limits, outcomes
from constellation.validation.records import Block
from shine.errors import ConfigurationError
from shine.population import ShapePrior, ShapeSamples, infer_shear
from shine.reinference import reinfer
from tests.science.known_blocks import block
from tests.science.samples import source_table
from tests.shine.simulated_shapes import SIGMA, measured, samples_of

ROOT = Path(__file__).parents[2]


def test_galaxies_fitted_alone_are_told_from_those_with_neighbours():
    rng = np.random.default_rng(6)
    true = 0.2 * (rng.standard_normal(60) + 1j * rng.standard_normal(60))
    shape = np.repeat(true[:, None], 20, axis=1)
    shape += 0.05 * (rng.standard_normal(shape.shape) + 1j * rng.standard_normal(shape.shape))
    shape /= np.maximum(1.0, np.abs(shape) / 0.9)
    table = source_table(ShapeSamples(shape, np.zeros(shape.shape), np.arange(60)))
    blend = np.where(np.arange(60) < 20, np.arange(60) // 2, np.arange(60))
    table = table.set_column(table.column_names.index("BLEND"), "BLEND", pa.array(blend))
    prior = ShapePrior(0.25, infer_sigma=False)
    [answer] = block(0).answers[:1]
    alone, blended = by_blend(answer, table, prior)
    assert (alone.method, alone.n_galaxies) == ("marginal_alone", 40)
    assert (blended.method, blended.n_galaxies) == ("marginal_blended", 20)
    expected = reinfer(table.slice(20), prior)
    np.testing.assert_allclose(alone.shear, expected.shear)
    assert np.hypot(*np.subtract(alone.shear, blended.shear)) > 1e-3
    [only] = by_blend(answer, table.slice(20), prior)
    assert only.method == "marginal_alone"


def test_a_campaign_says_what_is_wrong_with_it(tmp_path):
    one = {"name": "a", "level": 1, "shows": "x", "blocks": 1}
    position = {"marginal": {"position_arcsec": 0.1}}
    for content, message in (
        ({"cases": []}, "cases"),
        ({"cases": [one | {"compared_with": "b"}]}, "no case b"),
        ({"cases": [one | {"scene": {"cells": 9}}]}, "cells"),
        ({"cases": [one | {"limits": {"marginal_infered": {"m": 0.1}}}]},
         "a.limits.marginal_infered: expected one of .*'marginal_inferred'"),
        ({"cases": [one | {"methods": ["map"], "limits": {"marginal_inferred": {"m": 0.1}}}]},
         "expected one of .'map'."),
        ({"cases": [one | {"field": {}, "limits": position}]}, "not known of full scenes"),
        ({"cases": [one, one | {"name": "b", "scene": {"cells": 8}, "compared_with": "a"}]},
         "b.compared_with: a has .*'cells': 32"),
        ({"cases": [one, one | {"name": "b", "field": {}, "compared_with": "a"}]},
         "b.compared_with: a has"),
    ):  # fmt: skip
        path = tmp_path / "campaign.yaml"
        path.write_text(yaml.safe_dump(content))
        with pytest.raises(ConfigurationError, match=message):
            load_campaign(path)


@pytest.mark.parametrize(
    ("name", "levels"), [("validation", {0, 1, 2, 3, 4}), ("validation_more", {1, 2, 3})]
)
def test_the_whole_campaign_is_well_formed(name, levels):
    campaign = load_campaign(ROOT / "config" / f"{name}.yaml")
    assert {case.level for case in campaign.cases} == levels
    for case in campaign.cases:
        settings = campaign.settings(case)
        snr = None if case.field is None else 10.0  # isolated galaxies all carry shear
        assert settings["gal"]["selection"]["min_snr"] == snr


def test_a_block_repeats_and_a_report_misses_none(tmp_path, capsys):
    case = {"name": "one", "level": 1, "shows": "x", "blocks": 2, "scene": {"cells": 8}}
    base = yaml.safe_load((ROOT / "config" / "validation_smoke.yaml").read_text())
    campaign = tmp_path / "campaign.yaml"
    limits = {"marginal": {"m": 0.1, "c": 0.1, "position_arcsec": 0.1}}
    campaign.write_text(yaml.safe_dump(base | {"cases": [case | {"limits": limits}]}))
    assert isinstance(load_campaign(campaign), Campaign)

    def run(place: str, *numbers: int) -> Path:
        paths = [tmp_path / place / "one" / f"{number}.parquet" for number in numbers]
        arguments = ["--campaign", str(campaign), "--case", "one"]
        arguments += ["--block", *map(str, numbers), "--output", *map(str, paths)]
        assert main(["validation-block", *arguments]) == 0
        assert {*paths[0].parent.iterdir()} == {*paths}  # images are gone
        return paths[-1]

    first, again = run("blocks", 0), run("again", 1, 0)
    assert main(["validation-block", "--campaign", str(campaign), "--case", "one", "--block", "0",
                 "1", "--output", str(first)]) == 2  # fmt: skip
    assert "1 files for 2 blocks" in capsys.readouterr().err
    shear = [[answer.shear for answer in Block.read(path).answers] for path in (first, again)]
    assert shear[0] == shear[1]
    report = [
        "validation-report",
        "--campaign",
        str(campaign),
        "--blocks",
        str(tmp_path / "blocks"),
    ]
    report += ["--output", str(tmp_path / "report")]
    assert main(report) == 3
    assert "1.parquet" in capsys.readouterr().err
    shutil.copy(first, first.with_name("1.parquet"))
    assert main(report) == 0
    written = tmp_path / "report" / "validation.json"
    assert main(["validation-limits", "--json", str(written)]) == 0
    assert "All limits are kept" in capsys.readouterr().out
    content = json.loads(written.read_text())
    found = content["results"]
    content["broken_limits"] = ["m is too large"]
    written.write_text(json.dumps(content))
    assert main(["validation-limits", "--json", str(written)]) == 1
    assert "m is too large" in capsys.readouterr().out
    assert {item["method"] for item in found} == {"marginal", "marginal_inferred"}
    assert (tmp_path / "report" / "validation.png").read_bytes()[:4] == b"\x89PNG"


def test_the_smoke_keeps_its_limits(tmp_path):
    """`make validate`: a wrong sign, a shifted pixel or a wrong geometry break it."""
    folder = tmp_path / "repository"
    folder.mkdir()
    for name in ("workflow", "config", "shine", "profiles"):
        (folder / name).symlink_to(ROOT / name)
    command = ["snakemake", "--snakefile", "workflow/validation.smk", "--cores", "2", "--config"]
    done = subprocess.run(
        [*command, "campaign=config/validation_smoke.yaml"],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    made = folder / "build" / "validation" / "validation_smoke"
    report = json.loads((made / "validation.json").read_text())
    blocks = [Block.read(path) for path in (made / "blocks").glob("*/*.parquet")]
    of_shine = sum(a.cpu_s for block in blocks for a in block.answers if a.method == "marginal")
    assert 0.0 < of_shine < report["cost"]["processor_s"]  # images are drawn, too
    assert min(block.cost.wall_s for block in blocks) > 0.0
    wall_s = sum(block.cost.wall_s for block in blocks)
    assert report["cost"]["wall_s"] == pytest.approx(wall_s)
    found = report["results"]
    noiseless = next(item for item in found if item["method"] == "marginal")
    assert abs(noiseless["m1"]) < 3e-3 and abs(noiseless["c1"]) < 2e-4
    assert abs(noiseless["flux_ratio"] - 1.0) < 0.05
    assert abs(noiseless["size_ratio"] - 1.0) < 0.05


def test_blocks_have_random_samples_of_their_own():
    """With the same in all of them, their Monte Carlo errors would not average out."""
    campaign = load_campaign(ROOT / "config" / "validation_smoke.yaml")
    other = campaign.model_copy(update={"seed": campaign.seed + 1})
    settings = [
        settings_of(asked, asked.cases[0], ("marginal", block))
        for asked in (campaign, other)
        for block in (0, 1)
    ]
    assert len({each["inference"]["seed"] for each in settings}) == 4
    assert settings[1]["inference"]["method"] == "marginal"


def test_halves_of_the_samples_have_their_bias_and_none_of_their_noise():
    rng = np.random.default_rng(9)
    prior = ShapePrior(SIGMA, infer_sigma=False)
    samples = samples_of(measured(4000, rng), 12, rng)
    inside = np.abs(samples.shape).max(axis=1) < 1.0
    samples = ShapeSamples(
        samples.shape[inside], samples.log_weight[inside], np.arange(np.count_nonzero(inside))
    )
    [answer] = block(0).answers[:1]
    found = of_halves(answer, source_table(samples), prior)
    assert found.method == "marginal_halves"
    even, odd = (
        infer_shear(
            ShapeSamples(samples.shape[:, half::2], samples.log_weight[:, half::2], samples.blend),
            prior,
        ).shear
        for half in (0, 1)
    )
    np.testing.assert_allclose(found.shear, 0.5 * (even + odd), atol=1e-4)  # files round
    whole = infer_shear(samples, prior).shear
    assert np.hypot(*(found.shear - whole)) < 0.5 * np.hypot(*(even - odd))


def test_limits_grant_three_errors_and_no_more():
    def outcome(m: float, error: float, converged: float = 1.0) -> Outcome:
        limits = {"marginal": Limits(m=1e-3)}
        case = Case(name="one", level=1, shows="x", blocks=1, limits=limits)
        numbers = {"m1": m, "m1_err": error, "m2": 0.0, "m2_err": error, "converged": converged}
        measured = measure([block(0)], "marginal")
        return Outcome(case, measured, None, numbers)

    assert broken_limits([outcome(3.9e-3, 1e-3)]) == []
    [line] = broken_limits([outcome(-4.1e-3, 1e-3)])
    assert "one, marginal: m1" in line
    assert len(broken_limits([outcome(np.nan, 1e-3)])) == 1
    [line] = broken_limits([outcome(0.0, 1e-3, converged=0.75)])
    assert line == "one, marginal: 75% of the runs converged, expected all"


def test_only_the_psf_s_ellipticity_tells_its_leakage():
    def leakage(kind: str) -> float | None:
        one = {"level": 1, "shows": "x", "blocks": 1}
        other = {"psf": {"e1": 0.08, "kind": kind}}
        cases = [{"name": "a"}, {"name": "b", "scene": other, "compared_with": "a"}]
        campaign = Campaign(cases=[one | case for case in cases])
        found = outcomes(campaign, {"a": [block(0)], "b": [block(0)]})
        return found[-1].numbers.get("psf_leakage")

    assert leakage("telescope") == 0.0
    assert leakage("moffat") is None
