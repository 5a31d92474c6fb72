"""Wrong settings, lists of tiles and folders are refused by name, with exit status 2."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from constellation.cli import main
from constellation.mock_survey.config import load_mock_config
from constellation.mock_survey.errors import MockSurveyError
from constellation.mock_survey.layout import expected_files
from constellation.mock_survey.write import write_survey

from .surveys import BASE, NEXT_TILE, NO_SOURCES, TILE, aimed, merged, settings

SHAPE = (60, 70)
SMALL = {
    "exposures": [aimed("3-4.F", shape=SHAPE)],
    "detector": {"quadrant_shape": SHAPE, "quadrants": ["3-4.F"]},
    "population": NO_SOURCES,
}
TILE_LIST = "tile_index,ra,dec\n102018665,57.38,-51.0\n102018666,58.18,-51.0\n"


def save(folder: Path, **changes) -> Path:
    """A YAML file of settings with changes; the value None removes a key."""
    values = {key: v for key, v in merged(BASE, changes).items() if v is not None}
    path = folder / "mock.yaml"
    path.write_text(yaml.safe_dump(plain(values)), encoding="utf-8")
    return path


def plain(value):
    """Tuples as lists, for YAML."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def refusal(path: Path) -> str:
    """What is said of a file of settings."""
    with pytest.raises(MockSurveyError) as caught:
        load_mock_config(path)
    return str(caught.value)


BAD_SETTINGS = [
    ({"exposure_count": 4}, "exposure_count"),
    ({"detector": {"quadrant_size": 20}}, "detector.quadrant_size"),
    ({"tiles": [TILE, {**NEXT_TILE, "tile_index": TILE["tile_index"]}]}, "tile_index repeated"),
    ({"tiles": []}, "tiles"),
    ({"tiles": [{**TILE, "ra": 360.0}]}, "tiles.0.ra"),
    ({"exposures": []}, "exposures"),
    ({"exposures": [{"roll_deg": 0}, {"roll_deg": 360}]}, "roll_deg"),
    ({"exposures": [{"zero_point": "bright"}]}, "exposures.0.zero_point"),
    ({"area": {"dec": -91.0}}, "area.dec"),
    ({"seed": None}, "seed"),
    ({"seed": -1}, "seed"),
    ({"shear": {"type": "vortex"}}, "shear"),
    ({"shear": {"type": "constant", "g1": 0.7}}, "shear.constant.g1"),
    ({"shear": {"type": "nfw", "mass_msun_h": 1e14, "ra": 1.0}}, "shear.nfw.dec"),
    ({"population": {"bright_magnitude": 26.0}}, "bright_magnitude"),
    ({"detector": {"quadrants": ["3-4.F", "7-4.f"]}}, "detector.quadrants"),
]


@pytest.mark.parametrize(("changes", "key"), BAD_SETTINGS, ids=lambda value: str(value)[:40])
def test_wrong_settings_are_refused_with_file_and_key(tmp_path, changes, key):
    path = save(tmp_path, **changes)
    message = refusal(path)
    assert str(path) in message
    assert key in message


@pytest.mark.parametrize(
    "content", (b"", b"- 1\n- 2\n", b"seed: [1\n", b"seed: 1\x00", b"name: \xff\xfe"), ids=repr
)
def test_files_that_are_no_settings_are_refused(tmp_path, content):
    path = tmp_path / "mock.yaml"
    path.write_bytes(content)
    assert str(path) in refusal(path)


def test_settings_that_are_not_there_are_refused(tmp_path):
    assert str(tmp_path / "none.yaml") in refusal(tmp_path / "none.yaml")
    assert str(tmp_path) in refusal(tmp_path)


def test_a_list_of_tiles_is_read_next_to_the_settings(tmp_path):
    (tmp_path / "tiles.csv").write_text(TILE_LIST, encoding="utf-8")
    config = load_mock_config(save(tmp_path, tiles="tiles.csv"))
    assert [tile.tile_index for tile in config.tiles] == [102018665, 102018666]
    assert [tile.ra for tile in config.tiles] == [57.38, 58.18]


