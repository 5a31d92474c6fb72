"""The times and memory of all runs as one table."""

import json

import pytest

from constellation.measurements import SCHEMA, collect_measurements
from constellation.plan import SubTile
from shine.errors import InputError

from .fake_results import MEASUREMENTS, Result

SUBTILES = [SubTile(11, 0, 0), SubTile(11, 0, 1)]
BENCHMARK = "s\th:m:s\tmax_rss\n{}\t0:00:14\t30.0\n"


@pytest.fixture
def folder(tmp_path):
    for n, subtile in enumerate(SUBTILES):
        Result(subtile).write(tmp_path / "11")
        (tmp_path / "11" / f"{subtile.stem}.tsv").write_text(BENCHMARK.format(14.0 + n))
    return tmp_path


def test_each_sub_tile_has_a_row(folder):
    table = collect_measurements(SUBTILES, folder, folder)
    assert table.schema == SCHEMA
    measured = {name.upper(): value for name, value in MEASUREMENTS.items()}
    assert table.to_pylist() == [
        {"TILE_ID": 11, "SUBTILE_ROW": 0, "SUBTILE_COL": 0, "JOB_S": 14.0} | measured,
        {"TILE_ID": 11, "SUBTILE_ROW": 0, "SUBTILE_COL": 1, "JOB_S": 15.0} | measured,
    ]


@pytest.mark.parametrize("text", ["no JSON", "{}", json.dumps({"measurements": {"total_s": None}})])
def test_a_bad_run_record_is_named(folder, text):
    (record := folder / "11" / "11_0_1.run.json").write_text(text)
    with pytest.raises(InputError, match=f"{record}: "):
        collect_measurements(SUBTILES, folder, folder)


@pytest.mark.parametrize("text", ["", "s\n", "s\nlong\n", "seconds\n3\n"])
def test_a_bad_benchmark_is_named(folder, text):
    (benchmark := folder / "11" / "11_0_0.tsv").write_text(text)
    with pytest.raises(InputError, match=f"{benchmark}: found "):
        collect_measurements(SUBTILES, folder, folder)
    benchmark.unlink()
    with pytest.raises(InputError, match=f"{benchmark}: found FileNotFoundError"):
        collect_measurements(SUBTILES, folder, folder)
