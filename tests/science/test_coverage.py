"""Whether intervals and ranks tell right posteriors from wrong ones."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import yaml

from constellation.mock_survey.population import Sources
from constellation.validation.campaign import Campaign
from constellation.validation.coverage import covered, rank_tests
from constellation.validation.ranks import posterior_ranks
from constellation.validation.records import Answer, Block
from constellation.validation.runner import run_block
from constellation.validation.truth import Truth
from shine.population import ShapeSamples
from tests.science.samples import source_table

ROOT = Path(__file__).parents[2]


def test_a_block_for_coverage_has_scenes_that_differ(tmp_path):
    scene = {"cells": 8, "independent": True, "shear": 0.05, "galaxies": {"snr": 20}}
    case = {"name": "two", "level": 1, "shows": "x", "blocks": 2, "scene": scene, "coverage": 2}
    case["scene"]["galaxies"] |= {"flux_scatter": 0.3, "hlr_scatter": 0.2}
    base = yaml.safe_load((ROOT / "config" / "validation_smoke.yaml").read_text())
    campaign = Campaign.model_validate(base | {"cases": [case]})
    found = run_block(campaign, campaign.cases[0], 1, tmp_path)
    given = [answer for answer in found.answers if answer.method == "marginal"]
    assert len({answer.true_shear for answer in given}) == 2
    assert all(len(ranks) == 2 * 64 for ranks in found.ranks.values())
    assert len(set(found.ranks["s1"])) > 100  # no scene is there twice
    pulls = [
        (np.array(answer.shear) - answer.true_shear) / np.sqrt(answer.covariance[::2])
        for answer in given
    ]
    assert np.abs(pulls).max() < 5.0


def covering(number: int, rng, factor: float) -> Block:
    """A scene whose answer scatters by `factor` times the error that it states."""
    true, error = rng.uniform(-0.05, 0.05, 2), 0.03
    shear = true + factor * error * rng.standard_normal(2)
    about = (None, 64, True, 1.0, 1.0, 1.0, (0.0, 0.0), 1.0, 1.0)
    answer = Answer("marginal", tuple(true), tuple(shear), (error**2, 0.0, error**2), *about)
    return Block("c", number, [answer], [], {"s1": list(rng.uniform(size=64) ** factor)})


@pytest.mark.parametrize(("factor", "good"), [(1.0, True), (1.3, False)])
def test_coverage_tells_right_errors_from_small_ones(factor, good):
    rng = np.random.default_rng(4)
    blocks = [covering(number, rng, factor) for number in range(400)]
    narrow, wide = covered(blocks, "marginal")
    assert narrow.promised == pytest.approx(0.6827, abs=1e-4)
    assert wide.promised == pytest.approx(0.9545, abs=1e-4)
    assert narrow.error == pytest.approx(np.sqrt(0.6827 * 0.3173 / 800), rel=1e-3)
    for level in (narrow, wide):
        assert (abs(level.found - level.promised) < 3.0 * level.error) == good
    ranks = rank_tests(blocks)["s1"]
    assert ranks.counts.sum() == 400 * 64
    assert (ranks.chance > 1e-3) == good
    assert (abs(ranks.mean) < 4.0 * ranks.mean_err) == good


SIGMA, SAMPLES = 0.25, 16


def calibrated(rng: np.random.Generator) -> tuple[pa.Table, Truth, Answer]:
    """Galaxies that follow the priors, and few samples of what noise leaves of them."""
    n, noise, g = 6000, 0.08, 0.03 - 0.02j
    intrinsic = SIGMA * (rng.standard_normal(n) + 1j * rng.standard_normal(n))
    intrinsic = intrinsic[np.abs(intrinsic) < 1.0]
    n = len(intrinsic)
    lensed = (intrinsic + g) / (1.0 + np.conj(g) * intrinsic)
    blur = noise * (
        rng.standard_normal((n, SAMPLES + 1)) + 1j * rng.standard_normal((n, SAMPLES + 1))
    )
    measured = lensed + blur[:, 0]
    shape = measured[:, None] + blur[:, 1:]
    log_weight = np.where(np.abs(shape) < 1.0, 0.0, -30.0)
    table = source_table(
        ShapeSamples(np.where(log_weight < 0.0, 0.0, shape), log_weight, np.arange(n))
    )
    bodies = {}
    for name, column, mean in (("flux_ujy", "FLUX", 5.0), ("hlr_arcsec", "HALF_LIGHT_RADIUS", 0.4)):
        # the truth is one more sample of the same posterior
        draws = mean * (1.0 + 0.1 * rng.standard_normal((n, SAMPLES + 1)))
        bodies[name] = draws[:, 0]
        table = table.append_column(column, pa.array(draws[:, 1:].mean(axis=1)))
        table = table.append_column(f"{column}_ERR", pa.array(draws[:, 1:].std(axis=1)))
    zero = np.zeros(n)
    galaxies = Sources(ra=zero, dec=zero, is_star=zero > 0, e1=intrinsic.real, e2=intrinsic.imag,
                       g1=zero, g2=zero, **bodies)  # fmt: skip
    about = (None, n, True, 1.0, 1.0, 1.0, (0.0, 0.0), 1.0, 1.0)
    answer = Answer("marginal", (g.real, g.imag), (g.real, g.imag), (1e-6, 0.0, 1e-6), *about)
    return table, Truth(np.arange(n), galaxies, 1, SIGMA), answer


def test_ranks_of_calibrated_posteriors_are_even_with_few_samples():
    rng = np.random.default_rng(8)
    table, truth, answer = calibrated(rng)
    ranks = posterior_ranks(table, truth, answer, rng)
    found = rank_tests([Block("c", 0, [answer], [], ranks)])
    assert {*found} == {"s1", "s2", "flux", "size"}
    for name, own in found.items():
        assert own.counts.sum() == len(truth.ids)
        assert own.chance > 1e-3, name
        assert abs(own.mean) < 4.0 * own.mean_err, name
        assert abs(own.variance - 1.0) < 4.0 * own.variance_err, name


def test_ranks_tell_posteriors_that_are_off():
    rng = np.random.default_rng(8)
    table, truth, answer = calibrated(rng)
    off = replace(
        truth.galaxies, e1=truth.galaxies.e1 + 0.02, flux_ujy=truth.galaxies.flux_ujy + 0.1
    )
    ranks = posterior_ranks(table, replace(truth, galaxies=off), answer, rng)
    found = rank_tests([Block("c", 0, [answer], [], ranks)])
    assert max(found["s1"].chance, found["flux"].chance) < 1e-4
    assert min(found["s2"].chance, found["size"].chance) > 1e-3
