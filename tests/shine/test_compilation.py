"""Scenes share compiled programs: each is traced once per stamp size and number of members."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from shine import importance, inference, newton, scene
from shine.estimators import Problem, estimate
from shine.inference import warm_up
from shine.inference_config import InferenceSettings, MarginalConfig
from shine.programs import Program
from tests.shine.galsim_scenes import Galaxy, build, draw, jacobian, noise_for_snr

# Of `compare_many` one call takes a fixed number of points, of `prior_terms` a block of sources
PER_BUCKET = (newton.measure, newton.compare, newton.compare_many)
PER_PROCESS = (newton.prior_terms, importance._observed, importance._log_prior)


def traces(functions) -> list[int]:
    """How many programs each has had to make, or to load."""
    return [
        len(function.compiled) if isinstance(function, Program) else function._cache_size()
        for function in functions
    ]


def problem(n: int, shape: tuple[int, int], seed: int, rolls=(20,)) -> Problem:
    """n galaxies on a grid, every fifth with a close neighbour; S/N 30."""
    rng = np.random.default_rng(seed)
    galaxies = []
    for k in range(n):
        row, column = divmod(k, 4)
        x, y = 60 * (np.array([column, row]) + 0.5) + rng.uniform(-0.5, 0.5, 2)
        galaxies.append(Galaxy(x, y, rng.uniform(8, 12), 0.3, *(0.15 * rng.normal(size=2))))
        if k % 5 == 0:
            galaxies.append(Galaxy(x + 8.0, y + 1.0, 10.0, 0.25))
    images = []
    for roll in rolls:
        matrix = jacobian(roll)
        sigma = noise_for_snr(30.0, matrix, Galaxy(0, 0))
        image = draw(galaxies, (0.03, 0.02), matrix, shape)
        image = image + rng.normal(scale=sigma, size=shape)
        images.append((image, np.full(shape, sigma**-2), matrix))
    built, prior = build(galaxies, images, stamp_size=48)
    blend = np.full(len(prior.lensed), -1)
    for number, rows in enumerate(built.members):
        blend[rows[rows >= 0]] = number
    return Problem(built, prior, blend, (seed,))


@pytest.mark.parametrize("method", ["marginal", "map"])
def test_a_second_scene_compiles_nothing_that_touches_pixels(method):
    settings = InferenceSettings(method=method, marginal=MarginalConfig(samples=64))
    first = problem(6, (130, 240), seed=0)
    before = traces(PER_BUCKET)
    estimate(first, settings)
    sizes = {(tier.size, tier.frame.centre.shape[1]) for tier in first.scene.tiers}
    assert sizes == {(48, 1), (48, 2)}
    after = traces(PER_BUCKET)
    grown = np.subtract(after, before)
    assert np.all(grown <= len(sizes))
    assert np.all(np.array(after)[: 3 if method == "marginal" else 2] >= len(sizes))
    once = traces(PER_PROCESS)
    # more sources, more pixels, more exposures
    others = [problem(13, (240, 240), seed=1), problem(9, (180, 260), seed=2, rolls=(0, 40))]
    pixels = {len(p.scene.data_adu) for p in (first, *others)}
    assert len(pixels) == 3
    assert len({p.scene.n_sources for p in (first, *others)}) == 3
    for other in others:
        found = estimate(other, settings)
        assert found.converged
    assert traces(PER_BUCKET) == after
    assert traces(PER_PROCESS) == once


def test_warming_up_compiles_all_that_a_fit_runs():
    """... of what touches pixels: the fit itself adds no trace."""
    jax.clear_caches()  # the tests before this one have compiled everything
    for function in PER_BUCKET:
        function.compiled.clear()
    functions = (*PER_BUCKET, scene._gather, scene._scatter)
    assert traces(functions) == [0] * len(functions)
    one = problem(6, (130, 240), seed=0)
    warm_up(one.scene, sampling=True)
    warm = traces(functions)
    assert min(warm) >= 1
    estimate(one, InferenceSettings())
    assert traces(functions) == warm


def test_blocks_of_sources_are_one_program_whatever_their_number():
    one = problem(6, (130, 240), seed=0)
    z = one.prior.start
    inference.in_blocks(inference._observe, (one.prior, z))
    before = traces([inference._observe])
    for n in (1, 5, len(z)):
        rows = one.prior.rows(np.arange(n))
        found = inference.in_blocks(inference._observe, (rows, z[:n]))
        np.testing.assert_allclose(found, np.asarray(one.prior.observed(z))[:n], rtol=1e-6)
    many = np.resize(z, (1200, 6))
    index = np.resize(np.arange(len(z)), 1200)
    found = inference.in_blocks(inference._observe, (one.prior.rows(index), many))
    assert found.shape == (1200, 6)
    assert traces([inference._observe]) == before


def test_programs_add_up_all_of_their_numbers_once():
    """jaxlib 0.10.2 does not on a CPU: the first with several threads, the second even with one.

    https://github.com/tensorflow/tensorflow/issues/126812, https://github.com/jax-ml/jax/issues/39103
    """
    spread = jax.jit(lambda ones: jnp.sum(jnp.broadcast_to(ones, (2, 1024, 1024))))
    assert {float(spread(jnp.ones((1024, 1)))) for _ in range(20)} == {2.0**21}
    along = jnp.arange(32769.0)
    rows = jnp.stack([along, jnp.zeros_like(along), jnp.zeros_like(along)], axis=1)
    squares = jax.jit(jax.vmap(lambda row: jnp.sum((jnp.eye(3) @ row) ** 2)))
    np.testing.assert_allclose(squares(rows), along**2, rtol=1e-6)
