"""The files of a survey folder: found by name, matched, and missed by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from constellation.survey_files import (
    Exposure,
    list_catalogues,
    list_exposure_files,
    match_catalogues,
    match_exposures,
    parse_exposure_name,
    pick_catalogues,
)
from shine.errors import InputError

from .fake_survey import catalogue_name, exposure_name

TAGS = ("SWL-DET", "SWL-BKG", "GRD-PSF")


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def test_files_are_found_where_the_archive_puts_them(tmp_path):
    expected = [
        touch(tmp_path / "PSF" / "deeper" / exposure_name("GRD-PSF", 0)),
        touch(tmp_path / "VIS" / "1" / exposure_name("SWL-BKG", 0)),
        touch(tmp_path / "VIS" / "1" / f"{exposure_name('SWL-DET', 0)}.gz"),
    ]
    touch(tmp_path / "VIS" / "1" / "notes.txt")
    catalogue = touch(tmp_path / "MER" / "11" / catalogue_name(11))
    assert list_exposure_files(tmp_path) == expected
    assert list_catalogues(tmp_path) == [catalogue]
    [files] = match_exposures(expected, [1])
    assert (files.psf, files.background, files.frame) == tuple(expected)


def test_packed_files_have_the_same_names():
    assert parse_exposure_name(exposure_name("GRD-PSF", 3) + ".gz")[0] == Exposure(1, 3, 1)
    path = Path(catalogue_name(11) + ".gz")
    assert match_catalogues([path]) == {11: path}


def test_exposures_come_in_the_order_of_their_numbers():
    paths = [Path(exposure_name(tag, dither)) for dither in (2, 0, 1) for tag in TAGS]
    assert [files.exposure.dither for files in match_exposures(paths, [1])] == [0, 1, 2]


@pytest.mark.parametrize("missing", ["SWL-BKG", "GRD-PSF"])
def test_a_missing_companion_is_named_with_its_frame(missing):
    paths = [Path(exposure_name(tag, 2)) for tag in TAGS if tag != missing]
    tag = missing.split("-")[1]
    with pytest.raises(InputError, match=rf"DET-000001-02.* found no {tag} .*-{tag}-000001-02-1-"):
        match_exposures(paths, [1])


def test_a_missing_catalogue_is_named_with_its_tile():
    known = {11: Path("a"), 13: Path("c")}
    assert pick_catalogues(known, [13, 11], "data/MER") == [Path("c"), Path("a")]
    with pytest.raises(InputError, match=r"data/MER: found no catalogue of tile 12, .*TILE12-"):
        pick_catalogues(known, [11, 12], "data/MER")


def test_a_survey_without_catalogues_or_without_folder_is_named(tmp_path):
    with pytest.raises(InputError, match="found no such file in the folder, expected MER/"):
        list_catalogues(tmp_path)
    with pytest.raises(InputError, match=f"{tmp_path / 'x'}: found no such folder, expected VIS/"):
        list_exposure_files(tmp_path / "x")
