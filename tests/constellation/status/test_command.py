"""What `constellation status` prints, writes and draws of a campaign."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib import image

from constellation.campaign_files import Planned
from constellation.cli import main
from constellation.commands import status as command
from constellation.config import TilingConfig
from constellation.plan import Plan, SubTile
from constellation.status import State
from constellation.status_map import COLOURS, PARTLY, draw_map, tile_states
from shine.errors import INTERRUPTED_EXIT_CODE

from .campaign import DONE, told


def test_the_command_prints_writes_and_draws(running, capsys):
    running.done(DONE)
    assert main(["status", "--config", "config.yaml", "--json", "s.json", "--map", "m.png"]) == 0
    printed = capsys.readouterr().out
    assert "done 2 12.5% of them not converged: 1" in told(printed)
    assert max(map(len, printed.splitlines())) <= 100
    numbers = json.loads(Path("s.json").read_text())
    assert [numbers[name] for name in ("planned", "done", "running", "failed", "pending")] == [
        16,
        2,
        1,
        2,
        11,
    ]
    assert numbers["failures"]["bad or missing input"]["latest"][0]["log"].endswith("11_1_0.log")
    assert Path("m.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("on_terminal", [True, False])
def test_watch_looks_until_it_is_interrupted(running, capsys, monkeypatch, on_terminal):
    waited = []

    def sleep(seconds):
        waited.append(seconds)
        if len(waited) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(command.time, "sleep", sleep)
    monkeypatch.setattr("sys.stdout.isatty", lambda: on_terminal)
    options = ["--watch", "--interval", "5"]
    assert main(["status", "--config", "config.yaml", *options]) == INTERRUPTED_EXIT_CODE
    printed = capsys.readouterr().out
    assert waited == [5.0] * 3
    assert printed.count("expected end") == 3
    assert printed.count("\x1b") == (6 if on_terminal else 0)


def test_a_tile_shows_the_gravest_of_its_sub_tiles(running):
    states = tile_states(running.look())
    assert list(states) == [State.FAILED, State.PENDING]
    running.done(SubTile(12, 1, 1))
    assert list(tile_states(running.look())) == [State.FAILED, PARTLY]


def colours_in(path: Path) -> set:
    """The states whose colours fill more than a legend's patch."""
    pixels = np.round(image.imread(path)[..., :3] * 255).astype(int)
    found = set()
    for state, (colour, _) in COLOURS.items():
        rgb = [int(colour[n : n + 2], 16) for n in (1, 3, 5)]
        if (pixels == rgb).all(axis=-1).sum() > 2000:
            found.add(state)
    return found


def test_the_map_shows_the_states_with_east_on_the_left(running):
    found = running.look()
    draw_map(found, running.plan, Path("map.png"))
    expected = {State.FAILED, State.NOT_CONVERGED, State.RUNNING, State.DONE, State.PENDING}
    assert colours_in(Path("map.png")) == expected
    pixels = np.round(image.imread("map.png")[..., :3] * 255).astype(int)
    rows, cols = np.nonzero((pixels == [0x00, 0x9E, 0x73]).all(axis=-1))
    # DONE is the most western cell of the first row of the western tile
    assert np.median(cols) > pixels.shape[1] / 2 and np.median(rows) > pixels.shape[0] / 3


def test_a_wide_survey_is_shown_on_the_whole_sky(campaign):
    ra, dec = np.meshgrid(np.arange(0.0, 60.0, 1.0), np.arange(-60.0, 60.0, 1.0))
    rows = [f"{n},{r},{d}" for n, (r, d) in enumerate(zip(ra.flat, dec.flat, strict=True))]
    Path("tiles.csv").write_text("\n".join(["tile_index,ra,dec", *rows]))
    campaign.plan = Plan.from_config(TilingConfig(tiles="tiles.csv", sub_tile_grid=[1, 1]))
    campaign.planned = Planned.of(campaign.plan)
    found = campaign.look()
    found.state[:] = np.where(ra.ravel() < 20.0, State.DONE, State.PENDING)
    draw_map(found, campaign.plan, Path("sky.png"))
    assert colours_in(Path("sky.png")) == {State.DONE, State.PENDING}
    pixels = np.round(image.imread("sky.png")[..., :3] * 255).astype(int)
    done, pending = (
        np.nonzero((pixels == rgb).all(axis=-1))[1].mean()
        for rgb in ([0x00, 0x9E, 0x73], [0xD0, 0xD0, 0xD0])
    )
    assert done > pending  # the lower right ascensions are on the right


@pytest.mark.parametrize("option", ["--interval", "--most-files"])
def test_impossible_numbers_are_a_usage_error(campaign, option, capsys):
    with pytest.raises(SystemExit) as end:
        main(["status", "--config", "config.yaml", option, "0"])
    assert end.value.code == 2
    assert f"argument {option}: found 0, expected a positive" in capsys.readouterr().err
