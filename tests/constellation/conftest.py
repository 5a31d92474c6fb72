"""A small survey, in a folder and in S3."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.servers.s3 import S3Server

from .fake_survey import exposure_name, positions, write_catalogue, write_exposure
from .s3_survey import PREFIX


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """The working folder with a survey of two tiles and two exposures, and the tile list."""
    monkeypatch.chdir(tmp_path)
    Path("tiles.csv").write_text("tile_index,ra,dec\n11,10.0,0.0\n12,50.0,0.0\n")
    ra = 10.0 + np.array([-0.1, -0.05, 0.05, 0.1])
    write_catalogue(Path("data"), 11, positions(np.arange(4), ra, np.zeros(4)))
    write_catalogue(Path("data"), 12, positions(np.arange(4, 8), ra + 40.0, np.zeros(4)))
    for dither in (0, 1):
        write_exposure(Path("data"), dither, {"1-1.E": (9.9, 0.0), "1-1.F": (10.1, 0.0)})
    return tmp_path


@pytest.fixture
def survey(folder, s3, monkeypatch) -> S3Server:
    """The same survey in S3, beside things that are none of it."""
    s3.use(monkeypatch)
    s3.upload(Path("data"), PREFIX)
    for key in (
        f"{PREFIX}-2/VIS/1/{exposure_name('SWL-DET', 7)}",
        f"{PREFIX}/VIS/{exposure_name('SWL-DET', 8)}",
        f"{PREFIX}/VIS/1/deeper/{exposure_name('SWL-DET', 9)}",
        f"{PREFIX}/MER/notes.txt",
        f"{PREFIX}/README",
    ):
        s3.client().put_object(Bucket=s3.bucket, Key=key, Body=b"")
    return s3
