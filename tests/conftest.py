"""Settings of the whole test suite."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.servers.s3 import S3Server, s3_server

# Compiled programs are shared between the workers and kept between runs: compilation is most of
# the time of the inference's tests. Set before JAX is imported, and inherited by subprocesses.
_CACHE = Path(__file__).parents[1] / "build" / "jax-cache"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(_CACHE))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

# No test asks for a time: by default, an example has 0.2 s.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

# Shells without job control have their background jobs ignore Ctrl-C, and all that these start:
# tests that interrupt a command need one that can be.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def s3_service(tmp_path_factory) -> Iterator[S3Server]:
    """An S3 server of this worker's own, up in 0.3 s."""
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def s3(s3_service) -> S3Server:
    """The server with an empty bucket for one test."""
    return s3_service.with_bucket()
