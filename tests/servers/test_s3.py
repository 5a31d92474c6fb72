"""The S3 server of the tests: what it stores, whom it lets in, and that it never stays behind."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import boto3
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError

from .processes import alive, wait_for
from .s3 import REGION, ROOT, START_S

PARENT = """
import pathlib, sys, time
from tests.servers.s3 import s3_server
with s3_server(pathlib.Path(sys.argv[1])) as server:
    print(server.endpoint, flush=True)
    time.sleep(600)
"""


def test_objects_have_the_etags_of_s3(s3):
    stored = s3.client().put_object(Bucket=s3.bucket, Key="folder/name.txt", Body=b"hello")
    assert stored["ETag"] == '"5d41402abc4b2a76b9719d911017c592"'
    assert s3.objects() == {"folder/name.txt": b"hello"}
    assert s3.s3fs().cat(s3.uri("folder/name.txt")) == b"hello"


def test_everybody_reads_a_public_bucket_and_nobody_another(s3):
    s3.client().put_object(Bucket=s3.bucket, Key="name", Body=b"hello")
    stranger = boto3.client(
        "s3",
        endpoint_url=s3.endpoint,
        region_name=REGION,
        config=Config(signature_version=UNSIGNED, proxies={}),
    )
    with pytest.raises(ClientError, match="AccessDenied"):
        stranger.get_object(Bucket=s3.bucket, Key="name")
    s3.make_public()
    assert stranger.get_object(Bucket=s3.bucket, Key="name")["Body"].read() == b"hello"
    with pytest.raises(ClientError, match="AccessDenied"):
        stranger.put_object(Bucket=s3.bucket, Key="name", Body=b"bye")


def test_the_server_ends_with_a_killed_test_run(tmp_path):
    command = [sys.executable, "-c", PARENT, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        try:
            assert parent.stdout.readline().startswith("http://127.0.0.1:")
            children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text()
            [server] = [Path("/proc") / pid for pid in children.split()]
            assert alive(server)
        finally:
            parent.send_signal(signal.SIGKILL)
    wait_for(lambda: not alive(server), START_S, "the server to end")
