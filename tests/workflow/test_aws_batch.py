"""A survey in S3 becomes a catalogue in S3 through AWS Batch, whatever happens to the instances.

Jobs truly run: each in an empty folder, with nothing of the submitter's but what its command and
environment say, and with S3 as the only storage that they share. Compiled programs alone come from
this machine's cache, as if a volume held them.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from constellation.catalogue.published import PublishedCatalogue
from tests.servers.batch import (
    OUT_OF_MEMORY,
    SPOT_RECLAIMED,
    BatchServer,
    Image,
    Interruption,
    batch_server,
)
from tests.servers.s3 import S3Server

from .project import SUBTILES, TIMEOUT_S, Project
from .tables import differences

TARGET = "catalogue"  # the figures and the report of it need no cloud
RUN = "run"  # the results' prefix in the bucket
ON_DEMAND, SPOT = "shine-on-demand", "shine-spot"
RECLAIMED, TOO_LARGE = SUBTILES[0], SUBTILES[1]


@dataclass(frozen=True)
class Cloud:
    """A submitter's checkout, the survey's bucket and the Batch service."""

    folder: Path
    s3: S3Server
    batch: BatchServer

    def attempt(self, *arguments: str) -> tuple[int, str]:
        """Run `snakemake` with the profile, as a user does; returns its status and output."""
        own = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        access = {
            "AWS_ACCESS_KEY_ID": self.s3.access_key,
            "AWS_SECRET_ACCESS_KEY": self.s3.secret_key,
            "AWS_ENDPOINT_URL_S3": self.s3.endpoint,
            "AWS_ENDPOINT_URL_BATCH": self.batch.endpoint,
            "PYTHONPATH": f"{self.folder}:{self.folder / 'workflow'}",
        }
        options = ("--default-storage-prefix", self.s3.uri(RUN), "--configfile", "config.yaml")
        options += ("--profile", "profiles/aws-batch", "--envvars", "AWS_ENDPOINT_URL_S3")
        done = subprocess.run(
            [sys.executable, "-m", "snakemake", *arguments, *options],
            cwd=self.folder,
            env=own | access,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        return done.returncode, done.stdout

    def interrupt(self, stem: str, reason: dict[str, Any]) -> None:
        """End the next job of a sub-tile as soon as shine works on it."""
        _, row, col = stem.split("_")
        begun = lambda folder: any(folder.rglob(f"{stem}.log"))  # noqa: E731
        self.batch.interruptions.append(Interruption(f"row={row},col={col}", begun, reason))


@pytest.fixture
def cloud(finished, checkout, s3, tmp_path) -> Iterator[Cloud]:
    s3.upload(finished.folder / "data", "survey")
    folder, jobs, image = (tmp_path / name for name in ("checkout", "jobs", "image"))
    jobs.mkdir()
    shutil.copytree(checkout, folder)
    shutil.copytree(checkout / "shine", image / "shine")
    shutil.copytree(checkout / "workflow" / "constellation", image / "constellation")
    write_settings(finished, folder, s3)
    for command in (["init", "--quiet"], ["add", "."]):
        subprocess.run(["git", *command], cwd=folder, check=True, capture_output=True)
    programs = {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "PYTHONPATH": str(image),  # in place of the image's installed packages
        "AWS_EC2_METADATA_DISABLED": "true",  # there is nobody to ask
        # rounding is that of the algebra's kernels, and the finished run has had these
        **{name: value for name, value in os.environ.items() if name.startswith("OPENBLAS_")},
    }
    with batch_server(jobs, Image(programs, s3.access_key, s3.secret_key)) as batch:
        definition = folder / "profiles" / "aws-batch" / "job-definition.json"
        batch.set_up(definition, {ON_DEMAND: "EC2", SPOT: "SPOT"})
        yield Cloud(folder, s3, batch)


def write_settings(finished: Project, folder: Path, s3: S3Server) -> None:
    """The settings of the finished run, but for the survey, which is in S3."""
    config = yaml.safe_load((finished.folder / "config.yaml").read_text())
    config["data"] = {"survey": s3.uri("survey")}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    shutil.copy2(finished.folder / "tiles.csv", folder)


def test_a_survey_in_s3_becomes_a_catalogue_on_interrupted_instances(cloud, finished):
    cloud.interrupt(RECLAIMED, SPOT_RECLAIMED)
    cloud.interrupt(TOO_LARGE, OUT_OF_MEMORY)
    status, printed = cloud.attempt(TARGET)
    assert status == 0, printed + cloud.batch.output()
    assert not cloud.batch.interruptions

    jobs = cloud.batch.jobs()
    check_secrets(jobs, cloud)
    check_sub_tiles(jobs)
    others = [job for job in jobs if not sub_tiles_of(job)]
    assert others  # such as the index
    for job in others:
        assert queue(job) == ON_DEMAND and "GPU" not in resources(job)
        assert job["status"] == "SUCCEEDED"

    results = cloud.s3.objects(f"{RUN}/results/catalogue/")
    here = PublishedCatalogue(finished.folder / "results" / "catalogue")
    for name, content in results.items():
        path = cloud.folder / name.removeprefix(f"{RUN}/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    there = PublishedCatalogue(cloud.folder / "results" / "catalogue")
    without = ["INPUTS_DIGEST"]  # the manifests hold the places of the files
    shear = differences(there.shear.drop_columns(without), here.shear.drop_columns(without))
    assert [*shear, *differences(there.sources(), here.sources())] == []
    assert not (cloud.folder / "results" / "subtiles").exists()

    status, printed = cloud.attempt(TARGET)
    assert status == 0 and "Nothing to be done" in printed
    assert len(cloud.batch.jobs()) == len(jobs)


def check_secrets(jobs: list[dict[str, Any]], cloud: Cloud) -> None:
    """What everybody may read who may list the jobs holds no credentials."""
    described = json.dumps(jobs, default=str)
    assert cloud.s3.secret_key not in described and cloud.s3.access_key not in described
    assert cloud.s3.endpoint in described  # which is passed on
    assert str(cloud.folder) not in described


def check_sub_tiles(jobs: list[dict[str, Any]]) -> None:
    """Each ran as a Batch job of its own, on a spot instance with one GPU; see the two repeated."""
    of_sub_tile = {stem: [job for job in jobs if stem in sub_tiles_of(job)] for stem in SUBTILES}
    for stem, mine in of_sub_tile.items():
        assert [sub_tiles_of(job) for job in mine] == [[stem]] * (1 + (stem == TOO_LARGE))
        for attempt, job in enumerate(mine, start=1):
            assert queue(job) == SPOT and resources(job)["GPU"] == "1"
            assert resources(job)["MEMORY"] == str(attempt * 8000)
            assert job["timeout"] == {"attemptDurationSeconds": attempt * 3600}
        reasons = [attempt["statusReason"] for attempt in mine[0]["attempts"]]
        assert (reasons[0] == SPOT_RECLAIMED["statusReason"]) == (stem == RECLAIMED)
        assert len(reasons) == 1 + (stem == RECLAIMED)
        assert mine[-1]["status"] == "SUCCEEDED"
    # of its own accord AWS repeats only what a reclaimed instance ended
    assert of_sub_tile[TOO_LARGE][0]["status"] == "FAILED"


def sub_tiles_of(job: dict[str, Any]) -> list[str]:
    """The sub-tiles that a job infers, by its command."""
    command = " ".join(job["container"]["command"])
    return [stem for stem in SUBTILES if target(stem) in command]


def target(stem: str) -> str:
    """How Snakemake names a sub-tile's job."""
    tile, row, col = stem.split("_")
    return f"subtile:tile={tile},row={row},col={col}"


def queue(job: dict[str, Any]) -> str:
    return job["jobQueue"].rpartition("/")[2]


def resources(job: dict[str, Any]) -> dict[str, str]:
    return {entry["type"]: entry["value"] for entry in job["container"]["resourceRequirements"]}
