"""A git repository with the real dvc.yaml, in which the tests run DVC on the tiny survey."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from astropy.io import fits

from .project import CONFIG, EAST, MOCK, ROOT, SUBTILES, TILES, TIMEOUT_S, WEST, Project

STAGES = ("survey", "manifests", "subtiles", "catalogue")
MEASURED = {
    "results/runs",
    "results/benchmarks",
    "results/measurements.parquet",
    "results/report",  # tells of them
}


@dataclass(frozen=True)
class Repository(Project):
    """A git repository: the code with the tiny survey in place of the demo, and its results."""

    variables: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def create(cls, folder: Path, checkout: Path) -> Repository:
        """Start with code and settings, committed, and no result."""
        shutil.copytree(checkout, folder, symlinks=True)
        (folder / ".dvc").mkdir()
        for name in ("dvc.yaml", ".dvcignore", ".gitignore", ".dvc/config", ".dvc/.gitignore"):
            shutil.copy2(ROOT / name, folder / name)
        settings = {
            "tiling": CONFIG["tiling"] | {"tiles": "config/demo_tiles.csv"},
            "data": {"survey": "data/demo", "mock_survey": "config/mock_demo.yaml"},
        }
        (folder / "config" / "config.yaml").write_text(yaml.safe_dump(CONFIG | settings))
        (folder / "config" / "demo_tiles.csv").write_text(TILES)
        mock = MOCK | {"tiles": "demo_tiles.csv"}
        (folder / "config" / "mock_demo.yaml").write_text(yaml.safe_dump(mock))
        repository = cls(folder, folder)
        repository.call("git", "init", "--quiet")
        repository.commit("first")
        return repository

    def copy(self, folder: Path) -> Repository:
        """The repository with everything that git leaves out."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return replace(self, folder=folder, checkout=folder)

    def clone(self, folder: Path) -> Repository:
        """The repository as git has it, on a machine that shares DVC's cache."""
        clone = replace(self, folder=folder, checkout=folder)
        self.call("git", "clone", "--quiet", ".", str(folder))
        clone.dvc("cache", "dir", "--local", str(self.folder / ".dvc" / "cache"))
        return clone

    def call(self, *command: str) -> str:
        """Run a command, which must succeed; returns what it printed."""
        own = self.folder.parent / f"{self.folder.name}-settings"  # in place of the user's
        own.mkdir(exist_ok=True)
        (own / "empty").touch()
        settings = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": f"{self.folder}:{self.folder / 'workflow'}",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_SYSTEM": os.devnull,
            "DVC_NO_ANALYTICS": "1",
        }
        settings |= {f"DVC_{kind}_DIR": str(own) for kind in ("SITE_CACHE", "SYSTEM_CONFIG")}
        settings |= {"DVC_GLOBAL_CONFIG_DIR": str(own)} | dict(self.variables)
        settings["AWS_CONFIG_FILE"] = str(own / "empty")  # DVC wants a file, even if there is none
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=os.environ | settings,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    def dvc(self, *arguments: str) -> str:
        """Run DVC."""
        return self.call("dvc", *arguments)

    def repro(self, *arguments: str) -> list[str]:
        """Run `dvc repro`; returns the stages that it ran."""
        printed = self.dvc("repro", *arguments)
        ran = [name for name in STAGES if f"Running stage '{name}'" in printed]
        unchanged = [name for name in STAGES if f"Stage '{name}' didn't change" in printed]
        assert sorted(ran + unchanged) == sorted(STAGES), printed
        return ran

    def status(self) -> dict[str, Any]:
        """What DVC finds changed."""
        [status] = [line for line in self.dvc("status", "--json").splitlines() if line[:1] == "{"]
        return json.loads(status)

    def commit(self, name: str) -> None:
        """Commit everything, under a tag."""
        identity = ("-c", "user.name=A", "-c", "user.email=a@b")
        self.call("git", "add", ".")
        self.call("git", *identity, "commit", "--quiet", "--message", name)
        self.call("git", "tag", "--force", name)

    def pins(self) -> dict[str, str]:
        """The digests in dvc.lock of what does not depend on the run."""
        stages = yaml.safe_load((self.folder / "dvc.lock").read_text())["stages"].values()
        outs = {out["path"]: out["md5"] for stage in stages for out in stage["outs"]}
        assert outs.keys() > MEASURED
        return {path: md5 for path, md5 in outs.items() if path not in MEASURED}

    def unchanged_since(self, before: dict[str, str]) -> set[str]:
        """The results whose digest is as before."""
        return {path for path, md5 in self.pins().items() if md5 == before[path]}

    def change(self, section: str, **settings: Any) -> None:
        path = self.folder / "config" / "config.yaml"
        config = yaml.safe_load(path.read_text())
        path.write_text(yaml.safe_dump(config | {section: settings}))

    def edit(self, name: str, old: str, new: str) -> None:
        """Replace a text in a file of the code."""
        text = (self.folder / name).read_text()
        assert old in text
        (self.folder / name).write_text(text.replace(old, new))

    def brighten(self) -> set[str]:
        """Change a quadrant of a frame; returns the sub-tiles that see it."""
        frame = min((self.folder / "data" / "demo" / "VIS").rglob("*-DET-*"))
        with fits.open(frame, mode="update", checksum=True) as hdus:
            hdus["3-4.F.SCI"].data += np.float32(0.5)
        seeing = {
            stem
            for stem in SUBTILES
            if any(files.quadrant == "3-4.F" for files in self.manifest(stem).quadrants)
        }
        assert seeing == {f"{WEST}_30_58", f"{WEST}_30_59", f"{EAST}_30_0"}
        return seeing

    def inferred_since(self, before: dict[str, Any]) -> set[str]:
        """The sub-tiles whose pixels were fitted anew."""
        after = self.inferences()
        return {stem for stem in SUBTILES if after[stem] != before[stem]}
