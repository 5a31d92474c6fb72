"""A step's digest changes with the code that the step runs, and with nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from constellation import code_digests

STEP = "constellation.step"
FILES = {
    "constellation/step.py": "from constellation.tool import f\nfrom shine import deep\n",
    "constellation/tool.py": "import numpy\n\n\ndef f():\n    from .sub import g\n    return g\n",
    "constellation/sub/__init__.py": "from .leaf import g\n",
    "constellation/sub/leaf.py": "g = 1\n",
    "constellation/other.py": "from shine import unused\n",
    "shine/__init__.py": "",
    "shine/deep.py": "a = 1\n",
    "shine/unused.py": "b = 1\n",
}


@pytest.fixture
def digest_with(tmp_path, monkeypatch):
    """The step's digest with some files in place of those above."""
    versions = iter(range(100))

    def digest(changed: dict[str, str]) -> str:
        root = tmp_path / str(next(versions))
        for name, text in (FILES | changed).items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
        roots: dict[str, Path] = {name: root / name for name in ("constellation", "shine")}
        monkeypatch.setattr(code_digests, "_ROOTS", roots)
        return code_digests.code_of.__wrapped__(STEP)

    return digest


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("constellation/step.py", FILES["constellation/step.py"] + "x = 1\n"),
        ("constellation/tool.py", FILES["constellation/tool.py"] + "x = 1\n"),
        ("constellation/sub/__init__.py", "from .leaf import g\n\nx = 1\n"),
        ("constellation/sub/leaf.py", "g = 2\n"),
        ("shine/deep.py", "a = 2\n"),
    ],
)
def test_a_change_of_what_is_imported_counts(digest_with, name, text):
    assert digest_with({name: text}) != digest_with({})


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("constellation/other.py", "x = 1\n"),
        ("shine/unused.py", "b = 2\n"),
        ("shine/deep.py", '"""Doc."""\n\na  =  1  # one\n'),
    ],
)
def test_other_code_comments_and_layout_do_not(digest_with, name, text):
    assert digest_with({name: text}) == digest_with({})


def test_every_step_of_the_workflow_has_a_digest_of_its_own():
    rules = Path(__file__).parents[2] / "workflow" / "rules"
    text = "".join(path.read_text() for path in rules.glob("*.smk"))
    modules = set(re.findall(r'code_of\("([^"]+)"\)', text))
    assert len({code_digests.code_of(module) for module in modules}) == len(modules) > 5


def test_an_unknown_module_is_an_error():
    with pytest.raises(ModuleNotFoundError, match="no module constellation"):
        code_digests.code_of("constellation.nowhere")
