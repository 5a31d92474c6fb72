"""A survey in S3 and results in S3: the catalogue is that of the same files on disk."""

from __future__ import annotations

import hashlib
import io
import json
import re
from typing import Any

import pyarrow as pa
import pytest
import yaml
from astropy.io import fits
from pyarrow import parquet

from shine.manifest import Manifest
from tests.servers.proxy import proxy_of
from tests.servers.s3 import S3Server

from .project import EAST, SUBTILES, WEST, Project, rule_counts
from .tables import differences

SURVEY, RUN = "sky", "run"
MANIFESTS = {f"manifests_{WEST}": 1, f"manifests_{EAST}": 1}


@pytest.fixture
def project(finished, checkout, s3, tmp_path, monkeypatch) -> Project:
    """The finished run's settings, with its survey in S3 and nothing done yet."""
    s3.upload(finished.folder / "data", SURVEY)
    s3.use(monkeypatch)
    project = Project.create(tmp_path / "project", checkout)
    project.change("data", survey=s3.uri(SURVEY), mock_survey=None)
    return project


def test_planning_lists_the_survey_and_asks_for_none_of_its_files(project, s3, monkeypatch):
    with proxy_of(s3) as proxy:
        proxy.server.use(monkeypatch)
        printed = project.run("--dry-run")
        asked = proxy.requests
    assert rule_counts(printed) == MANIFESTS | {
        "quadrant_index": 1,
        "shine_config": 1,
        "subtile": 4,
        "tiles": 1,
        "merged_catalogue": 1,
        "summary": 1,
        "measurements": 1,
        "all": 1,
        "quality": 1,
        "quality_gate": 1,
        "report": 1,
        "total": 16,
    }
    assert len(asked) == 4 and all("list-type=2" in request for request in asked)


def test_results_go_to_s3_and_are_merged_there(project, s3, finished):
    options = ("--default-storage-provider", "s3", "--default-storage-prefix", s3.uri(RUN))
    with proxy_of(s3) as proxy:
        project.change("data", s3={"endpoint_url": proxy.server.endpoint, "cache_folder": "parts"})
        printed = project.run(*options)
    check_settings(proxy.requests, project)
    project.change("data", s3={})  # which makes nothing run again
    stored = s3.objects(f"{RUN}/")
    check_tables(stored, finished)
    assert stored[f"{RUN}/results/summary/summary.txt"].decode() in printed
    assert f"catalogue: {s3.uri(RUN)}/results/catalogue/shear.parquet\n" in printed
    assert not list(project.folder.glob("results/[!k]*/**/*.parquet"))
    assert not list(project.folder.glob(".snakemake/storage/**/*.parquet"))  # copies are removed
    printed += (again := project.run(*options))
    assert "Nothing to be done" in again

    change_fluxes(s3)
    printed += (third := project.run(*options, "subtiles"))
    assert rule_counts(third) == MANIFESTS | {"subtile": 4, "subtiles": 1, "total": 7}
    stored_now = s3.objects(f"{RUN}/")
    using = {stem for stem in SUBTILES if uses_the_east(stored_now, stem)}
    assert using == {f"{WEST}_30_59", f"{EAST}_30_0", f"{EAST}_30_1"}
    before, after = measurements(stored), measurements(stored_now)
    assert {stem for stem in SUBTILES if after[stem] != before[stem]} == using

    project.change("compute", require_gpu=True)
    status, failed = project.attempt(*options, "subtiles")
    printed += failed
    logs = f"{s3.uri(RUN)}/results/logs/subtiles"
    named = [line for line in failed.splitlines() if f"; log: {logs}" in line]
    assert status != 0 and named
    assert all(": bad configuration: error: " in line for line in named)

    keys = (s3.access_key.encode(), s3.secret_key.encode())
    files = {path: path.read_bytes() for path in project.folder.rglob("*") if path.is_file()}
    assert len(files) > 40  # logs, what Snakemake remembers, results that are kept
    texts = [printed.encode(), *files.values(), *stored.values(), *stored_now.values()]
    texts += [repr(read(content).schema.metadata).encode() for content in parquets(stored).values()]
    assert not [text for text in texts if any(key in text for key in keys)]


