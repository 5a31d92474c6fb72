"""Where a made-up campaign stands: each class of sub-tile, the rate, and what tells them."""

from __future__ import annotations

import base64
import os
import sqlite3
import time
from pathlib import Path

import pytest

from constellation.campaign_files import Planned
from constellation.catalogue.kept_tiles import Folders, assemble_tiles
from constellation.catalogue.publish import Target, publish
from constellation.config import Area, TilingConfig
from constellation.plan import Plan, SubTile
from constellation.snakemake_records import SnakemakeRecords
from constellation.status import DOUBTFUL, State
from constellation.status_report import ADVICE, OTHER_ADVICE, format_status
from shine.errors import Kind, Status

from ..fake_results import SHEAR, Result, place
from .campaign import (
    AGAIN,
    BAD,
    BROKEN,
    CELLS,
    DONE,
    KEPT,
    OLD,
    QUEUED,
    RUNNING,
    VAGUE,
    WAITING,
    told,
)

HOUR_S = 3600.0


def test_each_sub_tile_is_what_its_files_say(running):
    found = running.look()
    expected = {
        DONE: State.DONE,
        VAGUE: State.NOT_CONVERGED,
        RUNNING: State.RUNNING,
        QUEUED: State.PENDING,
        BROKEN: State.FAILED,
        KEPT: State.PENDING,
        OLD: State.FAILED,
        WAITING: State.PENDING,
        AGAIN: State.PENDING,  # its log is that of the attempt before
    }
    assert {subtile: running.state(found, subtile) for subtile in expected} == expected
    assert {what: one.count for what, one in found.failures.items()} == {
        "bad or missing input": 1,
        "interrupted": 1,
    }
    assert (found.n_done, found.n_looked, found.n_submitted, found.n_kept) == (2, 2, 2, 1)
    assert found.n_ahead == 16 - 2 - 2


def test_without_a_lock_nothing_is_said_to_run(running):
    Path(".snakemake/locks/0.output.lock").unlink()
    found = running.look()
    assert not found.locked and found.expected_end_s is None
    assert running.state(found, RUNNING) is State.FAILED
    assert {what: one.count for what, one in found.failures.items()} == {
        "bad or missing input": 1,
        "killed, probably out of memory": 1,
        "interrupted": 1,
        DOUBTFUL: 1,
    }
    assert "no run is known here" in format_status(found, "title")


def test_the_lock_of_another_campaign_says_nothing_of_this_one(running):
    running.lock("elsewhere/subtiles/11/11_0_0.parquet", "outside.txt")
    assert not running.look().locked


def test_of_each_class_the_latest_three_logs_are_told(campaign):
    logs = [
        campaign.log(SubTile(11, *cell), f"error {n}\nexit status 5\n", age_s=1000.0 - 100.0 * n)
        for n, cell in enumerate(CELLS)
    ]
    lively = campaign.log(AGAIN, "no end", age_s=10.0)
    found = campaign.look()
    memory = found.failures["out of memory"]
    assert memory.count == 8
    assert [log for _, log, _ in memory.latest] == logs[:-4:-1]
    assert [message for _, _, message in memory.latest] == ["error 7", "error 6", "error 5"]
    printed = format_status(found, "title")
    assert [log for log in [*logs, lively] if log in printed] == [*logs[-3:], lively]
    assert "raise compute.mem_mb" in printed


def test_more_logs_than_are_opened_are_counted_and_said(campaign):
    for n, cell in enumerate(CELLS):
        campaign.log(SubTile(11, *cell), "exit status 2\n", age_s=100.0 * n)
    found = campaign.look(most_files=3)
    counts = {what: one.count for what, one in found.failures.items()}
    assert counts == {"bad configuration": 3, "not looked at": 5}
    assert found.count(State.FAILED) == 8


def test_only_the_end_of_a_log_is_read(campaign):
    campaign.log(BROKEN, "exit status 2\n" + "x" * 100_000 + "\nthe message\nexit status 3\n")
    [(what, failures)] = campaign.look().failures.items()
    assert what == "bad or missing input"
    assert failures.latest[0][2] == "the message"


