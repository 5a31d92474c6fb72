"""A campaign to report on."""

from __future__ import annotations

import pytest

from ..fake_campaign import FakeCampaign
from .written import FAILED, STATUS


@pytest.fixture
def campaign(tmp_path) -> FakeCampaign:
    """Two tiles of 2 x 2 sub-tiles: one failed, one did not converge, one has no sources."""
    return FakeCampaign(tmp_path / "run", failed=(FAILED,), status=STATUS).write()
