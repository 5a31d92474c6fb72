"""The classic route to the mode."""

import numpy as np
import pytest

from shine.adam import fit_adam
from shine.inference_config import AdamConfig, SolverConfig
from shine.laplace import laplace
from tests.shine import sampler_scenes


@pytest.fixture(scope="module")
def newton():
    _, prior = sampler_scenes.small_scene()
    return laplace(prior, sampler_scenes.mode())


def test_a_long_run_ends_at_the_mode(newton):
    scene, prior = sampler_scenes.small_scene()
    # At the mode Adam trembles now and then, in proportion to its rate; when depends on rounding.
    # At a rate of 0.005 it is by 0.015 errors of the shear, where 0.01 are tolerated.
    result = fit_adam(scene, prior, AdamConfig(steps=4000, learning_rate=0.001), SolverConfig())
    assert result.converged
    found = laplace(prior, result.fit)
    error = np.sqrt(np.diag(newton.shear_covariance))
    assert np.all(np.abs(found.shear - newton.shear) < 0.05 * error)
    np.testing.assert_allclose(found.shear, result.shear[-1], atol=1e-6)
    np.testing.assert_allclose(found.shear_covariance, newton.shear_covariance, atol=2e-5)
    n = scene.n_sources
    error = np.sqrt(np.einsum("nii->ni", newton.covariance[:n]))
    assert np.all(np.abs(found.parameters - newton.parameters)[:n] < 0.05 * error)
    assert np.all(np.diff(result.log_posterior[::100]) > -0.1)


def test_the_classic_200_steps_are_too_few_and_say_so(newton, caplog):
    scene, prior = sampler_scenes.small_scene()
    result = fit_adam(scene, prior, AdamConfig(), SolverConfig())
    assert not result.converged
    assert "not converged" in caplog.text
    assert result.shear.shape == (200, 2)
    # the Newton step sees about as far as there is to go
    left = newton.shear - result.shear[-1]
    distance = np.sqrt(left @ np.linalg.solve(newton.shear_covariance, left))
    assert distance > 0.05
    assert result.fit.shear_move == pytest.approx(distance, rel=0.6)
