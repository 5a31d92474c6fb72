"""Writing a file at once: readers see the old file or the new one, never half of either."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


def write_atomically(path: str | Path, content: bytes) -> None:
    """Write `content` to `path` at once, as `open_atomically` does."""
    with open_atomically(path) as stream:
        stream.write(content)


@contextmanager
def open_atomically(path: str | Path) -> Iterator[BinaryIO]:
    """Open a temporary file in the folder of `path`, and rename it to `path` at the end.

    The folder is created if missing. Whatever interrupts the write, `path` itself is untouched
    and the temporary file is removed (a killed process can leave it behind, named `.{name}.*.tmp`).
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())  # else a crash after the rename could leave an empty file
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