def check_settings(requests: list[str], project: Project) -> None:
    """The configuration's endpoint served the whole survey, and nothing of the results."""
    asked = {kind for request in requests for kind in re.findall(rf"/{SURVEY}/(\w+)/", request)}
    assert asked == {"VIS", "PSF", "MER"}
    about_results = re.compile(rf"^PUT|/{RUN}/|prefix={RUN}\b")
    assert not [request for request in requests if about_results.search(request)]
    assert list(project.folder.glob("parts/*/*.s3part"))


def check_tables(stored: dict[str, bytes], finished: Project) -> None:
    """All tables are there, and are those of the plain run but for the manifests' digests.

    The manifests hold the places of the files.
    """
    for name in ("subtiles", "tiles", "catalogue"):
        results = finished.folder / "results"
        here = {
            f"{RUN}/results/{path.relative_to(results).as_posix()}": path.read_bytes()
            for path in (results / name).rglob("*.parquet")
        }
        one, other = (
            {without_digest(key): read(content) for key, content in found.items()}
            for found in (here, parquets(stored, f"{RUN}/results/{name}/"))
        )
        assert one.keys() == other.keys() != set()
        for key in one:
            assert differences(*map(without_digests, (other[key], one[key]))) == [], key
            assert without_manifests(other[key]) == without_manifests(one[key]), key
    files = read(stored[f"{RUN}/results/catalogue/files.parquet"])
    for path, digest in zip(files["PATH"].to_pylist(), files["SHA256"].to_pylist(), strict=True):
        content = stored[f"{RUN}/results/catalogue/{path}"]
        assert hashlib.sha256(content).hexdigest() == digest


def parquets(stored: dict[str, bytes], prefix: str = RUN) -> dict[str, bytes]:
    return {
        key: content
        for key, content in stored.items()
        if key.startswith(prefix) and key.endswith(".parquet")
    }


def read(content: bytes) -> pa.Table:
    return parquet.read_table(pa.BufferReader(content))


def without_digest(key: str) -> str:
    """The name of an object without the digest that the sources of a tile have in theirs."""
    return re.sub(r"-[0-9a-f]{12}\.parquet$", ".parquet", key)


def without_digests(table: pa.Table) -> pa.Table:
    """The rows without what tells files apart."""
    absent = {"INPUTS_DIGEST", "PATH", "SHA256", "N_BYTES"}
    return table.select([name for name in table.column_names if name not in absent])


def without_manifests(table: pa.Table) -> dict[str, Any]:
    """A file's provenance: of a sub-tile the inputs but the manifest, of a merge all but inputs."""
    metadata = {key.decode(): value.decode() for key, value in table.schema.metadata.items()}
    inputs = json.loads(metadata.pop("input_hashes"))
    for name in ("edition", "sources_sha256"):
        metadata.pop(name, None)
    if "manifest" not in inputs:
        return metadata
    return metadata | {name: value for name, value in inputs.items() if name != "manifest"}


def change_fluxes(s3: S3Server) -> None:
    """Make the eastern tile's catalogue another one."""
    [(key, content)] = [
        (key, content) for key, content in s3.objects(f"{SURVEY}/MER").items() if str(EAST) in key
    ]
    with fits.open(io.BytesIO(content)) as hdus:
        hdus[1].data["FLUX_DETECTION_TOTAL"] *= 1.02
        hdus.writeto(changed := io.BytesIO(), checksum=True)
    s3.client().put_object(Bucket=s3.bucket, Key=key, Body=changed.getvalue())


def of_subtile(stored: dict[str, bytes], folder: str, name: str) -> bytes:
    return stored[f"{RUN}/results/{folder}/{name.partition('_')[0]}/{name}"]


def uses_the_east(stored: dict[str, bytes], stem: str) -> bool:
    manifest = Manifest.model_validate(
        yaml.safe_load(of_subtile(stored, "manifests", f"{stem}.yaml"))
    )
    return any(f"TILE{EAST}" in catalogue for catalogue in manifest.catalogs)


def measurements(stored: dict[str, bytes]) -> dict[str, Any]:
    """What was measured of each sub-tile: its times tell one inference from another."""
    return {
        stem: json.loads(of_subtile(stored, "runs", f"{stem}.run.json"))["measurements"]
        for stem in SUBTILES
    }
