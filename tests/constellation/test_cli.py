"""The command `constellation`: its sub-commands one after the other, and its exit statuses."""

from __future__ import annotations

import gzip
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import yaml
from pyarrow import parquet

from constellation.cli import main
from constellation.config import TilingConfig
from constellation.plan import Plan
from shine.errors import Kind, Status
from shine.manifest import read_manifest

from .fake_results import Result, place
from .fake_survey import exposure_name, positions, write_catalogue, write_exposure

ROOT = Path(__file__).parents[2]
PLANNING = ("plan", "status")
COMMANDS = (
    "tiles",
    "mock-survey",
    "index",
    "manifests",
    "assemble",
    "assemble-tiles",
    "merge-tiles",
    "summary",
    "cone",
    "export",
    "crossmatch",
    "trace",
    "publish",
    "release list",
    "release tag",
    "release branch",
    "release remove",
    "release rollback",
    "release repartition",
    "release expire",
    "quality",
    "quality-gate",
    "report",
    "schema",
    "shine-config",
    "shear-map",
    "convergence-map",
    "profile",
    "correlations",
    "validation-block",
    "validation-peers",
    "validation-report",
    "validation-sample",
    "validation-limits",
)
TILING = {"tiles": "tiles.csv", "sub_tile_grid": [1, 2]}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working folder: a survey of one tile with four sources, two in either sub-tile."""
    monkeypatch.chdir(tmp_path)
    Path("tiles.csv").write_text("tile_index,ra,dec\n11,10.0,0.0\n12,50.0,0.0\n")
    config = {"tiling": TILING, "data": {"survey": "data"}, "gal": {"profile": "exponential"}}
    Path("config.yaml").write_text(yaml.safe_dump(config))
    ra = 10.0 + np.array([-0.1, -0.05, 0.05, 0.1])
    write_catalogue(Path("data"), 11, positions(np.arange(4), ra, np.zeros(4)))
    write_exposure(Path("data"), 0, {"1-1.E": (9.9, 0.0), "1-1.F": (10.1, 0.0)})
    return tmp_path


def make_manifests(*arguments):
    assert main(["index", "--survey", "data", "--output", "index.parquet"]) == 0
    catalogues = [str(path) for path in Path("data/MER").iterdir()]
    places = ["--index", "index.parquet", "--catalogues", *catalogues, "--output", "manifests/11"]
    return main(["manifests", "--tiling", "config.yaml", "--tile", "11", *places, *arguments])


@pytest.mark.parametrize("command", PLANNING + COMMANDS)
def test_each_command_explains_itself(command, capsys):
    with pytest.raises(SystemExit) as end:
        main([*command.split(), "--help"])
    assert end.value.code == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"usage: constellation {command} [-h]")
    assert any(option in printed for option in ("--output", "--table", "--json", "--config"))


def test_the_help_lists_all_commands(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    assert end.value.code == 0
    printed = capsys.readouterr().out
    assert all(
        re.search(rf"^ +{command.split()[0]}\b", printed, re.MULTILINE)
        for command in PLANNING + COMMANDS
    )


@pytest.mark.parametrize("arguments", [[], ["indx"], ["index"], ["index", "--kinds", "one"]])
def test_wrong_arguments_are_a_usage_error(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert "usage: constellation" in capsys.readouterr().err


def test_the_schema_is_printed_or_written(folder, capsys):
    assert main(["schema"]) == 0
    assert main(["schema", "--output", "new/schema.json"]) == 0
    stored = (ROOT / "config" / "schema.json").read_text(encoding="utf-8")
    assert capsys.readouterr().out == stored
    assert Path("new/schema.json").read_text(encoding="utf-8") == stored


def test_the_sections_of_shine_are_cut_out(folder):
    assert main(["shine-config", "--sections", "config.yaml", "--output", "shine.yaml"]) == 0
    expected = {"inference": {}, "gal": {"profile": "exponential"}}
    assert yaml.safe_load(Path("shine.yaml").read_text()) == expected


def test_a_survey_becomes_manifests_with_each_source_core_once(folder, capsys):
    assert make_manifests() == 0
    assert capsys.readouterr().out.splitlines() == [
        "index.parquet: 2 quadrants of 1 exposures",
        "manifests/11/11_0_0.yaml: 2 core sources, 2 modelled, 1 quadrants",
        "manifests/11/11_0_1.yaml: 2 core sources, 2 modelled, 1 quadrants",
    ]


def test_a_second_manifest_of_a_sub_tile_is_refused(folder, capsys):
    assert make_manifests() == 0
    stray = shutil.copy("manifests/11/11_0_1.yaml", "manifests/11/copy.yaml")
    assert make_manifests() == 3
    error = capsys.readouterr().err
    assert "manifests/11/11_0_1.yaml" in error and stray in error
    assert "both are manifests of sub-tile 11_0_1" in error


def test_manifests_change_their_form_and_not_what_they_say(folder, capsys):
    assert make_manifests() == 0
    plain = {path.name: path.read_bytes() for path in Path("manifests/11").iterdir()}
    assert make_manifests("--form", "yaml.gz") == 0
    packed = {path.name: path.read_bytes() for path in Path("manifests/11").iterdir()}
    assert {f"{name}.gz": text for name, text in plain.items()} == {
        name: gzip.decompress(content) for name, content in packed.items()
    }
    shutil.copy("manifests/11/11_0_1.yaml.gz", "manifests/11/copy.yaml.gz")
    assert make_manifests() == 3
    assert "manifests/11/copy.yaml.gz" in capsys.readouterr().err


def test_exposures_are_left_out_of_manifests(folder, capsys):
    write_exposure(Path("data"), 1, {"1-1.E": (9.9, 0.0), "1-1.F": (10.1, 0.0)})
    Path("bad.csv").write_text("OBS_ID,DITHER\n1,0\n")
    counts = {}
    for settings in ({}, {"left_out": "bad.csv"}, {"most_per_source": 1}, {"last_mjd": 1.0}):
        assert make_manifests("--exposures", json.dumps(settings)) == 0
        quadrants = read_manifest("manifests/11/11_0_0.yaml").quadrants
        counts[str(settings)] = [Path(files.sci_path).name for files in quadrants]
    first, second = exposure_name("SWL-DET", 0), exposure_name("SWL-DET", 1)
    assert list(counts.values()) == [[first, second], [second], [first], []]
    assert make_manifests("--exposures", '{"first": 1}') == 2
    assert "data.exposures: first: unknown key" in capsys.readouterr().err


def test_manifests_of_an_earlier_grid_do_no_harm(folder):
    assert make_manifests("--tiling", json.dumps(TILING | {"sub_tile_grid": [2, 2]})) == 0
    assert make_manifests() == 0


def test_results_become_a_catalogue_and_a_summary(folder, capsys):
    plan = Plan.from_config(TilingConfig(**TILING))
    first, *others = plan.subtiles
    place(plan, Result(first, {1: Kind.GALAXY})).write(Path("subtiles/11"))
    for subtile in others:
        empty = place(plan, Result.without_shear(subtile, Status.NO_SOURCES))
        empty.write(Path(f"subtiles/{subtile.tile_id}"))
    tiling = ["--tiling", json.dumps(TILING), "--logs", "logs"]
    places = ["--subtiles", "subtiles", "--kept", "kept", "--output", "tiles"]
    assert main(["assemble-tiles", *tiling, "--shard", "1/2", *places]) == 0
    assert "tiles: 1 tiles, 1 of them made anew" in capsys.readouterr().out
    assert main(["assemble-tiles", *tiling, *places]) == 0
    places = ["--tiles", "tiles", "--receipt", "all.json", "--output", "all"]
    assert main(["merge-tiles", *tiling, *places]) == 0
    printed = capsys.readouterr().out
    assert "12_0_1: NO_SOURCES, no usable galaxy in the core area" in printed
    assert "tiles: 2 tiles, 1 of them made anew\nall: 4 sub-tiles, 1 sources" in printed
    assert json.loads(Path("all.json").read_text())["sub_tiles"] == 4

    truth = pa.table({"OBJECT_ID": [1], "G1": [0.03], "G2": [0.0]})
    parquet.write_table(truth, "truth.parquet")
    inputs = ["--catalogue", "all", "--truth", "truth.parquet"]
    assert main(["summary", *inputs, "--table", "t.txt", "--figure", "f.png"]) == 0
    assert "3 of 4 sub-tiles have no converged shear" in Path("t.txt").read_text()
    assert Path("f.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("tile", ["12", "13"])
def test_a_tile_that_is_not_planned_is_refused(folder, capsys, tile):
    area = {"ra": 10.0, "dec": 0.0, "width_arcmin": 30.0, "height_arcmin": 30.0}
    tiling = json.dumps(TILING | {"area": area})
    assert make_manifests("--tiling", tiling, "--tile", tile) == 3
    assert f"tile {tile}: no sub-tile of it is planned" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "status", "message"),
    [
        ("index --survey nowhere --output y", 3, "nowhere: found no such folder"),
        ("assemble --config nowhere.yaml", 2, "cannot read the configuration"),
        ("assemble --config config.yaml", 3, "no result for 4 of 4 planned sub-tiles: 11_0_0 (log"),
        (
            "merge-tiles --tiling config.yaml --tiles x --logs x --receipt z --output y",
            3,
            "x/11.parq",
        ),
        (
            'merge-tiles --tiling {"grid":1} --tiles x --logs x --receipt z --output y',
            2,
            "required key",
        ),
        ('shine-config --sections {"gla":{}} --output y', 2, "['gla'], expected inference and gal"),
        ("mock-survey --config tiles.csv --output y", 2, "tiles.csv: expected a mapping"),
        ("summary --catalogue x --table y --figure y", 3, "x/shear.parquet: found no readable"),
    ],
)
def test_the_exit_status_is_that_of_the_error(folder, capsys, command, status, message):
    assert main(command.split()) == status
    error = capsys.readouterr().err
    assert "error: " in error and message in error
    assert not Path("y").exists()