@pytest.mark.parametrize(
    ("content", "problems"),
    (
        (None, ("tiles.csv",)),
        ("", ("tiles",)),
        ("tile_index;ra;dec\n1;2;3\n", ("tiles.csv, line 2", "tile_index, ra, dec")),
        ("tile_index,ra,dec\n1,2,3\n4,,6\n", ("tiles.csv, line 3", "ra")),
        ("tile_index,ra,dec\n1,2,3\n4,west,6\n", ("tiles.csv, line 3", "ra")),
        ("tile_index,ra,dec\n1,2,99\n", ("tiles.csv, line 2", "dec")),
        (b"tile_index,ra,dec\n1,2,\xff\n", ("tiles.csv",)),
        (TILE_LIST.replace("666", "665"), ("tile_index repeated",)),
    ),
    ids=str,
)
def test_an_unusable_list_of_tiles_is_refused_with_its_line(tmp_path, content, problems):
    if content is not None:
        content = content if isinstance(content, bytes) else content.encode()
        (tmp_path / "tiles.csv").write_bytes(content)
    message = refusal(save(tmp_path, tiles="tiles.csv"))
    for problem in problems:
        assert problem in message


@pytest.mark.parametrize(
    "changes",
    (
        {"exposures": [{"offset_east_arcsec": 7200.0}]},
        {"exposures": [{}, {"roll_deg": 9.0, "offset_north_arcsec": -7200.0}]},
        {"detector": {"quadrants": ["1-1.E"]}},
    ),
    ids=str,
)
def test_an_exposure_that_does_not_see_the_area_is_refused(tmp_path, changes):
    wide = {"area": {"width_arcmin": 1.0, "height_arcmin": 1.0}}
    with pytest.raises(MockSurveyError, match=r"exposures\.\d.*no quadrant overlaps the area"):
        write_survey(settings(**merged(wide, changes)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "name",
    (
        "VIS/2704/EUC_VIS_SWL-DET-002704-07-1-0000000__20250101T000000.0Z.fits",
        "VIS/1/EUC_VIS_SWL-BKG-000001-00-1-0000000__20250101T000000.0Z.fits.gz",
        "PSF/old/EUC_VIS_GRD-PSF-000001-00-1-0000000__20250101T000000.0Z.fits",
        "MER/EUC_MER_FINAL-CAT_TILE102018667-ABCDEF_20250101T000000.0Z_00.00.fits.gz",
    ),
)
def test_files_of_another_survey_are_not_mixed_in(tmp_path, name):
    config = settings(**SMALL)
    foreign = tmp_path / name
    foreign.parent.mkdir(parents=True)
    foreign.write_bytes(b"")
    with pytest.raises(MockSurveyError) as caught:
        write_survey(config, tmp_path)
    assert str(foreign) in str(caught.value)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [foreign]


@pytest.fixture
def small_survey(tmp_path):
    return save(tmp_path, **SMALL)


def command(config: Path, output: Path, *more: str) -> int:
    return main(["mock-survey", "--config", str(config), "--output", str(output), *more])


def test_the_command_writes_a_survey(tmp_path, small_survey, capsys):
    output = tmp_path / "survey"
    assert command(small_survey, output, "--workers", "1") == 0
    files = expected_files(load_mock_config(small_survey), output)
    assert all(path.is_file() for path in files.all_paths())
    assert f"{len(files.all_paths())} files" in capsys.readouterr().out


def test_the_command_says_what_is_wrong(tmp_path, capsys):
    path = save(tmp_path, exposure_count=4)
    assert command(path, tmp_path / "survey") == 2
    error = capsys.readouterr().err
    assert str(path) in error and "exposure_count" in error
    assert "Traceback" not in error
    assert not (tmp_path / "survey").exists()


def test_the_command_refuses_a_folder_with_other_files(tmp_path, small_survey, capsys):
    foreign = tmp_path / "survey" / "PSF" / "old.fits"
    foreign.parent.mkdir(parents=True)
    foreign.write_bytes(b"")
    assert command(small_survey, tmp_path / "survey", "--workers", "1") == 2
    assert str(foreign) in capsys.readouterr().err
