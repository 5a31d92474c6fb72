"""Where a result comes from: code, package versions, configuration and inputs."""

from __future__ import annotations

import ast
import functools
import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel

DISTRIBUTION = "shine-constellation"
# the packages whose version can change a result
NUMERICAL_PACKAGES = (
    DISTRIBUTION,
    "astropy",
    "equinox",
    "jax",
    "jaxlib",
    "numpy",
    "numpyro",
    "optax",
    "pyarrow",
    "pydantic",
    "scipy",
)


@dataclass(frozen=True)
class Provenance:
    """All that a result depends on; goes into the metadata of every result file."""

    git_commit: str
    code_digest: str
    package_versions: dict[str, str]
    config_hash: str
    input_hashes: dict[str, str]  # name of the input -> hex digest
    seed: int

    def describes(self, other: Provenance) -> bool:
        """Whether a result of this provenance is one of `other`, as far as that knows its inputs.

        The same code gives the same result, whatever commit it was in.
        """
        known = {name: self.input_hashes.get(name) for name in other.input_hashes}
        return known == other.input_hashes and (
            (self.code_digest, self.package_versions, self.config_hash, self.seed)
            == (other.code_digest, other.package_versions, other.config_hash, other.seed)
        )


def collect(config: BaseModel, input_hashes: Mapping[str, str], seed: int) -> Provenance:
    """Return the provenance of a result made now from this configuration and these inputs."""
    return Provenance(
        git_commit(),
        code_digest(),
        package_versions(),
        config_hash(config),
        dict(input_hashes),
        seed,
    )


@functools.cache
def git_commit() -> str:
    """Return the commit that last changed the package, in the checkout that it runs from.

    Later commits that leave the package alone, such as one that pins its results, do not count.
    `-dirty` is appended if the package's files differ from the commit. Outside a checkout, or
    without git, it is the installed version, such as `version 0.1.0`.
    """
    here = Path(__file__).parent
    # an environment inside somebody else's repository must not report that repository's commit
    if _git(here, "ls-files", "--error-unmatch", Path(__file__).name) is not None:
        commit = _git(here, "log", "-1", "--format=%H", "--", ".")
        changes = _git(here, "status", "--porcelain", "--", ".")
        if commit and changes is not None:
            return commit + ("-dirty" if changes else "")
    try:
        return f"version {metadata.version(DISTRIBUTION)}"
    except metadata.PackageNotFoundError:
        return "unknown"


@functools.cache
def code_digest() -> str:
    """Return the SHA-256 of the package's own code: comments, docstrings and layout do not count.

    Results of equal code are the same, whatever commit it was in and whether it was committed.
    """
    return package_digest(Path(__file__).parent)


def package_digest(root: Path) -> str:
    """Return the SHA-256 of all bare code below a folder."""
    return digest(
        part
        for path in sorted(root.rglob("*.py"))
        for part in (path.relative_to(root).as_posix(), bare_code(ast.parse(path.read_bytes())))
    )


def bare_code(tree: ast.AST) -> str:
    """Return a module's code without comments, docstrings and layout.

    It is the text of Python 3.11's `ast.dump`, which takes twice as long while every job waits for
    it, and which later versions write otherwise.
    """
    parts: list[str] = []
    _tell(tree, parts.append)
    return "".join(parts)


def _tell(value: Any, say: Callable[[str], None]) -> None:
    if isinstance(value, list):
        say("[")
        for i, item in enumerate(value):
            say(", " if i else "")
            _tell(item, say)
        say("]")
    elif isinstance(value, ast.AST):
        kind, separator = type(value), ""
        say(f"{kind.__name__}(")
        for name in kind._fields:
            child = getattr(value, name)
            if child is None and getattr(kind, name, ...) is None:
                continue
            if name == "body" and isinstance(child, list) and child and _is_text(child[0]):
                child = child[1:]
            say(f"{separator}{name}=")
            _tell(child, say)
            separator = ", "
        say(")")
    else:
        say(repr(value))


def _is_text(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


@functools.cache
def _installed_versions() -> tuple[tuple[str, str], ...]:
    found = [("python", platform.python_version())]
    for name in NUMERICAL_PACKAGES:
        try:
            found.append((name, metadata.version(name)))
        except metadata.PackageNotFoundError:
            found.append((name, "not installed"))
    return tuple(found)


def package_versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that can change a result."""
    return dict(_installed_versions())


def config_hash(config: BaseModel | Mapping[str, Any]) -> str:
    """Return the SHA-256 of a configuration's canonical JSON, defaults included.

    Two files that spell the same settings in another order, or leave defaults out, hash alike.
    """
    content = config.model_dump(mode="json") if isinstance(config, BaseModel) else dict(config)
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return digest([canonical])


def digest(parts: Iterable[str | bytes | np.ndarray]) -> str:
    """Return the SHA-256 of a sequence of texts, bytes and arrays.

    Each part is preceded by its type, shape and length, so that (`ab`, `c`) and (`a`, `bc`) differ.
    """
    total = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            array = np.ascontiguousarray(part)
            total.update(f"array {array.dtype.str} {array.shape}:".encode())
            total.update(memoryview(array).cast("B") if array.size else b"")
        else:
            content = part.encode("utf-8") if isinstance(part, str) else part
            total.update(f"bytes {len(content)}:".encode())
            total.update(content)
    return total.hexdigest()


def _git(folder: Path, *arguments: str) -> str | None:
    """Return what a git command prints, or None if it fails or there is no git."""
    # a git hook exports GIT_DIR and the like, which would point at the hook's repository
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=20,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
