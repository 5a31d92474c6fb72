"""The same content under a second name, and a folder replaced as a whole."""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file a second name, at once; copy it where the file system has no hard links."""
    if target.exists() and target.samefile(source):
        return
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        try:
            temporary.hardlink_to(source)
        except OSError:
            shutil.copyfile(source, temporary)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Let others wait that want to be alone in a folder too, if its file system can tell them."""
    place = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # NFS locks no folders
            fcntl.flock(place, fcntl.LOCK_EX)
        yield
    finally:
        os.close(place)


def repair(folder: Path) -> None:
    """Undo an interrupted replacement: the old folder stands again, and nothing beside it."""
    if not folder.exists() and _aside(folder).exists():
        _aside(folder).rename(folder)
    for left in (_aside(folder), beside(folder)):
        shutil.rmtree(left, ignore_errors=True)


def beside(folder: Path) -> Path:
    """Where what shall replace a folder is made: hidden, on the same file system."""
    return folder.with_name(f".{folder.name}.new")


def replace_folder(folder: Path) -> None:
    """Put what was made `beside` a folder in its place, as a whole.

    On Linux the two change places at once; where the file system cannot do that, the folder is
    missing for a moment, which `repair` mends if the process ends just then.
    """
    new = beside(folder)
    if folder.exists() and _exchange(new, folder):
        shutil.rmtree(new)
        return
    if folder.exists():
        folder.rename(_aside(folder))
    new.rename(folder)
    shutil.rmtree(_aside(folder), ignore_errors=True)


def _aside(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.old")


def _exchange(one: Path, other: Path) -> bool:
    """Let two folders change places; False where that is not possible."""
    rename = getattr(ctypes.CDLL(None), "renameat2", None)  # of Linux alone
    if rename is None:
        return False
    paths = os.fsencode(one), os.fsencode(other)
    return rename(_AT_FDCWD, paths[0], _AT_FDCWD, paths[1], _RENAME_EXCHANGE) == 0
