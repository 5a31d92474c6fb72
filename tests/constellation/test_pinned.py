"""When files without Snakemake's records are taken over, made again, or left alone."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from constellation import pinned

PIPELINE = """
stages:
  first: {cmd: snakemake one, outs: [{data/one: {persist: true}}]}
  second:
    cmd: snakemake two
    outs: [{results/two: {persist: true}}, {results/shine.yaml: {persist: true}}]
  third: {cmd: snakemake, outs: [{results/three.txt: {persist: true}}]}
"""
FILES = ("data/one/a", "results/two/b", "results/shine.yaml", "results/three.txt")
TIME_S = 1_500_000_000


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A folder with results of three stages, and without records of Snakemake."""
    for name in FILES:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "dvc.yaml").write_text(PIPELINE)
    (tmp_path / "dvc.lock").write_text("stages: {}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_STAGE", raising=False)
    return tmp_path


@pytest.fixture
def programs(monkeypatch):
    """What DVC and Snakemake print, in their place, and how they were called."""
    calls, answers = [], {"dvc": "{}", "snakemake": ""}

    def run(command, **_):
        [_, _, program, *arguments] = command
        calls.append((program, *arguments))
        failed = answers[program] is None
        return subprocess.CompletedProcess(command, failed, answers[program] or "", "it\nfailed\n")

    monkeypatch.setattr(pinned.subprocess, "run", run)
    return calls, answers


def order(folder: Path) -> list[str]:
    """The files that are there, oldest first."""
    paths = [folder / name for name in FILES if (folder / name).exists()]
    return [str(p.relative_to(folder)) for p in sorted(paths, key=lambda p: p.stat().st_mtime)]


def take_over(capsys) -> str:
    pinned.take_over("Snakefile", Path("results"))
    return capsys.readouterr().err


def test_pinned_files_are_put_in_the_order_of_the_flow(folder, programs, capsys):
    calls, _ = programs
    assert "taken over" in take_over(capsys)
    assert order(folder) == list(FILES)
    assert (folder / FILES[0]).stat().st_mtime > (folder / "dvc.lock").stat().st_mtime
    assert [call[0] for call in calls] == ["dvc", "snakemake"]
    assert {"--touch", "--forceall"} < set(calls[1])


def test_from_a_changed_stage_on_everything_is_made_again(folder, programs, capsys):
    calls, answers = programs
    answers["dvc"] = json.dumps({"second": [{"changed outs": {"results/two": "modified"}}]})
    printed = take_over(capsys)
    assert (
        "stage second has changed outs results/two: it and what follows are made again" in printed
    )
    # what is made from it is older: so it is made again, even after an interruption
    assert order(folder) == ["results/three.txt", "results/two/b", "data/one/a"]
    assert calls[1][:2] == ("snakemake", "one")


@pytest.mark.parametrize(
    "changes",
    [
        [{"changed deps": {"config/config.yaml": {"data": "modified"}}}],
        ["changed command"],
        [{"changed outs": {"data/one": "not in cache"}}],
    ],
)
def test_nothing_is_taken_over_after_a_change_at_the_beginning(folder, programs, capsys, changes):
    calls, answers = programs
    answers["dvc"] = json.dumps({"first": changes})
    assert "made again" in take_over(capsys)
    assert [call[0] for call in calls] == ["dvc"]
    assert order(folder) == ["results/three.txt", "results/two/b", "data/one/a"]


def test_missing_files_are_no_change(folder, programs, capsys):
    _, answers = programs
    answers["dvc"] = json.dumps({"first": [{"changed outs": {"data/one": "deleted"}}]})
    (folder / FILES[0]).unlink()
    assert "taken over" in take_over(capsys)


def test_started_by_dvc_only_the_stages_before_are_asked_for(folder, programs, capsys, monkeypatch):
    calls, _ = programs
    monkeypatch.setenv("DVC_STAGE", "second")
    assert "stage second has changed" in take_over(capsys)
    assert calls[0] == ("dvc", "status", "--json", "first")
    assert order(folder) == ["results/three.txt", "results/two/b", "data/one/a"]


@pytest.mark.parametrize("silent", ["dvc", "snakemake"])
def test_without_an_answer_everything_is_left_as_it_is(folder, programs, capsys, silent):
    _, answers = programs
    answers[silent] = None
    before = {name: (folder / name).stat().st_mtime_ns for name in FILES}
    assert f"`{silent} " in (printed := take_over(capsys))
    assert "failed (it failed): left as they are" in printed
    assert {name: (folder / name).stat().st_mtime_ns for name in FILES} == before


def test_without_dvc_everything_is_left_as_it_is(folder, programs, capsys, monkeypatch):
    calls, _ = programs
    monkeypatch.setattr(pinned, "find_spec", lambda name: None)
    before = {name: (folder / name).stat().st_mtime_ns for name in FILES}
    assert "not installed: left as they are" in take_over(capsys)
    assert {name: (folder / name).stat().st_mtime_ns for name in FILES} == before
    assert calls == []


@pytest.mark.parametrize("ordinary", ["records", "no lock", "no results"])
def test_in_the_ordinary_case_nobody_is_asked(folder, programs, capsys, ordinary):
    calls, _ = programs
    if ordinary == "records":
        (folder / ".snakemake" / "metadata").mkdir(parents=True)
        (folder / ".snakemake" / "metadata" / "ZGF0YQ==").touch()
    elif ordinary == "no lock":
        (folder / "dvc.lock").unlink()
    else:
        (folder / "data").rename(folder / "elsewhere")
        (folder / "results").rename(folder / "elsewhere" / "results")
    assert take_over(capsys) == ""
    assert calls == []
