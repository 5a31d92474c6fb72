"""The files that make the page: template, style sheets and script."""

from __future__ import annotations

from pathlib import Path

from shine.provenance import digest

FOLDER = Path(__file__).parent / "assets"


def read_asset(name: str) -> str:
    """The text of one of them."""
    return (FOLDER / name).read_text(encoding="utf-8")


def assets_digest() -> str:
    """Changes with any of them, which a digest of the code does not."""
    paths = sorted(path for path in FOLDER.iterdir() if path.is_file())
    return digest(part for path in paths for part in (path.name, path.read_bytes()))
