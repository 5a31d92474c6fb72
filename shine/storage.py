"""Files on a local disk or, as `s3://bucket/key`, in an object store: both read by byte ranges."""

from __future__ import annotations

import functools
import gzip
import io
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from shine.errors import InputError, explain

FETCH_AGAIN = "Fetch or copy the file again."
Range = tuple[int, int]  # first byte and number of bytes
Version = tuple[int | str, ...]


class StoredFile(Protocol):
    """An open file; where it is gzipped, all of this is about its unpacked content."""

    path: str
    size: int  # bytes
    version: Version

    def read(self, ranges: Sequence[Range]) -> list[bytes]:
        """The content of each range; shorter where the file ends."""

    @property
    def stream(self) -> BinaryIO:
        """The same file for libraries that read and seek."""


@contextmanager
def open_file(path: str) -> Iterator[StoredFile]:
    """Open a file for reading, gunzipped if need be: the only place that opens survey files.

    Raises InputError for whatever the operating system or the object store refuses.
    """
    with _open_stored(path) as file:
        [magic] = file.read([(0, 2)])
        if magic != b"\x1f\x8b":
            yield file
            return
    unpacked = io.BytesIO(_gunzipped(path, file.version))
    yield _LocalFile(path, file.version, unpacked)


def version(path: str) -> Version:
    """What tells a file from a later one of the same name, without reading it."""
    if is_remote(path):
        from shine import s3

        return s3.S3File.open(path).version
    try:
        return _local_version(path)
    except OSError as error:
        raise _unreadable(path, error) from error


def is_remote(path: object) -> bool:
    """Whether a path is a URI, not one of a local disk."""
    return "://" in str(path)


@dataclass(frozen=True)
class _LocalFile:
    path: str
    version: Version
    stream: BinaryIO

    @functools.cached_property
    def size(self) -> int:
        return self.stream.seek(0, io.SEEK_END)

    def read(self, ranges: Sequence[Range]) -> list[bytes]:
        contents = []
        for start, length in ranges:
            self.stream.seek(start)
            contents.append(self.stream.read(length))
        self.stream.seek(0)
        return contents


@contextmanager
def _open_stored(path: str) -> Iterator[StoredFile]:
    """Open a file as it is stored."""
    if is_remote(path):
        from shine import s3

        yield s3.S3File.open(path)
        return
    try:
        with Path(path).open("rb") as stream:
            yield _LocalFile(path, _local_version(path), stream)
    except OSError as error:
        raise _unreadable(path, error) from error


def _local_version(path: str) -> Version:
    status = Path(path).stat()
    return status.st_size, status.st_mtime_ns, status.st_ino


def _unreadable(path: str, error: OSError) -> InputError:
    action = "Fetch the file, or correct the path in the manifest."
    return InputError(explain(path, error.strerror or str(error), "a readable file", action))


@functools.lru_cache(maxsize=1)
def _gunzipped(path: str, version: Version) -> bytes:
    """The content of a gzipped file (kept: its HDUs are read one after the other)."""
    with _open_stored(path) as file:
        [packed] = file.read([(0, file.size)])
    try:
        return gzip.decompress(packed)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        found = f"a damaged gzip file ({error})"
        raise InputError(explain(path, found, "a complete one", FETCH_AGAIN)) from error
