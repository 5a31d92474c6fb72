"""The charts of a report: where things are on a map, which way whiskers go, what a scale holds."""

from __future__ import annotations

import re

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.wcs import WCS
from pyarrow import parquet

from constellation.report.campaign import Campaign
from constellation.report.drawing import BOTTOM, LEFT, RIGHT, TOP, WIDTH, Chart, Scale, histogram
from constellation.report.fields import Field, Points, group_near
from constellation.report.plots import comparison, convergence, pulls, samples, worst_ends
from constellation.report.sky import Sky
from constellation.run_layout import Run
from constellation.sphere import TangentPlane, unit_vectors
from shine.errors import Status

from ..fake_campaign import FakeCampaign

CENTRES = [(57.0, -51.0), (0.1, 66.0), (269.7, 89.0)]


def field_at(ra: float, dec: float) -> Field:
    return Field([1], np.arange(3), TangentPlane.at(ra, dec), "somewhere")


def around(ra: float, dec: float, n: int = 50) -> SkyCoord:
    rng = np.random.default_rng(5)
    centre = SkyCoord(ra, dec, unit="deg")
    return centre.directional_offset_by(
        rng.uniform(0, 360, n) * u.deg, rng.uniform(0, 9, n) * u.deg
    )


@pytest.mark.parametrize("centre", CENTRES)
def test_a_map_is_the_equal_area_projection_of_astropy(centre):
    sky = around(*centre)
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval, wcs.wcs.cdelt = ["RA---ZEA", "DEC--ZEA"], centre, [-1.0, 1.0]
    expected = wcs.wcs_world2pix(np.stack([sky.ra.deg, sky.dec.deg], axis=-1), 0) + 1.0
    found = field_at(*centre).project(unit_vectors(sky.ra.deg, sky.dec.deg))
    assert np.abs(found - expected).max() < 1e-9  # degrees; west is right


@pytest.mark.parametrize("centre", CENTRES)
def test_directions_on_the_map_are_those_of_the_sky(centre):
    sky, angle = around(*centre), np.random.default_rng(6).uniform(0, 2 * np.pi, 50)
    field = field_at(*centre)
    # from the west towards north, while position angles go from north towards east
    there = sky.directional_offset_by((angle - np.pi / 2) * u.rad, 2 * u.arcsec)
    moved = field.project(unit_vectors(there.ra.deg, there.dec.deg))
    moved -= field.project(unit_vectors(sky.ra.deg, sky.dec.deg))
    moved /= np.linalg.norm(moved, axis=-1, keepdims=True)
    found = field.directions(unit_vectors(sky.ra.deg, sky.dec.deg), angle)
    assert np.abs(found - moved).max() < 1e-3


@pytest.mark.parametrize(
    ("shear", "way"),
    [((0.1, 0.0), (1, 0)), ((-0.1, 0.0), (0, 1)), ((0.0, 0.1), (1, 1)), ((0.0, -0.1), (1, -1))],
)
def test_a_whisker_lies_along_the_stretching(shear, way):
    vectors = unit_vectors([57.0, 57.5], [-51.0, -51.0])
    points = Points(field_at(57.0, -51.0), vectors, np.array([shear, shear]), "sub-tiles")
    starts, ends = points.whiskers(0.1)
    found = (ends - starts)[0]
    assert np.linalg.norm(found) == pytest.approx(0.9 * points.spacing_deg)
    assert abs(found[0] * way[1] - found[1] * way[0]) < 1e-3  # west is right, north is up
    assert np.allclose((starts + ends)[0] / 2, points.positions[0])


def test_tiles_far_apart_lie_in_fields_of_their_own():
    ra, dec = [10.0, 10.6, 200.0, 11.2, 200.7], [0.0, 0.0, 60.0, 0.5, 60.0]
    groups = [group.tolist() for group in group_near(unit_vectors(ra, dec))]
    assert groups == [[0, 1, 3], [2, 4]]


@pytest.fixture
def campaign(tmp_path) -> FakeCampaign:
    """Two tiles of 2 x 2 sub-tiles, one of which has no shear."""
    status = {"1000_1_1": Status.NO_SOURCES}
    return FakeCampaign(tmp_path / "run", failed=("1001_1_0",), status=status).write()


def read(fake: FakeCampaign) -> Campaign:
    return Campaign(Run.from_config(fake.config), fake.results)


def test_the_coverage_has_a_box_for_each_planned_sub_tile(campaign):
    [found] = Sky(read(campaign)).coverage()
    assert "6 converged, 1 nothing to infer, 1 no result" in found.description
    svg = str(found.chart.markup("x"))
    shapes = {
        name: d.count("M") for name, d in re.findall(r'class="cell (\w+)".*?d="([^"]+)"', svg)
    }
    assert shapes == {"green": 6, "grey": 1, "red": 1}


def test_a_field_without_any_result_has_its_maps(tmp_path, monkeypatch):
    monkeypatch.setattr("constellation.report.fields.LINK_DEG", 0.1)
    lost = tuple(f"1001_{row}_{col}" for row in (0, 1) for col in (0, 1))
    sky = Sky(read(FakeCampaign(tmp_path / "run", failed=lost).write()))
    assert [field.tile_ids for field in sky.fields] == [[1000], [1001]]
    told = [found.description for found in sky.coverage()]
    assert "4 converged" in told[0] and "4 no result" in told[1]
    told = [found.description for found in sky.shear()]
    assert "of 4 sub-tiles" in told[0] and "of 0 sub-tiles" in told[1]


