"""The campaign's arithmetic against truths: biases, their errors, and how galaxies move them."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from constellation.validation.analysis import Measured, cross_response, measure, psf_leakage
from constellation.validation.influence import influences
from constellation.validation.records import Block
from shine.population import ShapePrior, ShapeSamples, infer_shear
from tests.science.known_blocks import CROSS, UNITS, C, M, block
from tests.science.samples import source_table


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
    np.testing.assert_allclose(measured.errors(), scatter, rtol=0.25)
    # the cross responses cancel between blocks of both kinds
    np.testing.assert_allclose(np.mean(values, axis=0), [*M, *C], atol=4.0 * scatter.max() / 14)


def related(number: int, common: np.ndarray, opposite: np.ndarray) -> Block:
    """A block whose units (u, 2) move opposite shears alike, and, by `opposite`, apart."""
    plain = block(number)
    tables = []
    for table, sign in zip(plain.influence, (1.0, -1.0), strict=True):
        moved = table.drop_columns(["MOVES_G1", "MOVES_G2"])
        for k in (0, 1):
            moves = pa.array(common[:, k] + sign * opposite[:, k])
            moved = moved.append_column(f"MOVES_G{k + 1}", moves)
        tables.append(moved)
    return replace(plain, influence=tables)


def test_what_moves_opposite_shears_alike_is_no_error_of_m():
    rng = np.random.default_rng(4)
    common, opposite = (scale * rng.standard_normal((UNITS, 2)) for scale in (1e-3, 1e-6))
    errors = measure([related(0, common, opposite)], "marginal").errors()
    expected = np.sqrt(UNITS) * np.concatenate([opposite.std(axis=0) / 0.02, common.std(axis=0)])
    np.testing.assert_allclose(errors, expected, rtol=0.02)


def test_what_two_cases_have_in_common_is_no_error_of_their_difference():
    rng = np.random.default_rng(6)
    common, own = (scale * rng.standard_normal((UNITS, 2)) for scale in (1e-3, 1e-6))
    nothing = np.zeros((UNITS, 2))
    one, other = (related(0, common + more, nothing) for more in (own, nothing))
    difference = measure([one], "marginal").minus(measure([other], "marginal"))
    expected = np.sqrt(UNITS) * own.std(axis=0)
    np.testing.assert_allclose(difference.errors()[2:], expected, rtol=0.02)


def test_few_blocks_tell_their_scatter_badly():
    values = np.random.default_rng(7).standard_normal((20_000, 5))
    held = []
    for row in values:
        found = Measured("map", np.arange(5), np.repeat(row[:, None], 4, axis=1), {})
        held.append(abs(found.mean[0]) < found.errors()[0])
    assert np.mean(held) == pytest.approx(0.683, abs=0.015)
    assert np.isnan(Measured("map", np.arange(4), values[:4, :4], {}).errors()).all()


def test_a_part_that_one_image_lacks_is_left_out():
    whole, lacking = block(0), block(1)
    lacking = replace(lacking, answers=lacking.answers[:1])
    measured = measure([whole, lacking], "marginal")
    assert measured.block.tolist() == [0]
    assert measure([lacking], "marginal") is None


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
