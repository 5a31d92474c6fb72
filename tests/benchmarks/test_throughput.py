"""The designs that are compared do the same work; which is faster, a busy machine cannot say."""

from tests.benchmarks import survey, throughput


def test_all_designs_are_measured_on_the_same_sub_tiles(tmp_path):
    found = throughput.measure(survey.smoke(), 2, tmp_path)
    assert found["sub_tiles"] == 2
    assert found["distinct_quadrants"] <= found["quadrants"]
    for design in throughput.DESIGNS:
        times = found[design]
        assert times["process_s"] > 0 and times["solve_s"] > 0
        parts = ("process_s", "load_s", "compile_s", "solve_s", "write_s")
        assert abs(sum(times[part] for part in parts) - times["wall_s"]) < 1e-6
        assert throughput.DESIGNS[design] in throughput.table(found)