def test_of_a_large_field_each_whisker_is_the_mean_of_a_tile(campaign, monkeypatch):
    monkeypatch.setattr("constellation.report.sky.MOST_WHISKERS", 3)
    path = campaign.results / "catalogue" / "shear.parquet"
    table = parquet.read_table(path)
    errors = np.linspace(0.01, 0.05, table.num_rows).astype(np.float32)
    for name in ("G1_ERR", "G2_ERR"):
        table = table.set_column(table.column_names.index(name), name, [errors])
    parquet.write_table(table, path)
    sky = Sky(read(campaign))
    points = sky._points(sky.fields[0], sky.campaign.g, 1.0 / sky.campaign.g_err[:, 0] ** 2)
    assert points.what == "tiles"
    for value, tile in zip(points.values, (1000, 1001), strict=True):
        rows = [r for r in table.to_pylist() if r["TILE_ID"] == tile and r["G1"] is not None]
        weights = [r["G1_ERR"] ** -2 for r in rows]
        for n, name in enumerate(("G1", "G2")):
            mean = np.average([r[name] for r in rows], weights=weights)
            assert value[n] == pytest.approx(mean, rel=1e-6)
    [found] = sky.shear()
    assert "2 tiles" in found.description


def test_the_curves_are_those_of_the_run_records(campaign):
    found = read(campaign)
    plots = convergence(found)
    assert [plot.name for plot in plots] == ["promised", "moving"]  # no sweep moves the shear
    assert "4 sweeps of 7 sub-tiles" in plots[0].description
    assert "worst ends at 10" in plots[0].description  # 2.5 x 4
    assert [(stem, value) for stem, value in worst_ends(found)] == [
        ("1000_1_1", 10.0),
        ("1001_1_1", 10.0),
        ("1000_0_1", 7.5),
    ]


def test_numbers_of_the_charts_are_those_of_the_catalogue(campaign):
    found = read(campaign)
    known = found.pulls[np.isfinite(found.pulls)]
    assert len(known) == 12
    largest = f"rms {np.sqrt((known**2).mean()):.2f}, largest {np.abs(known).max():.2f}"
    assert largest in pulls(found).description
    difference = (found.g - found.truth)[np.isfinite(found.pulls)].mean()
    assert f"{difference:+.4f}".replace("-", "−") in comparison(found).description
    low, median = np.quantile(found.effective_samples, [0.05, 0.5])
    assert f"median {median:.0f}, 5 % have fewer than {low:.0f}" in samples(found).caption


def test_what_has_no_place_is_left_out():
    chart = Chart(Scale(0.1, 10.0, log=True), Scale(0.0, 1.0))
    chart.dots([1.0, 0.0, np.nan, -1.0], [0.5, 0.5, 0.5, 0.5], "blue")
    [middle] = re.findall(r"M([\d.]+) ([\d.]+)h0", chart.parts[0])
    assert float(middle[0]) == pytest.approx((LEFT + WIDTH - RIGHT) / 2)
    assert float(middle[1]) == pytest.approx((TOP + chart.height - BOTTOM) / 2)
    assert "nan" not in str(chart.markup("x")).lower()


@pytest.mark.parametrize("values", [[], [np.nan], [3.0], [2.0, 2.0], [1e-9, 5e8], [-4.0, 0.0]])
def test_whatever_the_values_there_is_a_histogram(values):
    chart = histogram(np.array(values, float), "values", "blue")
    svg = str(chart.markup("x"))
    assert "nan" not in svg and "inf" not in svg
    assert svg.count("<text") > 4


@pytest.mark.parametrize(
    ("scale", "labels"),
    [
        (Scale(0.0, 1.0), ["0", "0.2", "0.4", "0.6", "0.8", "1"]),
        (Scale(-0.05, 0.05), ["−0.04", "−0.02", "0", "0.02", "0.04"]),
        (Scale(0.7, 4.3, whole=True), ["1", "2", "3", "4"]),
        (Scale(1.0, 1e6, log=True), ["1", "10", "100", "1000", "10⁴", "10⁵", "10⁶"]),
        (Scale(2.0, 30.0, log=True), ["2", "5", "10", "20"]),
    ],
)
def test_axes_are_labelled_with_round_numbers(scale, labels):
    found = [label for _, label in scale.ticks()]
    assert found == labels[:: 1 if len(found) == len(labels) else 2]


def test_a_legend_that_is_too_long_has_several_rows():
    chart = Chart(Scale(0.0, 1.0), Scale(0.0, 1.0))
    chart.legend += [("blue", f"a rather long text {n}") for n in range(4)]
    svg = str(chart.markup("x"))
    rows = [
        float(re.search(rf'y="([-\d.]+)"[^>]*>a rather long text {n}<', svg)[1]) for n in range(4)
    ]
    assert rows == [-34.0, -17.0, 0.0, 17.0]
    top = float(re.search(r'viewBox="0 ([-\d.]+)', svg)[1])
    assert top == min(rows) - 17.0
