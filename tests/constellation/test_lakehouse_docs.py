"""docs/iceberg.md: every command, query and configuration in it works, and says what is true."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pytest
import yaml

from constellation.catalogue.published import PublishedCatalogue
from constellation.cli import main
from constellation.config import load_config
from constellation.lakehouse import query
from shine.errors import ConfigurationError

from .lake import N_SOURCES, assemble, configuration

PAGE = (Path(__file__).parents[2] / "docs" / "iceberg.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
SETTINGS = {"tiling": {"tiles": "tiles.csv"}, "data": {"survey": "data"}}


@pytest.fixture
def catalogue(tmp_path, monkeypatch) -> PublishedCatalogue:
    """The working folder, with a configuration and a catalogue of the two tiles 0 and 3."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("POLARS_ICEBERG_PLANNER", "")  # to be restored
    Path("config").mkdir()
    Path("config/config.yaml").write_text(yaml.safe_dump(SETTINGS))
    return PublishedCatalogue(assemble(Path("results"), {0: 1, 3: 4}))


def test_all_commands_and_queries_of_the_page_work(catalogue, capsys):
    names: dict = {}
    for language, code in BLOCKS:
        if language == "python":
            exec(compile(code, "iceberg.md", "exec"), names)
        elif language == "bash":
            for line in code.splitlines():
                assert main(shlex.split(line)[1:]) == 0, line
    sources = catalogue.sources()
    assert names["shear"].num_rows == pc.sum(pc.equal(catalogue.shear["STATUS"], 1)).as_py()
    assert names["bright"].num_rows == N_SOURCES
    assert set(names["bright"]["OBJECT_ID"].to_pylist()) == set(range(3000, 3000 + N_SOURCES))
    assert names["posterior"].n_galaxies == sources["SAMPLE_LOG_WEIGHT"].drop_null().length()
    cells = sources["HEALPIX"].to_numpy() >> 48
    assert 0 < names["near"].num_rows == (cells == names["cell"]).sum() <= N_SOURCES
    expected = [(0, N_SOURCES, 1.0), (3, N_SOURCES, 4.0)]
    assert names["by_tile"].rows() == expected == names["rows"]
    for name in ("released", "today", "same"):
        assert names[name].sort_by("HEALPIX").equals(catalogue.shear.sort_by("HEALPIX"))
    found = names["in_polars"].sort("OBJECT_ID")
    in_order = sources.sort_by("OBJECT_ID")
    assert np.array_equal(found["HEALPIX"].to_numpy(), in_order["HEALPIX"].to_numpy())
    printed = capsys.readouterr().out
    assert "main, q1-v1" in printed and "truncate[65536](HEALPIX_13)" in printed


def test_the_configurations_of_the_page_are_valid():
    sections = [yaml.safe_load(code) for language, code in BLOCKS if language == "yaml"]
    types = [load_config(SETTINGS | section).iceberg.catalog["type"] for section in sections]
    assert types == ["rest", "glue", "sql"]


def test_engines_read_old_and_new_partitions_together(catalogue, capsys):
    for command in ("publish", "release repartition --order 5"):
        assert main([*command.split(), "--config", "config/config.yaml"]) == 0
    assemble(Path("results"), {3: 7, 5: 9})
    assert main(["publish", "--config", "config/config.yaml"]) == 0
    names: dict = {}
    for language, code in BLOCKS:
        if language == "python" and "released" not in code:
            exec(compile(code, "iceberg.md", "exec"), names)
    expected = [(0, N_SOURCES, 1.0), (3, N_SOURCES, 7.0), (5, N_SOURCES, 9.0)]
    assert names["by_tile"].rows() == expected == names["rows"]
    assert names["near"].num_rows == N_SOURCES


def test_a_missing_extension_is_named(monkeypatch):
    monkeypatch.setattr(query, "EXTENSIONS", ("avro", "absent"))
    with pytest.raises(ConfigurationError, match=r"duckdb-extension-absent.*iceberg,query"):
        query.duckdb_connection()


@pytest.mark.parametrize(
    ("catalog", "message"),
    [
        ({"type": "rest", "token": "hush"}, "PYICEBERG_CATALOG__CONSTELLATION__TOKEN"),
        ({"type": "rest", "credential": "me:hush"}, "CONSTELLATION__CREDENTIAL"),
        ({"type": "glue", "s3.access-key-id": "hush"}, "CONSTELLATION__S3__ACCESS_KEY_ID"),
        ({"type": "glue", "client.secret-access-key": "hush"}, "CLIENT__SECRET_ACCESS_KEY"),
        ({"type": "rest", "header.Authorization": "hush"}, "HEADER__AUTHORIZATION"),
        ({"type": "sql", "uri": "postgresql://me:hush@host/db"}, "CONSTELLATION__URI"),
        ({"type": "hive", "uri": "x"}, "one of rest, glue, sql"),
        ({"uri": "x"}, "expected the key type"),
    ],
)
def test_secrets_in_the_configuration_are_refused_and_not_repeated(catalog, message):
    with pytest.raises(ConfigurationError, match=message) as error:
        configuration(Path("results"), {"catalog": catalog})
    assert "hush" not in str(error.value) and "iceberg" in str(error.value)


@pytest.mark.parametrize(
    "catalog",
    [
        {"type": "rest", "uri": "http://127.0.0.1:9"},
        {"type": "sql", "uri": "sqlite:////nowhere/at/all.db", "warehouse": "file:///tmp"},
        {"type": "sql", "uri": "nonsense", "warehouse": "file:///tmp"},
        {"type": "rest"},
    ],
)
def test_a_catalogue_that_does_not_answer_is_a_wrong_configuration(catalogue, capsys, catalog):
    settings = SETTINGS | {"iceberg": {"catalog": catalog}}
    Path("config/config.yaml").write_text(yaml.safe_dump(settings))
    assert main(["publish", "--config", "config/config.yaml"]) == 2
    assert capsys.readouterr().err.startswith("error: iceberg.catalog: found ")


def test_the_missing_package_is_named(catalogue, capsys, monkeypatch):
    monkeypatch.setattr("constellation.lakehouse.settings.find_spec", lambda name: None)
    assert main(["release", "list", "--config", "config/config.yaml"]) == 2
    assert "pip install 'shine-constellation[iceberg]'" in capsys.readouterr().err


def test_releases_of_nothing_say_so(catalogue, capsys):
    assert main(["release", "tag", "v1", "--config", "config/config.yaml"]) == 3
    assert "constellation publish" in capsys.readouterr().err
