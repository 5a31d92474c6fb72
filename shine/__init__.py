"""Weak-lensing shear from Euclid VIS pixels.

    exposures = shine.load("manifests/102018665_4_11.yaml")
    posterior = shine.infer(exposures)
    posterior.shear, posterior.shear_covariance
    shine.reinfer("102018665_4_11_sources.parquet", prior=shine.ShapePrior(0.3))

`import shine` is light: JAX is loaded with the first name used.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shine.euclid.cli import run_subtile
    from shine.euclid.config import EuclidConfig, load_config
    from shine.euclid.posterior import Posterior, infer
    from shine.euclid.scene import ExposureSet, load
    from shine.population import ShapePrior, ShearPosterior
    from shine.reinference import reinfer

__all__ = [
    "EuclidConfig",
    "ExposureSet",
    "Posterior",
    "ShapePrior",
    "ShearPosterior",
    "infer",
    "load",
    "load_config",
    "reinfer",
    "run_subtile",
]

_HOMES = {
    "EuclidConfig": "shine.euclid.config",
    "load_config": "shine.euclid.config",
    "ExposureSet": "shine.euclid.scene",
    "load": "shine.euclid.scene",
    "Posterior": "shine.euclid.posterior",
    "infer": "shine.euclid.posterior",
    "run_subtile": "shine.euclid.cli",
    "ShapePrior": "shine.population",
    "ShearPosterior": "shine.population",
    "reinfer": "shine.reinference",
}


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module 'shine' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
