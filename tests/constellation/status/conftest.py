"""A campaign that has not begun, and one with each class of sub-tile."""

from __future__ import annotations

from pathlib import Path

import pytest

from .campaign import AGAIN, BAD, BROKEN, DONE, KEPT, OLD, QUEUED, RUNNING, VAGUE, Campaign


@pytest.fixture
def campaign(tmp_path, monkeypatch) -> Campaign:
    monkeypatch.chdir(tmp_path)
    return Campaign()


@pytest.fixture
def running(campaign) -> Campaign:
    """A running campaign with each class of sub-tile in it."""
    campaign.done(DONE, age_s=1800.0)
    campaign.done(VAGUE, shear=BAD, age_s=900.0)
    campaign.log(DONE, "an old error\nexit status 1\n")
    campaign.log(RUNNING, "INFO reading\n")
    campaign.mark(RUNNING)
    campaign.mark(QUEUED)
    campaign.log(BROKEN, "INFO reading\nerror: frame.fits: truncated\nexit status 3\n")
    campaign.log(KEPT, "g1 = 0.01\n", age_s=3000.0)
    Path("out/kept/11").mkdir(parents=True)
    Path(f"out/kept/11/{KEPT.stem}.parquet").touch()
    campaign.log(OLD, "INFO reading\n", age_s=5000.0)
    campaign.log(AGAIN, "killed\nexit status 137\n")
    campaign.mark(AGAIN)
    campaign.lock(f"out/subtiles/11/{DONE.stem}.parquet")
    return campaign
