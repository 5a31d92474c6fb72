"""Publication: nobody sees half a catalogue, and what has failed is in it by name."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pyarrow as pa
import pytest
from pyarrow import parquet

from constellation.catalogue import links
from constellation.catalogue.published import PublishedCatalogue
from constellation.catalogue.schema import EDITION
from constellation.cli import main
from constellation.plan import SubTile
from shine.errors import InputError, Kind

from .fake_results import Result
from .fake_run import FakeRun

FIRST, SECOND, THIRD, FOURTH = (SubTile(tile, 0, col) for tile in (11, 12) for col in (0, 1))


@pytest.fixture
def run(tmp_path) -> FakeRun:
    return FakeRun.create(tmp_path)


def remove(run: FakeRun, subtile: SubTile) -> None:
    for suffix in (".parquet", "_sources.parquet"):
        (run.subtiles(subtile.tile_id) / f"{subtile.stem}{suffix}").unlink()


def test_what_has_failed_is_listed_with_its_class(run, capsys):
    for subtile in (FIRST, SECOND, THIRD):
        remove(run, subtile)
    first = run.log(FIRST, "INFO reading\nerror: frame.fits: truncated\nexit status 3\n")
    second = run.log(SECOND, "INFO reading\n")
    config = str(run.folder / "config.yaml")
    assert main(["assemble", "--config", config]) == 3
    assert "no result for 3 of 4 planned sub-tiles: 11_0_0 (log: " in capsys.readouterr().err
    assert not (run.results / "catalogue").exists()
    assert main(["assemble", "--config", config, "--allow-failed"]) == 0
    assert "failures.parquet: 3 sub-tiles failed" in capsys.readouterr().out
    rows = run.published.failures.to_pylist()
    assert [(row["TILE_ID"], row["SUBTILE_ROW"], row["SUBTILE_COL"]) for row in rows] == [
        (11, 0, 0),
        (11, 0, 1),
        (12, 0, 0),
    ]
    assert [row["CLASS"] for row in rows] == [
        "bad or missing input",
        "interrupted",
        "not attempted",
    ]
    assert [row["MESSAGE"] for row in rows] == ["error: frame.fits: truncated", None, None]
    assert [row["LOG"] for row in rows[:2]] == [str(first), str(second)]
    assert run.published.shear.num_rows == 1 and run.published.sources().num_rows == 2
    assert run.published.files["N_ROWS"].to_pylist() == [0, 2]
    assert run.published.files["RADIUS"].to_pylist()[0] is None
    assert run.published.cone(*run.middle(FOURTH), 0.1).num_rows == 2


def test_what_has_failed_once_is_there_when_it_is_done(run):
    remove(run, THIRD)
    run.assemble(allow_failed=True)
    with pytest.raises(InputError, match="no result for 1 of 4"):
        run.assemble()
    assert run.published.failures.num_rows == 1  # of the catalogue before
    run.write(THIRD)
    assert "1 of them made anew" in run.assemble()[0]
    assert run.published.failures.num_rows == 0 and run.published.shear.num_rows == 4


def test_nothing_at_all_is_no_catalogue(run):
    for subtile in (FIRST, SECOND, THIRD, FOURTH):
        remove(run, subtile)
    with pytest.raises(InputError, match="no result at all"):
        run.assemble(allow_failed=True)


def publish(run: FakeRun, *more: str) -> int:
    folders = [f"--{name}={run.results / name}" for name in ("tiles", "logs")]
    receipt = ["--receipt", str(run.results / "catalogue.json")]
    places = [*folders, *receipt, "--output", str(run.results / "catalogue")]
    return main(["merge-tiles", "--tiling", str(run.folder / "config.yaml"), *places, *more])


def test_tiles_of_another_plan_are_refused(run, capsys):
    run.assemble()
    config = (run.folder / "config.yaml").read_text()
    before = run.files("catalogue")
    run.plan([11, 12], sub_tile_grid=[1, 1])
    assert publish(run) == 3
    assert "0 sub-tiles missing, 2 that are not planned or twice there (also 11_0_1, also " in (
        capsys.readouterr().err
    )
    run.plan([11, 12], sub_tile_grid=[1, 3])
    assert publish(run) == 3
    assert "2 sub-tiles missing, 0 that are not planned or twice there (no 11_0_2, no " in (
        capsys.readouterr().err
    )
    run.plan([11, 12, 13])
    assert publish(run) == 3
    assert "13.parquet: found no readable table" in capsys.readouterr().err
    (run.folder / "config.yaml").write_text(config)
    assert run.files("catalogue") == before


def test_a_sub_tile_that_is_twice_in_a_tile_is_refused(run, capsys):
    run.assemble()
    path = run.results / "tiles/11.parquet"
    table = parquet.read_table(path)
    path.unlink()
    parquet.write_table(pa.concat_tables([table, table.slice(0, 1)]), path)
    assert publish(run) == 3
    assert "0 sub-tiles missing, 1 that are not planned or twice there" in capsys.readouterr().err


def test_tiles_files_that_are_not_of_one_run_are_refused(run, capsys):
    run.assemble()
    tiles = run.results / "tiles"
    content = (tiles / "11_sources.parquet").read_bytes()
    (tiles / "12_sources.parquet").unlink()
    (tiles / "12_sources.parquet").write_bytes(content)
    assert publish(run) == 3
    assert "12_sources.parquet: found other sources, expected those that 12.parquet" in (
        capsys.readouterr().err
    )
    (tiles / "12.parquet").unlink()
    shear = parquet.read_table(tiles / "11.parquet").drop_columns("HEALPIX")
    parquet.write_table(shear, tiles / "12.parquet")
    assert publish(run) == 3
    assert "12.parquet, column HEALPIX: found no such column" in capsys.readouterr().err


@pytest.mark.parametrize("exchange", [True, False])
def test_a_reader_never_sees_half_a_catalogue(run, monkeypatch, exchange):
    """Each publication has its own number as the id of its sources, and in each of its tables."""
    if not exchange:
        monkeypatch.setattr(links, "_exchange", lambda one, other: False)
    numbers = iter(range(1, 100))

    def publish_next() -> None:
        number = next(numbers)
        for tile, subtile in ((11, FIRST), (12, THIRD)):
            ids = {1000 * number + tile: Kind.GALAXY}
            run.write(subtile, Result(subtile, ids, provenance={"seed": number}))
        for subtile in (SECOND, FOURTH):
            run.write(subtile, Result(subtile, provenance={"seed": number}))
        run.assemble()

    publish_next()
    seen, wrong, done = set(), [], threading.Event()

    def read() -> None:
        while not done.is_set():
            try:
                catalogue = PublishedCatalogue(run.results / "catalogue")
                seeds = set(catalogue.shear["SEED"].to_pylist())
                ids = catalogue.sources()["OBJECT_ID"].to_pylist()
                failures = catalogue.failures.num_rows
            except InputError:
                continue  # it was replaced meanwhile
            numbers_seen = {object_id // 1000 for object_id in ids}
            if len(ids) != 2 or failures or numbers_seen != seeds or len(seeds) != 1:
                wrong.append((seeds, ids, failures))
            seen.update(seeds)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    try:
        for _ in range(30):
            publish_next()
    finally:
        done.set()
        for reader in readers:
            reader.join()
    assert wrong == []
    assert len(seen) > 3


def test_tables_of_two_editions_are_not_mixed(run):
    run.assemble()
    catalogue = run.published
    assert catalogue.shear.num_rows == 4
    run.write(FIRST, Result(FIRST, {5: Kind.GALAXY}))
    run.assemble()
    with pytest.raises(InputError, match="newer edition than that of the tables read before"):
        catalogue.sources()
    editions = {
        parquet.read_schema(run.results / f"catalogue/{name}.parquet").metadata[EDITION.encode()]
        for name in ("shear", "files", "failures")
    }
    assert len(editions) == 1


KILLED = """
import os, signal, sys
from constellation.catalogue import links, publish
from constellation.cli import main
where = sys.argv[1]
def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
if where == "before":
    publish.replace_folder = die
