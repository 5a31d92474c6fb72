"""The plans that are timed are those that they are said to be; how long one takes is not tested."""

from tests.benchmarks import planning


def jobs(costs):
    return [(cost.what, cost.jobs) for cost in costs]


def test_a_survey_is_planned_in_parts_and_its_merge_by_itself(tmp_path):
    assert jobs(planning.measure_shards(tmp_path / "survey", 5, 2, (1, 2))) == [
        ("5 tiles, prepare", 3),
        ("shard 1/2", 2 * 17 + 3),
        ("shard 2/2", 3 * 17 + 3),
        ("one job of a shard", 1),
        ("5 tiles, merge", 4),
    ]


def test_a_failed_sub_tile_is_all_that_is_planned_again(tmp_path):
    assert jobs(planning.measure_done(tmp_path / "survey", 2, 2)) == [
        ("a shard, noting what is done", 0),
        ("the same, all done", 0),
        ("the same, one sub-tile failed", 3),
    ]


def test_a_survey_is_planned_as_a_whole(tmp_path, capsys):
    planning.main(["--output", str(tmp_path), "--tiles", "2"])
    header, _, row = capsys.readouterr().out.splitlines()
    assert header.startswith("| plan | jobs |")
    # sub-tiles, the manifests of each tile, and what a run has once
    assert row.startswith(f"| 2 tiles, nothing done | {2 * 17 + 10} | ")
