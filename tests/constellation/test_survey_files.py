"""The files of a survey folder: found by name, matched, and missed by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from constellation.survey_files import (
    CATALOGUES,
    MER_PRODUCTS,
    MORPHOLOGY,
    SEGMENTATION,
    Exposure,
    list_catalogues,
    list_exposure_files,
    list_tile_files,
    match_catalogues,
    match_exposures,
    match_tiles,
    parse_exposure_name,
    pick_tiles,
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


def test_the_public_archives_names_and_folders_are_known(tmp_path):
    """As astronomers' readers of the Q1 bucket list them: one PSF, with a copy per observation."""
    names = {
        "DET": "EUC_VIS_SWL-DET-002681-00-1-0000000__20241017T042839.727728Z.fits",
        "BKG": "EUC_VIS_SWL-BKG-002681-00-1-0000000__20241017T042839.727792Z.fits",
        "WGT": "EUC_VIS_SWL-WGT-002681-00-1-0000000__20241017T042839.727798Z.fits",
        "PSF": "EUC_VIS_GRD-PSF-000-000000-0000000__20240322T192915.424564Z.fits",
        "older PSF": "EUC_VIS_GRD-PSF-000-000000-0000000__20230322T192915.424564Z.fits",
    }
    paths = {key: touch(tmp_path / "VIS" / "2681" / name) for key, name in names.items()}
    other = touch(tmp_path / "VIS" / "2682" / names["DET"].replace("2681", "2682"))
    for tag in ("BKG", "WGT"):
        touch(tmp_path / "VIS" / "2682" / names[tag].replace("2681", "2682"))
    catalogue = touch(
        tmp_path / "catalogs" / "MER_FINAL_CATALOG" / "102018211" / "EUC_MER_FINAL-CAT_"
        "TILE102018211-CC66F6_20241018T214045.289017Z_00.00.fits"
    )
    morphology = touch(
        catalogue.with_name(
            "EUC_MER_FINAL-MORPH-CAT_TILE102018211-7C13A9_20241018T214045.289017Z_00.00.fits"
        )
    )
    segments = touch(
        tmp_path / "MER_SEG" / "102018211" / "EUC_MER_FINAL-SEGMAP_"
        "TILE102018211-7C13A9_20241018T143010.889651Z_00.00.fits"
    )
    assert list_catalogues(tmp_path) == [catalogue]
    found = list_tile_files(tmp_path, [CATALOGUES, MORPHOLOGY, SEGMENTATION])
    assert found == [segments, catalogue, morphology]
    for product, path in zip(MER_PRODUCTS.values(), (catalogue, morphology, segments), strict=True):
        assert match_tiles(found, product) == {102018211: path}
    found = list_exposure_files(tmp_path)
    with pytest.raises(InputError, match=rf"{other}: found no PSF file of the same exposure"):
        match_exposures(found, [1])
    second_psf = touch(tmp_path / "VIS" / "2682" / names["PSF"])
    first, second = match_exposures(list_exposure_files(tmp_path), [1])
    assert (first.frame, first.background, first.psf) == (paths["DET"], paths["BKG"], paths["PSF"])
    assert (second.frame, second.psf) == (other, second_psf)
    assert (first.weight, second.weight) == (
        paths["WGT"],
        other.with_name(paths["WGT"].name.replace("2681", "2682")),
    )


def test_an_exposures_own_psf_comes_before_the_common_one():
    own = [Path("VIS/1") / exposure_name(tag, 0) for tag in TAGS]
    common = Path("VIS/1/EUC_VIS_GRD-PSF-000-000000-0000000__20990101T000000.0Z.fits")
    [files] = match_exposures([*own, common], [1])
    assert files.psf == own[2]


def test_an_exposure_may_have_a_weight_of_which_the_latest_counts():
    files = [Path(exposure_name(tag, dither)) for tag in TAGS for dither in (0, 1)]
    weights = [Path(exposure_name("SWL-WGT", 1, f"2024010{n}T000000.0Z")) for n in (2, 1)]
    stray = Path(exposure_name("SWL-WGT", 2))  # of no frame
    first, second = match_exposures([*files, *weights, stray], [1])
    assert (first.weight, second.weight) == (None, weights[0])
    assert len(first.paths) == 3 and second.paths[-1] == weights[0]


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
    assert pick_tiles(known, [13, 11], CATALOGUES, "data") == [Path("c"), Path("a")]
    with pytest.raises(InputError, match=r"data: found no catalogue of tile 12, .*CAT_TILE12-"):
        pick_tiles(known, [11, 12], CATALOGUES, "data")
    message = r"no segmentation map of tile 12, expected .*-SEGMAP_TILE12-\*.fits .* MER_SEG\."
    with pytest.raises(InputError, match=message):
        pick_tiles(known, [11, 12], SEGMENTATION, "data")


def test_a_survey_without_catalogues_or_without_folder_is_named(tmp_path):
    with pytest.raises(InputError, match="found no such file in the folder, expected MER/"):
        list_catalogues(tmp_path)
    with pytest.raises(InputError, match=f"{tmp_path / 'x'}: found no such folder, expected VIS/"):
        list_exposure_files(tmp_path / "x")
