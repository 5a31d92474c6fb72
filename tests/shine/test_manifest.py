"""Manifests: what is written is read back, and what is wrong is named."""

import gzip

import pytest
import yaml

from shine import yaml_files
from shine.errors import InputError
from shine.manifest import Manifest, manifest_digest, read_manifest, write_manifest

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


class Plain(yaml.SafeDumper):
    """PyYAML's own dumper, which writes the text that manifests have."""

    def ignore_aliases(self, data):
        return True


Plain.add_representer(
    tuple,
    lambda dumper, data: dumper.represent_sequence("tag:yaml.org,2002:seq", data, flow_style=True),
)

PATHS = (
    "a b.fits",
    "a: b.fits",
    "#a.fits",
    "x" * 150,
    " ".join(["a long folder"] * 12),
    "Süd/[1].fits",
    "12",
    "~",
    "'quoted'",
)


@pytest.mark.parametrize("n_ids", [0, 1, 5, 6, 7, 8, 3300])
def test_the_text_is_that_of_pyyaml(tmp_path, n_ids):
    """Else the same manifest would count as another one, and its sub-tile would run again."""
    ids = [(-1) ** n * (n + 10 ** (4 + n % 14)) for n in range(n_ids)]
    for core in (ids, ids[::3], []):
        content = changed(source_catalog=list(PATHS), source_ids=ids, core_source_ids=core)
        write_manifest(Manifest.model_validate(content), tmp_path / "m.yaml")
        bounds = {name: tuple(pair) for name, pair in CONTENT["sky_bounds"].items()}
        content |= {"source_ids": tuple(ids), "core_source_ids": tuple(core), "sky_bounds": bounds}
        expected = yaml.dump(content, Dumper=Plain, sort_keys=False, width=100)
        assert (tmp_path / "m.yaml").read_text() == expected


def test_a_compressed_manifest_is_the_same_manifest(tmp_path):
    manifest = Manifest.model_validate(changed(source_ids=list(range(3000))))
    plain, packed = tmp_path / "m.yaml", tmp_path / "m.yaml.gz"
    for path in (plain, packed):
        write_manifest(manifest, path)
    assert gzip.decompress(packed.read_bytes()) == plain.read_bytes()
    assert packed.stat().st_size < plain.stat().st_size / 2
    assert read_manifest(packed) == read_manifest(plain)
    assert manifest_digest(packed) == manifest_digest(plain)
    first = packed.read_bytes()
    write_manifest(manifest, packed)
    assert packed.read_bytes() == first  # no time of writing in it


def test_a_damaged_or_huge_compressed_manifest_is_named(tmp_path, monkeypatch):
    path = tmp_path / "m.yaml.gz"
    write_manifest(Manifest.model_validate(CONTENT), path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    with pytest.raises(InputError, match=r"m\.yaml\.gz: found .* a damaged gzip file"):
        read_manifest(path)
    path.write_bytes(gzip.compress(b"#" * 3000))
    monkeypatch.setattr(yaml_files, "MOST_BYTES", 1000)
    assert path.stat().st_size < 1000
    with pytest.raises(InputError, match="more than 1000 bytes when unpacked"):
        read_manifest(path)


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