@pytest.mark.parametrize("catalogue", ["none", "tile", "merged", "stale", "damaged"])
def test_convergence_is_that_of_whichever_file_is_there(campaign, catalogue):
    results = [SubTile(tile, *cell) for tile in (11, 12) for cell in CELLS]
    for n, subtile in enumerate(results):
        shear = BAD if n in (3, 12) else None
        kinds = {n: Kind.GALAXY}
        result = Result(subtile, kinds, shear or SHEAR | {"status": Status.OK})
        place(campaign.plan, result).write(Path(f"out/subtiles/{subtile.tile_id}"))
    if catalogue != "none":
        folders = Folders.of(Path("out"))
        assemble_tiles(campaign.plan, folders)
    if catalogue == "merged":
        publish(campaign.plan, folders.tiles, Target.of(Path("out")))
        for path in folders.tiles.iterdir():
            path.unlink()
    if catalogue == "stale":  # made when all had converged
        path = Result(results[4], {4: Kind.GALAXY}, BAD).write(Path("out/subtiles/11"))
        for changed in (path, path.parent):
            os.utime(changed, (0, time.time() + 10.0))
    if catalogue == "damaged":
        Path("out/tiles/11.parquet").write_text("nothing")
    found = campaign.look()
    bad = [subtile for subtile in results if campaign.state(found, subtile) == State.NOT_CONVERGED]
    # what cannot be read is not guessed at
    expected = {"stale": [3, 4, 12], "damaged": [12]}.get(catalogue, [3, 12])
    assert bad == [results[n] for n in expected]
    assert found.n_looked == (8 if catalogue == "damaged" else 16)


def test_few_files_are_opened_per_look_and_all_in_the_end(campaign):
    for cell in CELLS:
        campaign.done(SubTile(11, *cell), shear=BAD)
    watch = campaign.watch(most_files=3)
    looked = [watch.look(campaign.now_s) for _ in range(4)]
    assert [found.n_looked for found in looked] == [3, 6, 8, 8]
    assert [found.count(State.NOT_CONVERGED) for found in looked] == [3, 6, 8, 8]
    assert "not converged: 3 of 3 looked at (37.5%)" in format_status(looked[0], "title")
    assert "not converged: 8\n" in format_status(looked[-1], "title")


def test_a_result_that_is_made_again_is_looked_at_again(campaign):
    campaign.done(DONE, shear=BAD)
    watch = campaign.watch()
    assert watch.look(campaign.now_s).count(State.NOT_CONVERGED) == 1
    campaign.done(DONE, age_s=30.0)
    assert watch.look(campaign.now_s).count(State.NOT_CONVERGED) == 0


def test_the_rate_is_that_of_the_last_hour_and_tells_the_end(campaign):
    campaign.lock("out/x")
    for n, cell in enumerate(CELLS[:6]):  # one every ten minutes, the last one just now
        campaign.done(SubTile(11, *cell), age_s=600.0 * n)
    campaign.done(SubTile(11, *CELLS[6]), age_s=2 * HOUR_S)
    os.utime("out/subtiles/11", (0, campaign.now_s))
    found = campaign.look()
    assert found.per_hour == pytest.approx(6.0)
    assert found.expected_end_s == pytest.approx(campaign.now_s + 9 / 6.0 * HOUR_S)


def test_a_short_run_is_not_measured_by_a_whole_hour(campaign):
    for n, cell in enumerate(CELLS[:3]):
        campaign.done(SubTile(11, *cell), age_s=60.0 * n)
    os.utime("out/subtiles/11", (0, campaign.now_s))
    assert campaign.look().per_hour == pytest.approx(60.0)


def test_nothing_finished_gives_no_rate(campaign):
    campaign.done(DONE, age_s=2 * HOUR_S)
    found = campaign.look()
    assert found.per_hour is None
    assert "nothing finished within the last hour" in format_status(found, "title")


