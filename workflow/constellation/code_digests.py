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

_bare = functools.cache(bare_code)  # modules that many steps import


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
            waiting += _imports(name, path)
    if module not in found:
        raise ModuleNotFoundError(f"no module {module}", name=module)
    return digest(part for name in sorted(found) for part in (name, _bare(found[name])))


def _source(name: str) -> Path | None:
    """The file of a module; None if it is not ours, or no module at all."""
    package, *rest = name.split(".")
    if package not in _ROOTS:
        return None
    place = _ROOTS[package].joinpath(*rest)
    candidates = (place.with_suffix(".py"), place / "__init__.py")
    return next((path for path in candidates if path.is_file()), None)


@functools.cache
def _imports(name: str, path: Path) -> tuple[str, ...]:
    """Everything that a module may import, anywhere in it: `from a import b` is a and a.b."""
    return tuple(_imported(ast.parse(path.read_bytes(), path), name, path))


def _imported(tree: ast.AST, name: str, path: Path) -> Iterator[str]:
    parents = name.split(".") + ["__init__"] * (path.name == "__init__.py")
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = parents[: -node.level] if node.level else []
            base += node.module.split(".") if node.module else []
            yield ".".join(base)
            yield from (".".join([*base, alias.name]) for alias in node.names)
