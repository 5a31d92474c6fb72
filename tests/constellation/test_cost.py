"""What a survey costs: arithmetic against numbers made by hand, and what is told of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from constellation.benchmark_file import read_benchmark
from constellation.cli import main
from constellation.cost import (
    Bill,
    Extent,
    LinearLaw,
    Origin,
    Price,
    Speed,
    break_even_s,
    expected_overlaps,
)
from constellation.cost_report import format_bytes, format_duration
from shine.errors import InputError

from .fake_benchmark import CORES, QUADRANTS, SOURCES, benchmark, write_benchmark
from .fake_survey import write_exposure

SPEED = Speed("map", 10.0, 3.0, 15.0, 2.0, 6.0, 4, 2500.0, Origin.MEASURED)
CARD = Speed("card", 0.0, 0.0, 5.0, 0.0, 0.0, 0, None, Origin.ASSUMED, on_gpu=True)
EXTENT = Extent("a survey", 25, 400, 25, 20_000.0, 1e12)


def test_a_job_starts_once_and_works_on_its_sub_tiles_in_turn():
    assert SPEED.subtile_s == 30.0
    assert SPEED.job_s(16) == 6.0 + 16 * 30.0
    assert Bill(EXTENT, SPEED, None).busy_s == 25 * 486.0


def test_hours_count_cores_or_cards_and_cost_what_the_prices_say():
    bill = Bill(EXTENT, SPEED, Price(0.05, 0.02))
    assert bill.unit_hours == pytest.approx(4 * 25 * 486.0 / 3600.0)
    assert bill.cost_on_demand == pytest.approx(0.05 * bill.unit_hours)
    assert bill.cost_spot == pytest.approx(0.02 * bill.unit_hours)
    assert Bill(EXTENT, CARD, None).unit_hours == pytest.approx(400 * 5.0 / 3600.0)


def test_without_a_price_there_is_no_cost():
    assert Bill(EXTENT, SPEED, None).cost_on_demand is None
    assert Bill(EXTENT, SPEED, Price(1.0)).cost_spot is None


@pytest.mark.parametrize(("workers", "rounds"), [(1, 25), (10, 3), (24, 2), (25, 1), (1000, 1)])
def test_the_last_job_ends_after_whole_rounds(workers, rounds):
    bill = Bill(EXTENT, SPEED, None)
    assert bill.wall_s(workers) == pytest.approx(rounds * 486.0)
    paid = min(workers, 25) * rounds * 486.0 * 4 / 3600.0
    assert bill.held_hours(workers) == pytest.approx(paid)
    assert bill.held_hours(workers) >= bill.unit_hours * (1 - 1e-12)


def test_at_the_break_even_a_card_costs_what_the_cores_do():
    seconds = break_even_s(SPEED, 0.05, 1.5)
    assert seconds * 1.5 == pytest.approx(SPEED.subtile_s * SPEED.n_cores * 0.05)


def test_a_law_follows_its_points():
    law = LinearLaw.fit([(10, 4.0), (20, 6.0), (40, 10.0)])
    assert (law.intercept, law.slope) == pytest.approx((2.0, 0.2))
    assert law.ratio(80, 40) == pytest.approx(18.0 / 10.0)
    assert law.is_extrapolated(80) and not law.is_extrapolated(40)


@pytest.mark.parametrize("points", [[(40, 10.0)], [(20, 10.0), (40, 9.0)], [(10, 1.0), (20, 9.0)]])
def test_a_law_that_makes_no_sense_is_proportional(points):
    law = LinearLaw.fit(points)
    assert law.intercept == 0.0 and law.slope > 0.0
    assert law.ratio(80, 40) == pytest.approx(2.0)


def test_no_time_stays_no_time():
    assert LinearLaw.fit([(1, 0.0), (2, 0.0)]).ratio(5, 2) == 1.0
    with pytest.raises(ValueError, match="measured point"):
        LinearLaw.fit([])


def test_the_expected_overlaps_are_those_of_boxes_thrown_at_random():
    box, rectangle, pitch = (9.5, 6.0), (3.4, 3.0), (4.0, 3.5)
    rng = np.random.default_rng(5)
    counts = []
    for angle in rng.uniform(0.0, np.pi, 2000):
        # in the box's frame: pattern cells around it, by the separating-axis theorem
        along = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        steps = np.stack(np.meshgrid(np.arange(-6, 7), np.arange(-6, 7)), -1).reshape(-1, 2)
        centres = (steps + rng.uniform(-0.5, 0.5, 2)) * pitch @ along
        half_box, half_rectangle = np.array(box) / 2, np.array(rectangle) / 2
        on_box = (np.abs(centres) <= half_box + half_rectangle @ np.abs(along)).all(1)
        turned = np.abs(centres @ along.T)
        on_rectangle = (turned <= half_rectangle + half_box @ np.abs(along.T)).all(1)
        counts.append((on_box & on_rectangle).sum())
    expected = expected_overlaps(box, rectangle, pitch[0] * pitch[1])
    error = np.std(counts) / np.sqrt(len(counts))
    assert abs(np.mean(counts) - expected) < 4 * error
    assert error < 0.02 * expected


def test_a_sub_tile_of_the_benchmarks_size_takes_what_was_measured(tmp_path):
    found = read_benchmark(write_benchmark(tmp_path / "bench.json"))
    first, second = found.speeds(SOURCES, QUADRANTS)
    assert (first.name, second.name) == ("map, native", "marginal, native")
    assert (first.load_s, first.compile_s, first.solve_s) == pytest.approx((10.0, 3.0, 15.0))
    assert (first.rest_s, first.start_s, first.n_cores) == pytest.approx((1.0, 6.0, CORES))
    assert second.solve_s == pytest.approx(30.0)
    assert found.cold_s == pytest.approx(14.0)


def test_another_size_is_scaled_by_the_measured_laws(tmp_path):
    found = read_benchmark(write_benchmark(tmp_path / "bench.json"))
    first, second = found.speeds(SOURCES / 2, QUADRANTS / 2)
    assert first.load_s == pytest.approx(2.0 + 0.2 * QUADRANTS / 2)
    assert first.solve_s == pytest.approx(5.0 + 0.01 * SOURCES / 2)
    assert second.solve_s == pytest.approx(2 * first.solve_s)
    assert first.compile_s == 3.0


@pytest.mark.parametrize("drop", ["runs", "machine", "scaling", "survey"])
def test_what_is_no_benchmark_is_named_with_how_to_make_one(drop, tmp_path):
    path = tmp_path / "bench.json"
    with pytest.raises(InputError, match=r"bench\.json: found no such file.*make bench"):
        read_benchmark(path)
    content = benchmark()
    content[drop] = {} if drop != "runs" else []
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"bench\.json: found .*Error.*make bench"):
        read_benchmark(path)
    path.write_text("{")
    with pytest.raises(InputError, match=r"JSONDecodeError.*make bench"):
        read_benchmark(path)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(5, "5.0 s"), (80, "80 s"), (600, "10 min"), (36000, "10 h"), (8.64e6, "100 d")],
)
def test_durations_are_told_in_the_unit_that_suits(seconds, text):
    assert format_duration(seconds) == text


def test_bytes_have_a_prefix():
    assert [format_bytes(n) for n in (0, 67.7e6, 3.45e15)] == ["0 B", "67.7 MB", "3.45 PB"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working folder: two tiles of 2 x 2 sub-tiles, a benchmark, and no survey yet."""
    monkeypatch.chdir(tmp_path)
    Path("tiles.csv").write_text("tile_index,ra,dec\n11,10.0,0.0\n12,50.0,0.0\n")
    config = {
        "tiling": {"tiles": "tiles.csv", "sub_tile_grid": [2, 2]},
        "data": {"survey": "data"},
    }
    Path("config.yaml").write_text(yaml.safe_dump(config))
    write_benchmark(tmp_path / "bench.json")
    return tmp_path


