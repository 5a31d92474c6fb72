"""What the benchmark merges are results that are taken for such; not how fast."""

from constellation.catalogue.published import PublishedCatalogue
from tests.benchmarks import assembly


def test_smoke_run_merges_what_was_made(tmp_path):
    size = assembly.Size(n_tiles=2, n_sources=12, n_samples=5)
    costs = list(assembly.measure(tmp_path / "run", size))
    assert [cost.what for cost in costs] == ["all", "one changed", "none changed"]
    assert all(cost.peak_mb > 50 and cost.cpu_s > 0 for cost in costs)
    found = PublishedCatalogue(tmp_path / "run/results/catalogue")
    assert found.shear.num_rows == 2 * 16
    sources = found.sources(["OBJECT_ID", "SHAPE_SAMPLES"])
    assert sorted(sources["OBJECT_ID"].to_pylist()) == list(range(2 * 16 * 12))
    assert {len(samples) for samples in sources["SHAPE_SAMPLES"].to_pylist()} == {10}
    assert assembly.sizes(tmp_path / "run")["catalogue"] > 0
