"""A sub-tile that is ready to run, and a server that inputs can be read from."""

import pytest

from tests.servers.s3 import S3Server
from tests.shine.euclid.subtile import Sky, SubTile, draw_frame
from tests.shine.survey_files import wcs_header


@pytest.fixture(scope="module")
def sky() -> Sky:
    return Sky()


@pytest.fixture
def subtile(tmp_path, sky) -> SubTile:
    return SubTile(tmp_path, sky, [draw_frame(sky, wcs_header(roll_deg=0.0))])


@pytest.fixture
def store(s3, monkeypatch) -> S3Server:
    """The server, with its credentials in this process's environment."""
    s3.use(monkeypatch)
    return s3
