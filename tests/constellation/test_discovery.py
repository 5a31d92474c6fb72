"""The quadrant index: names, headers, and overlap on the sphere."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.io import fits

from constellation.discovery import build_index
from constellation.plan import RADIANS_PER_ARCMIN
from constellation.quadrant_index import read_index
from constellation.sky_order import write_index
from constellation.survey_files import (
    Exposure,
    list_exposure_files,
    match_catalogues,
    match_exposures,
    parse_exposure_name,
)
from constellation.tiling import TangentPlane
from shine.errors import InputError

from .fake_survey import QUADRANT_ARCMIN, catalogue_name, exposure_name, write_exposure


def index_of(survey, folder):
    table = build_index(match_exposures(list_exposure_files(survey), [1]), folder)
    write_index(table, folder / "quadrants.parquet")
    return read_index(folder / "quadrants.parquet")


def box(ra, dec, half_arcmin):
    half = half_arcmin * RADIANS_PER_ARCMIN
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half
    return TangentPlane.at(ra, dec).unproject(*corners.T)


def test_names_are_parsed():
    name = exposure_name("SWL-DET", 3)
    assert parse_exposure_name(name) == (Exposure(1, 3, 1), "20240101T000000.0Z")
    with pytest.raises(InputError, match=r"DET-1\.fits"):
        parse_exposure_name("EUC_VIS_SWL-DET-1.fits")


def test_the_latest_version_of_a_file_wins(tmp_path):
    old, new = (tmp_path / exposure_name("SWL-DET", 0, f"2024010{n}T000000.0Z") for n in (1, 2))
    others = [tmp_path / exposure_name(tag, 0) for tag in ("SWL-BKG", "GRD-PSF")]
    [files] = match_exposures([new, old, *others], [1])
    assert files.frame == new
    old, new = (tmp_path / catalogue_name(5, f"2024010{n}T000000.0Z") for n in (1, 2))
    assert match_catalogues([new, old]) == {5: new}


def test_short_exposures_are_left_out(tmp_path):
    names = [exposure_name(tag, 0) for tag in ("SWL-DET", "SWL-BKG", "GRD-PSF")]
    paths = [tmp_path / name.replace("-00-1-", "-00-2-") for name in names]
    assert match_exposures(paths, [1]) == []
    assert len(match_exposures(paths, [1, 2])) == 1


def test_a_frame_without_its_background_is_refused(tmp_path):
    write_exposure(tmp_path, 0, {"1-1.E": (10.0, 0.0)})
    next(tmp_path.glob("VIS/*/*BKG*")).unlink()
    with pytest.raises(InputError, match=r"SWL-DET.*no BKG file"):
        match_exposures(list_exposure_files(tmp_path), [1])


def test_the_index_holds_one_row_per_quadrant(tmp_path):
    write_exposure(tmp_path, 0, {"1-1.E": (359.99, 0.0), "1-1.F": (0.05, 0.0)})
    frame = write_exposure(tmp_path, 1, {"1-1.E": (10.0, 0.0)})
    index = index_of(tmp_path, tmp_path / "index")
    rows = index.table.to_pylist()
    assert [(row["DITHER"], row["QUADRANT"]) for row in rows] == [
        (0, "1-1.E"),
        (0, "1-1.F"),
        (1, "1-1.E"),
    ]
    assert rows[2]["FRAME"] == str(frame)  # absolute paths stay
    assert (rows[0]["MAGZEROP"], rows[0]["EXPTIME"], rows[0]["MJD"]) == (24.56605, 560.5, 60000.0)
    assert rows[0]["DATASUM"].isdigit()
    half = QUADRANT_ARCMIN / 2 / 60
    assert np.abs(np.array(rows[2]["DEC_CORNERS"])) == pytest.approx(half, rel=0.01)
    assert rows[0]["STAMP"] == rows[0]["STAMP"] != rows[1]["STAMP"]


def test_relative_paths_are_relative_to_the_index(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (survey := tmp_path / "data").mkdir()
    frame = write_exposure(survey, 0, {"1-1.E": (10.0, 0.0)})
    table = build_index(
        match_exposures(list_exposure_files(survey.relative_to(tmp_path)), [1]),
        tmp_path.relative_to(tmp_path) / "results" / "index",
    )
    assert table["FRAME"][0].as_py() == f"../../{frame.relative_to(tmp_path)}"


@pytest.mark.parametrize(("ra", "dec"), [(0.0, 0.0), (123.0, 80.0), (0.0, 89.99), (5.0, -90.0)])
def test_overlap_is_exact_at_0h_and_at_the_poles(tmp_path, ra, dec):
    write_exposure(tmp_path, 0, {"1-1.E": (ra, dec)})
    index = index_of(tmp_path, tmp_path)
    plane = TangentPlane.at(ra, dec)
    touch = QUADRANT_ARCMIN / 2 + 1.0
    for distance, expected in ((touch - 0.05, 1), (touch + 0.05, 0)):
        offset = plane.unproject(np.array(0.0), np.array(-distance * RADIANS_PER_ARCMIN))
        there = np.rad2deg(np.arctan2(offset[1], offset[0])) % 360, np.rad2deg(np.arcsin(offset[2]))
        area = box(*there, 1.0)
        assert len(index.near(area[None]).overlapping(area)) == expected


def test_a_changed_image_changes_its_datasum(tmp_path):
    sums = []
    for value in (0.0, 1.0, 0.0):
        write_exposure(tmp_path, 0, {"1-1.E": (10.0, 0.0)}, value)
        sums.append(index_of(tmp_path, tmp_path).table["DATASUM"][0].as_py())
    assert sums[0] == sums[2] != sums[1]


def test_no_pixels_are_needed_but_a_truncated_file_is_named(tmp_path):
    frame = write_exposure(tmp_path, 0, {"1-1.E": (10.0, 0.0)})
    frame.write_bytes(frame.read_bytes()[:-2880])
    with pytest.raises(InputError, match=f"{frame.name}.*truncated"):
        index_of(tmp_path, tmp_path)


def test_a_missing_zero_point_is_named(tmp_path):
    frame = write_exposure(tmp_path, 0, {"1-1.E": (10.0, 0.0)})
    with fits.open(frame, mode="update") as hdus:
        del hdus["1-1.E.SCI"].header["MAGZEROP"]
    with pytest.raises(InputError, match=rf"{frame.name}\[1-1.E.SCI\], key MAGZEROP"):
        index_of(tmp_path, tmp_path)


def test_a_missing_layer_is_named(tmp_path):
    frame = write_exposure(tmp_path, 0, {"1-1.E": (10.0, 0.0)})
    with fits.open(frame) as hdus:
        fits.HDUList([hdus[0], hdus[1], hdus[3]]).writeto(tmp_path / "short.fits")
    (tmp_path / "short.fits").replace(frame)
    with pytest.raises(InputError, match=f"{frame.name}.*no extension 1-1.E.RMS"):
        index_of(tmp_path, tmp_path)


def test_an_empty_survey_is_named(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        list_exposure_files(tmp_path / "nowhere")


def test_a_damaged_index_is_named(tmp_path):
    (path := tmp_path / "quadrants.parquet").write_bytes(b"nonsense")
    with pytest.raises(InputError, match=str(path)):
        read_index(path)
