"""A folder in which the workflow runs, and the tiny survey that the tests run it on."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from shine.manifest import Manifest, read_manifest

ROOT = Path(__file__).parents[2]
WEST, EAST = 102018665, 102018666
SUBTILES = (f"{WEST}_30_58", f"{WEST}_30_59", f"{EAST}_30_0", f"{EAST}_30_1")
TIMEOUT_S = 1200  # of what hangs: nothing takes so long, on slow machines either

TILES = f"tile_index,ra,dec\n{WEST},57.3828797,-51.0\n{EAST},58.1773936,-51.0\n"

# Two columns of sub-tiles on either side of the tiles' common border. The middle of one CCD lies
# there, so that each sub-tile but the middle ones sees the quadrants of one side alone.
MOCK = {
    "seed": 7,
    "tiles": "tiles.csv",
    "area": {"ra": 57.7801367, "dec": -51.0, "width_arcmin": 2.4, "height_arcmin": 0.8},
    "exposures": [
        {"offset_east_arcsec": 79.5, "offset_north_arcsec": 65.2, "roll_deg": 0.0},
        {"offset_east_arcsec": 81.5, "offset_north_arcsec": 68.2, "roll_deg": 1.0},
    ],
    "shear": {"type": "constant", "g1": 0.04, "g2": -0.02},
    "detector": {"quadrant_shape": [300, 750]},
    # galaxies of one size make scenes of one shape, which share compiled programs
    "population": {
        "galaxy_density": 60.0,
        "star_density": 0.0,
        "bright_magnitude": 21.0,
        "faint_magnitude": 24.0,
        "hlr_arcsec": 0.2,
        "hlr_slope": 0.0,
        "hlr_scatter": 0.0,
        "close_pair_fraction": 0.0,
    },
}
CONFIG = {
    "tiling": {
        "tiles": "tiles.csv",
        "sub_tile_grid": [60, 60],
        "margin_arcmin": 0.22,
        "area": {"ra": 57.7801367, "dec": -50.9958, "width_arcmin": 2.0, "height_arcmin": 0.4},
    },
    "data": {"survey": "data", "mock_survey": "mock.yaml"},
    "compute": {"jax_cache": os.environ["JAX_COMPILATION_CACHE_DIR"]},
}


@dataclass(frozen=True)
class Project:
    """A working folder (`--directory`) with its configuration, and the code to run there."""

    folder: Path
    checkout: Path

    @classmethod
    def create(cls, folder: Path, checkout: Path) -> Project:
        """Start a project with nothing but its settings."""
        folder.mkdir(parents=True)
        (folder / "tiles.csv").write_text(TILES)
        (folder / "mock.yaml").write_text(yaml.safe_dump(MOCK))
        (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG))
        return cls(folder, checkout)

    def copy(self, folder: Path) -> Project:
        """The project as it is, times of its files included, in another folder."""
        shutil.copytree(self.folder, folder)
        return Project(folder, self.checkout)

    def change(self, section: str, **settings: Any) -> None:
        """Set keys of one section of the configuration."""
        path = self.folder / "config.yaml"
        config = yaml.safe_load(path.read_text())
        config[section] = config.get(section, {}) | settings
        path.write_text(yaml.safe_dump(config))

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start `snakemake` as a user does, in the checkout, in a process group of its own."""
        places = ("--directory", str(self.folder), "--configfile", str(self.folder / "config.yaml"))
        return subprocess.Popen(
            [sys.executable, "-m", "snakemake", *places, "--cores", "2", *arguments],
            cwd=self.checkout,
            env=os.environ
            | {
                # the checkout's packages, whatever else is installed
                "PYTHONPATH": f"{self.checkout}:{self.checkout / 'workflow'}",
                # XLA tells all that it can, as after `import jax` in a notebook it tells much
                "TF_CPP_MIN_LOG_LEVEL": "0",
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def attempt(self, *arguments: str) -> tuple[int, str]:
        """Run `snakemake` to its end; returns its exit status and what it printed."""
        with self.start(*arguments) as process:
            printed, _ = process.communicate(timeout=TIMEOUT_S)
        return process.returncode, printed

    def run(self, *arguments: str) -> str:
        """Run `snakemake`, which must succeed; returns what it printed."""
        status, printed = self.attempt(*arguments)
        assert status == 0, printed
        return printed

    def result(self, stem: str, suffix: str = ".parquet") -> Path:
        """A result file of a sub-tile."""
        return self.folder / "results" / "subtiles" / stem.partition("_")[0] / f"{stem}{suffix}"

    def record(self, stem: str) -> Path:
        """What the run of a sub-tile measured."""
        return self.folder / "results" / "runs" / stem.partition("_")[0] / f"{stem}.run.json"

    def manifest(self, stem: str) -> Manifest:
        """The manifest of a sub-tile."""
        return read_manifest(self.manifest_path(stem))

    def manifest_path(self, stem: str) -> Path:
        """The file of a manifest."""
        return self.folder / "results" / "manifests" / stem.partition("_")[0] / f"{stem}.yaml"

    def files(self, folder: str) -> dict[str, tuple[int, bytes]]:
        """Time of modification (ns) and content of all files of a folder."""
        return {
            str(path.relative_to(self.folder)): (path.stat().st_mtime_ns, path.read_bytes())
            for path in (self.folder / folder, *sorted((self.folder / folder).rglob("*")))
            if path.is_file()
        }

    def catalogue(self) -> dict[str, bytes]:
        """The content of all files of the published catalogue, and its receipt."""
        found = self.files("results/catalogue") | self.files("results/catalogue.json")
        return {name: content for name, (_, content) in found.items()}

    def inferences(self, stems: Iterable[str] = SUBTILES) -> dict[str, Any]:
        """What was measured of each sub-tile: its times tell one inference from another."""
        return {stem: json.loads(self.record(stem).read_text())["measurements"] for stem in stems}


def rule_counts(printed: str) -> dict[str, int]:
    """How many jobs of each rule Snakemake planned."""
    counts = re.findall(r"^(\w+) +(\d+)$", printed, flags=re.MULTILINE)
    return {name: int(count) for name, count in counts}
