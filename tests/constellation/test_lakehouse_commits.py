"""Publishers at once: none loses anything, and of two with one tile, one wins it whole."""

from __future__ import annotations

import itertools

import pytest
from pyiceberg.exceptions import CommitStateUnknownException

from constellation.lakehouse import commits
from constellation.lakehouse.publication import Publication, publish
from constellation.lakehouse.tables import Lakehouse
from shine.errors import InputError

from .lake import (
    N_SOURCES,
    ROUNDS,
    assemble,
    configuration,
    makers,
    publish_side_by_side,
    publish_tiles,
)

THEIRS = ({1: 6}, {2: 6}, {1: 6, 3: 6})


@pytest.fixture
def iceberg(tmp_path) -> dict[str, dict[str, str]]:
    """Settings of a catalogue that several publishers share."""
    (tmp_path / "warehouse").mkdir()
    uri = f"sqlite:///{tmp_path / 'catalog.db'}?timeout=60"
    return {"catalog": {"type": "sql", "uri": uri, "warehouse": f"file://{tmp_path / 'warehouse'}"}}


@pytest.fixture
def two(tmp_path, iceberg) -> list[Lakehouse]:
    """The tables as two publishers see them."""
    return [Lakehouse.of(configuration(tmp_path / name, iceberg)) for name in "ab"]


def data_files(tmp_path) -> set[str]:
    return {path.name for path in (tmp_path / "warehouse").rglob("data/*.parquet")}


def used(lakehouse) -> set[str]:
    """Data files that some snapshot has."""
    found = set()
    for table in lakehouse.both.values():
        for snapshot in table.snapshots():
            tasks = table.scan(snapshot_id=snapshot.snapshot_id).plan_files()
            found |= {task.file.file_path.rpartition("/")[2] for task in tasks}
    return found


def test_concurrent_processes_lose_nothing(tmp_path, iceberg):
    publish_side_by_side(tmp_path, iceberg)
    lakehouse = Lakehouse.of(configuration(tmp_path, iceberg))
    found = makers(lakehouse)
    assert found.pop(7) in (10 * (ROUNDS - 1) + 1, 10 * (ROUNDS - 1) + 2)
    assert found == {100 * number + turn: number for number in (1, 2) for turn in range(ROUNDS)}
    assert data_files(tmp_path) == used(lakehouse)


class Interloper:
    """Publishes something else at a given commit of another publisher, just before it."""

    def __init__(self, monkeypatch, act, at: int) -> None:
        self.left, self.act = at, act
        self.original = commits.Committer._attempt

        def attempt(*args):
            return self.look(*args)

        monkeypatch.setattr(commits.Committer, "_attempt", attempt)

    def look(self, committer, *args):
        refresh = committer.table.refresh

        def and_then():
            """Commit in between: after the look at the table, before the commit."""
            found = refresh()
            self.left -= 1
            if self.left == 0:
                self.act()
            return found

        committer.table.refresh = and_then
        try:
            return self.original(committer, *args)
        finally:
            del committer.table.refresh


@pytest.mark.parametrize("case", list(itertools.product([1, 2], THEIRS, [{}, {1: 4, 2: 4}])))
def test_whoever_is_second_in_the_sources_wins_a_tile_whole(tmp_path, two, monkeypatch, case):
    """Somebody publishes while we commit to the sources (1) or to the shear (2)."""
    commit, theirs, first = case
    if first:
        publish_tiles(tmp_path / "a", two[0], first)
    ours = Publication.of(assemble(tmp_path / "a", {1: 5, 9: 5}))
    interloper = Interloper(
        monkeypatch, lambda: publish_tiles(tmp_path / "b", two[1], theirs), commit
    )
    assert publish(two[0], ours)
    assert interloper.left <= 0
    last = {1: 5, 9: 5}
    expected = first | theirs | last if commit == 1 else first | last | theirs
    assert makers(two[0]) == expected
    assert data_files(tmp_path) == used(two[0])


def test_a_commit_of_unknown_fate_is_looked_up(tmp_path, two, monkeypatch):
    catalog = two[0].catalog
    original, answers = catalog.commit_table, iter([True, False, True, False])

    def commit_table(*args, **options):
        arrives = next(answers, True)
        result = original(*args, **options) if arrives else None
        raise CommitStateUnknownException("no answer") if result else CommitStateUnknownException

    two[0].create("sources", Publication.of(assemble(tmp_path / "a", {1: 5})).source_columns)
    two[0].create("shear", Publication.of(tmp_path / "a" / "catalogue").shear.schema)
    monkeypatch.setattr(catalog, "commit_table", commit_table)
    assert publish_tiles(tmp_path / "a", two[0], {1: 5, 2: 6})
    assert makers(two[1]) == {1: 5, 2: 6}
    assert [len(table.snapshots()) for table in two[1].both.values()] == [1, 1]


def test_files_of_a_commit_without_an_answer_are_not_removed(tmp_path, two, monkeypatch):
    publish_tiles(tmp_path / "a", two[0], {1: 5})
    original = two[0].catalog.commit_table

    def commit_table(*args, **options):
        original(*args, **options)
        raise ConnectionError("the network is gone")

    with monkeypatch.context() as patch, pytest.raises(ConnectionError):
        patch.setattr(two[0].catalog, "commit_table", commit_table)
        publish_tiles(tmp_path / "a", two[0], {1: 6, 2: 6})
    assert two[1].read("sources")["FLUX"].to_pylist() == [6.0] * 2 * N_SOURCES
    assert publish_tiles(tmp_path / "a", two[0], {1: 6, 2: 6})
    assert makers(two[1]) == {1: 6, 2: 6}
    assert data_files(tmp_path) == used(two[1])


def test_a_table_that_lets_pyiceberg_repeat_commits_is_set_right(tmp_path, two, monkeypatch):
    """Blind repetition of an append would put a tile there twice."""
    publish_tiles(tmp_path / "a", two[0], {9: 1})
    for table in two[0].both.values():
        with table.transaction() as transaction:
            transaction.set_properties({"commit.retry.num-retries": "4"})
    Interloper(monkeypatch, lambda: publish_tiles(tmp_path / "b", two[1], {1: 6}), 1)
    publish_tiles(tmp_path / "a", two[0], {1: 5})
    assert makers(two[0]) == {1: 5, 9: 1}


def test_there_is_an_end_to_trying(tmp_path, two, monkeypatch):
    publish_tiles(tmp_path / "a", two[0], {1: 5})
    monkeypatch.setattr(commits, "_ATTEMPTS", 2)
    others = iter(range(10, 20))

    def again() -> None:
        publish_tiles(tmp_path / "b", two[1], {3: next(others)})
        interloper.left = 1  # at our next attempt too

    interloper = Interloper(monkeypatch, again, 1)
    with pytest.raises(InputError, match=r"2 commits of others.*Publish again"):
        publish_tiles(tmp_path / "a", two[0], {1: 6})
    assert makers(two[1]) == {1: 5, 3: 11}
    assert data_files(tmp_path) == used(two[1])
