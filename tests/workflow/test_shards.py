"""A survey in parts: each planned and run by itself, together the catalogue of the whole."""

from __future__ import annotations

from .project import EAST, SUBTILES, TIMEOUT_S, WEST, Project, rule_counts
from .test_failures import FAILING, forget

SHARDS = [("--config", f"shard={number}/2") for number in (1, 2)]
MERGE = ("--config", "shard=merge")
ONE = {"manifests": 1, "subtile": 2, "tiles": 1, "all": 1}


def test_shards_side_by_side_make_the_catalogue_of_the_whole(checkout, finished, tmp_path):
    project = Project.create(tmp_path / "project", checkout)
    expected = {"mock_survey": 1, "quadrant_index": 1, "shine_config": 1, "prepare": 1}
    assert rule_counts(project.run("prepare")) == expected | {"total": 4}
    runs = [project.start(*shard) for shard in SHARDS]
    for run in runs:
        printed, _ = run.communicate(timeout=TIMEOUT_S)
        assert run.returncode == 0, printed
        assert rule_counts(printed) == ONE | {"total": 5}
    results = project.folder / "results"
    assert sorted(path.name for path in (results / "tiles").glob("*[0-9].parquet")) == [
        f"{WEST}.parquet",
        f"{EAST}.parquet",
    ]
    assert not (results / "catalogue").exists()
    counts = rule_counts(project.run(*MERGE))
    checked = {"quality": 1, "quality_gate": 1}
    assert counts == checked | {"merged_catalogue": 1, "all": 1, "total": 4}
    assert project.catalogue() == finished.catalogue()
    # all that is pinned is what it would be in any other folder
    for made in ("data", "results/index", "results/manifests", "results/subtiles"):
        one, other = (
            {name: content for name, (_, content) in run.files(made).items()}
            for run in (project, finished)
        )
        assert one == other != {}


def test_what_the_whole_run_made_is_left_as_it_is(project):
    def contents():
        found = project.files("results").items()
        changing = ("/logs/", "/kept/tiles/")  # the notes there speak of this copy's files
        return {name: text for name, (_, text) in found if not any(c in name for c in changing)}

    before = contents()
    for part in SHARDS:
        assert rule_counts(project.run(*part)) == {"tiles": 1, "all": 1, "total": 2}
    for part in (*SHARDS, MERGE):
        assert "Nothing to be done" in project.run(*part)
    assert contents() == before


def test_a_failed_sub_tile_of_a_shard_is_run_again_alone(project):
    forget(project, [FAILING])
    intact = project.manifest_path(FAILING).read_bytes()
    project.manifest_path(FAILING).write_text("tile_id: unknown\n")
    status, printed = project.attempt(*SHARDS[0])
    assert status != 0 and f"  {FAILING}: bad or missing input" in printed
    status, printed = project.attempt(*MERGE)  # and the merge does not do without it
    assert status != 0 and f"tiles/{WEST}.parquet" in printed

    done = project.inferences([stem for stem in SUBTILES if stem != FAILING])
    project.manifest_path(FAILING).write_bytes(intact)
    counts = rule_counts(project.run(*SHARDS[0]))
    assert counts == {"subtile": 1, "tiles": 1, "all": 1, "total": 3}
    project.run(*SHARDS[1])
    project.run(*MERGE)
    assert done.items() <= project.inferences().items()


def test_a_shard_without_the_index_says_how_to_make_it(checkout, tmp_path):
    project = Project.create(tmp_path / "project", checkout)
    status, printed = project.attempt(*SHARDS[0])
    assert status != 0
    assert "index/quadrants.parquet" in printed and "snakemake prepare" in printed
