"""`constellation fetch`: the files of some tiles, complete, in their present version, once."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from constellation import fetch as module
from constellation.cli import main
from constellation.fetch import CHECKSUMS, RECORD, fetch, list_files
from constellation.run_layout import Run
from constellation.survey_files import list_catalogues, list_exposure_files
from shine.errors import ConfigurationError, InputError
from shine.manifest import read_manifest, write_manifest
from shine.s3 import S3File
from shine.s3_settings import VARIABLES
from tests.servers.proxy import proxy_of

from .fake_survey import catalogue_name, mer_name, write_weight
from .s3_survey import PREFIX, TILING, replace

OPTIONS = ["fetch", "--config", "config.yaml", "--tile", "11", "--output", "local"]


@pytest.fixture
def planned(survey) -> Run:
    """A run on the survey in S3 whose manifests are written; its settings are in config.yaml."""
    place = survey.uri(PREFIX)
    config = {"tiling": TILING, "data": {"survey": place}}
    Path("config.yaml").write_text(yaml.safe_dump(config))
    assert main(["index", "--survey", place, "--output", "results/index/quadrants.parquet"]) == 0
    options = ["--tiling", "config.yaml", "--tile", "11", "--output", "results/manifests/11"]
    options += ["--index", "results/index/quadrants.parquet"]
    assert main(["manifests", *options, "--catalogues", *list_catalogues(place)]) == 0
    return Run.from_config(config)


def test_the_folder_is_the_part_of_the_survey_that_the_tile_needs(planned, capsys):
    assert main(OPTIONS) == 0
    assert "local: 7 files, 7 of them copied now" in capsys.readouterr().out
    fetched = {path.relative_to("local") for path in Path("local").rglob("*.fits")}
    every = {path.relative_to("data") for path in Path("data").rglob("*.fits")}
    assert every - fetched == {Path("MER") / catalogue_name(12)}
    for name in fetched:
        assert (Path("local") / name).read_bytes() == (Path("data") / name).read_bytes()
    assert len(list_exposure_files(Path("local"))) == 6
    subprocess.run(["sha256sum", "--check", "--strict", CHECKSUMS], cwd="local", check=True)


def test_the_configuration_says_how_to_read_the_survey(planned, survey, monkeypatch, capsys):
    config = yaml.safe_load(Path("config.yaml").read_text())
    config["data"]["s3"] = {"endpoint_url": survey.endpoint, "cache_folder": "parts"}
    Path("config.yaml").write_text(yaml.safe_dump(config))
    for variable in VARIABLES.values():
        monkeypatch.setenv(variable, "")  # what the command exports is undone
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert main(OPTIONS) == 0
    assert "local: 7 files, 7 of them copied now" in capsys.readouterr().out
    assert not Path("parts").exists()  # the copies are on the disk already


def test_weights_and_other_mer_products_come_along(survey):
    weight = write_weight(Path("data"), 1, ["1-1.E", "1-1.F"])
    survey.upload(weight.parent, f"{PREFIX}/VIS/1")
    products = [f"MER_SEG/11/{mer_name('SEGMAP', 11)}"]
    products.append(f"catalogs/MER_FINAL_CATALOG/11/{mer_name('MORPH-CAT', 11)}")
    for name in products:
        survey.client().put_object(Bucket=survey.bucket, Key=f"{PREFIX}/{name}", Body=b"content")
    data = {"survey": survey.uri(PREFIX), "morphology": True, "segmentation": True}
    config = {"tiling": TILING, "data": data}
    Path("config.yaml").write_text(yaml.safe_dump(config))
    index = "results/index/quadrants.parquet"
    assert main(["index", "--survey", survey.uri(PREFIX), "--output", index]) == 0
    options = ["--tiling", "config.yaml", "--tile", "11", "--output", "results/manifests/11"]
    mer = Run.from_config(config).mer_options(11)
    assert main(["manifests", *options, "--index", index, *mer]) == 0
    assert main(OPTIONS) == 0
    copy = Path("local") / weight.relative_to("data")
    assert copy.read_bytes() == weight.read_bytes()
    for name in products:
        assert (Path("local") / name).read_bytes() == b"content"
    local = Run.from_config({"tiling": TILING, "data": data | {"survey": "local"}})
    assert [len(paths) for paths in local.mer_files(11).values()] == [1, 1, 1]
    assert copy in local.survey.exposures


def test_what_is_there_in_its_version_is_not_copied_again(planned, survey, capsys, monkeypatch):
    assert main(OPTIONS) == 0
    (Path("local") / "MER" / catalogue_name(11)).unlink()
    frame = list_exposure_files(Path("data"))[0].name
    replace(survey, frame, b"another version")
    capsys.readouterr()
    assert main(OPTIONS) == 0
    assert "7 files, 2 of them copied now" in capsys.readouterr().out
    [changed] = Path("local").rglob(frame)
    assert changed.read_bytes() == b"another version"
    with proxy_of(survey) as proxy:
        proxy.server.use(monkeypatch)
        assert main(OPTIONS) == 0
        assert len(proxy.requests) == 7  # for the versions
    assert "7 files, 0 of them copied now (0.00 GB)" in capsys.readouterr().out
    subprocess.run(["sha256sum", "--check", "--strict", CHECKSUMS], cwd="local", check=True)


def test_an_interrupted_file_goes_on_where_it_stopped(planned, survey, monkeypatch):
    monkeypatch.setattr(module, "WINDOW_BYTES", 40_000)
    [name, _] = (path for path in list_exposure_files(Path("data")) if "PSF" in path.name)
    content = name.read_bytes()
    assert len(content) > 3 * 40_000
    [uri] = [uri for uri in list_files(planned, [11]) if uri.endswith(name.name)]
    asked, read = [], S3File.read

    def counted(self, ranges):
        asked.extend(start for start, _ in ranges)
        if len(asked) == 3:
            raise KeyboardInterrupt
        return read(self, ranges)

    monkeypatch.setattr(S3File, "read", counted)
    with pytest.raises(KeyboardInterrupt):
        fetch([uri], survey.uri(PREFIX), Path("local"))
    assert not list(Path("local").rglob("*.fits"))
    fetched = fetch([uri], survey.uri(PREFIX), Path("local"))
    assert asked[:4] == [0, 40_000, 80_000, 80_000]
    assert fetched.copied_bytes == len(content) - 80_000
    [copy] = Path("local").rglob("*.fits")
    assert copy.read_bytes() == content
    assert not list(Path("local").rglob("*.part"))

    record = json.loads((Path("local") / RECORD).read_text())
    assert list(record) == [copy.relative_to("local").as_posix()]


def test_a_part_of_another_version_is_of_no_use(planned, survey):
    assert main(OPTIONS) == 0
    name = catalogue_name(11)
    part = Path("local") / "MER" / f".{name}.0123.part"
    part.write_bytes(b"of an older version")
    replace(survey, name, b"new")
    assert main(OPTIONS) == 0
    assert (Path("local") / "MER" / name).read_bytes() == b"new"
    assert not part.exists()


def test_what_cannot_be_fetched_is_named(planned, monkeypatch):
    with pytest.raises(InputError, match=r"tile 12: no sub-tile|12_0_0.yaml: found no such file"):
        list_files(planned, [12])
    with pytest.raises(InputError, match=r"tile 13: no sub-tile of it is planned"):
        list_files(planned, [13])
    local = Run.from_config({"tiling": TILING, "data": {"survey": "data"}})
    with pytest.raises(ConfigurationError, match=r"found the folder data, expected s3://"):
        list_files(local, [11])
    moved = Run.from_config({"tiling": TILING, "data": {"survey": "s3://elsewhere"}})
    with pytest.raises(InputError, match=r"11_0_0.yaml: found the file s3://.*of s3://elsewhere"):
        list_files(moved, [11])


@pytest.mark.parametrize("key", ["../../escaped.fits", "VIS//escaped.fits", "VIS/./escaped.fits"])
def test_no_name_leads_out_of_the_folder(planned, key):
    path = Path("results/manifests/11/11_0_0.yaml")
    manifest = read_manifest(path)
    catalogue = f"{planned.config.data.survey}/{key}"
    write_manifest(manifest.model_copy(update={"source_catalog": catalogue}), path)
    with pytest.raises(InputError, match=rf"11_0_0.yaml: found the file {catalogue}"):
        list_files(planned, [11])


def test_a_disk_that_is_too_small_is_no_beginning(planned, survey, monkeypatch):
    monkeypatch.setattr(
        module.shutil, "disk_usage", lambda _: module.shutil._ntuple_diskusage(9, 8, 1)
    )
    with pytest.raises(InputError, match=r"local: found 0.0 GB free, expected 0.0 GB"):
        fetch(list_files(planned, [11]), survey.uri(PREFIX), Path("local"))
    assert not list(Path("local").rglob("*.part"))


def test_a_damaged_record_costs_a_copy_and_nothing_else(planned, capsys):
    assert main(OPTIONS) == 0
    (Path("local") / RECORD).write_text("{")
    assert main(OPTIONS) == 0
    assert "7 files, 7 of them copied now" in capsys.readouterr().out
