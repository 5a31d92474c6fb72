"""A sub-tile that is ready to run."""

import pytest

from tests.shine.euclid.subtile import Sky, SubTile, draw_frame
from tests.shine.survey_files import wcs_header


@pytest.fixture(scope="module")
def sky() -> Sky:
    return Sky()


@pytest.fixture
def subtile(tmp_path, sky) -> SubTile:
    return SubTile(tmp_path, sky, [draw_frame(sky, wcs_header(roll_deg=0.0))])
