"""After a change of one input, what depends on it is made again, and nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
from astropy.io import fits

from shine.manifest import read_manifest

from .project import EAST, SUBTILES, WEST, Project, rule_counts

MANIFESTS = {f"manifests_{WEST}": 1, f"manifests_{EAST}": 1}


def inferred_anew(project: Project, before: dict[str, Any]) -> set[str]:
    after = project.inferences()
    return {stem for stem in SUBTILES if after[stem] != before[stem]}


def test_a_changed_catalogue_changes_the_sub_tiles_that_use_it(project):
    [path] = (project.folder / "data" / "MER").glob(f"*TILE{EAST}*")
    with fits.open(path, mode="update") as hdus:
        hdus[1].data["FLUX_DETECTION_TOTAL"] *= 1.02
    before = project.inferences()
    counts = rule_counts(project.run("subtiles"))
    using = {
        stem
        for stem in SUBTILES
        if any(path.name in catalogue for catalogue in project.manifest(stem).catalogs)
    }
    assert using == {f"{WEST}_30_59", f"{EAST}_30_0", f"{EAST}_30_1"}
    assert inferred_anew(project, before) == using
    # every sub-tile is looked at, but the pixels are where they were
    assert counts == MANIFESTS | {"subtile": 4, "subtiles": 1, "total": 7}


def test_changed_settings_of_shine_change_all_sub_tiles_and_no_manifest(project):
    manifests = project.files("results/manifests")
    project.change("gal", selection={"min_snr": 30.0})
    before = project.inferences()
    counts = rule_counts(project.run())
    merged = {"tiles": 1, "merged_catalogue": 1, "summary": 1, "measurements": 1, "all": 1}
    merged |= {"quality": 1, "quality_gate": 1, "report": 1}
    assert counts == merged | {"shine_config": 1, "subtile": 4, "total": 13}
    assert inferred_anew(project, before) == set(SUBTILES)
    assert project.files("results/manifests") == manifests


def test_a_changed_frame_changes_the_sub_tiles_that_see_the_quadrant(project):
    frame = min((project.folder / "data" / "VIS").rglob("*-DET-*"))
    with fits.open(frame, mode="update", checksum=True) as hdus:
        hdus["3-4.F.SCI"].data += np.float32(0.5)
    before = project.inferences()
    counts = rule_counts(project.run("subtiles"))
    seeing = {
        stem
        for stem in SUBTILES
        if any(files.quadrant == "3-4.F" for files in project.manifest(stem).quadrants)
    }
    assert seeing == {f"{WEST}_30_58", f"{WEST}_30_59", f"{EAST}_30_0"}
    assert inferred_anew(project, before) == seeing
    assert counts == MANIFESTS | {"quadrant_index": 1, "subtile": 4, "subtiles": 1, "total": 8}


def test_exposures_left_out_and_compressed_manifests_cost_no_new_index(project):
    (project.folder / "bad.csv").write_text("OBS_ID,DITHER\n999999,0\n")
    project.change("data", exposures={"left_out": "bad.csv"})
    before, index = project.inferences(), project.files("results/index")
    manifests = {path: text for path, (_, text) in project.files("results/manifests").items()}
    counts = rule_counts(project.run("partition"))
    assert counts == MANIFESTS | {"partition": 1, "total": 3}
    now = {path: text for path, (_, text) in project.files("results/manifests").items()}
    assert now == manifests  # no such exposure
    [frame] = {
        files.sci_path
        for files in project.manifest(SUBTILES[0]).quadrants
        if "-00-1-" in files.sci_path
    }
    obs_id = int(frame.rpartition("-DET-")[2][:6])
    (project.folder / "bad.csv").write_text(f"OBS_ID,DITHER\n{obs_id},0\n")
    project.change("output", manifests="yaml.gz")
    counts = rule_counts(project.run("partition"))
    assert counts == MANIFESTS | {"partition": 1, "total": 3}
    assert project.files("results/index") == index
    packed = sorted(project.files("results/manifests"))
    assert packed == [f"{path}.gz" for path in sorted(manifests)]
    for path in packed:
        named = {files.sci_path for files in read_manifest(project.folder / path).quadrants}
        assert named and not any("-00-1-" in path for path in named)
    project.change("data", exposures={})
    project.run("subtiles")
    assert inferred_anew(project, before) == set()  # the same manifests, compressed
