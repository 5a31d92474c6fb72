"""What code a step of the workflow runs, so that a change of it makes the step run again."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import shine
from shine.provenance import bare_code, digest

_ROOTS = {
    "constellation": Path(__file__).parent,
    "shine": Path(shine.__file__).parent,
}


@functools.cache
def code_of(module: str) -> str:
    """SHA-256 of a module and of all that it imports from constellation and shine.

    Comments, docstrings and layout do not count. The command line is left out: it hands over.
    """
    found: dict[str, Path] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        path = _source(name)
        if path is not None and name not in found:
            found[name] = path
            waiting += _read(name, path)[1]
    if module not in found:
        raise ModuleNotFoundError(f"no module {module}", name=module)
    return digest(part for name in sorted(found) for part in (name, _read(name, found[name])[0]))


def _source(name: str) -> Path | None:
    """The file of a module; None if it is not ours, or no module at all."""
    package, *rest = name.split(".")
    if package not in _ROOTS:
        return None
    place = _ROOTS[package].joinpath(*rest)
    candidates = (place.with_suffix(".py"), place / "__init__.py")
    return next((path for path in candidates if path.is_file()), None)


@functools.cache  # modules that many steps import
def _read(name: str, path: Path) -> tuple[str, tuple[str, ...]]:
    """A module's bare code, and everything that it may import, anywhere in it.

    `from a import b` is a and a.b.
    """
    tree = ast.parse(path.read_bytes(), path)
    return bare_code(tree), tuple(_imported(tree, name, path))


def _imported(tree: ast.Module, name: str, path: Path) -> Iterator[str]:
    parents = name.split(".") + ["__init__"] * (path.name == "__init__.py")
    for statement in _statements(tree):
        if isinstance(statement, ast.Import):
            yield from (alias.name for alias in statement.names)
        elif isinstance(statement, ast.ImportFrom):
            base = parents[: -statement.level] if statement.level else []
            base += statement.module.split(".") if statement.module else []
            yield ".".join(base)
            yield from (".".join([*base, alias.name]) for alias in statement.names)


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    """All below a node, not their expressions, in which nothing is imported."""
    for block in ("body", "orelse", "finalbody", "handlers", "cases"):
        for statement in getattr(node, block, ()):
            yield statement
            yield from _statements(statement)
