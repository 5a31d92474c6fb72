"""YAML: plain values, and nothing that grows or acts."""

from __future__ import annotations

import pytest
import yaml

from shine import yaml_files
from shine.yaml_files import read_yaml

LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.fixture
def read(tmp_path):
    def read(text: str):
        (tmp_path / "file.yaml").write_text(text)
        return read_yaml(tmp_path / "file.yaml")

    return read


def test_plain_values_and_harmless_aliases_are_read(read):
    assert read("") is None
    assert read("a: [1, 2.5, x]\n") == {"a": [1, 2.5, "x"]}
    text = "first: &one {x: 1}\nsecond: *one\nthird: {<<: *one, y: 2}\n"
    assert read(text) == {"first": {"x": 1}, "second": {"x": 1}, "third": {"x": 1, "y": 2}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LAUGHS, "aliases that stand for"),
        ("a: &a [*a]\n", "part of"),
        ("a: !!python/object/apply:os.system [ls]\n", "python/object"),
        ("[" * 100_000, "nested too deeply"),
        ("- " * 100_000 + "x", "nested too deeply"),
        ("a: [1\n", "expected"),
        ("a: 1\n---\nb: 2\n", "single document"),
        ("a: {b: 1, c: 2,\n b: 3}\n", "'b' twice, again in line 2"),
    ],
    ids=[
        "billion laughs",
        "itself",
        "Python object",
        "deep",
        "deep blocks",
        "broken",
        "two documents",
        "twice",
    ],
)
def test_what_is_no_plain_value_is_refused(read, text, message):
    with pytest.raises(yaml.YAMLError, match=message):
        read(text)


def test_a_huge_file_is_refused_before_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(yaml_files, "MOST_BYTES", 100)
    (tmp_path / "file.yaml").write_text("a: 1\n" + "#" * 100)
    with pytest.raises(yaml.YAMLError, match="found 105 bytes, expected 100 at most"):
        read_yaml(tmp_path / "file.yaml")
