"""Reading YAML that may be hostile: no objects are made, and nothing grows beyond its file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

MOST_BYTES = 64 << 20
MOST_NODES = 10_000_000  # a manifest has one for each source


def read_yaml(path: Path) -> Any:
    """Return the content of a YAML file; None if it is empty.

    Raises OSError if it cannot be read, UnicodeDecodeError if it is no text, and yaml.YAMLError if
    it is no YAML, asks for Python objects, is too large, or would be with its aliases expanded.
    """
    size = path.stat().st_size
    if size > MOST_BYTES:
        raise yaml.YAMLError(f"found {size} bytes, expected {MOST_BYTES} at most")
    loader = yaml.SafeLoader(path.read_text(encoding="utf-8"))
    try:
        root = loader.get_single_node()
        if root is None:
            return None
        if (nodes := _expanded(root, {})) > MOST_NODES:
            raise yaml.YAMLError(f"found aliases that stand for {nodes} values")
        return loader.construct_document(root)
    except RecursionError as error:
        raise yaml.YAMLError("found values nested too deeply") from error
    finally:
        loader.dispose()


def _expanded(node: yaml.Node, known: dict[int, int]) -> int:
    """How many nodes there are with each alias replaced by what it stands for."""
    if id(node) in known:
        if known[id(node)] == 0:
            raise yaml.YAMLError(f"found an alias of what it is part of, {node.start_mark}")
        return known[id(node)]
    known[id(node)] = 0  # not known yet: met again before it is, the node holds itself
    children: list[yaml.Node] = []
    if isinstance(node, yaml.SequenceNode):
        children = node.value
    elif isinstance(node, yaml.MappingNode):
        children = [child for pair in node.value for child in pair]
    known[id(node)] = 1 + sum(_expanded(child, known) for child in children)
    return known[id(node)]
