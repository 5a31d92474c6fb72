"""The campaign's arithmetic against truths, and the smoke campaign."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import yaml

from constellation.cli import main
from constellation.validation.analysis import cross_response, measure, psf_leakage
from constellation.validation.asking import settings_of
from constellation.validation.campaign import Campaign, Case, Limits, load_campaign
from constellation.validation.fields import by_blend
from constellation.validation.grids import of_halves
from constellation.validation.influence import influences
from constellation.validation.outcomes import Outcome, broken_limits
from constellation.validation.records import Answer, Block
from constellation.validation.shears import shears
from shine.errors import ConfigurationError
from shine.population import ShapePrior, ShapeSamples, infer_shear
from shine.reinference import reinfer
from tests.science.samples import source_table
from tests.shine.simulated_shapes import SIGMA, measured, samples_of

ROOT = Path(__file__).parents[2]
M, C, CROSS = np.array([0.02, -0.03]), np.array([1e-3, -2e-3]), np.array([0.004, -0.006])
UNITS = 40


def block(number: int, noise: float = 0.0, rng=None, c=C) -> Block:
    """A block whose answers have known biases, and units that move them by noise."""
    answers, tables = [], []
    for g in shears(0.02, number):
        true = np.array(g)
        moves = noise * rng.standard_normal((UNITS, 2)) if noise else np.zeros((UNITS, 2))
        found = (1.0 + M) * true + CROSS * true[::-1] + c + moves.sum(axis=0)
        answers.append(
            Answer("marginal", g, tuple(found), (1.0, 0.0, 1.0), None, 64, True, 1.0, 1.0, 1.0,
                   0.0, (0.0, 0.0), 1.0, 1.0)
        )  # fmt: skip
        columns = {"TRUE_G1": g[0], "TRUE_G2": g[1], "METHOD": "marginal"}
        table = {name: [value] * UNITS for name, value in columns.items()}
        table |= {"UNIT": np.arange(UNITS), "MOVES_G1": moves[:, 0], "MOVES_G2": moves[:, 1]}
        names = ("METHOD", "TRUE_G1", "TRUE_G2", "UNIT", "MOVES_G1", "MOVES_G2")
        tables.append(pa.table({name: table[name] for name in names}))
    return Block("case", number, answers, tables)


def test_biases_are_those_of_the_answers():
    measured = measure([block(0), block(1)], "marginal")
    np.testing.assert_allclose(measured.mean, [*M, *C], atol=1e-12)
    np.testing.assert_allclose(cross_response(measured), CROSS, atol=1e-12)
    assert measure([block(0)], "map") is None


def test_bootstrap_errors_equal_the_scatter():
    rng = np.random.default_rng(3)
    noise, values = 1e-4, []
    for _ in range(200):
        measured = measure([block(0, noise, rng), block(1, noise, rng)], "marginal")
        values.append(measured.mean)
    scatter = np.std(values, axis=0)
    np.testing.assert_allclose(measured.errors(), scatter, rtol=0.35)
    # the cross responses cancel between blocks of both kinds
    np.testing.assert_allclose(np.mean(values, axis=0), [*M, *C], atol=4.0 * scatter.max() / 14)


def test_leakage_is_the_slope_of_c_with_the_psf():
    change, alpha = np.array([0.04, -0.02]), 0.05
    one = measure([block(0, c=C + alpha * change)], "marginal")
    other = measure([block(0)], "marginal")
    assert psf_leakage(one, other, tuple(change))[0] == pytest.approx(alpha)


def test_blocks_survive_their_files(tmp_path):
    before = block(1, 1e-3, np.random.default_rng(1))
    before.write(tmp_path / "case" / "1.parquet")
    after = Block.read(tmp_path / "case" / "1.parquet")
    assert after.answers == before.answers
    one, other = (measure([item], "marginal") for item in (before, after))
    np.testing.assert_array_equal(one.values, other.values)
    np.testing.assert_array_equal(one.errors(), other.errors())


@pytest.mark.parametrize("infer_sigma", [False, True])
def test_influences_are_what_leaving_galaxies_out_does(infer_sigma):
    rng = np.random.default_rng(5)
    true = 0.25 * (rng.standard_normal(300) + 1j * rng.standard_normal(300))
    true = true[np.abs(true) < 0.8]
    away = 0.1 * (rng.standard_normal((len(true), 24)) + 1j * rng.standard_normal((len(true), 24)))
    shape = np.where(np.abs(true[:, None] + away) < 0.95, true[:, None] + away, true[:, None])
    samples = ShapeSamples(shape, np.zeros(shape.shape), np.arange(len(true)))
    prior = ShapePrior(0.25, infer_sigma=infer_sigma)
    whole = infer_shear(samples, prior)
    found = influences(
        source_table(samples), whole.shear, ShapePrior(whole.ellipticity_sigma, infer_sigma)
    )
    gone = np.arange(len(true)) % 15 == 3
    rest = infer_shear(samples.select(~gone), prior)
    expected = -found.shear[gone].sum(axis=0)
    assert np.abs(expected).max() > 1e-3
    # to first order in 1/15
    np.testing.assert_allclose(
        rest.shear - whole.shear, expected, atol=0.2 * np.abs(expected).max()
    )


def test_rings_of_shapes_tell_of_the_dispersion_and_not_of_the_shear():
    """Each in its own measure; what they say of the dispersion must not move the shear."""
    radius = 0.25 * np.sqrt(np.random.default_rng(2).exponential(2.0, 200))
    ring = (np.minimum(radius, 0.9)[:, None] * np.array([1, -1, 1j, -1j])).reshape(-1, 1)
    samples = ShapeSamples(ring, np.zeros(ring.shape), np.arange(len(ring)))
    sigma = infer_shear(samples, ShapePrior(0.25, infer_sigma=True)).ellipticity_sigma
    found = influences(source_table(samples), np.zeros(2), ShapePrior(sigma, infer_sigma=True))
    alone = found.shear.reshape(-1, 4, 2)
    assert np.abs(alone).max() > 1e-4
    np.testing.assert_allclose(alone.sum(axis=1), 0.0, atol=1e-9)


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
    for content, message in (
        ({"cases": []}, "cases"),
        ({"cases": [{"name": "a", "level": 1, "shows": "x", "blocks": 1, "compared_with": "b"}]},
         "no case b"),
        ({"cases": [{"name": "a", "level": 1, "shows": "x", "blocks": 1, "scene": {"cells": 9}}]},
         "cells"),
    ):  # fmt: skip
        path = tmp_path / "campaign.yaml"
        path.write_text(yaml.safe_dump(content))
        with pytest.raises(ConfigurationError, match=message):
            load_campaign(path)


def test_the_whole_campaign_is_well_formed():
    campaign = load_campaign(ROOT / "config" / "validation.yaml")
    assert {case.level for case in campaign.cases} == {0, 1, 2, 3, 4}
    for case in campaign.cases:
        settings = campaign.settings(case)
        snr = None if case.field is None else 10.0  # isolated galaxies all carry shear
        assert settings["gal"]["selection"]["min_snr"] == snr
        assert set(case.limits) <= {*case.methods, "marginal_inferred"}


def test_a_block_repeats_and_a_report_misses_none(tmp_path, capsys):
    case = {"name": "one", "level": 1, "shows": "x", "blocks": 2, "scene": {"cells": 8}}
    base = yaml.safe_load((ROOT / "config" / "validation_smoke.yaml").read_text())
    campaign = tmp_path / "campaign.yaml"
    limits = {"marginal": {"m": 0.1, "c": 0.1, "position_arcsec": 0.1}}
    campaign.write_text(yaml.safe_dump(base | {"cases": [case | {"limits": limits}]}))
    assert isinstance(load_campaign(campaign), Campaign)

    def run(number: int, place: str) -> Path:
        path = tmp_path / place / "one" / f"{number}.parquet"
        arguments = ["--campaign", str(campaign), "--case", "one", "--block", str(number)]
        assert main(["validation-block", *arguments, "--output", str(path)]) == 0
        assert [item.name for item in path.parent.iterdir()] == [path.name]  # images are gone
        return path

    first, again = run(0, "blocks"), run(0, "again")
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
    report = folder / "build" / "validation" / "validation_smoke" / "validation.json"
    found = json.loads(report.read_text())["results"]
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


def test_limits_grant_three_errors_and_no_more(tmp_path):
    def outcome(m: float, error: float) -> Outcome:
        limits = {"marginal": Limits(m=1e-3)}
        case = Case(name="one", level=1, shows="x", blocks=1, limits=limits)
        numbers = {"m1": m, "m1_err": error, "m2": 0.0, "m2_err": error}
        measured = measure([block(0)], "marginal")
        return Outcome(case, measured, None, numbers)

    assert broken_limits([outcome(3.9e-3, 1e-3)]) == []
    [line] = broken_limits([outcome(-4.1e-3, 1e-3)])
    assert "one, marginal: m1" in line
    assert len(broken_limits([outcome(np.nan, 1e-3)])) == 1
