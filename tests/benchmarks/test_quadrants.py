"""The benchmark of the quadrant index runs, small; how fast, a busy machine cannot say."""

from tests.benchmarks import manifests, quadrants


def test_everything_is_measured(tmp_path):
    found = quadrants.measure(20, 12, 300, tmp_path)
    assert found["build"]["quadrants"] == 20 * 4 * 144
    assert found["build"]["file_mb"] > 0 and found["build"]["write_s"] > 0
    assert found["lists"]["tiles"] == 12
    assert found["lists"]["quadrants_per_sub_tile"] > 20
    assert all(value > 0 for value in found["opened_anew"].values())
    assert found["pairs"]["missed"] == found["pairs"]["invented"] == 0
    assert 100 < found["pairs"]["overlap"] < 200


def test_the_manifests_of_a_tile_are_measured(tmp_path):
    found = manifests.measure(40, 20, tmp_path / "output")
    assert found["sub_tiles"] == 16
    assert 10 < found["core_sources_each"] < found["sources_each"]
    assert found["quadrants_each"] > 20
    assert found["yaml.gz"]["kilobytes_each"] < found["yaml"]["kilobytes_each"] / 2
