"""Commands that share a process: what they do is the same, and whatever ends them loses nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shine.euclid import worker
from shine.results import read_shear

from .subtile import Sky, SubTile, draw_frame, wcs_header

PATIENCE_S = 300


@pytest.fixture(scope="module")
def sky():
    return Sky()


@pytest.fixture
def subtile(tmp_path, sky):
    return SubTile(tmp_path, sky, [draw_frame(sky, wcs_header(roll_deg=0.0))])


@pytest.fixture
def owner():
    """A process that commands name as their owner."""
    with subprocess.Popen(["sleep", "1000"]) as process:
        yield process
        process.kill()


@pytest.fixture(autouse=True)
def sockets(tmp_path_factory, monkeypatch):
    """A folder for sockets; its long name must not matter."""
    folder = tmp_path_factory.mktemp("sockets" + 100 * "x")
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


def start(subtile: SubTile, output: str, *flags: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "shine.euclid.run", "--manifest", str(subtile.manifest)]
    command += ["--config", str(subtile.config), "--output", output, "--verbose", *flags]
    return subprocess.Popen(
        command, cwd=subtile.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    with process:
        printed, told = process.communicate(timeout=PATIENCE_S)
    return process.returncode, printed, told


def keep_alive(owner: subprocess.Popen) -> tuple[str, str]:
    return "--keep-alive", str(owner.pid)


def workers(owner: subprocess.Popen) -> list[int]:
    """Processes that were started to live as long as the owner."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:  # it has just ended
            continue
        if b"shine.euclid.worker" in words and words[-2] == str(owner.pid).encode():
            found.append(int(path.parent.name))
    return found


def wait_until(condition) -> None:
    give_up = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.02)


def record(folder: Path) -> dict:
    return json.loads(next(folder.glob("*.run.json")).read_text())


def test_two_commands_share_a_process_and_get_what_one_would(subtile, owner):
    alone = finish(start(subtile, "alone"))
    first = finish(start(subtile, "first", *keep_alive(owner)))
    [worker] = workers(owner)
    second = finish(start(subtile, "second", *keep_alive(owner)))
    assert workers(owner) == [worker]
    for answer, name in ((alone, "alone"), (first, "first"), (second, "second")):
        status, printed, told = answer
        assert status == 0
        [result] = (subtile.folder / name).glob("*[0-9].parquet")
        assert printed == f"{name}/{result.name}\n"  # into the command's own streams
        assert f"{name}/{result.name}: g1 = " in told
        for path in (subtile.folder / "alone").glob("*.parquet"):
            assert (subtile.folder / name / path.name).read_bytes() == path.read_bytes()
    owner.kill()
    wait_until(lambda: not workers(owner))


def test_commands_at_the_same_time_have_a_process_each(subtile, owner):
    processes = [start(subtile, name, *keep_alive(owner)) for name in ("a", "b")]
    wait_until(lambda: len(workers(owner)) == 2)
    assert [finish(process)[0] for process in processes] == [0, 0]


def test_an_error_is_told_and_the_process_goes_on(subtile, owner):
    intact = subtile.manifest.read_bytes()
    subtile.manifest.write_text("tile_id: unknown\n")
    status, _, told = finish(start(subtile, "out", *keep_alive(owner)))
    assert status == 3
    assert "not a valid manifest" in told
    [worker] = workers(owner)
    subtile.manifest.write_bytes(intact)
    assert finish(start(subtile, "out", *keep_alive(owner)))[0] == 0
    assert workers(owner) == [worker]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_the_work_ends_with_its_command(subtile, owner, number):
    process = start(subtile, "out", *keep_alive(owner))
    assert process.stderr.readline()  # a worker without work would wait for the next command
    process.send_signal(number)
    status, _, _ = finish(process)
    assert status == (130 if number == signal.SIGINT else -number)
    wait_until(lambda: not workers(owner))
    assert not list(subtile.folder.glob("out/*"))
    assert finish(start(subtile, "out", *keep_alive(owner)))[0] == 0


def test_the_command_ends_with_its_worker(subtile, owner):
    process = start(subtile, "out", *keep_alive(owner))
    wait_until(lambda: workers(owner))
    os.kill(workers(owner)[0], signal.SIGKILL)
    status, _, told = finish(process)
    assert status == 137
    assert "was killed" in told
    assert finish(start(subtile, "out", *keep_alive(owner)))[0] == 0


def test_a_worker_that_ends_before_it_has_the_request_was_killed(owner, monkeypatch, capsys):
    monkeypatch.setattr(worker, "_start", lambda *_: None)  # its socket closes, as if it had ended
    assert worker.delegate(["--help"], owner.pid) == 137
    assert "was killed" in capsys.readouterr().err


def test_the_work_ends_with_the_owner(subtile, owner):
    process = start(subtile, "out", *keep_alive(owner))
    wait_until(lambda: workers(owner))
    owner.kill()
    assert finish(process)[0] == 137
    wait_until(lambda: not workers(owner))


def test_without_an_owner_the_command_works_alone(subtile, owner):
    owner.kill()
    owner.wait()
    status, _, told = finish(start(subtile, "out", *keep_alive(owner)))
    assert status == 0
    assert f"no process can be kept alive for {owner.pid}" in told


def test_a_folder_that_others_can_write_to_is_refused(subtile, owner, sockets):
    (sockets / f"shine-{os.getuid()}").mkdir(mode=0o777)
    (sockets / f"shine-{os.getuid()}").chmod(0o777)
    status, _, told = finish(start(subtile, "out", *keep_alive(owner)))
    assert status == 2
    assert "found a folder that others can write to" in told


def test_an_unchanged_sub_tile_is_kept_without_reading_a_pixel(subtile, owner):
    assert finish(start(subtile, "out", *keep_alive(owner)))[0] == 0
    before = record(subtile.folder / "out")
    [shear] = (subtile.folder / "out").glob("*[0-9].parquet")
    read_shear(shear)
    status, _, told = finish(start(subtile, "out", *keep_alive(owner)))
    assert status == 0
    assert "result kept" in told
    assert "masked pixels" not in told  # said of each quadrant that is read
    assert record(subtile.folder / "out") == before
    os.utime(next(subtile.folder.glob("exposure0/*")))
    status, _, told = finish(start(subtile, "out", *keep_alive(owner)))
    assert "masked pixels" in told and "result kept" in told  # the same content in a newer file
    after = record(subtile.folder / "out")
    assert after["measurements"] == before["measurements"]
    assert after["input_versions"] != before["input_versions"]
    status, _, told = finish(start(subtile, "out", *keep_alive(owner)))
    assert "masked pixels" not in told