def plan(*options):
    return main(["plan", "--config", "config.yaml", "--benchmark", "bench.json", *options])


def numbers(*options):
    assert plan("--json", "plan.json", *options) == 0
    return json.loads(Path("plan.json").read_text())


def test_the_plan_says_of_each_input_where_it_comes_from(folder, capsys):
    found = numbers()
    origins = {name: quantity["origin"] for name, quantity in found["inputs"].items()}
    assert origins == {
        "tiles": "from geometry",
        "sub-tiles": "from geometry",
        "sub-tiles per job": "assumed",
        "quadrants per sub-tile": "from geometry",
        "sources per sub-tile": "assumed",
        "pixels of a quadrant": "from geometry",
    }
    printed = capsys.readouterr().out
    for name, quantity in found["inputs"].items():
        [line] = [line for line in printed.splitlines() if line.startswith(f"{name}  ")]
        assert f" {quantity['origin']} " in line
    # 15' cells with 1' margin, at the benchmark's 10 sources per square arcminute
    assert found["inputs"]["sources per sub-tile"]["value"] == pytest.approx(10.0 * 17.0**2)
    assert "EXTRAPOLATED: 2,890 sources" in printed


def test_no_card_and_no_price_is_invented(folder, capsys):
    found = numbers()
    assert [speed["on_gpu"] for speed in found["speeds"]] == [False, False]
    bills = [bill for survey in found["surveys"] for bill in survey["bills"]]
    assert {bill["cost_on_demand"] for bill in bills} == {None}
    printed = capsys.readouterr().out
    assert "No cost: give --core-price" in printed
    assert "No graphics card has been measured" in printed


