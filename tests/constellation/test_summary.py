"""The summary on a made-up catalogue whose numbers can be checked by hand."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from constellation.catalogue.published import PublishedCatalogue
from constellation.plan import SubTile
from constellation.summary import format_table, summarise
from constellation.summary_plots import plot_summary
from shine.errors import InputError, Kind, Status

from .fake_catalogue import publish_plainly
from .fake_results import SHEAR, Result, tile_catalogue

FIRST, EMPTY, VAGUE = (SubTile(11, 0, col) for col in range(3))
RESULTS = [
    # the third carries no shear, so the truth is the mean of the first two
    Result(FIRST, {1: Kind.GALAXY, 2: Kind.GALAXY, 3: Kind.NUISANCE}),
    Result.without_shear(EMPTY, Status.NO_SOURCES),
    Result(
        VAGUE,
        {4: Kind.GALAXY},
        {"g1": 0.1, "g2": 0.2, "convergence": 3.5, "status": Status.NOT_CONVERGED},
    ),
]
TRUTH = pa.table(
    {
        "OBJECT_ID": [1, 2, 3, 4, 5],
        "G1": [0.01, 0.03, 0.5, 0.1, 0.5],
        "G2": [-0.02, 0.0, 0.5, 0.1, 0.5],
    }
)
TABLE = """\
sub-tile             N        g1       g2   g1_err  g2_err   g1_true  g2_true   pull1  pull2  \
converg.  status
---------------------------------------------------------------------------------------------\
-----------------
11_0_0               2   +0.0300  -0.0200   0.0100  0.0200   +0.0200  -0.0100   +1.00  -0.50  \
       -  OK
11_0_1               0         -        -        -       -         -        -       -      -  \
       -  NO_SOURCES
11_0_2               1   +0.1000  +0.2000        -       -   +0.1000  +0.1000       -      -  \
 3.5e+00  NOT_CONVERGED

pulls: rms 0.79 of 2 (1 if the errors are right), largest |pull| 1.00
2 of 3 sub-tiles have no converged shear
"""


@pytest.fixture
def truth(tmp_path):
    parquet.write_table(TRUTH, tmp_path / "truth.parquet")
    return tmp_path / "truth.parquet"


@pytest.fixture
def catalogue(tmp_path):
    return published(RESULTS, tmp_path)


def published(results, folder):
    rows = tile_catalogue(results, folder)
    return PublishedCatalogue(publish_plainly(folder / "catalogue", rows.shear, rows.sources))


def test_the_table_shows_each_sub_tile_and_what_is_missing(catalogue, truth):
    assert format_table(summarise(catalogue, truth)) == TABLE


def test_pulls_compare_with_the_mean_truth_of_the_galaxies_that_carry_shear(
    catalogue, truth, tmp_path
):
    summary = summarise(catalogue, truth)
    assert summary.truth[0] == pytest.approx([0.02, -0.01])
    by_hand = [(SHEAR["g1"] - 0.02) / SHEAR["g1_err"], (SHEAR["g2"] + 0.01) / SHEAR["g2_err"]]
    assert summary.pulls[0] == pytest.approx(by_hand, rel=1e-6)
    assert np.isnan(summary.pulls[1:]).all()
    assert summary.pull_rms == pytest.approx(np.sqrt((1.0**2 + 0.5**2) / 2), rel=1e-6)


def test_without_a_truth_there_are_no_pulls(catalogue, tmp_path):
    summary = summarise(catalogue, None)
    assert np.isnan(summary.truth).all() and np.isnan(summary.pull_rms)
    assert "pulls: none, because there is no truth to compare with" in format_table(summary)


def test_a_truth_of_other_sources_gives_no_pulls(catalogue, tmp_path):
    other = TRUTH.set_column(0, "OBJECT_ID", pa.array([91, 92, 93, 94, 95]))
    parquet.write_table(other, tmp_path / "other.parquet")
    summary = summarise(catalogue, tmp_path / "other.parquet")
    assert np.isnan(summary.truth).all()


def test_a_bad_truth_is_named(catalogue, truth, tmp_path):
    parquet.write_table(TRUTH.drop_columns("G2"), truth)
    with pytest.raises(InputError, match=f"{truth}, column G2: found no such column"):
        summarise(catalogue, truth)
    with pytest.raises(InputError, match=r"nowhere\.parquet: found no readable table"):
        summarise(catalogue, tmp_path / "nowhere.parquet")


def test_long_numbers_keep_the_columns_in_line(truth, tmp_path):
    wild = Result(FIRST, {1: Kind.GALAXY}, SHEAR | {"g1": -0.9, "status": Status.OK})
    lines = format_table(summarise(published([wild], tmp_path), truth)).splitlines()
    assert lines[2].index("OK") == lines[0].index("status")
    assert "-91.00" in lines[2]


@pytest.fixture
def panels(tmp_path):
    """A picture as wide as shine's, with broad empty stripes."""
    from matplotlib import image

    pixels = np.ones((540, 1485, 4))
    pixels[100:400, 50:-50, :3] = np.random.default_rng(1).random((300, 1385, 1))
    image.imsave(tmp_path / "panels.png", pixels)
    return tmp_path / "panels.png"


def pixels_of(path):
    from matplotlib import image

    return image.imread(path)


def test_the_figure_shows_the_panels_pixel_by_pixel(catalogue, truth, panels, tmp_path):
    summary = summarise(catalogue, truth)
    plot_summary(summary, panels, tmp_path / "with.png")
    plot_summary(summary, None, tmp_path / "without.png")
    figure, plain = pixels_of(tmp_path / "with.png"), pixels_of(tmp_path / "without.png")
    assert figure.shape[1] == plain.shape[1] == 1485
    stripe = figure.shape[0] - plain.shape[0] - 300
    assert 0 < stripe < 60  # the empty stripes have shrunk
    shown = pixels_of(panels)[100:400]
    assert np.array_equal(figure[stripe // 2 : stripe // 2 + 300], shown)


def test_the_same_summary_gives_the_same_bytes(catalogue, truth, panels, tmp_path):
    summary = summarise(catalogue, truth)
    for name in ("a.png", "b.png"):
        plot_summary(summary, panels, tmp_path / "new" / name)
    first, second = sorted((tmp_path / "new").iterdir())
    assert first.read_bytes() == second.read_bytes()
    assert first.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("results", [RESULTS[:1], RESULTS[1:2], RESULTS[1:]])
@pytest.mark.parametrize("with_truth", [True, False])
def test_whatever_is_missing_there_is_a_figure(results, with_truth, truth, tmp_path):
    catalogue = published(results, tmp_path)
    summary = summarise(catalogue, truth if with_truth else None)
    plot_summary(summary, None, tmp_path / "figure.png")
    assert pixels_of(tmp_path / "figure.png").std() > 0.05


def test_a_damaged_picture_is_named(catalogue, tmp_path):
    summary = summarise(catalogue, None)
    for content in (b"no picture", b"\x89PNG\r\n\x1a\n and no more"):
        (path := tmp_path / "panels.png").write_bytes(content)
        with pytest.raises(InputError, match=f"{path}: found no readable image"):
            plot_summary(summary, path, tmp_path / "figure.png")
    assert not (tmp_path / "figure.png").exists()
