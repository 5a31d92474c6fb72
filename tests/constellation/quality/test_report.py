"""Each check passes on a right catalogue, and fails alone on one that is spoilt in its way."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from constellation.catalogue.schema import FAILURES
from constellation.cli import main
from constellation.quality import plots
from constellation.quality.check import CHECKS, read_checks, to_table
from constellation.quality.plots import plot_quality
from constellation.quality.report import check_catalogue
from constellation.quality.settings import CORRUPT, QualityConfig
from shine.errors import SourceFlag, Status

from .skies import GRID, Sky, changed, make_sky

SETTINGS = QualityConfig()
NO_SHEAR = ("G1", "G2", "G1_ERR", "G2_ERR", "G1G2_COV")


@pytest.fixture(scope="module")
def sky(tmp_path_factory) -> Sky:
    return make_sky(tmp_path_factory.mktemp("sky"))


@pytest.fixture
def judged(tmp_path):
    """What the checks say of a sky, by name."""

    def judge(sky: Sky, truth: bool = True, settings: QualityConfig = SETTINGS, spoil=None):
        folder = sky.publish(tmp_path / "catalogue")
        if spoil:
            spoil(folder)
        parquet.write_table(sky.truth, tmp_path / "truth.parquet")
        path = tmp_path / "truth.parquet" if truth else None
        return {
            check.name: check for check in check_catalogue(folder, sky.plan, settings, path).checks
        }

    return judge


def failed(checks) -> set[str]:
    return {name for name, check in checks.items() if check.outcome == "failed"}


def test_a_right_catalogue_passes_every_check(sky, judged):
    checks = judged(sky)
    assert {check.outcome for check in checks.values()} == {"passed"}
    assert len(checks) == 23
    assert set(CORRUPT) < set(checks)


def test_without_truth_the_pulls_are_not_checked_and_say_why(sky, judged):
    checks = judged(sky, truth=False)
    skipped = {name for name, check in checks.items() if check.outcome == "not checked"}
    assert skipped == {"pull_mean_1", "pull_mean_2", "pull_rms"}
    assert checks["pull_rms"].detail == "there is no truth"
    assert failed(checks) == {"mean_shear_1", "mean_shear_2"}  # all of this sky has one shear


def without_sources(sky: Sky, cell: tuple[int, int], part: float) -> Sky:
    """A sub-tile with part of its galaxies, and N_SOURCES to fit."""
    place = np.column_stack([sky.sources[n] for n in ("SUBTILE_ROW", "SUBTILE_COL", "TILE_ID")])
    own = np.flatnonzero((place == (*cell, 100)).all(axis=1))
    keep = np.ones(sky.sources.num_rows, bool)
    keep[own[int(part * len(own)) :]] = False
    sources = sky.sources.filter(pa.array(keep))
    used = np.asarray(sources["KIND"])[own[: int(part * len(own))]] == 0
    row = GRID[1] * cell[0] + cell[1]
    return replace(sky.with_shear("N_SOURCES", row, int(used.sum())), sources=sources)


def relabelled(sky: Sky) -> Sky:
    """A source that is said to be in the neighbouring sub-tile, with N_SOURCES to fit."""
    kind, row = np.asarray(sky.sources["KIND"]), np.asarray(sky.sources["SUBTILE_ROW"])
    star = int(np.flatnonzero((kind == 2) & (row == 0))[0])
    return sky.with_sources("SUBTILE_ROW", star, 1)


SPOILT = {
    "duplicate_sources": [
        lambda s: s.with_sources("OBJECT_ID", 1, 100_000_000),
        lambda s: s.with_sources("OBJECT_ID", -1, 100_000_000),
    ],
    "duplicate_subtiles": [
        lambda s: replace(s, shear=pa.concat_tables([s.shear, s.shear.slice(4, 1)]))
    ],
    "nulls": [
        lambda s: s.with_shear("G1", 3, None),
        lambda s: s.with_shear("G1G2_COV", 3, None),
        lambda s: s.with_shear("CHI2", 3, float("nan")),
        lambda s: s.with_shear("STATUS", 3, int(Status.NO_SOURCES)),
        lambda s: s.with_sources("FLUX", 7, None),
        lambda s: s.with_sources("E1", 7, float("nan")),
        lambda s: s.with_sources("N_PIXELS", 7, 0),
    ],
    "ranges": [
        lambda s: s.with_shear("G1G2_COV", 3, 0.1),
        lambda s: s.with_shear("G1_ERR", 3, 0.0),
        lambda s: s.with_shear("G2_ERR", 3, -0.01),
        lambda s: s.with_shear("CHI2", 3, -1.0),
        lambda s: s.with_sources("FLUX", 7, float("inf")),
        lambda s: s.with_sources("FLUX_ERR", 7, -0.1),
        lambda s: s.with_sources("E2", 7, 1.2),
        lambda s: s.with_sources("KIND", int(np.flatnonzero(np.asarray(s.sources["KIND"]))[0]), 9),
        lambda s: s.with_sources("PSF_FWHM", 7, 0.0),
    ],
    "positions": [relabelled],
    "source_counts": [
        lambda s: s.with_shear("N_SOURCES", 3, 5),
        lambda s: s.with_sources("N_EXPOSURES", int(np.argmin(np.asarray(s.sources["KIND"]))), 0),
    ],
    "poor_fits": [
        lambda s: s.with_sources("FLAGS", slice(0, None, 10), int(SourceFlag.POOR_FIT)),
    ],
    "source_density": [lambda s: without_sources(s, (1, 1), 0.02)],
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "spoil"), [(name, spoil) for name, ways in SPOILT.items() for spoil in ways]
)
def test_a_spoilt_catalogue_fails_the_check_of_it_and_no_other(sky, judged, name, spoil):
    checks = judged(spoil(sky))
    assert failed(checks) == {name}
    assert checks[name].value > 0


def test_a_shear_beyond_one_is_out_of_range_and_an_outlier(sky, judged):
    checks = judged(sky.with_shear("G2", 3, -1.1))
    assert failed(checks) == {"ranges", "shear_outliers", "pull_mean_2", "pull_rms"}
    assert "|g| >= 1: 1, first 100_1_0" in checks["ranges"].detail
    assert checks["shear_outliers"].detail.startswith("100_1_0 (")


def test_a_null_where_the_schema_has_none_is_found(sky, judged):
    def spoil(folder: Path) -> None:
        for path in (folder / "shear.parquet", *folder.glob("sources/*-*.parquet")):
            column = "FLAGS"
            table = parquet.read_table(path)
            schema = table.schema.set(
                table.schema.get_field_index(column), pa.field(column, pa.int32())
            )
            parquet.write_table(changed(table.cast(schema), column, 0, None), path)
        fitting = parquet.read_table(folder / "files.parquet")
        sizes = [(folder / p).stat().st_size for p in fitting["PATH"].to_pylist()]
        place = fitting.schema.get_field_index("N_BYTES")
        fitting = fitting.set_column(place, fitting.schema.field("N_BYTES"), pa.array(sizes))
        parquet.write_table(fitting, folder / "files.parquet")

    checks = judged(sky, spoil=spoil)
    assert failed(checks) == {"nulls"}
    assert checks["nulls"].value == 3
    assert "FLAGS null: 3" in checks["nulls"].detail


@pytest.mark.parametrize("way", ["missing", "cut", "grown"])
def test_a_source_file_that_is_not_as_listed_is_named(sky, judged, way):
    def spoil(folder: Path) -> None:
        path = min(folder.glob("sources/100-*.parquet"))
        content = path.read_bytes()
        path.unlink()
        if way != "missing":
            path.write_bytes(content[:-9] if way == "cut" else content + b" ")

    checks = judged(sky, spoil=spoil)
    assert {"files", "source_counts"} <= failed(checks)
    assert checks["files"].value == 1
    assert checks["files"].detail.startswith("sources/100-")


def with_failures(folder: Path, keys: list[tuple[int, int, int]]) -> None:
    names = ("TILE_ID", "SUBTILE_ROW", "SUBTILE_COL")
    rows = [
        dict(zip(names, key, strict=True)) | {"CLASS": "out of memory", "LOG": "x"} for key in keys
    ]
    parquet.write_table(pa.Table.from_pylist(rows, FAILURES), folder / "failures.parquet")


def test_failures_are_counted_against_the_plan(sky, judged):
    shear = sky.shear.slice(1)
    place = np.column_stack([sky.sources[n] for n in ("TILE_ID", "SUBTILE_ROW", "SUBTILE_COL")])
    rest = sky.sources.filter(pa.array(~(place == (100, 0, 0)).all(axis=1)))
    left = replace(sky, shear=shear, sources=rest)
    checks = judged(left, spoil=lambda folder: with_failures(folder, [(100, 0, 0)]))
    assert failed(checks) == {"failures"}
    assert checks["failures"].value == pytest.approx(1 / 18)
    assert checks["failures"].detail == "1 of 18; out of memory: 1"


@pytest.mark.parametrize(
    ("key", "detail"),
    [
        ((100, 0, 0), "both result and failure: 1, first 100_0_0"),
        ((100, 7, 0), "not planned: 1, first 100_7_0"),
    ],
)
def test_what_differs_from_the_plan_is_named(sky, judged, key, detail):
    settings = QualityConfig(max_failures=0.1)
    checks = judged(sky, settings=settings, spoil=lambda folder: with_failures(folder, [key]))
    assert failed(checks) == {"planned"} and checks["planned"].detail == detail


def test_a_planned_sub_tile_that_is_nowhere_is_named(sky, judged):
    checks = judged(replace(sky, shear=sky.shear.slice(1)))
    assert failed(checks) == {"planned", "source_counts"}
    assert checks["planned"].detail == "neither result nor failure: 1, first 100_0_0"
    assert "sources of a sub-tile without a row" in checks["source_counts"].detail


def test_sub_tiles_that_did_not_converge_count_and_empty_ones_do_not(sky, judged):
    stopped = sky.with_shear("STATUS", [2, 5], int(Status.NOT_CONVERGED))
    checks = judged(stopped)
    assert failed(checks) == {"convergence"}
    assert checks["convergence"].value == pytest.approx(16 / 18)
    assert checks["convergence"].error == pytest.approx(np.sqrt(16 / 18 * 2 / 18 / 18))
    assert checks["convergence"].detail == "OK: 16, NOT_CONVERGED: 2"


def test_a_sub_tile_without_shear_is_no_fault(sky, judged):
    empty = without_sources(sky, (0, 0), 0.0).with_shear("STATUS", 0, int(Status.NO_SOURCES))
    for name in NO_SHEAR:
        empty = empty.with_shear(name, 0, None)
    checks = judged(empty, settings=QualityConfig(stop_on=["nulls"]))
    assert failed(checks) == {"source_density"}
    assert checks["source_density"].detail.partition("; ")[2].startswith("100_0_0 (-")
    assert checks["convergence"].value == 1.0


def test_one_sub_tile_is_too_few_for_statistics(sky, judged):
    place = np.column_stack([sky.sources[n] for n in ("TILE_ID", "SUBTILE_ROW", "SUBTILE_COL")])
    own = (place == (100, 0, 0)).all(axis=1)
    one = replace(sky, shear=sky.shear.slice(0, 1), sources=sky.sources.filter(pa.array(own)))
    checks = judged(one)
    skipped = {name for name, check in checks.items() if check.outcome == "not checked"}
    assert skipped == {
        "source_density", "shear_outliers", "mean_shear_1", "mean_shear_2", "tangential_shear",
        "cross_shear", "leakage", "leakage_1", "leakage_2",
    }  # fmt: skip
    assert all(checks[name].detail and checks[name].value is None for name in skipped)


def test_one_psf_for_all_tells_nothing_of_leakage(sky, judged):
    one = sky.with_shear("PSF_E1", slice(None), 0.02).with_shear("PSF_E2", slice(None), -0.01)
    checks = judged(one)
    assert checks["leakage"].outcome == "not checked"
    assert "do not tell it apart" in checks["leakage"].detail
    none = sky.with_shear("PSF_E1", slice(None), None)
    (folder := sky.plan.tiling.tiles.parent / "again").mkdir(exist_ok=True)
    published = none.publish(folder / "catalogue")
    again = {c.name: c for c in check_catalogue(published, sky.plan, SETTINGS).checks}
    assert again["leakage"].detail == "no sub-tile with shear and PSF_E1, PSF_E2"


def test_the_command_writes_table_text_and_figure_and_the_gate_refuses(sky, tmp_path, capsys):
    folder = sky.with_shear("G1_ERR", 3, -0.01).publish(tmp_path / "catalogue")
    tiling = json.dumps({"tiles": str(sky.plan.tiling.tiles), "sub_tile_grid": GRID})
    options = ["--tiling", tiling, "--catalogue", str(folder), "--output", str(tmp_path / "q")]
    assert main(["quality", *options]) == 0
    text = (tmp_path / "q" / "checks.txt").read_text()
    assert text in capsys.readouterr().out
    table = parquet.read_table(tmp_path / "q" / "checks.parquet")
    assert table.schema.equals(CHECKS) and table.num_rows == 23
    assert (tmp_path / "q" / "quality.png").read_bytes().startswith(b"\x89PNG")
    first = (tmp_path / "q" / "quality.png").read_bytes()
    assert main(["quality", *options]) == 0
    assert (tmp_path / "q" / "quality.png").read_bytes() == first
    capsys.readouterr()

    checks = tmp_path / "q" / "checks.parquet"
    gate = ["quality-gate", "--checks", str(checks), "--output", str(tmp_path / "passed")]
    assert main(gate) == 3
    error = capsys.readouterr().err
    assert "found 1 failed quality checks" in error and "error not positive: 1" in error
    assert not (tmp_path / "passed").exists()
    assert main([*gate, "--settings", '{"stop_on": ["files"]}']) == 0
    assert (tmp_path / "passed").exists()
    assert main([*gate, "--settings", '{"stop_on": ["file"]}']) == 2
    assert {c.name for c in read_checks(checks) if c.outcome == "failed"} >= {"ranges"}
    told = [line for line in text.splitlines() if line.startswith("failed: ")]
    assert any(
        line.startswith("failed: ranges: values that cannot be: 1 (limit: 0); error")
        for line in told
    )


@pytest.mark.parametrize("n", [0, 1])
def test_a_figure_is_drawn_of_hardly_any_sub_tile(sky, tmp_path, n):
    one = replace(sky, shear=sky.shear.slice(0, n), sources=sky.sources.slice(0, 30 * n))
    quality = check_catalogue(one.publish(tmp_path / "catalogue"), sky.plan, SETTINGS)
    plot_quality(quality, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert next(c for c in quality.checks if c.name == "planned").outcome == "failed"
    assert to_table(quality.checks).num_rows == 23


def test_a_figure_of_many_sub_tiles_shows_bins(sky, tmp_path, monkeypatch):
    monkeypatch.setattr(plots, "MOST_POINTS", 10)
    monkeypatch.setattr(plots, "BINS", 3)
    quality = check_catalogue(sky.publish(tmp_path / "catalogue"), sky.plan, SETTINGS)
    plot_quality(quality, tmp_path / "figure.png")
    x, weight = np.arange(18.0), np.linspace(1.0, 2.0, 18)
    middle, mean, error = plots._binned(x, 2.0 * x, weight)
    share = weight[:6] ** -2.0
    assert middle[0] == pytest.approx(np.average(x[:6], weights=share))
    assert mean[0] == pytest.approx(2.0 * middle[0])
    assert error[0] == pytest.approx(share.sum() ** -0.5)
