"""Reading YAML that may be hostile: no objects are made, and nothing grows beyond its file."""

from __future__ import annotations

import gzip
import io
import zlib
from pathlib import Path
from typing import Any

import yaml

MOST_BYTES = 64 << 20
MOST_NODES = 10_000_000  # a manifest has one for each source
MOST_NESTED = 100  # values within values; libyaml ends the process somewhere beyond 9,000


def read_bytes(path: Path) -> bytes:
    """Return the content of a file, unpacked if it is gzipped.

    Raises OSError if it cannot be read, and yaml.YAMLError if it is too large or a damaged gzip.
    """
    size = path.stat().st_size
    if size > MOST_BYTES:
        raise yaml.YAMLError(f"found {size} bytes, expected {MOST_BYTES} at most")
    content = path.read_bytes()
    if not content.startswith(b"\x1f\x8b"):
        return content
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as stream:
            content = stream.read(MOST_BYTES + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise yaml.YAMLError(f"found a damaged gzip file ({error})") from error
    if len(content) > MOST_BYTES:
        raise yaml.YAMLError(f"found more than {MOST_BYTES} bytes when unpacked, expected no more")
    return content


def read_yaml(path: Path) -> Any:
    """Return the content of a YAML file, gzipped or not; None if it is empty.

    Raises OSError if it cannot be read, UnicodeDecodeError if it is no text, and yaml.YAMLError if
    it is no YAML, asks for Python objects, gives a key twice, is too large, or would be with its
    aliases expanded.
    """
    text = read_bytes(path).decode("utf-8")
    _refuse_deep(text)
    loader = yaml.CSafeLoader(text)
    try:
        root = loader.get_single_node()
        if root is None:
            return None
        if (nodes := _expanded(root, {})) > MOST_NODES:
            raise yaml.YAMLError(f"found aliases that stand for {nodes} values")
        return loader.construct_document(root)
    finally:
        loader.dispose()


def _refuse_deep(text: str) -> None:
    """libyaml's events come one after the other, however deep; its nodes call one another."""
    depth = 0
    for event in yaml.parse(text, yaml.CSafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > MOST_NESTED:
            raise yaml.YAMLError(f"found values nested too deeply, {event.start_mark}")


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
        _refuse_repeated(node)
        children = [child for pair in node.value for child in pair]
    known[id(node)] = 1 + sum(_expanded(child, known) for child in children)
    return known[id(node)]


def _refuse_repeated(node: yaml.MappingNode) -> None:
    """YAML has it that keys are unique; PyYAML takes the last and says nothing."""
    seen = set()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode):
            if (key.tag, key.value) in seen:
                line = key.start_mark.line + 1
                raise yaml.YAMLError(f"found the key {key.value!r} twice, again in line {line}")
            seen.add((key.tag, key.value))
