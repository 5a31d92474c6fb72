"""A survey in S3: found by listings, read where it is, and told apart when an object changes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import yaml
from pyarrow import parquet

from constellation.cli import main
from constellation.config import load_config
from constellation.mer_catalogue import read_sources
from constellation.quadrant_index import read_index
from constellation.run_layout import Run
from constellation.survey_files import (
    list_catalogues,
    list_exposure_files,
    match_catalogues,
    match_exposures,
)
from shine.errors import ConfigurationError, InputError
from shine.manifest import read_manifest
from tests.servers.proxy import proxy_of
from tests.servers.s3 import S3Server

from .fake_survey import catalogue_name, exposure_name, mer_name, positions
from .s3_survey import PREFIX, TILING, replace

ROOT = Path(__file__).parents[2]


def run_of(survey: S3Server, **data) -> Run:
    return Run.from_config({"tiling": TILING, "data": {"survey": survey.uri(PREFIX), **data}})


def test_the_same_files_are_found_as_in_a_folder(survey):
    for find in (list_exposure_files, list_catalogues):
        here = [path.relative_to("data").as_posix() for path in find(Path("data"))]
        there = find(survey.uri(PREFIX))
        assert [uri.removeprefix(f"{survey.uri(PREFIX)}/") for uri in there] == here
        assert find(f"{survey.uri(PREFIX)}/") == there
    exposures = match_exposures(list_exposure_files(survey.uri(PREFIX)), [1])
    assert [files.exposure.dither for files in exposures] == [0, 1]
    assert exposures[0].frame == f"{survey.uri(PREFIX)}/VIS/1/{exposure_name('SWL-DET', 0)}"
    assert list(match_catalogues(list_catalogues(survey.uri(PREFIX)))) == [11, 12]


def test_an_empty_survey_is_named(survey):
    with pytest.raises(InputError, match=rf"{survey.uri('nothing')}: found no such object.*VIS/"):
        list_exposure_files(survey.uri("nothing"))
    with pytest.raises(InputError, match="s3://no-such-bucket/MER/: found no such bucket"):
        list_catalogues("s3://no-such-bucket")


def test_index_and_manifests_are_those_of_the_folder_but_for_the_places(survey):
    config = {"tiling": TILING, "data": {"survey": "not read"}}
    Path("config.yaml").write_text(yaml.safe_dump(config))
    for place, output in (("data", "here"), (survey.uri(PREFIX), "there")):
        (Path(output) / "manifests").mkdir(parents=True)
        index = f"{output}/index.parquet"
        assert main(["index", "--survey", place, "--output", index]) == 0
        found = list_catalogues(Path(place) if place == "data" else place)
        options = ["--tiling", "config.yaml", "--tile", "11", "--index", index]
        options += ["--catalogues", *map(str, found), "--output", f"{output}/manifests"]
        assert main(["manifests", *options]) == 0
    here, there = (read_index(Path(output) / "index.parquet").table for output in ("here", "there"))
    places = ["FRAME", "BACKGROUND", "PSF", "WEIGHT"]
    assert there.drop_columns(places).equals(here.drop_columns(places))
    frames = {f"{survey.uri(PREFIX)}/VIS/1/{exposure_name('SWL-DET', n)}" for n in (0, 1)}
    assert set(there["FRAME"].to_pylist()) == frames
    for name in ("11_0_0.yaml", "11_0_1.yaml"):
        text = (Path("there") / "manifests" / name).read_text()
        assert text == (Path("here") / "manifests" / name).read_text().replace(
            "../../data", survey.uri(PREFIX)
        )
        manifest = read_manifest(Path("there") / "manifests" / name)
        assert {files.sci_path for files in manifest.quadrants} == frames
        [catalogue] = manifest.catalogs
        assert catalogue == f"{survey.uri(PREFIX)}/MER/{catalogue_name(11)}"


def test_catalogues_in_parquet_are_read_too(survey):
    columns = positions(np.arange(3), np.array([1.0, 2.0, 3.0]), np.zeros(3))
    table = pa.table({name.lower(): values for name, values in columns.items()})
    parquet.write_table(table, "catalogue.parquet")
    survey.client().upload_file("catalogue.parquet", survey.bucket, "catalogue.parquet")
    here, there = (
        read_sources([place]) for place in ("catalogue.parquet", survey.uri("catalogue.parquet"))
    )
    np.testing.assert_array_equal(there.vectors, here.vectors)
    np.testing.assert_array_equal(there.object_id, [0, 1, 2])


def test_a_digest_changes_with_just_the_objects_that_it_is_of(survey):
    def digests() -> tuple:
        run = run_of(survey)
        return run.exposure_digest(), run.mer_digest(11), run.mer_digest(12)

    first = digests()
    assert digests() == first
    replace(survey, catalogue_name(11), b"changed")
    second = digests()
    assert [a == b for a, b in zip(first, second, strict=True)] == [True, False, True]
    replace(survey, exposure_name("GRD-PSF", 1), b"changed")
    third = digests()
    assert [a == b for a, b in zip(second, third, strict=True)] == [False, True, True]
    replace(survey, exposure_name("GRD-PSF", 1), b"CHANGED")  # as long as before
    assert digests()[0] != third[0]
    replace(survey, "notes.txt", b"changed")
    assert digests()[1:] == third[1:]


def test_planning_lists_each_folder_once(survey, monkeypatch):
    with proxy_of(survey) as proxy:
        proxy.server.use(monkeypatch)
        run = run_of(survey)
        assert run.survey.exposures == [] == run.local_mer_files(11)
        assert run.survey.mer_files == []
        assert not proxy.requests  # what has no need of the survey does not ask for it
        for tile in (11, 12):
            run.exposure_digest()
            run.mer_digest(tile)
            expected = {"catalogues": [f"{survey.uri(PREFIX)}/MER/{catalogue_name(tile)}"]}
            assert run.mer_files(tile) == expected
        asked = [request.partition("prefix=")[2].partition("&")[0] for request in proxy.requests]
        prefix = PREFIX.replace("/", "%2F")
        folders = ("MER", "PSF", "VIS", "catalogs%2FMER_FINAL_CATALOG")
        assert sorted(asked) == [f"{prefix}%2F{name}%2F" for name in folders]


def test_other_mer_products_count_if_they_are_asked_for(survey, monkeypatch):
    catalogues = run_of(survey).mer_options(11)
    plain = run_of(survey).mer_digest(11)
    places = {
        "morphology": f"catalogs/MER_FINAL_CATALOG/11/{mer_name('MORPH-CAT', 11)}",
        "segmentation": f"MER_SEG/11/{mer_name('SEGMAP', 11)}",
    }
    for place in places.values():
        survey.client().put_object(Bucket=survey.bucket, Key=f"{PREFIX}/{place}", Body=b"1")
    assert run_of(survey).mer_digest(11) == plain
    everything = {"morphology": True, "segmentation": True}
    with proxy_of(survey) as proxy:
        proxy.server.use(monkeypatch)
        run = run_of(survey, **everything)
        expected = [
            word
            for name, place in places.items()
            for word in (f"--{name}", f"{survey.uri(PREFIX)}/{place}")
        ]
        assert run.mer_options(11) == [*catalogues, *expected]
        with pytest.raises(InputError, match=r"found no morphology catalogue of tile 12, expected"):
            run.mer_digest(12)
        assert len(proxy.requests) == 3  # MER, MER_SEG and the catalogues', once each
        assert all("list-type=2" in request for request in proxy.requests)
    first = run.mer_digest(11)
    assert first != plain
    replace(survey, places["segmentation"], b"2")
    assert run_of(survey, **everything).mer_digest(11) != first
    assert run_of(survey, morphology=True).mer_digest(11) not in (first, plain)


def test_a_missing_catalogue_is_named(survey):
    [key] = [key for key in survey.objects(PREFIX) if key.endswith(catalogue_name(12))]
    survey.client().delete_object(Bucket=survey.bucket, Key=key)
    run = run_of(survey)
    assert run.mer_files(11)
    with pytest.raises(InputError, match=rf"{survey.uri(PREFIX)}: found no catalogue of tile"):
        run.mer_digest(12)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"survey": "gs://bucket/x"}, "data.survey: .*expected a folder or s3://bucket/prefix"),
        ({"survey": "s3:///x"}, "data.survey: .*expected a folder or s3://bucket/prefix"),
        ({"survey": "s3://bucket/x", "mock_survey": "m.yaml"}, "must not be a URI"),
    ],
)
def test_another_place_than_a_folder_or_s3_is_refused(data, message):
    with pytest.raises(ConfigurationError, match=message):
        load_config({"tiling": TILING, "data": data})


def test_a_folder_stays_a_path():
    for place in ("data", "/data/euclid", "./s3"):
        survey = load_config({"tiling": TILING, "data": {"survey": place}}).data.survey
        assert survey == Path(place)


def test_no_log_tells_the_keys_however_much_it_tells(survey):
    command = "import sys; from constellation.cli import main; sys.exit(main())"
    options = ["index", "--survey", survey.uri(PREFIX), "--output", "index.parquet"]
    done = subprocess.run(
        [sys.executable, "-c", command, "--verbose", *options],
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'workflow'}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "credentials for s3:// by method env" in done.stderr and "DEBUG" in done.stderr
    assert survey.access_key not in done.stderr and survey.secret_key not in done.stderr
