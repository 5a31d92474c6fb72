"""Files on a local disk or, as `s3://bucket/key`, in an object store: both read by byte ranges."""

from __future__ import annotations

import functools
import gzip
import io
import os
import tempfile
import weakref
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from shine.errors import InputError, explain

FETCH_AGAIN = "Fetch or copy the file again."
CHUNK_BYTES = 8 << 20
MOST_UNPACKED_BYTES = 8 << 30  # a frame of 144 quadrants has 7.3e9 bytes
UNPACKED_FILES = 4  # at a time: the frame, background and PSF of an exposure, and a catalogue
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
    unpacked = _gunzipped(path, file.version)  # on disk for as long as it has this name
    with unpacked.path.open("rb") as stream:
        yield _LocalFile(path, file.version, stream)


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


class _Unpacked:
    """A file on disk that is removed when nobody holds this object any more."""

    def __init__(self) -> None:
        descriptor, name = tempfile.mkstemp(prefix="shine-")
        os.close(descriptor)
        self.path = Path(name)
        weakref.finalize(self, self.path.unlink, missing_ok=True)

    def fill(self, path: str, chunks: Iterable[bytes]) -> None:
        """Write what is unpacked of `path`; raises `InputError` if it is too much."""
        try:
            with self.path.open("wb") as stream:
                for chunk in chunks:
                    stream.write(chunk)
                    if stream.tell() > MOST_UNPACKED_BYTES:
                        found = f"a gzip file of more than {MOST_UNPACKED_BYTES} bytes"
                        raise InputError(explain(path, found, "a survey file", FETCH_AGAIN))
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            found = f"a damaged gzip file ({error})"
            raise InputError(explain(path, found, "a complete one", FETCH_AGAIN)) from error
        except OSError as error:
            action = "Unpack the file, or let TMPDIR name a larger disk."
            where = f"{path}, unpacked to {self.path}"
            raise InputError(explain(where, str(error), "room for it", action)) from error


@functools.lru_cache(maxsize=UNPACKED_FILES)
def _gunzipped(path: str, version: Version) -> _Unpacked:
    """The content of a gzipped file, on disk (kept: its HDUs are read one after the other)."""
    unpacked = _Unpacked()
    with _open_stored(path) as file:
        packed = io.BufferedReader(file.stream, CHUNK_BYTES)
        with gzip.GzipFile(fileobj=packed) as stream:
            unpacked.fill(path, iter(lambda: stream.read(CHUNK_BYTES), b""))
        packed.detach()
    return unpacked
