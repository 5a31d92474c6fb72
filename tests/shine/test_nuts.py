"""Samples of the whole posterior."""

import logging

import numpy as np
import pytest

from shine.inference_config import NutsConfig
from shine.laplace import laplace
from shine.nuts import sample_nuts
from tests.shine import sampler_scenes

SHORT = NutsConfig(warmup=20, draws=8, chains=2)


@pytest.fixture(scope="module")
def laplace_mode():
    _, prior = sampler_scenes.small_scene()
    return laplace(prior, sampler_scenes.mode())


def test_the_chains_agree(record_property):
    result = sampler_scenes.nuts()
    record_property("r_hat", result.r_hat.tolist())
    assert result.converged
    assert result.r_hat.max() < 1.05
    assert result.n_eff.min() > 200
    assert result.divergences == 0


def test_the_whitening_leaves_little_to_do():
    steps = sampler_scenes.NUTS.draws * sampler_scenes.NUTS.chains
    assert sampler_scenes.nuts().gradients < 16 * steps


def test_the_shear_agrees_with_the_mode(laplace_mode):
    result = sampler_scenes.nuts()
    error = np.sqrt(np.diag(laplace_mode.shear_covariance))
    monte_carlo = 1.0 / np.sqrt(result.n_eff)
    # 0.1: what mode and mean differ by for shapes of this dispersion at this S/N
    assert np.all(np.abs(result.shear_mean - laplace_mode.shear) / error < 0.1 + 3 * monte_carlo)
    ratio = np.sqrt(np.diag(result.shear_covariance)) / error
    np.testing.assert_allclose(ratio, 1.0, atol=0.12)


def test_the_sources_agree_with_the_mode(laplace_mode):
    result = sampler_scenes.nuts()
    n = len(result.parameters)
    error = np.sqrt(np.einsum("nii->ni", laplace_mode.covariance[:n]))
    offset = (result.parameters - laplace_mode.parameters[:n]) / error
    assert np.abs(offset).max() < 0.35
    assert np.sqrt((offset**2).mean()) < 0.12
    ratio = np.sqrt(np.einsum("nii->ni", result.covariance)) / error
    assert ratio.mean() == pytest.approx(1.0, abs=0.05)
    np.testing.assert_allclose(ratio, 1.0, atol=0.2)


def test_a_run_goes_on_from_its_warm_up_with_the_same_draws(tmp_path, caplog):
    path, target = tmp_path / "warm.npz", sampler_scenes.target()
    whole = sample_nuts(target, SHORT, 1, path)
    kept = path.read_bytes()
    with caplog.at_level(logging.INFO, "shine.nuts"):
        resumed = sample_nuts(target, SHORT, 1, path)
    assert "goes on after the warm-up" in caplog.text
    assert path.read_bytes() == kept
    np.testing.assert_array_equal(resumed.shear, whole.shear)
    np.testing.assert_array_equal(resumed.parameters, whole.parameters)
    np.testing.assert_array_equal(resumed.covariance, whole.covariance)

    path.write_bytes(kept[: len(kept) // 2])
    damaged = sample_nuts(target, SHORT, 1, path)
    assert "damaged" in caplog.text
    assert path.read_bytes() == kept
    np.testing.assert_array_equal(damaged.shear, whole.shear)

    other = sample_nuts(target, SHORT, 2, path)
    assert "belongs to another run" in caplog.text
    assert not np.array_equal(other.shear, whole.shear)
