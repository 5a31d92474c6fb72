"""What docs/queries.md tells users to type, typed in the repository of a finished survey."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import duckdb
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.table import Table
from pyarrow import csv, parquet

from .project import ROOT
from .repository import Repository

PAGE = ROOT / "docs" / "queries.md"
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture
def repository(pinned, tmp_path, monkeypatch) -> Repository:
    """A finished survey in the layout of the demo; the working folder."""
    repository = pinned.copy(tmp_path / "repository")
    monkeypatch.chdir(repository.folder)
    return repository


def test_every_block_runs_and_they_agree(repository):
    names: dict[str, Any] = {}
    answers = []
    for language, text in blocks():
        if language == "console":
            for command in commands(text):
                repository.call("bash", "-ec", command)
        elif language == "python":
            exec(compile(text, str(PAGE), "exec"), names)
        elif language == "sql":
            answers.append(duckdb.sql(text).to_arrow_table())
        else:
            assert language == "", f"a block of {language}"

    plain, weighted, cone = answers
    shear = parquet.read_table("results/catalogue/shear.parquet")
    tiles, g1, error = (shear[name].to_numpy() for name in ("TILE_ID", "G1", "G1_ERR"))
    means = {tile: g1[tiles == tile].mean() for tile in np.unique(tiles)}
    for table, column in ((plain, "g1"), (names["per_tile"], "g1"), (names["same"], "G1")):
        assert np.asarray(table[column]) == pytest.approx(list(means.values()), rel=1e-5)
    for row in weighted.to_pylist():
        weight = (error**-2.0)[tiles == row["TILE_ID"]]
        assert row["g1"] == pytest.approx(
            (weight * g1[tiles == row["TILE_ID"]]).sum() / weight.sum()
        )
        assert row["g1_err"] == pytest.approx(weight.sum() ** -0.5)

    sources = names["catalogue"].sources()
    sky = SkyCoord(sources["RA"].to_numpy(), sources["DEC"].to_numpy(), unit="deg")
    inside = sky.separation(SkyCoord(57.78, -51.0, unit="deg")).deg <= 0.01
    expected = set(sources["OBJECT_ID"].to_numpy()[inside].tolist())
    assert 10 < len(expected) < sources.num_rows
    for found in (
        cone["OBJECT_ID"],
        names["near"]["OBJECT_ID"],
        parquet.read_table("build/near.parquet")["OBJECT_ID"],
        csv.read_csv("build/near.csv")["OBJECT_ID"],
    ):
        assert set(found.to_pylist()) == expected
    candidates = {row[0] for row in names["candidates"].fetchall()}
    assert expected <= candidates

    assert len(names["brightest"]) == 10 and len(names["bright"]) > 0
    matches = parquet.read_table("build/matches.parquet")
    assert matches.num_rows > 0
    assert matches["OBJECT_ID"].to_pylist() == matches["OTHER_OBJECT_ID"].to_pylist()
    assert len(Table.read("build/with_samples.fits", hdu="SOURCES")) == sources.num_rows
    assert "SHAPE_SAMPLES" not in names["sources"].colnames


def blocks() -> Iterator[tuple[str, str]]:
    """The language and text of each fenced block."""
    found = FENCE.findall(PAGE.read_text())
    assert {language for language, _ in found} == {"sql", "python", "console", ""}
    yield from found


def commands(text: str) -> list[str]:
    """What stands behind the prompts of a console."""
    return [
        line.removeprefix("$ ").partition("  #")[0]
        for line in text.splitlines()
        if line[:2] == "$ "
    ]
