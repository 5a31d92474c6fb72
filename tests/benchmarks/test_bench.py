"""The benchmark runs from end to end; how fast, a test that shares its machine cannot say."""

import json

from tests.benchmarks import bench, survey
from tests.benchmarks.bench_report import table

TIMES = {"load_s", "compile_s", "solve_s", "total_s", "wall_s", "peak_rss_mb", "per_source_ms"}


def test_smoke_run_measures_everything(tmp_path):
    found = bench.run(survey.smoke(), tmp_path)
    assert json.loads((tmp_path / "bench.json").read_text()) == found
    assert (tmp_path / "bench.png").stat().st_size > 0
    parts = {"machine", "survey", "runs", "loading", "scaling", "gradient", "classic"}
    assert parts == set(found)
    runs = {(run["method"], run["cache"]) for run in found["runs"]}
    assert runs == {("map", "cold"), ("map", "warm")}
    for run in found["runs"]:
        assert run.keys() >= TIMES
        assert all(run[name] > 0 for name in TIMES)
    loading = found["loading"]["native"]
    assert loading["quadrants"] > 0
    assert all(value > 0 for value in loading.values())
    sources = [point["sources"] for point in found["scaling"]["sources"]]
    assert sources == [10, found["survey"]["sources"]]
    assert found["gradient"]["pairs"] == found["survey"]["pairs"]
    fraction = found["gradient"]["limits"]["fraction"]
    assert fraction.keys() == {"fft", "arithmetic", "cache", "memory"}
    assert all(value > 0 for value in fraction.values())
    assert found["classic"]["ratio"].keys() == {"map native"}
    assert all(value > 0 for value in found["classic"]["ratio"].values())
    assert found["classic"]["ratio_per_same_pair"] > 0
    assert "EXTRAPOLATED" in table(found)
