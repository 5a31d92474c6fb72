"""What dvc.lock says of single files, also of those in a folder that it pins as a whole."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from shine.errors import InputError, explain

LOCK = Path("dvc.lock")
_OWN_CACHE = Path(".dvc/cache")


@dataclass(frozen=True)
class Pin:
    """What is pinned of a file; `md5` is None where only DVC's cache would tell."""

    out: str  # the pinned path, the file's own or that of a folder around it
    out_md5: str
    md5: str | None


@dataclass(frozen=True)
class Pins:
    """The outputs of all stages of a dvc.lock, by their paths from `folder`."""

    folder: Path
    outs: Mapping[str, str]  # path -> md5, which ends with `.dir` for folders

    @classmethod
    def read(cls, folder: Path = Path()) -> Pins:
        """The dvc.lock of a working folder; none at all without one. Raises `InputError`."""
        path = folder / LOCK
        if not path.exists():
            return cls(folder, {})
        try:
            stages = yaml.safe_load(path.read_text(encoding="utf-8"))["stages"].values()
            outs = [out for stage in stages for out in stage.get("outs", [])]
            return cls(folder, {out["path"]: out["md5"] for out in outs})
        except (OSError, yaml.YAMLError, AttributeError, KeyError, TypeError) as error:
            action = "Take it from git again."
            found = f"what cannot be read ({type(error).__name__}: {error})"
            raise InputError(explain(path, found, "the stages that DVC pinned", action)) from error

    def pin(self, path: Path) -> Pin | None:
        """What is pinned of a file; None if it lies in no pinned place."""
        try:
            place = path.resolve().relative_to(self.folder.resolve())
        except ValueError:
            return None
        for candidate in (place, *place.parents):
            md5 = self.outs.get(candidate.as_posix())
            if md5 is not None and candidate == place:
                return Pin(candidate.as_posix(), md5, md5)
            if md5 is not None:
                inner = self._listing(md5).get(place.relative_to(candidate).as_posix())
                return Pin(candidate.as_posix(), md5, inner)
        return None

    @cached_property
    def _listings(self) -> dict[str, dict[str, str]]:
        return {}

    def _listing(self, md5: str) -> dict[str, str]:
        """The files of a pinned folder; none where DVC's cache lacks the list."""
        if md5 not in self._listings:
            path = self._cache / "files" / "md5" / md5[:2] / md5[2:]
            try:
                entries: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
                self._listings[md5] = {entry["relpath"]: entry["md5"] for entry in entries}
            except (OSError, ValueError, KeyError, TypeError):
                self._listings[md5] = {}
        return self._listings[md5]

    @cached_property
    def _cache(self) -> Path:
        """Where DVC keeps files: its settings may name another place."""
        if find_spec("dvc") is None:
            return self.folder / _OWN_CACHE
        done = subprocess.run(
            [sys.executable, "-m", "dvc", "cache", "dir"],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        told = done.stdout.strip().splitlines()
        return self.folder / (told[-1] if done.returncode == 0 and told else _OWN_CACHE)


def md5_of(path: Path) -> str:
    """The MD5 of a file as DVC 3 has it: of its bytes as they are."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "md5").hexdigest()
