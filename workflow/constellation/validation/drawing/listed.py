"""What a survey's catalogue would say of a validation image's galaxies."""

from __future__ import annotations

import numpy as np

from constellation.mock_survey.catalogue import build_catalogue
from constellation.mock_survey.sky import object_ids, same_anywhere

from .scene import GridScene, Purpose


def catalogue(scene: GridScene) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The catalogue's columns, and the galaxies' ids (n,) in order.

    Its errors are those of a detection at each galaxy's signal-to-noise; positions of the uniform
    population are off by Gaussian errors of one size, so that a prior can be right about them. It
    is that of the unsheared sky, so that nothing is selected by the shear.
    """
    columns, ids, listed = build_catalogue(scene.survey, scene.sources, [scene.frame])
    if scene.settings.galaxies.population == "uniform":
        columns |= _positions(scene)
        ids = columns["OBJECT_ID"]
    assert listed.all() and len(np.unique(ids)) == len(ids)
    return columns, ids


def _positions(scene: GridScene) -> dict[str, np.ndarray]:
    """Positions off by Gaussian errors of the scene's, and the ids that follow them."""
    sources = scene.sources
    error = scene.rng(Purpose.CATALOGUE).standard_normal((2, len(sources)))
    error *= scene.position_scatter_arcsec / 3600.0
    dec = same_anywhere(sources.dec + error[1])
    ra = same_anywhere((sources.ra + error[0] / np.cos(np.radians(dec))) % 360.0)
    return {"RIGHT_ASCENSION": ra, "DECLINATION": dec, "OBJECT_ID": object_ids(ra, dec)}
