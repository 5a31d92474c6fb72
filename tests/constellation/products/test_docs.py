"""What docs/science-products.md shows works as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet

from constellation.cli import main
from tests.constellation.products.simulated import publish, shapes

TEXT = (Path(__file__).parents[3] / "docs" / "science-products.md").read_text(encoding="utf-8")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a catalogue where the demo's is."""
    rng = np.random.default_rng(2)
    ra = 57.78 + rng.uniform(-0.07, 0.07, 900)
    dec = -51.0 + rng.uniform(-0.08, 0.08, 900)
    publish(tmp_path / "results" / "catalogue", ra, dec, shapes(np.full(900, 0.04), rng, count=16))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_its_commands_write_their_files(folder):
    commands = re.findall(r"^\$ constellation (.+)$", TEXT, re.MULTILINE)
    assert len(commands) == 6
    for command in commands:
        assert main(command.split()) == 0
        for name in re.findall(r"--(?:output|fits|figure) (\S+)", command):
            assert (folder / name).stat().st_size > 1000


def test_its_snippets_run_one_after_the_other(folder):
    snippets = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert len(snippets) == 4
    names: dict = {}
    for snippet in snippets:
        exec(snippet, names)
    assert names["table"].num_rows == len(names["significance"]) > 1
    assert abs(names["dec"] + 51.0) < 0.1
    assert names["profile"].num_rows == 6
    assert len(names["ra"]) == len(names["shear"]) == 900


def test_the_columns_it_names_are_those_of_the_tables(folder):
    for command in re.findall(r"^\$ constellation (.+)$", TEXT, re.MULTILINE):
        assert main(command.split()) == 0
    columns = {x for path in folder.glob("*.parquet") for x in parquet.read_schema(path).names}
    named = set(re.findall(r"\b(?:G|XI|KAPPA|MAP|MX|N|ELLIPTICITY)_?[A-Z0-9]*_[A-Z0-9_]+\b", TEXT))
    assert named and named <= columns, named - columns
