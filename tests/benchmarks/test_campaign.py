"""The campaign of the benchmark is one that `constellation status` understands; not how fast."""

import json

from constellation.cli import main
from tests.benchmarks import campaign


def test_smoke_run_finds_what_was_made(tmp_path, monkeypatch):
    shares = campaign.Shares(complete=0.75, with_catalogue=0.67, failing=0.5, recent=0.34)
    config = campaign.make(tmp_path, 4, shares)
    monkeypatch.chdir(tmp_path)
    assert main(["status", "--config", str(config), "--json", "status.json"]) == 0
    found = json.loads((tmp_path / "status.json").read_text())
    # three complete tiles, one of them with a failure, and a tile half done with another
    assert (found["planned"], found["done"], found["failed"]) == (64, 47 + 7, 2)
    assert found["failures"]["bad or missing input"]["count"] == 2
    assert (found["convergence_known"], found["not_converged"]) == (54, 0)
