"""The Batch server of the tests: what it runs, where, and when again."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .batch import SPOT_RECLAIMED, BatchServer, Image, Interruption, batch_server

DEFINITION = Path(__file__).parents[2] / "profiles" / "aws-batch" / "job-definition.json"
QUEUE = "queue"
ENDED = {"SUCCEEDED", "FAILED"}
TIMEOUT_S = 60


@pytest.fixture
def server(tmp_path) -> Iterator[BatchServer]:
    python = Path(shutil.which("python3")).parent
    image = Image({"PATH": f"{python}:/usr/bin:/bin"}, "role-key", "role-secret")
    with batch_server(tmp_path, image) as server:
        server.set_up(DEFINITION, {QUEUE: "SPOT"})
        yield server


def run(server: BatchServer, command: str, timeout_s: int | None = None) -> dict[str, Any]:
    """Submit a shell command and wait for its end; returns what the API says of it."""
    submitted = server.client().submit_job(
        jobName="job",
        jobQueue=QUEUE,
        jobDefinition="shine",
        containerOverrides={"command": ["/bin/bash", "-c", command]},
        **({} if timeout_s is None else {"timeout": {"attemptDurationSeconds": timeout_s}}),
    )
    give_up = time.monotonic() + TIMEOUT_S
    while time.monotonic() < give_up:
        [job] = server.client().describe_jobs(jobs=[submitted["jobId"]])["jobs"]
        if job["status"] in ENDED:
            return job
        time.sleep(0.05)
    raise TimeoutError(server.output())


def test_a_job_starts_in_an_empty_folder_with_the_credentials_of_its_role(server, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of the submitter")
    script = (
        "import boto3, json, os\n"
        "found = boto3.Session().get_credentials().get_frozen_credentials()\n"
        "print(json.dumps([os.listdir(), sorted(os.environ), found.secret_key]))"
    )
    job = run(server, f'python3 -c "{script}"')
    assert job["status"] == "SUCCEEDED" and job["container"]["exitCode"] == 0
    files, variables, secret_key = json.loads(server.output().splitlines()[-1])
    assert files == [] and secret_key == "role-secret"
    assert "AWS_SECRET_ACCESS_KEY" not in variables
    assert "role-secret" not in json.dumps(job)


def test_a_job_that_fails_is_not_run_again(server):
    job = run(server, "exit 3")
    assert job["status"] == "FAILED" and job["container"]["exitCode"] == 3
    assert len(job["attempts"]) == 1


def test_a_job_whose_host_is_reclaimed_is_run_again(server):
    wait = 'touch started; [ "$AWS_BATCH_JOB_ATTEMPT" = 2 ] || sleep 600'
    started = lambda folder: (folder / "started").exists()  # noqa: E731
    server.interruptions.append(Interruption("touch started", started, SPOT_RECLAIMED))
    job = run(server, wait)
    reasons = [attempt["statusReason"] for attempt in job["attempts"]]
    assert reasons == [SPOT_RECLAIMED["statusReason"], "Essential container in task exited"]
    assert job["status"] == "SUCCEEDED"


def test_a_job_that_takes_too_long_is_ended_with_all_that_it_started(server):
    job = run(server, 'sleep 600 & echo "child $!"; sleep 600', timeout_s=1)
    assert job["status"] == "FAILED"
    assert job["statusReason"] == "Job attempt duration exceeded timeout"
    assert len(job["attempts"]) == 1
    child = server.output().split()[-1]
    status = Path(f"/proc/{child}/stat")
    assert not status.exists() or status.read_text().rpartition(")")[2].split()[0] == "Z"