elif where == "between":
    links._exchange = lambda one, other: False
    rename, links.Path.rename = links.Path.rename, lambda path, target: (
        rename(path, target) if not path.name.endswith(".new") else die()
    )
else:
    links.shutil.rmtree, publish.shutil.rmtree = die, publish.shutil.rmtree
sys.exit(main(["assemble", "--config", sys.argv[2]]))
"""


@pytest.mark.parametrize("where", ["before", "between"])
def test_a_killed_publication_leaves_the_old_catalogue_and_the_next_repairs(run, where):
    run.assemble()
    before = run.files("catalogue")
    run.write(FIRST, Result(FIRST, {5: Kind.GALAXY}))
    command = [sys.executable, "-c", KILLED, where, str(run.folder / "config.yaml")]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    if where == "between":  # the one moment without a catalogue, where folders cannot be exchanged
        assert not (run.results / "catalogue").exists()
        links.repair(run.results / "catalogue")
    assert run.files("catalogue") == before
    run.assemble()
    assert 5 in run.published.sources()["OBJECT_ID"].to_pylist()
    hidden = [path.name for path in run.results.iterdir() if path.name.startswith(".")]
    assert hidden == []


def test_two_publications_at_a_time_wait_for_one_another(run):
    run.assemble()
    command = [sys.executable, "-m", "constellation.cli"]
    script = "import sys; from constellation.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", script, "assemble", "--config", f"{run.folder}/config.yaml"]
    both = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for process in both:
        _, told = process.communicate()
        assert process.returncode == 0, told
    assert run.published.sources().num_rows == 8


def test_files_are_copied_where_there_are_no_hard_links(run, monkeypatch):
    def refuse(*_):
        raise PermissionError("no links here")

    run.assemble()
    before = run.files("catalogue")
    monkeypatch.setattr(os, "link", refuse)
    for path in (run.results / "tiles").iterdir():
        path.unlink()
    run.assemble()
    assert run.files("catalogue") == before
    assert {path.stat().st_nlink for path in (run.results / "tiles").iterdir()} == {1}
