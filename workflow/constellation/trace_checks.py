"""Whether what a result was made from is still what is here."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from constellation.dvc_pins import Pins, md5_of
from shine.errors import InputError
from shine.provenance import Provenance, package_digest, package_versions
from shine.storage import is_remote, version

DIRTY = "-dirty"
_PACKAGE = "shine"  # folder of the code in the repository


@dataclass(frozen=True)
class ResultFile:
    """A file of the result, and what dvc.lock pins of it."""

    path: str
    sha256: str
    pinned: str | None


@dataclass(frozen=True)
class InputFile:
    """A file that the result was made from; `problem` says why it may not be the same now."""

    path: str
    md5: str | None  # as dvc.lock pins it
    pinned: str | None
    version: list[int | str] | None  # size, time and inode, or the object's tag, at the run
    problem: str | None


def result_file(path: Path, pins: Pins) -> ResultFile:
    """A file of the result as it is."""
    content = path.read_bytes()
    pin, said = pins.pin(path), None
    if pin is not None and pin.md5 is None:
        said = f"dvc.lock pins {pin.out}; DVC's cache lacks the list of its files"
    elif pin is not None:
        same = hashlib.md5(content, usedforsecurity=False).hexdigest() == pin.md5
        said = f"{'as' if same else 'not as'} dvc.lock pins it in {pin.out}"
    return ResultFile(str(path), hashlib.sha256(content).hexdigest(), said)


def input_file(path: str, recorded: list[Any] | None, pins: Pins) -> InputFile:
    """A file that the manifest names; what changed is read, to compare it with what is pinned."""
    pin = None if is_remote(path) else pins.pin(Path(path))
    md5, said = None, None
    if pin is not None:
        md5 = pin.md5
        said = f"pinned in {pin.out}" if md5 else f"{pin.out} is pinned as {pin.out_md5}"
    return InputFile(path, md5, said, recorded, _problem(path, recorded, md5))


def _problem(path: str, recorded: list[Any] | None, md5: str | None) -> str | None:
    try:
        now = list(version(path))
    except InputError as error:
        return str(error)
    if recorded is None:
        return "the run did not note which version it read"
    if now == recorded:
        return None
    if is_remote(path):
        return f"it is another version than the run read ({now}, then {recorded})"
    # a copy that DVC or somebody else made has another time
    if now[0] == recorded[0] and md5 is None:
        return "it was written after the run, and nothing tells whether its content is the same"
    same = now[0] == recorded[0] and md5_of(Path(path)) == md5
    return None if same else f"it has changed since the run, which read {recorded[0]} bytes"


def code_warnings(provenance: Provenance) -> list[str]:
    """Why checking out the commit would not give the code that made the result."""
    commit = provenance.git_commit
    if commit.endswith(DIRTY):
        commit = commit.removesuffix(DIRTY)
        note = [f"the code differed from its commit {commit}, and only its digest is known"]
    elif not is_commit(commit):
        return [f"the code was in no git repository: only that it was {commit} is known"]
    else:
        note = []
    try:
        now = code_digest_at(commit)
    except LookupError as error:
        return [*note, f"this repository cannot show the code of {commit} ({error}): `git fetch`"]
    if now != provenance.code_digest:
        note.append(f"the code of commit {commit} is not what made it: its digest is {now}")
    return note


def code_digest_at(commit: str) -> str:
    """What `shine.provenance.code_digest` is at a commit of the repository around.

    Raises `LookupError`, with what git says, if it has no such commit.
    """
    archive = _git("archive", "--format=tar", commit, _PACKAGE)
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(fileobj=io.BytesIO(archive)) as files:
            files.extractall(folder, filter="data")
        return package_digest(Path(folder) / _PACKAGE)


def package_warnings(provenance: Provenance) -> list[str]:
    """The packages whose installed version is another one."""
    installed, then = package_versions(), provenance.package_versions
    differing = [
        f"{name} {then.get(name, 'not noted')} (here {installed.get(name, 'not noted')})"
        for name in sorted(installed.keys() | then.keys())
        if installed.get(name) != then.get(name)
    ]
    if not differing:
        return []
    return [f"it was made with other versions than this environment has: {', '.join(differing)}"]


def is_commit(text: str) -> bool:
    """Whether a result names a commit; `shine.provenance.git_commit` says what else it may."""
    return len(text) == 40 and all(letter in "0123456789abcdef" for letter in text)


def _git(*arguments: str) -> bytes:
    """What a git command prints; raises `LookupError` if it fails."""
    # a git hook exports GIT_DIR and the like, which would point at the hook's repository
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    try:
        done = subprocess.run(
            ["git", *arguments], env=environment, capture_output=True, check=False, timeout=60
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LookupError(str(error)) from error
    if done.returncode:
        raise LookupError(" ".join(done.stderr.decode(errors="replace").split()))
    return done.stdout
