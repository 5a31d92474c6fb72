"""A folder that keeps parts of objects that were read; any number of processes may share it.

Each part is a file, whose name is a digest of the object's URI and version and of the part's place;
a checksum at its end shows damage. Whatever goes wrong with the folder, the store is asked instead.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import threading
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from shine.atomic import write_atomically
from shine.errors import explain
from shine.s3_settings import S3Settings

logger = logging.getLogger(__name__)

SUFFIX = ".s3part"  # nothing else in the folder is ever removed
CHECK_BYTES = 4
EVICTED_TO = 0.9  # of the limit, so that not every part that is added evicts another
LOOK_EVERY = 0.02  # of the limit: so much may be added between two looks at what others added


def through_cache(key: tuple, n_bytes: int, ask: Callable[[], bytes]) -> bytes:
    """The part of `n_bytes` that `key` names, kept or asked for; raises `ConfigurationError`."""
    settings = S3Settings.from_environment()
    if settings.cache_folder is None:
        return ask()
    cache = _cache(settings.cache_folder.absolute(), int(settings.cache_gb * 1e9))
    content = cache.get(key, n_bytes)
    if content is None:
        content = ask()
        cache.put(key, content)
    return content


class PartCache:
    """The parts in one folder: `limit_bytes`, and `LOOK_EVERY` more for each further process."""

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self._folder = folder
        self._limit_bytes = limit_bytes
        self._room_bytes = 0  # what may be added before the folder is looked at again
        self._is_written = True
        self._lock = threading.Lock()

    def get(self, key: tuple, n_bytes: int) -> bytes | None:
        """A part; None if it is not there or damaged."""
        path = self._path(key)
        try:
            with path.open("rb") as stream:
                content, check = stream.read(n_bytes), stream.read(CHECK_BYTES + 1)
        except OSError:
            return None
        if check != _check(content):
            return None
        with suppress(OSError):  # evicted just now, or in a folder that others fill
            os.utime(path)  # the least recently used goes first
        return content

    def put(self, key: tuple, content: bytes) -> None:
        """Keep a part, unless it cannot be written: that is a warning, the first time."""
        size = len(content) + CHECK_BYTES
        if not self._is_written or size > self._limit_bytes:
            return
        try:
            self._make_room(size)
            write_atomically(self._path(key), content + _check(content))
        except FileNotFoundError:
            pass  # another process evicted it while it was written
        except OSError as error:
            action = "This process keeps nothing more: correct data.s3.cache_folder or cache_gb."
            problem = explain(self._folder, str(error.strerror), "a folder to write to", action)
            with self._lock:
                if self._is_written:
                    logger.warning(problem)
                self._is_written = False

    def _path(self, key: tuple) -> Path:
        name = hashlib.sha256(repr(key).encode()).hexdigest()
        return self._folder / name[:2] / f"{name}{SUFFIX}"

    def _make_room(self, size: int) -> None:
        with self._lock:
            if size > self._room_bytes:
                free = self._limit_bytes - self._evicted(size)
                self._room_bytes = min(free, max(int(LOOK_EVERY * self._limit_bytes), size))
            self._room_bytes -= size

    def _evicted(self, size: int) -> int:
        """Make room for `size` bytes if there is none; returns the bytes in the folder."""
        parts = []
        for path in self._folder.glob(f"[0-9a-f][0-9a-f]/*{SUFFIX}*"):  # half-written ones, too
            with suppress(FileNotFoundError):  # evicted by another process
                status = path.stat()
                parts.append((status.st_mtime_ns, status.st_size, path))
        total = sum(n_bytes for _, n_bytes, _ in parts)
        if total + size > self._limit_bytes:
            goal = min(int(EVICTED_TO * self._limit_bytes), self._limit_bytes - size)
            for _, n_bytes, path in sorted(parts):
                if total <= goal:
                    break
                path.unlink(missing_ok=True)  # whoever reads it just now reads on
                total -= n_bytes
        return total


_cache = functools.cache(PartCache)


def _check(content: bytes) -> bytes:
    return zlib.crc32(content).to_bytes(CHECK_BYTES, "big")
