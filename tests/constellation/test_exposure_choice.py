"""Which exposures manifests name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from constellation.config import ExposureConfig, load_section
from constellation.exposure_choice import ExposureChoice, read_exposure_list
from constellation.spherical import Polygons
from constellation.tiling import RADIANS_PER_ARCMIN, TangentPlane
from shine.errors import ConfigurationError, InputError

PLANE = TangentPlane.at(0.0, 0.0)
INDEX = Path("quadrants.parquet")


def rows(mjd, exposures=None) -> pa.Table:
    """One row per date; exposures are dithers of one observation, numbered from 0."""
    dither = list(range(len(mjd))) if exposures is None else exposures
    return pa.table(
        {
            "OBS_ID": pa.array([5] * len(mjd), pa.int64()),
            "DITHER": pa.array(dither, pa.int16()),
            "KIND": pa.array([1] * len(mjd), pa.int8()),
            "FRAME": [f"frame-{n}.fits" for n in dither],
            "MJD": pa.array(mjd, pa.float64()),
        }
    )


def box(west, east, south=-1.0, north=1.0):
    """Corners of a box in arcmin."""
    corners = np.array([[west, south], [east, south], [east, north], [west, north]])
    return PLANE.unproject(*(corners * RADIANS_PER_ARCMIN).T)


def sources(*xi_arcmin):
    return PLANE.unproject(np.array(xi_arcmin) * RADIANS_PER_ARCMIN, np.zeros(len(xi_arcmin)))


def used(table, **settings):
    return ExposureChoice(ExposureConfig(**settings)).used(table, INDEX).tolist()


def needed(table, outlines, vectors, most):
    choice = ExposureChoice(ExposureConfig(most_per_source=most))
    return choice.needed(table, Polygons(np.array(outlines)), vectors).tolist()


def test_dates_leave_out_what_is_before_or_after():
    table = rows([60000.0, 60001.0, 60002.0])
    assert used(table) == [True, True, True]
    assert used(table, first_mjd=60001.0) == [False, True, True]
    assert used(table, last_mjd=60001.0) == [True, True, False]
    assert used(table, first_mjd=60000.5, last_mjd=60001.5) == [False, True, False]


def test_an_exposure_without_a_date_is_named_unless_it_is_left_out(tmp_path):
    table = rows([60000.0, None])
    assert used(table) == [True, True]
    with pytest.raises(InputError, match=r"quadrants\.parquet, column MJD of frame-1\.fits: found"):
        used(table, first_mjd=1.0)
    (path := tmp_path / "bad.csv").write_text("OBS_ID,DITHER\n5,1\n")
    assert used(table, first_mjd=1.0, left_out=path) == [True, False]


def test_listed_exposures_are_left_out(tmp_path):
    (path := tmp_path / "bad.csv").write_text("OBS_ID,DITHER,why\n5,1,stray light\n6,0,guiding\n")
    assert used(rows([1.0, 2.0, 3.0]), left_out=path) == [True, False, True]
    path.write_text("OBS_ID,DITHER\n")
    assert used(rows([1.0, 2.0]), left_out=path) == [True, True]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("OBS_ID,dither\n5,1\n", r"column DITHER: found only OBS_ID, dither, expected DITHER"),
        ("OBS_ID,DITHER\n5,x\n", r"column DITHER: found string, expected integers"),
        ("OBS_ID,DITHER\n5,\n5,1\n", r"column DITHER: found a missing value, expected integers"),
        ("", r"found no readable table .* expected CSV"),
    ],
)
def test_a_bad_list_is_named(tmp_path, text, message):
    (path := tmp_path / "bad.csv").write_text(text)
    with pytest.raises(InputError, match=rf"bad\.csv.*{message}.*data\.exposures\.left_out"):
        read_exposure_list(path)


def test_a_list_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match=r"none\.csv: found no readable table"):
        read_exposure_list(tmp_path / "none.csv")


def test_the_earliest_exposures_of_a_source_count():
    whole = [box(-5.0, 5.0)] * 4
    table = rows([4.0, 2.0, 1.0, 3.0])
    assert needed(table, whole, sources(0.0), 2) == [False, True, True, False]
    assert needed(table, whole, sources(0.0), 9) == [True] * 4
    same_time = rows([1.0, 1.0, 1.0])
    assert needed(same_time, whole[:3], sources(0.0), 1) == [True, False, False]
    undated = rows([None, 1.0])
    assert needed(undated, whole[:2], sources(0.0), 1) == [False, True]


def test_no_source_goes_without_what_only_a_later_exposure_saw():
    outlines = [box(-5.0, 1.0), box(-5.0, 1.0), box(-1.0, 5.0)]
    table = rows([1.0, 2.0, 3.0])
    assert needed(table, outlines, sources(-3.0, 3.0), 1) == [True, False, True]
    assert needed(table, outlines, sources(-3.0, 0.0), 1) == [True, False, False]


def test_gaps_between_detectors_belong_to_the_field():
    gap = 0.5  # arcmin to either side: a source in it is not seen, and no reason for more
    first = [box(-5.0, -gap), box(gap, 5.0)]
    table = rows([1.0, 1.0, 2.0], [0, 0, 1])
    outlines = [*first, box(-5.0, 5.0)]
    assert needed(table, outlines, sources(-3.0, 0.0, 3.0), 1) == [True, True, False]
    far = [box(-5.0, -2.0), box(2.0, 5.0), box(-5.0, 5.0)]
    assert needed(table, far, sources(-3.0, 0.0, 3.0), 1) == [True, True, True]


def test_without_sources_or_a_limit_everything_is_needed():
    table = rows([1.0, 2.0])
    assert needed(table, [box(-5.0, 5.0)] * 2, sources(), 1) == [True, True]
    assert needed(table, [box(-5.0, 5.0)] * 2, sources(0.0), None) == [True, True]


def test_impossible_settings_are_named():
    for text, message in (
        ('{"first_mjd": 2, "last_mjd": 1}', r"first_mjd 2\.0 is after last_mjd 1\.0"),
        ('{"most_per_source": 0}', r"data\.exposures: most_per_source: .*greater than 0"),
        ('{"most": 1}', r"most: unknown key"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            load_section(ExposureConfig, "data.exposures", text)
