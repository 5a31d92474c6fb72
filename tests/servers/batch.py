"""AWS Batch on 127.0.0.1: moto's API, and jobs that truly run.

moto would run each job in a Docker container. Here a process takes the container's place: it starts
in an empty folder with nothing but the job's command, its environment, the image's programs and the
credentials of the job's role, which it fetches over HTTP as it would on AWS. Retries follow the job
definition's `retryStrategy`, timeouts the job's own.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import secrets
import shutil
import signal
import string
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from unittest import mock

import boto3
import moto.batch.models
import requests
from moto.batch.utils import JobStatus
from moto.moto_server.threaded_moto_server import ThreadedMotoServer

REGION = "eu-central-1"
POLL_S = 0.1
SERVICE_ACCESS = {"AWS_ACCESS_KEY_ID": "submitter", "AWS_SECRET_ACCESS_KEY": "moto-asks-nothing"}


@dataclass
class Interruption:
    """What happens, once, to a job whose command contains `wanted`, as soon as `due` says so.

    `due` is asked about the folder in which the job runs. `reason` is the one that AWS would give.
    """

    wanted: str
    due: Callable[[Path], bool]
    reason: dict[str, Any]


SPOT_RECLAIMED = {"statusReason": "Host EC2 (instance i-0123456789abcdef0) terminated."}
OUT_OF_MEMORY = {
    "statusReason": "Essential container in task exited",
    "reason": "OutOfMemoryError: Container killed due to memory usage",
    "exitCode": 137,
}


@dataclass(frozen=True)
class Image:
    """What the container image holds, and who the job's role is."""

    environment: Mapping[str, str]
    access_key: str
    secret_key: str


@dataclass
class BatchServer:
    """The running service: its address, its jobs, and what shall happen to them."""

    folder: Path
    image: Image
    slots: threading.Semaphore
    endpoint: str = ""
    credentials_uri: str = ""
    interruptions: list[Interruption] = field(default_factory=list)
    started: list[LocalJob] = field(default_factory=list)

    def client(self, service: str = "batch") -> Any:
        """A client of one of moto's services."""
        return boto3.client(
            service,
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id=SERVICE_ACCESS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=SERVICE_ACCESS["AWS_SECRET_ACCESS_KEY"],
        )

    def jobs(self) -> list[dict[str, Any]]:
        """All jobs, oldest first, as the API describes them."""
        batch = self.client()
        queues = [queue["jobQueueName"] for queue in batch.describe_job_queues()["jobQueues"]]
        listed = [
            job["jobId"]
            for queue in queues
            for status in JobStatus
            for job in batch.list_jobs(jobQueue=queue, jobStatus=status.value)["jobSummaryList"]
        ]
        described = batch.describe_jobs(jobs=listed)["jobs"] if listed else []
        return sorted(described, key=lambda job: job["createdAt"])

    def output(self) -> str:
        """What all jobs printed, to be shown when a test fails."""
        logs = sorted(self.folder.glob("*.txt"), key=lambda path: path.stat().st_mtime)
        return "\n".join(f"== {path.name}\n{path.read_text()}" for path in logs)

    def set_up(self, definition: Path, queues: Mapping[str, str]) -> None:
        """Make the queues (name: EC2 or SPOT) and register a job definition from its file."""
        environments = _ComputeEnvironments(self)
        batch = self.client()
        for name, kind in queues.items():
            environment = environments.create(name, kind)
            batch.create_job_queue(
                jobQueueName=name,
                state="ENABLED",
                priority=1,
                computeEnvironmentOrder=[{"order": 1, "computeEnvironment": environment}],
            )
        values = {"SHINE_IMAGE": "registry.invalid/shine:test", "SHINE_JOB_ROLE": environments.role}
        text = string.Template(definition.read_text()).substitute(values)
        batch.register_job_definition(**json.loads(text))

    def stop(self) -> None:
        """End all jobs; returns when their processes have ended."""
        for job in self.started:
            job.terminate("the server ends")
        for job in self.started:
            job.join()


