"""Which jobs a validation campaign has with and without the other codes that it names."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
SNAKEFILE = ROOT / "workflow" / "validation.smk"
CODES = ("anacal", "lensmc")
CASE = {"name": "one", "level": 1, "shows": "x", "blocks": 3, "scene": {"cells": 8}}
PEERS = "build/validation/small/peers"


@pytest.fixture
def plan(tmp_path):
    """What `snakemake --dry-run` prints, with other codes that are there or not."""
    campaign = {"cases": [CASE | {"peers": list(CODES), "peer_blocks": 2}]}
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(campaign))

    def run(site: Path) -> str:
        places = (site, ROOT, ROOT / "workflow")
        command = (sys.executable, "-m", "snakemake", "--snakefile", SNAKEFILE)
        options = ("--dry-run", "--printshellcmds", "--cores", "1", "--config")
        done = subprocess.run(
            [*command, "--directory", tmp_path, *options, f"campaign={tmp_path / 'small.yaml'}"],
            env=os.environ | {"PYTHONPATH": ":".join(map(str, places))},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def leave(folder: Path, number: int) -> None:
    """A block of an earlier run, which had the codes or more blocks."""
    path = folder / PEERS / "one" / f"{number}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def report_command(printed: str) -> str:
    [line] = [line for line in printed.splitlines() if "constellation validation-report" in line]
    return line


def jobs(printed: str) -> dict[str, int]:
    """Numbers of jobs by rule, from the table of them."""
    rows = [line.split() for line in printed.partition("Reasons:")[0].splitlines()]
    return {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].isdigit()}


def test_codes_that_are_installed_are_asked(plan, tmp_path):
    site = tmp_path / "site"
    for name in CODES:
        (site / name).mkdir(parents=True)
        (site / name / "__init__.py").touch()
        (site / f"{name}-9.0.dist-info").mkdir()
        about = f"Metadata-Version: 2.1\nName: {name}\nVersion: 9.0\n"
        (site / f"{name}-9.0.dist-info" / "METADATA").write_text(about)
    leave(tmp_path, 2)
    printed = plan(site)
    assert jobs(printed) == {"limits": 1, "report": 1, "block_one_0": 1, "peers": 2, "total": 5}
    assert f"--peers {PEERS}/one/0.parquet {PEERS}/one/1.parquet --" in report_command(printed)


def test_without_them_the_report_is_made_of_no_old_files(plan, tmp_path):
    site = tmp_path / "site"
    site.mkdir()
    # Python imports it as it starts: the codes are absent, whatever is installed
    absent = f"import sys\nsys.modules.update(dict.fromkeys({CODES}))\n"
    (site / "sitecustomize.py").write_text(absent)
    leave(tmp_path, 0)
    printed = plan(site)
    assert jobs(printed) == {"limits": 1, "report": 1, "block_one_0": 1, "total": 3}
    assert PEERS not in report_command(printed)
