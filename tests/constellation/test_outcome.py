"""What a run tells at its end: the failed sub-tiles by class, message and log; the summary."""

from __future__ import annotations

from pathlib import Path

import pytest

from constellation import outcome
from constellation.outcome import (
    CLASSES,
    Results,
    describe_failure,
    describe_success,
    list_failures,
    tell,
)
from constellation.plan import SubTile
from shine import errors

DONE, FAILED, WAITING = (SubTile(11, 0, col) for col in range(3))


@pytest.fixture
def log(tmp_path):
    """The log of FAILED; DONE has a log and a result, WAITING has neither."""
    (logs := tmp_path / "logs" / "subtiles" / "11").mkdir(parents=True)
    (results := tmp_path / "subtiles" / "11").mkdir(parents=True)
    (logs / f"{DONE.stem}.log").write_text("an old error\nexit status 1\n")
    (results / f"{DONE.stem}.parquet").touch()
    return logs / f"{FAILED.stem}.log"


def failures(log):
    return list_failures([DONE, FAILED, WAITING], Results(str(log.parents[3])))


def test_only_what_was_attempted_and_has_no_result_is_listed(log):
    assert failures(log) == []
    log.write_text("error: frame.fits: truncated\nexit status 3\n")
    [line] = failures(log)
    message = "bad or missing input: error: frame.fits: truncated"
    assert line == f"{FAILED.stem}: {message}; log: {log}"


@pytest.mark.parametrize(
    ("status", "what"),
    [
        (1, "error, exit status 1"),
        (2, "bad configuration"),
        (3, "bad or missing input"),
        (5, "out of memory"),
        (130, "interrupted"),
        (137, "killed, probably out of memory"),
        (139, "error, exit status 139"),
        (143, "terminated"),
    ],
)
def test_each_exit_status_has_its_class(log, status, what):
    log.write_text(f"some warning\n\nthe last message\n\nexit status {status}\n")
    assert failures(log) == [f"{FAILED.stem}: {what}: the last message; log: {log}"]
    log.write_text(f"exit status {status}\n")
    assert failures(log) == [f"{FAILED.stem}: {what}; log: {log}"]


def test_a_result_that_snakemake_removed_and_shine_kept_is_no_failure(log):
    kept = log.parents[3] / "kept" / "11" / f"{FAILED.stem}.parquet"
    kept.parent.mkdir(parents=True)
    kept.touch()
    log.write_text("g1 = 0.01\n")
    assert failures(log) == []
    log.write_text("error: frame.fits: truncated\nexit status 3\n")  # kept from before
    assert len(failures(log)) == 1


@pytest.mark.parametrize("text", ["", "\n", "a warning\n", "exit status 3\nand more\n"])
def test_a_log_without_an_exit_status_was_interrupted(log, text):
    log.write_text(text)
    assert failures(log) == [f"{FAILED.stem}: interrupted; log: {log}"]


def test_a_log_that_is_no_text_is_no_failure_of_the_report(log):
    log.write_bytes(b"\xff\xfe\nexit status 1\n")
    [line] = failures(log)
    assert line.startswith(f"{FAILED.stem}: error, exit status 1: ")


def test_the_classes_are_those_of_shines_exit_codes():
    for error in (errors.ConfigurationError, errors.InputError, errors.MemoryExhaustedError):
        assert error.exit_code in CLASSES
    assert errors.INTERRUPTED_EXIT_CODE in CLASSES
    assert errors.ConvergenceError.exit_code not in CLASSES  # such a sub-tile has its result


def test_nothing_is_said_of_what_was_not_asked_for(tmp_path):
    results = Results.of(tmp_path, None)
    assert describe_success(results) == describe_failure(results, [WAITING]) == []


def test_what_cannot_be_told_is_no_traceback(capsys, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    tell(describe_success, Results("s3://bucket/results"))
    assert capsys.readouterr().out.startswith("No report of this run: s3://bucket/results/")


def test_in_s3_the_report_is_that_of_the_same_files_on_disk(log, s3, monkeypatch):
    log.write_text("error: frame.fits: truncated\nexit status 3\n")
    folder = log.parents[3]
    (folder / "summary").mkdir()
    (folder / "summary" / "summary.txt").write_text("a table\n")
    s3.upload(folder, "run/results")
    s3.use(monkeypatch)
    here = Results.of(folder, None)
    there = Results.of(Path("results"), f"{s3.uri('run')}/")
    for report in (describe_success, lambda place: describe_failure(place, [DONE, FAILED])):
        lines = report(there)
        assert len(lines) > 2
        assert lines == [line.replace(here.folder, there.folder) for line in report(here)]


TABLE = """check   value  outcome
ranges  3      failed

1 of 2 checks failed, 1 of them in quality.stop_on
failed: ranges: values that cannot be: 3 (limit: 0); E2 beyond
"""


def test_failed_quality_checks_are_told_at_the_end(tmp_path):
    results = outcome.Results.of(tmp_path, None)
    assert outcome.describe_failure(results, []) == []
    (tmp_path / "quality").mkdir()
    (tmp_path / "quality" / "checks.txt").write_text(TABLE)
    told = outcome.describe_failure(results, [])
    assert told[1] == "  ranges: values that cannot be: 3 (limit: 0); E2 beyond"
    assert told[2] == f"all checks: {tmp_path}/quality/checks.txt\n"
    (tmp_path / "quality" / "passed").touch()
    assert outcome.describe_failure(results, []) == []  # it was something else that failed
    (tmp_path / "summary").mkdir()
    (tmp_path / "summary" / "summary.txt").write_text("summary")
    assert told[1] in outcome.describe_success(results)
    (tmp_path / "quality" / "checks.txt").write_text("none of 2 checks failed\n")
    assert told[1] not in outcome.describe_success(results)
    assert len(outcome.describe_success(results)) == 5