def test_cores_and_cards_are_compared_at_the_prices_given(folder, capsys):
    found = numbers("--gpu-seconds", "5", "--core-price", "0.05", "0.02", "--gpu-price", "1.5")
    card = found["speeds"][-1]
    assert (card["subtile_s"], card["origin"]) == (5.0, "assumed")
    prices = {name: found["inputs"][name]["origin"] for name in found["inputs"] if "hour" in name}
    assert prices == dict.fromkeys(
        ("core-hour, on demand", "core-hour, spot", "GPU-hour, on demand"), "assumed"
    )
    [*cores, card] = found["surveys"][0]["bills"]
    assert all(bill["cost_spot"] == pytest.approx(0.02 * bill["hours"]) for bill in cores)
    assert card["hours"] == pytest.approx(8 * 5.0 / 3600.0)
    assert card["cost_on_demand"] == pytest.approx(1.5 * card["hours"])
    assert card["cost_spot"] is None
    assert "a card is cheaper than cores" in capsys.readouterr().out


def test_the_known_surveys_are_told_with_the_same_sub_tiles(folder):
    here, q1, wide = numbers("--workers", "1", "1000")["surveys"]
    sizes = [
        [one[f"n_{what}"] for what in ("tiles", "subtiles", "jobs")] for one in (here, q1, wide)
    ]
    assert sizes == [[2, 8, 2], [260, 1040, 260], [60_000, 240_000, 60_000]]
    for survey in (q1, wide):
        ratio = survey["n_subtiles"] / here["n_subtiles"]
        assert survey["quadrants_read"] == pytest.approx(ratio * here["quadrants_read"])
        for one, other in zip(survey["bills"], here["bills"], strict=True):
            assert one["hours"] == pytest.approx(ratio * other["hours"])
            assert one["wall_s"]["1"] == pytest.approx(ratio * other["wall_s"]["1"])


def test_an_index_of_the_survey_is_measured(folder):
    # around the first tile's centre: each of its four cells sees both
    for dither in (0, 1):
        write_exposure(Path("data"), dither, {"1-1.E": (10.0, 0.0)})
    assert main(["index", "--survey", "data", "--output", "results/index/quadrants.parquet"]) == 0
    found = numbers()["inputs"]
    quadrants = found["quadrants per sub-tile"]
    assert quadrants["origin"] == "measured"
    assert quadrants["value"] == pytest.approx(2 * 4 / 8)
    assert found["pixels of a quadrant"]["origin"] == "measured"


def test_every_line_fits_a_terminal(folder, capsys):
    assert plan("--gpu-seconds", "5", "--core-price", "0.05", "0.02", "--gpu-price", "1.5") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 20
    assert max(map(len, lines)) <= 100


@pytest.mark.parametrize("prices", [[], ["--core-price", "0.05", "--gpu-price", "1.5"]])
def test_the_figure_shows_every_speed(folder, prices):
    assert plan("--figure", "with.png", "--gpu-seconds", "5", *prices) == 0
    assert plan("--figure", "without.png", *prices) == 0
    with_card, without = (Path(name).read_bytes() for name in ("with.png", "without.png"))
    assert with_card.startswith(b"\x89PNG") and with_card != without


@pytest.mark.parametrize(
    "options",
    [["--core-price", "-1"], ["--gpu-seconds", "nan"], ["--workers", "0"], ["--workers", "1.5"]],
)
def test_impossible_numbers_are_a_usage_error(folder, options, capsys):
    with pytest.raises(SystemExit) as end:
        plan(*options)
    assert end.value.code == 2
    assert (
        f"argument {options[0]}: found {options[1]}, expected a positive" in capsys.readouterr().err
    )


def test_a_third_price_is_refused(folder, capsys):
    assert plan("--core-price", "1", "2", "3") == 2
    assert "--core-price: found 3 prices" in capsys.readouterr().err
