"""The real dvc.yaml on a tiny survey: what runs, what is pinned, and what other machines get."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from shine.results import provenance_of, read_shear
from tests.servers.s3 import S3Server

from .project import EAST, SUBTILES
from .repository import STAGES, Repository

UPSTREAM = {"data/demo", "results/index", "results/manifests"}  # of shine's settings and code
NOTHING = "Nothing to be done"
TAKEN_OVER = "the files are those that dvc.lock pins"
FRAME = "q1/VIS/2704/EUC_VIS_SWL-DET-002704-00-1-0000000__20241019T013000.000000Z.fits"


@pytest.fixture
def repository(pinned, tmp_path) -> Repository:
    """The repository and its results, to be changed at will."""
    return pinned.copy(tmp_path / "repository")


@pytest.fixture
def pulled(pinned, tmp_path) -> Repository:
    """A fresh clone with what DVC has of it; Snakemake has never run there."""
    clone = pinned.clone(tmp_path / "clone")
    clone.dvc("checkout")
    assert clone.status() == {}
    return clone


def test_everything_is_pinned_and_a_second_repro_runs_nothing(repository):
    lock = yaml.safe_load((repository.folder / "dvc.lock").read_text())["stages"]
    counts = {out["path"]: out.get("nfiles", 1) for s in lock.values() for out in s["outs"]}
    made = list(repository.files("data") | repository.files("results"))
    for path, count in counts.items():
        assert count == sum(name == path or name.startswith(f"{path}/") for name in made)
    unpinned = {Path(name).parts[1] for name in made if not name.startswith(tuple(counts))}
    assert unpinned <= {"kept", "logs"}
    assert repository.status() == {}
    assert repository.repro() == []
    assert NOTHING in repository.call("snakemake")
    assert repository.call("git", "status", "--porcelain") == ""


def test_a_changed_manifest_runs_its_sub_tile(repository):
    stem = f"{EAST}_30_0"
    path = repository.manifest_path(stem)
    manifest = yaml.safe_load(path.read_text())
    manifest["core_source_ids"].pop()
    path.write_text(yaml.safe_dump(manifest))
    before, pins = repository.inferences(), repository.pins()
    assert repository.repro() == ["manifests", "subtiles", "catalogue"]
    assert repository.inferred_since(before) == {stem}
    assert repository.unchanged_since(pins) == {"data/demo", "results/index", "results/shine.yaml"}


def test_results_travel_through_s3(pinned, repository, s3, tmp_path):
    place = ("remote", "add", "--local", "--default", "store", s3.uri("dvc"))
    here = replace(repository, variables=s3.environment())
    here.dvc(*place)
    here.dvc("push")
    there = replace(here, folder=tmp_path / "there", checkout=tmp_path / "there")
    here.call("git", "clone", "--quiet", ".", str(there.folder))
    there.dvc(*place)
    there.dvc("pull")
    assert there.status() == {}
    results = {name: content for name, (_, content) in there.files("results").items()}
    first = there.call("snakemake", "--dry-run")
    assert TAKEN_OVER in first and NOTHING in first
    for arguments in ([], ["--dry-run"]):
        printed = there.call("snakemake", *arguments)
        assert TAKEN_OVER not in printed and NOTHING in printed
    assert there.status() == {}
    assert there.repro() == []
    after = {name: content for name, (_, content) in there.files("results").items()}
    assert {name: after[name] for name in results} == results
    written = [path.read_text() for path in (there.folder / ".dvc").glob("config*")]
    assert s3.secret_key not in "".join(written)


def test_a_changed_frame_runs_what_sees_it(pulled):
    assert TAKEN_OVER in pulled.call("snakemake")
    before = pulled.inferences()
    seeing = pulled.brighten()
    assert pulled.repro() == list(STAGES)
    assert pulled.inferred_since(before) == seeing
    assert pulled.status() == {}
    assert pulled.repro() == []


def test_a_setting_changed_before_the_first_run_is_not_overlooked(pulled):
    hashes = {stem: provenance_of(read_shear(pulled.result(stem))).config_hash for stem in SUBTILES}
    pulled.change("gal", selection={"min_snr": 30.0})
    before = pulled.pins()
    assert pulled.repro() == ["subtiles", "catalogue"]
    for stem in SUBTILES:
        assert provenance_of(read_shear(pulled.result(stem))).config_hash != hashes[stem]
    assert pulled.unchanged_since(before) == UPSTREAM
    assert NOTHING in pulled.call("snakemake")


def test_a_damaged_file_is_not_taken_over(pulled):
    path = pulled.result(SUBTILES[0])
    content = path.read_bytes()
    path.write_bytes(content[:100] + b"damage" + content[106:])
    printed = pulled.call("snakemake")
    reason = "stage subtiles has changed outs results/subtiles"
    assert f"{reason}: it and what follows are made again" in printed
    assert path.read_bytes() == content
    assert NOTHING in pulled.call("snakemake")


def test_a_past_commit_is_rebuilt_to_the_same_bytes(repository):
    first = repository.pins()
    repository.change("gal", selection={"min_snr": 30.0})
    repository.edit("shine/psf.py", "import numpy as np", "import numpy as np\n\nEXTRA = 1")
    repository.edit("workflow/constellation/summary.py", "pulls: rms", "pulls, rms")
    repository.commit("second")
    repository.repro()
    repository.commit("second")
    second, before = repository.pins(), repository.inferences()
    assert repository.unchanged_since(first) == UPSTREAM
    # a comment is no reason to infer anything again, but the results name the commit
    repository.edit("shine/psf.py", "EXTRA = 1", "EXTRA = 1  # one")
    repository.commit("third")
    repository.repro()
    repository.commit("third")
    assert repository.inferred_since(before) == set()
    assert repository.pins()["results/subtiles"] != second["results/subtiles"]

    repository.call("git", "checkout", "--quiet", "pinned")
    assert "subtiles" in repository.repro("--no-run-cache")
    assert repository.pins() == first
    assert repository.inferred_since(before) == set(SUBTILES)


def test_a_commit_is_rebuilt_elsewhere_to_the_same_bytes(pinned, tmp_path):
    elsewhere = pinned.clone(tmp_path / "elsewhere")
    assert elsewhere.repro("--no-run-cache") == list(STAGES)
    assert elsewhere.pins() == pinned.pins()


def test_public_data_are_pinned_without_being_fetched(pinned, s3, tmp_path):
    def put(content: bytes) -> str:
        stored = s3.client().put_object(Bucket=s3.bucket, Key=FRAME, Body=content)
        return stored["ETag"].strip('"')

    def pin(path: Path) -> dict[str, Any]:
        [source] = yaml.safe_load(path.read_text())["deps"]
        return source

    clone = pinned.clone(tmp_path / "clone")
    clone.dvc("cache", "dir", "--local", str(tmp_path / "cache"))
    clone.dvc("remote", "add", "q1", s3.uri())
    clone.dvc("remote", "modify", "q1", "allow_anonymous_login", "true")
    anyone = replace(clone, variables=s3.anonymous_environment())
    folder = (clone.folder / FRAME).parent
    folder.parent.mkdir(parents=True)
    of_folder, of_frame = folder.with_suffix(".dvc"), clone.folder / "frame.dvc"
    etag = put(b"one version")

    allow(s3, "s3:ListBucket", s3.bucket)  # names and ETags, but no content
    anyone.dvc("import-url", "--no-download", f"remote://q1/{Path(FRAME).parent}", str(folder))
    assert pin(of_folder)["nfiles"] == 1
    s3.make_public()
    anyone.dvc("import-url", "--no-download", f"remote://q1/{FRAME}", "frame")
    assert (pin(of_frame)["path"], pin(of_frame)["etag"]) == (f"remote://q1/{FRAME}", etag)

    validate = ("update", "--no-download", str(of_folder), str(of_frame))
    before = of_folder.read_bytes(), of_frame.read_bytes()
    anyone.dvc(*validate)
    assert (of_folder.read_bytes(), of_frame.read_bytes()) == before
    digest, etag = pin(of_folder)["md5"], put(b"another one")
    anyone.dvc(*validate)
    assert pin(of_folder)["md5"] != digest
    assert pin(of_frame)["etag"] == etag

    assert not folder.exists()
    assert not (clone.folder / "frame").exists()
    cached = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert {path.suffix for path in cached} == {".dir"}  # lists of names and ETags


def allow(s3: S3Server, action: str, resource: str) -> None:
    """Let everybody do one thing."""
    statement = {"Effect": "Allow", "Principal": {"AWS": ["*"]}, "Action": [action]}
    statement["Resource"] = [f"arn:aws:s3:::{resource}"]
    policy = {"Version": "2012-10-17", "Statement": [statement]}
    s3.client().put_bucket_policy(Bucket=s3.bucket, Policy=json.dumps(policy))