@pytest.mark.parametrize("area", [None, Area(ra=10.25, dec=0, width_arcmin=20, height_arcmin=40)])
def test_the_sub_tiles_are_those_of_the_plan(campaign, area):
    tiling = TilingConfig(tiles="tiles.csv", sub_tile_grid=[2, 4], area=area)
    plan = Plan.from_config(tiling)
    planned = Planned.of(plan)
    names = [planned.name(place) for place in range(planned.first[-1])]
    assert names == [f"{subtile.tile_id}/{subtile.stem}" for subtile in plan.subtiles]
    assert [planned.place(s.stem) for s in plan.subtiles] == list(range(len(names)))
    assert (area is None) == (len(names) == 16)


@pytest.mark.parametrize("stem", ["11_2_0", "11_0_4", "13_0_0", "10_0_0", "11_0", "11_0_x", ""])
def test_other_names_have_no_place(campaign, stem):
    assert campaign.planned.place(stem) is None


def test_records_in_sqlite_are_read_too(campaign):
    folder = Path(".snakemake")
    folder.mkdir()
    campaign.log(RUNNING, "INFO reading\n")
    campaign.log(OLD, "INFO reading\n", age_s=5000.0)
    assert not campaign.look().locked
    with sqlite3.connect(folder / "metadata.db") as base:
        base.execute("CREATE TABLE snakemake_locks (namespace, file_path, lock_type)")
        base.execute("CREATE TABLE snakemake_metadata (namespace, target, incomplete)")
        space = str(folder.absolute())
        lock = (space, f"out/subtiles/11/{DONE.stem}.parquet", "output")
        base.execute("INSERT INTO snakemake_locks VALUES (?, ?, ?)", lock)
        for subtile, mark in ((RUNNING, 1), (OLD, 0)):
            target = f"out/subtiles/11/{subtile.stem}.parquet"
            base.execute("INSERT INTO snakemake_metadata VALUES (?, ?, ?)", (space, target, mark))
    base.close()
    found = campaign.look()
    assert found.locked
    assert campaign.state(found, RUNNING) is State.RUNNING
    assert campaign.state(found, OLD) is State.FAILED


def test_the_lock_of_a_run_that_stores_in_s3_names_its_local_copies(campaign):
    campaign.lock(".snakemake/storage/s3/bucket/run/out/subtiles/11/11_0_0.parquet")
    records = SnakemakeRecords(Path(".snakemake"))
    assert records.is_locked("s3://bucket/run/out")
    assert not records.is_locked("s3://bucket/other/out")
    assert not records.is_locked("bucket/run/out")


def test_a_long_name_is_cut_into_folders_by_snakemake(tmp_path):
    name = "out/" + "x" * 400 + ".parquet"
    code = base64.urlsafe_b64encode(name.encode()).decode()
    parts = [code[n : n + 254] for n in range(0, len(code), 254)]
    path = tmp_path.joinpath("incomplete", *(f"@{part}" for part in parts[:-1]), parts[-1])
    path.parent.mkdir(parents=True)
    path.touch()
    (tmp_path / "incomplete" / "x").touch()  # some other file
    assert SnakemakeRecords(tmp_path).all_marked() == {name}


def test_every_class_comes_with_advice():
    from constellation.outcome import CLASSES

    assert set(CLASSES.values()) <= set(ADVICE)
    assert "traceback" in OTHER_ADVICE


def test_a_campaign_that_has_not_begun_is_pending(campaign):
    found = campaign.look()
    assert found.count(State.PENDING) == 16 and not found.failures
    assert "pending 16 100.0%" in told(format_status(found, "title"))


def test_results_in_s3_are_listed(running, s3, monkeypatch):
    s3.upload(Path("out"), "run/out")
    s3.use(monkeypatch)
    Path(".snakemake/locks/0.output.lock").unlink()
    found = running.look(folder=f"{s3.uri('run')}/out")
    assert (found.n_done, found.n_looked, found.per_hour) == (2, 0, None)
    # without times, a log without an exit status is an interrupted one; `kept` is not in a store
    assert {what: one.count for what, one in found.failures.items()} == {
        "bad or missing input": 1,
        "killed, probably out of memory": 1,
        "interrupted": 3,
    }
