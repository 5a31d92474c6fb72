"""The smoke's noiseless galaxies break its limits if shine is made to be wrong, and only then."""

from pathlib import Path

import numpy as np
import pytest

from constellation.validation.campaign import load_campaign
from constellation.validation.outcomes import broken_limits, outcomes
from constellation.validation.runner import run_block
from shine.euclid.wcs import QuadrantWCS
from shine.evidence import Evidence

ROOT = Path(__file__).parents[2]


def nothing(monkeypatch):
    pass


def sign_of_g2(monkeypatch):
    right = Evidence.terms
    conjugated = lambda self, shear, sigma: right(self, shear * [1.0, -1.0], sigma)  # noqa: E731
    monkeypatch.setattr(Evidence, "terms", conjugated)


def half_a_pixel(monkeypatch):
    right = QuadrantWCS.to_pixel

    def shifted(self, ra_deg, dec_deg):
        x, y = right(self, ra_deg, dec_deg)
        return x + 0.5, y

    monkeypatch.setattr(QuadrantWCS, "to_pixel", shifted)


def no_wcs_jacobian(monkeypatch):
    right = QuadrantWCS.jacobian

    def unrotated(self, x, y):
        scale = np.sqrt(np.abs(np.linalg.det(right(self, x, y))))
        return scale[:, None, None] * np.diag([-1.0, 1.0])  # north up, east left

    monkeypatch.setattr(QuadrantWCS, "jacobian", unrotated)


@pytest.mark.parametrize(
    ("mistake", "broken"),
    [
        (nothing, set()),
        (sign_of_g2, {"m2"}),
        (half_a_pixel, {"position_u_arcsec", "position_v_arcsec"}),
        (no_wcs_jacobian, {"m1", "m2"}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_mistake_breaks_the_limits(mistake, broken, monkeypatch, tmp_path):
    campaign = load_campaign(ROOT / "config" / "validation_smoke.yaml")
    smoke = campaign.case("noiseless")
    scene = smoke.scene.model_copy(update={"cells": 8})
    limits = {"marginal": smoke.limits["marginal"]}
    case = smoke.model_copy(update={"scene": scene, "methods": ["marginal"], "limits": limits})
    campaign = campaign.model_copy(update={"cases": [case]})
    mistake(monkeypatch)
    block = run_block(campaign, case, 0, tmp_path)
    lines = broken_limits(outcomes(campaign, {case.name: [block]}))
    found = {line.partition(": ")[2].split(" =")[0] for line in lines}
    assert found >= broken if broken else not found, lines
