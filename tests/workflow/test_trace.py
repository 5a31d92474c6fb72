"""A row traced to all that it was made from, and made again from that, byte for byte."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest
import yaml
from astropy.io import fits
from pyarrow import parquet

from constellation import trace_checks
from constellation.run_layout import Run
from constellation.trace import trace
from constellation.trace_report import Snapshot, format_trace, to_json
from shine.errors import InputError
from shine.results import provenance_of, read_shear, restamp

from .project import EAST
from .repository import Repository

STEM = f"{EAST}_30_0"
WHAT = f"{EAST},30,0"


@pytest.fixture
def repository(pinned, tmp_path, monkeypatch) -> Repository:
    """The repository with its results, its catalogue published; the working folder."""
    repository = pinned.copy(tmp_path / "repository")
    monkeypatch.chdir(repository.folder)
    return repository


def traced(what=WHAT):
    return trace(what, Run.from_config("config/config.yaml"))


def test_the_printed_commands_make_the_sub_tile_again_byte_for_byte(repository):
    printed = repository.call("constellation", "trace", STEM)
    assert "warnings" not in printed
    script = printed.partition("is kept):\n\n")[2]
    assert script.startswith("git checkout ") and "\nmake setup\n" in script
    # the environment of the tests stands for the one that `make setup` would make
    told = repository.call("bash", "-ec", script.replace("\nmake setup\n", "\n"))
    made = repository.folder / "build" / "traced" / STEM
    for name in (f"{STEM}.parquet", f"{STEM}_sources.parquet"):
        assert f"{name}: OK" in told
        assert (made / name).read_bytes() == (repository.result(STEM).parent / name).read_bytes()
    measured = json.loads((made / f"{STEM}.run.json").read_text())["measurements"]
    assert measured != json.loads(repository.record(STEM).read_text())["measurements"]


def test_the_sums_do_not_fit_another_result(repository):
    printed = repository.call("constellation", "trace", STEM)
    sums = printed[printed.index("sha256sum --check") :]
    made = repository.folder / "build" / "traced" / STEM
    made.mkdir(parents=True)
    for suffix in (".parquet", "_sources.parquet"):
        other = repository.result(f"{EAST}_30_1", suffix)
        shutil.copy(other, made / f"{STEM}{suffix}")
    told = repository.call("bash", "-c", f"{sums}\ntrue")
    assert told.count("FAILED") == 2


def test_the_chain_leads_from_a_source_to_the_bytes_of_its_inputs(repository):
    sources = parquet.read_table(repository.result(STEM, "_sources.parquet"))
    object_id = sources["OBJECT_ID"].to_pylist()[0]
    found = to_json(traced(str(object_id)))
    printed = json.loads(repository.call("constellation", "trace", str(object_id), "--json"))
    assert printed == json.loads(json.dumps(found))
    assert found["subtile"] == STEM
    assert found["source"]["OBJECT_ID"] == object_id
    assert found["source"]["RA"] == sources["RA"].to_pylist()[0]
    assert object_id in parquet.read_table(found["row"]["sources_file"])["OBJECT_ID"].to_pylist()
    shear = read_shear(repository.result(STEM))
    assert found["row"]["values"]["G1"] == shear["G1"].to_pylist()[0]
    for file in found["results"]:
        assert file["sha256"] == hashlib.sha256(Path(file["path"]).read_bytes()).hexdigest()
        assert file["pinned"] == "as dvc.lock pins it in results/subtiles"
    origin = provenance_of(shear)
    assert found["provenance"]["input_hashes"] == origin.input_hashes
    assert {entry["name"]: entry["sha256"] for entry in found["inputs"]} == origin.input_hashes
    for file in found["files"]:
        assert file["md5"] == hashlib.md5(Path(file["path"]).read_bytes()).hexdigest()
        assert file["pinned"] == "pinned in data/demo" and file["problem"] is None
    known = {file["path"] for file in found["files"]}
    for files in repository.manifest(STEM).quadrants:
        expected = {os.path.relpath(path) for path in files.paths}
        header = fits.getheader(files.sci_path)
        name = f"{int(header['OBS_ID']):06d}-{int(header['DITHOBS']):02d}/{files.quadrant}"
        [entry] = [entry for entry in found["inputs"] if entry["name"] == name]
        assert set(entry["files"]) == expected and expected < known
    record = json.loads(repository.record(STEM).read_text())["measurements"]
    assert found["run"]["host"] == record["host"] and found["run"]["solve_s"] == record["solve_s"]
    assert found["warnings"] == () and len(found["commands"]) == 4


def test_the_text_tells_the_same_as_json(repository):
    found = traced()
    lines = [Snapshot("shine.shear", 77, "2026-11-24T20:00:00+00:00")]
    text, content = format_trace(found, lines), to_json(found, lines)
    for file in content["files"]:
        assert f"{file['path']}\n            md5 {file['md5']}" in text
    for entry in content["inputs"]:
        assert f"{entry['sha256']}" in text
    assert "snapshots shine.shear 77 of 2026-11-24T20:00:00+00:00" in text
    assert content["snapshots"] == [
        {"table": "shine.shear", "snapshot_id": 77, "committed_at": "2026-11-24T20:00:00+00:00"}
    ]
    assert text.rstrip().endswith("\n".join(content["commands"]))


def test_the_snapshots_that_hold_the_row_are_named(repository):
    assert "snapshots" not in repository.call("constellation", "trace", STEM)
    repository.call("constellation", "publish")
    printed = repository.call("constellation", "trace", STEM, "--json")
    found = json.loads(printed)["snapshots"]
    assert [entry["table"] for entry in found] == ["shine.sources", "shine.shear"]
    listed = repository.call("constellation", "release", "list")
    assert all(str(entry["snapshot_id"]) in listed for entry in found)


def test_what_changed_since_is_told(repository):
    assert traced().warnings == ()
    frame = next(file.path for file in traced().files if "-DET-" in file.path)
    for path, name in ((Path(frame), "frame"), (repository.manifest_path(STEM), "manifest")):
        shutil.copy2(path, repository.folder.parent / name)
    content = bytearray(Path(frame).read_bytes())
    content[-5000] ^= 1
    Path(frame).write_bytes(content)
    assert _only_warning() == (
        f"{frame}: it has changed since the run, which read {len(content)} bytes"
    )
    Path(frame).unlink()
    assert _only_warning().startswith(f"{frame}: {frame}: found No such file")
    shutil.copy(repository.folder.parent / "frame", frame)  # a newer file of the same content
    assert traced().warnings == ()

    manifest = repository.manifest_path(STEM).relative_to(repository.folder)
    changed = yaml.safe_load(manifest.read_text())
    changed["core_source_ids"].pop()
    manifest.write_text(yaml.safe_dump(changed))
    assert _only_warning() == f"{manifest}, the manifest, has changed since: its digest is another"
    manifest.unlink()
    assert "the manifest, is missing" in _only_warning()
    shutil.copy(repository.folder.parent / "manifest", manifest)

    Path("results/shine.yaml").write_text("inference: {seed: 1}\n")
    assert "results/shine.yaml holds other settings now" in _only_warning()
    Path("results/shine.yaml").unlink()
    assert _only_warning() == "results/shine.yaml, the settings, is missing"


def test_other_packages_are_told(repository, monkeypatch):
    here = trace_checks.package_versions() | {"numpy": "1.0"}
    monkeypatch.setattr(trace_checks, "package_versions", lambda: here)
    made_with = provenance_of(read_shear(repository.result(STEM))).package_versions["numpy"]
    assert _only_warning() == (
        f"it was made with other versions than this environment has: numpy {made_with} (here 1.0)"
    )


def test_code_that_is_not_the_commits_is_told(repository):
    result = repository.result(STEM)
    commit = provenance_of(read_shear(result)).git_commit
    digest = provenance_of(read_shear(result)).code_digest
    assert trace_checks.code_digest_at(commit) == digest
    repository.edit("shine/population.py", "_NODES = 5", "_NODES = 7")
    repository.commit("changed")
    other = repository.call("git", "rev-parse", "HEAD").strip()
    republish = "results/catalogue/shear.parquet is not of this result (GIT_COMMIT differ)"
    for name, message in (
        (f"{commit}-dirty", f"the code differed from its commit {commit}, and only its digest"),
        (other, f"the code of commit {other} is not what made it: its digest is "),
        ("0" * 40, f"this repository cannot show the code of {'0' * 40} (fatal: "),
        ("version 0.1.0", "the code was in no git repository: only that it was version 0.1.0"),
    ):
        beside = shutil.copy(repository.record(STEM), result.with_name(f"{STEM}.run.json"))
        restamp(result, name)
        shutil.move(beside, repository.record(STEM))
        row, code = traced().warnings
        assert row.startswith(republish) and code.startswith(message)
    first = to_json(traced())["commands"][0]
    assert first == f"# the code whose digest is {digest}: version 0.1.0"


def test_a_run_that_left_no_record_and_a_device_are_told(repository):
    path = repository.record(STEM)
    record = json.loads(path.read_text())
    record["measurements"]["device"] = "NVIDIA H100"
    path.write_text(json.dumps(record))
    assert _only_warning() == "it was made on NVIDIA H100: other devices give other last digits"
    record["provenance"]["seed"] = 3
    path.write_text(json.dumps(record))
    assert "is of another run than the result" in traced().warnings[0]
    path.unlink()
    first, *others = traced().warnings
    assert "102018666_30_0.run.json does not tell of its run (FileNotFoundError" in first
    assert all("the run did not note which version it read" in line for line in others)
    assert len(others) == len(traced().files)


def test_without_the_cache_of_dvc_the_pinned_folder_is_told(repository):
    shutil.rmtree(".dvc/cache")
    found = traced()
    [pin] = {file.pinned for file in found.files}
    md5 = yaml.safe_load(Path("dvc.lock").read_text())["stages"]["survey"]["outs"][0]["md5"]
    assert pin == f"data/demo is pinned as {md5}" and md5.endswith(".dir")
    assert {file.md5 for file in found.files} == {None}
    # a copied file, with another inode than the one that the run read
    assert all("nothing tells whether its content is the same" in line for line in found.warnings)
    Path("dvc.lock").unlink()
    assert {file.pinned for file in traced().files} == {None}


def test_a_result_without_a_published_row_is_traced_all_the_same(repository):
    shutil.rmtree("results/catalogue")
    assert _only_warning().startswith("it is in no published catalogue: results/catalogue/shear")
    assert traced().row is None


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("12345", "results/catalogue, column OBJECT_ID: found 0 rows with 12345 among "),
        (f"{EAST},30,7", f"results/subtiles/{EAST}/{EAST}_30_7.parquet: found No such file"),
        ("a galaxy", "what to trace: found 'a galaxy', expected an OBJECT_ID, or tile,row,col"),
    ],
)
def test_what_is_not_there_is_named(repository, what, message):
    with pytest.raises(InputError, match=message):
        traced(what)


def _only_warning() -> str:
    [warning] = traced().warnings
    return warning
