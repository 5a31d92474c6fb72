"""Manifests: what is written is read back, and what is wrong is named."""

import pytest
import yaml

from shine.errors import InputError
from shine.manifest import Manifest, read_manifest, write_manifest

CONTENT = {
    "tile_id": 102159490,
    "sub_tile_row": 2,
    "sub_tile_col": 1,
    "sky_bounds": {
        "core_ra": [359.99, 0.02],
        "core_dec": [-1.0, 1.0],
        "extended_ra": [359.9, 0.1],
        "extended_dec": [-1.1, 1.1],
    },
    "quadrants": [
        {
            "sci_path": "frames/DET.fits",
            "rms_path": "frames/DET.fits",
            "flg_path": "/elsewhere/FLG.fits",
            "psf_path": "s3://bucket/PSF.fits",
            "bkg_path": "../BKG.fits",
            "quadrant": "3-4.F",
            "version": "123456789",
        }
    ],
    "source_catalog": ["a.fits", "b.fits"],
    "source_ids": [-2698372983749283, 7, 5],
    "core_source_ids": [7],
}


def changed(**keys):
    return CONTENT | keys


def write_yaml(tmp_path, content):
    path = tmp_path / "102159490_2_1.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_round_trip_keeps_everything_and_resolves_paths(tmp_path):
    path = tmp_path / "m.yaml"
    write_manifest(Manifest.model_validate(CONTENT), path)
    manifest = read_manifest(path)
    assert manifest.stem == "102159490_2_1"
    assert manifest.source_ids == CONTENT["source_ids"]  # the order is kept
    assert manifest.sky_bounds.core_ra == (359.99, 0.02)
    [files] = manifest.quadrants
    assert files.sci_path == str(tmp_path / "frames/DET.fits")
    assert files.flg_path == "/elsewhere/FLG.fits"
    assert files.psf_path == "s3://bucket/PSF.fits"
    assert files.version == "123456789"
    assert manifest.catalogs == (str(tmp_path / "a.fits"), str(tmp_path / "b.fits"))


def test_equal_manifests_give_identical_bytes_and_no_temporary_file(tmp_path):
    manifest = Manifest.model_validate(CONTENT)
    for name in ("a.yaml", "b.yaml"):
        write_manifest(manifest, tmp_path / name)
    assert (tmp_path / "a.yaml").read_bytes() == (tmp_path / "b.yaml").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.yaml", "b.yaml"]


def test_long_id_lists_stay_readable(tmp_path):
    ids = list(range(2000))
    write_manifest(Manifest.model_validate(changed(source_ids=ids)), tmp_path / "m.yaml")
    text = (tmp_path / "m.yaml").read_text()
    assert len(text.splitlines()) < 200
    assert max(map(len, text.splitlines())) < 120
    assert read_manifest(tmp_path / "m.yaml").source_ids == ids


def test_one_catalogue_may_be_a_plain_path(tmp_path):
    manifest = read_manifest(write_yaml(tmp_path, changed(source_catalog="cat.fits")))
    assert manifest.catalogs == (str(tmp_path / "cat.fits"),)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (changed(sub_tile_rwo=3), "sub_tile_rwo: unknown key"),
        ({k: v for k, v in CONTENT.items() if k != "tile_id"}, "tile_id: required key is missing"),
        (changed(core_source_ids=[7, 8]), r"source_ids lacks, such as \[8\]"),
        (changed(source_ids=[7, 5, 7]), r"source_ids repeats 1 entries, such as \[7\]"),
        (changed(core_source_ids=[7, 7]), "core_source_ids repeats"),
        (changed(quadrants=CONTENT["quadrants"] * 2), "quadrants repeats 1 entries"),
        (changed(quadrants=[{"sci_path": "x"}]), "quadrants.0.rms_path: required key is missing"),
        (changed(source_ids=["seven"]), "source_ids.0: .*found 'seven'"),
        (changed(source_ids=[2**63], core_source_ids=[]), "source_ids.0: "),
        (changed(source_catalog=[]), "source_catalog"),
        (
            changed(sky_bounds=CONTENT["sky_bounds"] | {"core_dec": [1.0, -1.0]}),
            "core_dec must ascend",
        ),
        ("just text", "top level"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, content, problem):
    path = write_yaml(tmp_path, content)
    with pytest.raises(InputError, match=problem) as caught:
        read_manifest(path)
    assert str(path) in str(caught.value)
    assert caught.value.exit_code == 3


def test_missing_file_and_broken_yaml(tmp_path):
    with pytest.raises(InputError, match=r"nowhere.yaml: found No such file"):
        read_manifest(tmp_path / "nowhere.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("tile_id: [1, 2")
    with pytest.raises(InputError, match=r"broken.yaml: found text that is no YAML"):
        read_manifest(broken)
