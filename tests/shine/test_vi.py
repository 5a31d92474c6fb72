"""Variational inference against samples of the same posterior."""

import gc

import equinox as eqx
import numpy as np
import pytest
from numpyro.infer import SVI

from shine.inference_config import ViConfig
from shine.numpyro_model import Target
from shine.vi import ViResult, fit_vi
from tests.shine import sampler_scenes


@pytest.fixture(scope="module")
def result() -> ViResult:
    return fit_vi(sampler_scenes.target(), ViConfig(), seed=0)


def test_the_shear_agrees_with_samples(result):
    samples = sampler_scenes.nuts()
    assert result.converged
    error = np.sqrt(np.diag(samples.shear_covariance))
    distance = np.abs(result.shear - samples.shear_mean) / error
    assert np.all(distance < 0.05 + 3.0 / np.sqrt(samples.n_eff))
    ratio = np.sqrt(np.diag(result.shear_covariance)) / error
    np.testing.assert_allclose(ratio, 1.0, atol=0.12)


def test_the_sources_agree_with_samples(result):
    samples = sampler_scenes.nuts()
    error = np.sqrt(np.einsum("nii->ni", samples.covariance))
    offset = (result.parameters - samples.parameters) / error
    assert np.abs(offset).max() < 0.25
    ratio = np.sqrt(np.einsum("nii->ni", result.covariance)) / error
    np.testing.assert_allclose(ratio, 1.0, atol=0.2)


def displaced() -> Target:
    """The same posterior, in coordinates whose origin is three errors from the mode."""
    target = sampler_scenes.target()
    shear_t = target.whitening.coordinates(target.origin()["sources"], np.array([3.0, -3.0]))[1]
    return target.around(eqx.tree_at(lambda w: w.shear_t, target.whitening, shear_t))


def test_a_start_far_from_the_mode_ends_at_the_same_place(result):
    other = fit_vi(displaced(), ViConfig(), seed=1)
    assert other.converged
    assert len(other.elbo) > len(result.elbo)
    error = np.sqrt(np.diag(result.shear_covariance))
    assert np.all(np.abs(other.shear - result.shear) < 0.1 * error)


def test_too_few_or_too_small_steps_are_not_taken_for_convergence(caplog):
    for config in (ViConfig(steps=200), ViConfig(steps=400, learning_rate=1e-6)):
        assert not fit_vi(displaced(), config, seed=1).converged
    assert caplog.text.count("not converged") == 2


def test_nothing_of_a_fit_stays_behind(result):
    """A process fits one scene after the other, and what a fit compiles is of use to no other."""
    assert result.converged
    gc.collect()
    assert not [item for item in gc.get_objects() if type(item) is SVI]
