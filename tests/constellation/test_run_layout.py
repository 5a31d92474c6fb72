"""Names of all files of a run, known without looking at results."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from constellation.plan import SubTile
from constellation.run_layout import Run
from shine.errors import ConfigurationError, InputError

from .fake_survey import catalogue_name, mer_name, positions, write_catalogue, write_exposure

TILES = "tile_index,ra,dec\n12,10.5,0.0\n11,10.0,0.0\n13,50.0,0.0\n"
NEAR_13 = {"ra": 50.0, "dec": 0.0, "width_arcmin": 20.0, "height_arcmin": 10.0}
MOCK = {
    "seed": 1,
    "tiles": "tiles.csv",
    "area": {"ra": 10.25, "dec": 0.0, "width_arcmin": 2.0, "height_arcmin": 2.0},
    "exposures": [{}],
    "shear": {"type": "constant"},
}


@pytest.fixture(autouse=True)
def survey(tmp_path, monkeypatch):
    """The working folder: a tile list, and a survey of one exposure and tiles 11 and 12."""
    monkeypatch.chdir(tmp_path)
    Path("tiles.csv").write_text(TILES)
    for tile in (11, 12):
        write_catalogue(Path("data"), tile, positions(*np.array([[tile], [10], [0]])))
    write_exposure(Path("data"), 0, {"1-1.E": (10.25, 0.0)})


def run_of(tiling=(), data=(), **sections):
    tiling = {"tiles": "tiles.csv", "sub_tile_grid": [1, 2]} | dict(tiling)
    return Run.from_config({"tiling": tiling, "data": {"survey": "data"} | dict(data)} | sections)


def test_results_lie_in_the_output_folder():
    run = run_of(output={"results": "out"})
    assert run.subtile(SubTile(11, 0, 1), ".png") == "out/subtiles/11/11_0_1.png"
    assert run.pattern("subtiles", ".png") == "out/subtiles/{tile}/{tile}_{row}_{col}.png"
    assert run.subtiles("_sources.parquet", 12) == [
        "out/subtiles/12/12_0_0_sources.parquet",
        "out/subtiles/12/12_0_1_sources.parquet",
    ]
    assert len(run.subtiles(".parquet")) == 6


def test_what_differs_from_run_to_run_lies_apart():
    run = run_of(output={"results": "out"})
    assert run.records()[0] == "out/runs/11/11_0_0.run.json"
    assert run.benchmarks()[-1] == "out/benchmarks/13/13_0_1.tsv"


def test_a_cluster_is_asked_for_what_the_configuration_says_and_nothing_else():
    assert run_of().subtile_resources == {}
    assert run_of().device_flags == []
    run = run_of(compute={"partition": "gpu", "constraint": "a100|h100", "require_gpu": True})
    expected = {"slurm_partition": "gpu", "constraint": "a100|h100", "gpu": 1}
    assert run.subtile_resources == expected
    assert run.device_flags == ["--require-gpu"]
    with pytest.raises(ConfigurationError, match=r"compute\.account"):
        run_of(compute={"account": "a b"})


def test_compiled_programs_lie_with_the_results_unless_told_otherwise():
    assert run_of().jax_cache == Path("results/jax_cache")
    assert run_of(compute={"jax_cache": "/cache"}).jax_cache == Path("/cache")


def test_a_survey_is_what_lies_in_its_folder():
    survey = run_of(data={"truth": "truth.parquet"}).survey
    assert [path.parts[1] for path in survey.exposures] == ["PSF", "VIS", "VIS"]
    assert [path.name for path in survey.mer_files] == [catalogue_name(n) for n in (11, 12)]
    assert survey.truth == Path("truth.parquet")


def test_a_tile_needs_its_own_catalogue_first_and_its_neighbours():
    run = run_of()
    names = [path.name for path in run.local_mer_files(12)]
    assert names == [catalogue_name(12), catalogue_name(11)]
    assert run.mer_options(12) == ["--catalogues", *(f"data/MER/{name}" for name in names)]
    with pytest.raises(InputError, match="data: found no catalogue of tile 13"):
        run.mer_files(13)


def test_a_tile_needs_the_other_mer_products_if_it_is_told_so():
    Path("data/MER/deeper").mkdir()
    for tag, tile in (("MORPH-CAT", 11), ("MORPH-CAT", 12), ("SEGMAP", 12)):
        (Path("data/MER/deeper") / mer_name(tag, tile)).touch()
    run = run_of(data={"morphology": True})
    morphology = [f"data/MER/deeper/{mer_name('MORPH-CAT', tile)}" for tile in (12, 11)]
    assert run.mer_options(12) == [*run_of().mer_options(12), "--morphology", *morphology]
    assert run.local_mer_files(12)[2:] == [Path(path) for path in morphology]
    assert len(run.survey.mer_files) == 4
    run = run_of(data={"morphology": True, "segmentation": True})
    with pytest.raises(InputError, match=r"found no segmentation map of tile 11, .*SEGMAP_TILE11-"):
        run.mer_files(12)
    for path in Path("data/MER/deeper").iterdir():
        path.unlink()
    with pytest.raises(InputError, match=r"no morphology catalogue of tile 12, .*MORPH-CAT_TILE12"):
        run_of(data={"morphology": True}).mer_files(12)


def test_the_files_of_a_mock_survey_are_known_before_they_are_written():
    Path("mock.yaml").write_text(yaml.safe_dump(MOCK))
    run = run_of(data={"survey": "mock", "mock_survey": "mock.yaml"})
    assert len(run.survey.exposures) == 3
    names = [path.name.partition("-CAT_TILE")[2][:2] for path in run.survey.mer_files]
    assert names == ["11", "12", "13"]
    assert run.survey.truth == Path("mock/truth.parquet")
    assert not Path("mock").exists()
    given = run_of(data={"survey": "m", "mock_survey": "mock.yaml", "truth": "other.parquet"})
    assert given.survey.truth == Path("other.parquet")


def test_wrong_settings_of_a_mock_survey_are_a_configuration_error():
    Path("mock.yaml").write_text(yaml.safe_dump(MOCK | {"sed": 1}))
    with pytest.raises(ConfigurationError, match=r"mock\.yaml: .*sed"):
        _ = run_of(data={"mock_survey": "mock.yaml"}).survey


def test_wrong_keys_and_an_empty_plan_are_refused():
    with pytest.raises(ConfigurationError, match=r"configuration: tiling\.grid: unknown key"):
        run_of(tiling={"grid": [2, 2]})
    assert list(run_of(tiling={"area": NEAR_13}).plan.by_tile) == [13]
    with pytest.raises(InputError, match=r"tiles\.csv: no sub-tile has its centre"):
        _ = run_of(tiling={"area": NEAR_13 | {"dec": 20.0}}).plan


def test_a_change_of_the_list_of_exposures_left_out_is_noticed():
    assert run_of().left_out_digest is None
    settings = {"exposures": {"left_out": "bad.csv"}}
    assert '"left_out":"bad.csv"' in run_of(data=settings).exposures
    with pytest.raises(InputError, match=r"bad\.csv: found .* Check data\.exposures\.left_out"):
        _ = run_of(data=settings).left_out_digest
    digests = set()
    for text in ("OBS_ID,DITHER\n", "OBS_ID,DITHER\n1,0\n"):
        Path("bad.csv").write_text(text)
        digests.add(run_of(data=settings).left_out_digest)
    assert len(digests) == 2


def test_manifests_are_named_by_their_form():
    assert run_of().manifest(SubTile(11, 0, 1)) == "results/manifests/11/11_0_1.yaml"
    run = run_of(output={"manifests": "yaml.gz"})
    assert run.manifest(SubTile(11, 0, 1)) == "results/manifests/11/11_0_1.yaml.gz"
