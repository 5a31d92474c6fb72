"""The statistical checks: as many false alarms as stated, and what is injected is found."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from constellation.quality.check import Check
from constellation.quality.regression import ShearData, fit_shear
from constellation.quality.settings import QualityConfig
from constellation.quality.statistics import ShearStatistics
from shine.errors import Status

from .skies import Field, plan_of_tiles

FALSE_ALARM, N_SKIES = 0.05, 500
EXACT = QualityConfig(false_alarm=FALSE_ALARM, mean_shear=0.0, leakage=0.0, pull_rms=0.0)
TWO_SIDED = (
    "mean_shear_1", "mean_shear_2", "tangential_shear", "cross_shear",
    "leakage", "leakage_1", "leakage_2",
)  # fmt: skip
PULLS = ("pull_mean_1", "pull_mean_2", "pull_rms")


@pytest.fixture(scope="module")
def field(tmp_path_factory) -> Field:
    """Ten tiles of nine sub-tiles."""
    return Field.of(plan_of_tiles(tmp_path_factory.mktemp("f"), 10), np.random.default_rng(1))


def judge(field: Field, subtiles, truth=None, settings=EXACT) -> dict[str, Check]:
    nothing = np.full((len(subtiles.key), 2), np.nan)
    shear = ShearStatistics(subtiles, nothing if truth is None else truth, settings)
    return {check.name: check for check in shear.checks(field.plan.tiles)}


def alarms(field: Field, names, seed: int, truth=None, **observing) -> dict[str, int]:
    """How many of many simulated catalogues fail each check."""
    rng, counts = np.random.default_rng(seed), dict.fromkeys(names, 0)
    for _ in range(N_SKIES):
        checks = judge(field, field.observed(rng, **observing), truth)
        for name in names:
            counts[name] += checks[name].outcome == "failed"
    return counts


def assert_as_stated(counts: dict[str, int]) -> None:
    """Within what chance does to the number of alarms, 1 in 10,000 for each."""
    low, high = stats.binom.ppf([5e-5, 1 - 5e-5], N_SKIES, FALSE_ALARM)
    assert all(low <= count <= high for count in counts.values()), (low, high, counts)


@pytest.mark.parametrize("scatter", [0.0, 0.02])
def test_false_alarms_are_as_rare_as_stated_whatever_the_sub_tiles_scatter(field, scatter):
    assert_as_stated(alarms(field, TWO_SIDED, seed=2, scatter=(scatter, 0.0)))


def test_false_alarms_are_as_rare_as_stated_with_few_sub_tiles(field):
    counts = alarms(field.first(8), ("mean_shear_1", "mean_shear_2", "leakage"), seed=3)
    assert_as_stated(counts)


def test_structure_that_sub_tiles_of_a_tile_share_is_no_alarm(tmp_path):
    field = Field.of(plan_of_tiles(tmp_path, 60), np.random.default_rng(4))
    shared = {"scatter": (0.0, 0.02)}
    assert_as_stated(alarms(field, ("mean_shear_1", "mean_shear_2"), seed=5, **shared))
    # as independent sub-tiles, they would give far more
    rng, alarming = np.random.default_rng(6), 0
    for _ in range(100):
        subtiles = field.observed(rng, **shared)
        data = ShearData(subtiles.shear, subtiles.covariance, np.zeros(len(subtiles.key), int))
        fit = fit_shear(data, np.tile(np.eye(2), (len(data), 1, 1)))
        alarming += abs(fit.value(0)) > fit.reach(FALSE_ALARM) * fit.error(0)
    assert alarming > 25


def test_pulls_raise_as_few_false_alarms_as_stated(field):
    truth = np.random.default_rng(7).normal(0.0, 0.03, (len(field.subtiles.key), 2))
    assert_as_stated(alarms(field, PULLS, seed=8, truth=truth, signal=truth))


def test_outliers_raise_few_false_alarms(field):
    for scatter in (0.0, 0.02):
        counts = alarms(field, ("shear_outliers",), seed=9, scatter=(scatter, 0.0))
        assert counts["shear_outliers"] <= stats.binom.ppf(1 - 1e-4, N_SKIES, FALSE_ALARM)
    assert counts["shear_outliers"] > 0


@pytest.mark.parametrize("alpha", [0.1, -0.25])
def test_an_injected_leakage_is_found_within_its_error(field, alpha):
    rng, pulls, errors = np.random.default_rng(10), [], []
    signal = np.array([0.004, -0.003]) + alpha * field.subtiles.psf
    for _ in range(200):
        subtiles = field.observed(rng, signal, (0.01, 0.0))
        shear = ShearStatistics(subtiles, np.full_like(signal, np.nan), EXACT)
        pulls.append((shear.leakage.value(2) - alpha) / shear.leakage.error(2))
        errors.append(shear.leakage.error(2))
    assert abs(np.mean(pulls)) < 4.0 / np.sqrt(200)
    assert 0.85 < np.std(pulls) < 1.15
    assert np.mean(errors) < 0.06


def test_the_two_components_leak_by_themselves(field):
    signal = field.subtiles.psf * [0.3, -0.2]
    exact = replace(field.subtiles, shear=signal, covariance=field.subtiles.covariance * 1e-6)
    checks = judge(field, exact)
    assert checks["leakage_1"].value == pytest.approx(0.3, abs=1e-9)
    assert checks["leakage_2"].value == pytest.approx(-0.2, abs=1e-9)
    assert checks["leakage_1"].outcome == checks["leakage_2"].outcome == "failed"
    fine = judge(field, exact, settings=QualityConfig(leakage=0.31))
    assert fine["leakage_1"].outcome == fine["leakage_2"].outcome == "passed"


def test_shear_about_the_tiles_centres_has_galsims_signs(field):
    rng = np.random.default_rng(11)
    signal = field.about_the_centres(0.03, -0.02) + np.array([0.05, 0.01])
    checks = judge(field, field.observed(rng, signal, (0.0, 0.0)))
    for name, expected in (("tangential_shear", 0.03), ("cross_shear", -0.02)):
        assert abs(checks[name].value - expected) < 4.0 * checks[name].error
        assert checks[name].error < 0.003
        assert checks[name].outcome == "failed"
    # the mean is not zero either: a constant is not taken for a pattern
    only_constant = judge(field, field.observed(rng, np.array([0.05, 0.01])))
    assert only_constant["cross_shear"].outcome == "passed"
    assert only_constant["mean_shear_1"].outcome == "failed"


def test_a_small_mean_shear_is_tolerated_and_a_larger_one_is_not(field):
    exact = replace(field.subtiles, covariance=field.subtiles.covariance * 1e-8)
    rng = np.random.default_rng(12)
    near = replace(exact, shear=5e-5 + 1e-6 * rng.normal(size=exact.shear.shape))
    assert judge(field, near, settings=QualityConfig())["mean_shear_1"].outcome == "passed"
    assert judge(field, near)["mean_shear_1"].outcome == "failed"
    far = replace(near, shear=near.shear + 2e-4)
    assert judge(field, far, settings=QualityConfig())["mean_shear_1"].outcome == "failed"


def test_the_weighted_mean_is_that_of_the_textbook(field):
    subtiles = field.observed(np.random.default_rng(13))
    weight = np.linalg.inv(subtiles.covariance)
    expected = np.linalg.solve(weight.sum(0), np.einsum("nij,nj->i", weight, subtiles.shear))
    data = ShearData(subtiles.shear, subtiles.covariance, subtiles.tile)
    fit = fit_shear(data, np.tile(np.eye(2), (len(data), 1, 1)))
    if fit.scatter == 0.0:
        np.testing.assert_allclose(fit.values, expected, rtol=1e-9)
    scattered = field.observed(np.random.default_rng(14), 0.0, (0.03, 0.0))
    data = ShearData(scattered.shear, scattered.covariance, scattered.tile)
    fit = fit_shear(data, np.tile(np.eye(2), (len(data), 1, 1)))
    assert fit.scatter == pytest.approx(0.03, rel=0.25)
    weight = np.linalg.inv(scattered.covariance + fit.scatter**2 * np.eye(2))
    expected = np.linalg.solve(weight.sum(0), np.einsum("nij,nj->i", weight, scattered.shear))
    np.testing.assert_allclose(fit.values, expected, rtol=1e-9)
    np.testing.assert_allclose(fit.error(0), 0.033 / np.sqrt(len(data)), rtol=0.2)


@pytest.mark.parametrize(
    ("errors", "bias", "failing"),
    [
        (1.0, 0.0, set()),
        (0.7, 0.0, {"pull_rms"}),
        (1.5, 0.0, {"pull_rms"}),
        (1.0, 0.006, {"pull_mean_1", "pull_mean_2", "mean_shear_1", "mean_shear_2"}),
    ],
)
def test_pulls_find_wrong_errors_and_bias(field, errors, bias, failing):
    rng = np.random.default_rng(15)
    truth = rng.normal(0.0, 0.03, (len(field.subtiles.key), 2))
    seen = field.observed(rng, truth + bias)
    told = replace(seen, covariance=seen.covariance * errors**2)
    checks = judge(field, told, truth, QualityConfig())
    assert {name for name, check in checks.items() if check.outcome == "failed"} == failing
    if not bias:
        assert checks["pull_rms"].value == pytest.approx(1.0 / errors, rel=0.15)


def test_one_sub_tile_far_off_is_an_outlier_and_named(field):
    subtiles = field.observed(np.random.default_rng(16), 0.0, (0.01, 0.0))
    subtiles.shear[40] += 0.15
    check = judge(field, subtiles, settings=QualityConfig())["shear_outliers"]
    assert (check.outcome, check.value) == ("failed", 1)
    assert check.detail.startswith("104_1_1 (")


def test_what_did_not_converge_does_not_count(field):
    subtiles = field.observed(np.random.default_rng(17))
    subtiles.shear[40] += 0.5
    subtiles.status[40] = Status.NOT_CONVERGED
    checks = judge(field, subtiles, settings=QualityConfig())
    assert checks["shear_outliers"].outcome == "passed"
    assert checks["mean_shear_1"].outcome == "passed"
