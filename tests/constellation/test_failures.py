"""The list of failed sub-tiles: name, class of the failure, last message, log."""

from __future__ import annotations

import pytest

from constellation.failures import CLASSES, list_failures
from constellation.plan import SubTile
from shine import errors

DONE, FAILED, WAITING = (SubTile(11, 0, col) for col in range(3))


@pytest.fixture
def log(tmp_path):
    """The log of FAILED; DONE has a log and a result, WAITING has neither."""
    (logs := tmp_path / "logs" / "11").mkdir(parents=True)
    (results := tmp_path / "results" / "11").mkdir(parents=True)
    (logs / f"{DONE.stem}.log").write_text("an old error\nexit status 1\n")
    (results / f"{DONE.stem}.parquet").touch()
    return logs / f"{FAILED.stem}.log"


def failures(log):
    folder = log.parents[2]
    folders = (folder / name for name in ("results", "kept", "logs"))
    return list_failures([DONE, FAILED, WAITING], *folders)


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
    kept = log.parents[2] / "kept" / "11" / f"{FAILED.stem}.parquet"
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