class _ComputeEnvironments:
    """Everything that AWS wants to exist before it makes a compute environment."""

    def __init__(self, server: BatchServer):
        self.batch = server.client()
        ec2, iam = server.client("ec2"), server.client("iam")
        vpc = ec2.create_vpc(CidrBlock="10.0.0.0/24")["Vpc"]["VpcId"]
        subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.0.0/25")["Subnet"]["SubnetId"]
        group = ec2.create_security_group(GroupName="shine", Description="shine", VpcId=vpc)
        self.role = iam.create_role(RoleName="shine", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
        iam.create_instance_profile(InstanceProfileName="shine")
        iam.add_role_to_instance_profile(InstanceProfileName="shine", RoleName="shine")
        self.resources = {
            "minvCpus": 0,
            "maxvCpus": 64,
            "instanceTypes": ["g4dn.xlarge"],
            "subnets": [subnet],
            "securityGroupIds": [group["GroupId"]],
            "instanceRole": "shine",
        }

    def create(self, name: str, kind: str) -> str:
        made = self.batch.create_compute_environment(
            computeEnvironmentName=name,
            type="MANAGED",
            serviceRole=self.role,
            computeResources=self.resources | {"type": kind},
        )
        return made["computeEnvironmentArn"]


class LocalJob(moto.batch.models.Job):
    """A job of moto's whose container is a process."""

    def __init__(self, server: BatchServer, *arguments: Any, **named: Any):
        super().__init__(*arguments, **named)
        self.server = server
        server.started.append(self)

    def run(self) -> None:
        """Run the job to its end, with as many attempts as its definition allows."""
        strategy = self.job_definition.retry_strategy or {}
        end: dict[str, Any] = {}
        try:
            for attempt in range(1, strategy.get("attempts", 1) + 1):
                self.status = JobStatus.RUNNABLE
                with self.server.slots:
                    end = self._attempt(attempt)
                if end.get("final") or not retries(strategy, end):
                    break
        finally:
            self.exit_code = end.get("exitCode")
            self.job_stopped_reason = end.get("statusReason", "the test's server failed")
            self._mark_stopped(success=self.exit_code == 0)

    def describe(self) -> dict[str, Any]:
        """What `DescribeJobs` says: moto leaves these two out."""
        described = super().describe()
        overrides = self.container_overrides.get("resourceRequirements", [])
        described["container"]["resourceRequirements"] = overrides
        if self.exit_code is not None:
            described["container"]["exitCode"] = self.exit_code
        return described

    def _attempt(self, number: int) -> dict[str, Any]:
        if self.stop:
            return {"statusReason": self.job_stopped_reason, "final": True}
        self.job_started_at = datetime.now()
        self._start_attempt()
        self.status = JobStatus.RUNNING
        folder = self.server.folder / f"{self.job_id}-{number}"
        folder.mkdir()
        environment = {
            **self.server.image.environment,
            **{
                item["name"]: item["value"]
                for item in self._get_container_property("environment", [])
            },
            "AWS_BATCH_JOB_ATTEMPT": str(number),
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": self.server.credentials_uri,
            "HOME": str(folder),
        }
        with folder.with_suffix(".txt").open("wb") as output:
            process = subprocess.Popen(
                self._get_container_property("command", []),
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        end = self._wait(process, folder)
        # what a container started ends with it
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        shutil.rmtree(folder)
        self.job_stopped_at = datetime.now()
        self._stop_attempt()
        shown = {key: end[key] for key in ("exitCode", "reason") if key in end}
        self.latest_attempt["container"] |= shown
        self.latest_attempt["statusReason"] = end["statusReason"]
        return end

    def _wait(self, process: subprocess.Popen[bytes], folder: Path) -> dict[str, Any]:
        deadline = datetime.now() + timedelta(seconds=self._get_attempt_duration() or 10**9)
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                status = process.wait(POLL_S)
                return {"exitCode": status, "statusReason": "Essential container in task exited"}
            if self.stop:
                return {"statusReason": self.job_stopped_reason, "final": True}
            if datetime.now() > deadline:
                # AWS does not retry what took too long
                return {"statusReason": "Job attempt duration exceeded timeout", "final": True}
            command = " ".join(self._get_container_property("command", []))
            for interruption in self.server.interruptions:
                if interruption.wanted in command and interruption.due(folder):
                    self.server.interruptions.remove(interruption)
                    return dict(interruption.reason)


def retries(strategy: Mapping[str, Any], end: Mapping[str, Any]) -> bool:
    """Whether AWS Batch runs a job again that ended so: the first rule that fits decides.

    Where none fits it is run again. A pattern is the whole text, or its beginning and a star.
    """
    if end.get("exitCode") == 0:
        return False
    for rule in strategy.get("evaluateOnExit", []):
        texts = {
            "onStatusReason": end.get("statusReason", ""),
            "onReason": end.get("reason", ""),
            "onExitCode": str(end.get("exitCode", "")),
        }
        if all(_fits(rule[key], text) for key, text in texts.items() if key in rule):
            return rule["action"].upper() == "RETRY"
    return True


def _fits(pattern: str, text: str) -> bool:
    return text.startswith(pattern[:-1]) if pattern.endswith("*") else text == pattern


@contextlib.contextmanager
def batch_server(folder: Path, image: Image, slots: int = 2) -> Iterator[BatchServer]:
    """Serve Batch (and EC2 and IAM, which it needs); `slots` jobs run at a time."""
    server = BatchServer(folder, image, threading.Semaphore(slots))
    role = _role_server(image)
    api = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    jobs = mock.patch.object(moto.batch.models, "Job", functools.partial(LocalJob, server))
    api.start()
    try:
        with jobs:
            server.endpoint = "http://{}:{}".format(*api.get_host_and_port())
            # moto keeps what earlier servers of this process were told
            requests.post(f"{server.endpoint}/moto-api/reset", timeout=60).raise_for_status()
            server.credentials_uri = f"http://127.0.0.1:{role.server_port}/{role.path}"
            yield server
    finally:
        server.stop()
        api.stop()
        role.shutdown()
        role.server_close()


def _role_server(image: Image) -> Any:
    """Serve the job role's credentials, as the container agent of ECS does, at a secret path."""
    path = secrets.token_urlsafe()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path != f"/{path}":
                self.send_error(404)
                return
            expiration = datetime.now(UTC) + timedelta(hours=6)
            answer = {
                "AccessKeyId": image.access_key,
                "SecretAccessKey": image.secret_key,
                "Token": None,
                "Expiration": expiration.isoformat(),
            }
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.path = path
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server
