"""The pipeline's configuration: complete, strict, and in step with its JSON schema."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from constellation.config import (
    TilingConfig,
    load_config,
    load_section,
    schema_json,
    write_shine_config,
)
from shine.errors import ConfigurationError
from shine.euclid.config import load_config as load_shine_config

ROOT = Path(__file__).parents[2]
SMALLEST = {"tiling": {"tiles": "tiles.csv"}, "data": {"survey": "data"}}


def test_the_stored_schema_is_the_models_own():
    stored = (ROOT / "config" / "schema.json").read_text(encoding="utf-8")
    assert stored == schema_json(), "run: constellation schema --output config/schema.json"


@pytest.mark.parametrize("path", sorted((ROOT / "config").glob("config*.yaml")), ids=str)
def test_the_configurations_of_the_repository_are_valid(path):
    config = load_config(path)
    assert (ROOT / config.tiling.tiles).exists()


def test_defaults_come_from_the_models():
    config = load_config(SMALLEST)
    assert config.tiling.sub_tile_grid == (4, 4)
    assert config.output.results == Path("results")


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"tilling": {}}, "tilling: unknown key"),
        ({"tiling": {"tiles": "t.csv", "margin": 1}}, "tiling.margin: unknown key"),
        ({"data": {}}, "data.survey: required key is missing"),
        ({"tiling": {"tiles": "t.csv", "sub_tile_grid": [0, 4]}}, r"tiling.sub_tile_grid.0: "),
        (
            {"tiling": {"tiles": "t.csv", "margin_arcmin": 0.21}},
            r"tiling.margin_arcmin: .*expected at least 0\.214, half the largest stamp "
            r"\(256 pixels\).*enlarge it \(found 0\.21\)",
        ),
        ({"compute": {"threads": "many"}}, "compute.threads: .*'many'"),
        ({"inference": {"methd": "map"}}, "inference.methd: unknown key"),
    ],
)
def test_a_wrong_key_is_named_with_its_path(tmp_path, change, key):
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(SMALLEST | change))
    with pytest.raises(ConfigurationError, match=f"{path}: .*{key}"):
        load_config(path)


def test_a_secret_in_the_endpoint_is_refused_and_not_repeated():
    data = {"survey": "s3://bucket/x", "s3": {"endpoint_url": "https://me:password@host"}}
    with pytest.raises(ConfigurationError, match=r"data\.s3\.endpoint_url: found a URL") as caught:
        load_config(SMALLEST | {"data": data})
    assert "me:password" not in str(caught.value) + str(caught.value.__cause__)


def test_how_the_survey_is_read_is_no_part_of_shines_configuration(tmp_path):
    digests = []
    for s3 in ({}, {"anonymous": True, "cache_folder": "parts"}):
        path = tmp_path / "config.yaml"
        data = SMALLEST["data"] | {"s3": s3}
        path.write_text(yaml.safe_dump(SMALLEST | {"data": data}))
        write_shine_config(str(path), tmp_path / "shine.yaml")
        digests.append((tmp_path / "shine.yaml").read_bytes())
    assert digests[0] == digests[1]


def test_a_missing_file_and_bad_yaml_are_named(tmp_path):
    with pytest.raises(ConfigurationError, match=r"nowhere\.yaml: cannot read"):
        load_config(tmp_path / "nowhere.yaml")
    (path := tmp_path / "bad.yaml").write_text("tiling: [")
    with pytest.raises(ConfigurationError, match=r"bad\.yaml: not valid YAML"):
        load_config(path)


def test_a_section_is_read_from_json_or_from_the_pipeline_yaml(tmp_path):
    (path := tmp_path / "config.yaml").write_text(yaml.safe_dump(SMALLEST))
    expected = TilingConfig(tiles="tiles.csv")
    assert load_section(TilingConfig, "tiling", str(path)) == expected
    assert load_section(TilingConfig, "tiling", expected.model_dump_json()) == expected
    with pytest.raises(ConfigurationError, match="tiling: not valid JSON"):
        load_section(TilingConfig, "tiling", "{")


def test_shine_gets_its_two_sections_unopened(tmp_path):
    sections = {"inference": {"seed": 7}, "gal": {}}
    (pipeline := tmp_path / "config.yaml").write_text(yaml.safe_dump(SMALLEST | sections))
    for source in (json.dumps(sections), str(pipeline)):
        write_shine_config(source, tmp_path / "shine.yaml")
        assert yaml.safe_load((tmp_path / "shine.yaml").read_text()) == sections
    assert load_shine_config(tmp_path / "shine.yaml").inference.seed == 7
    with pytest.raises(ConfigurationError, match=r"found the keys \['gal'\]"):
        write_shine_config('{"gal": {}}', tmp_path / "shine.yaml")
