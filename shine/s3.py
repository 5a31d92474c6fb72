"""Reading objects of an S3 store by byte ranges, and listing them.

Credentials come from where botocore looks for them (environment, profiles, the machine's role),
unless `shine.s3_settings` names a profile; without any, reading is anonymous, as public buckets
allow. They are asked for anew whenever the environment changes, and no message, log or file of this
package holds them.
"""

from __future__ import annotations

import functools
import hashlib
import io
import itertools
import logging
import os
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from shine.errors import InputError, explain
from shine.s3_cache import through_cache
from shine.s3_errors import EmptyObjectError, explained
from shine.s3_settings import S3Settings
from shine.storage import Range, Version

logger = logging.getLogger(__name__)

OPENING_BYTES = 32 << 10  # read when a file is opened: its first header, most often
PART_BYTES = 8 << 20  # one request's, so that a large range comes over several connections
GAP_BYTES = 256 << 10  # takes less time to read than another request
CONNECTIONS = 16
ATTEMPTS = 5  # at the body of an answer; the answers themselves are botocore's to retry
_URI = re.compile(r"s3://([^/]+)/(.+)", re.DOTALL)


@dataclass(frozen=True)
class StoredObject:
    """An entry of a listing."""

    uri: str
    size: int  # bytes
    etag: str


@dataclass(frozen=True)
class S3File:
    """One version of one object; reading another version of it is an error."""

    path: str
    size: int
    etag: str
    opening: bytes

    @classmethod
    def open(cls, uri: str) -> S3File:
        """Ask for an object's size and version; raises `InputError` with what to do."""
        try:
            answer, opening = _get(uri, f"bytes=0-{OPENING_BYTES - 1}")
        except EmptyObjectError:
            return cls(uri, 0, "", b"")
        total = answer.get("ContentRange", "").rpartition("/")[2]
        return cls(uri, int(total) if total else len(opening), answer["ETag"].strip('"'), opening)

    @property
    def version(self) -> Version:
        """Tells the object from a later one of the same name."""
        return self.size, self.etag

    @property
    def stream(self) -> BinaryIO:
        """For libraries that read and seek."""
        return _Stream(self)

    def read(self, ranges: Sequence[Range]) -> list[bytes]:
        """The content of each range, near ones in one request and long ones in several at a time.

        Raises `InputError` if the object is not the one that was opened any more.
        """
        ends = [(start, min(start + length, self.size)) for start, length in ranges]
        spans = _requests([(a, b) for a, b in ends if b > max(a, len(self.opening))])
        parts = [(0, self.opening)]
        if spans:
            with ThreadPoolExecutor(min(len(spans), CONNECTIONS)) as pool:
                contents = pool.map(self._get_part, spans)
                parts += [(span[0], part) for span, part in zip(spans, contents, strict=True)]
        return [_cut(parts, start, end) for start, end in ends]

    def _get_part(self, span: tuple[int, int]) -> bytes:
        start, end = span
        return through_cache(
            (self.path, self.version, span),
            end - start,
            lambda: _get(self.path, f"bytes={start}-{end - 1}", IfMatch=f'"{self.etag}"')[1],
        )


def list_objects(prefix: str) -> Iterator[StoredObject]:
    """All objects whose URI starts with `prefix`, sorted, a thousand per request.

    Raises `InputError` with what to do.
    """
    bucket, key = _split(prefix)
    with explained(prefix):
        pages = _client(_surroundings()).get_paginator("list_objects_v2")
        for page in pages.paginate(Bucket=bucket, Prefix=key):
            for entry in page.get("Contents", []):
                uri = f"s3://{bucket}/{entry['Key']}"
                yield StoredObject(uri, entry["Size"], entry["ETag"].strip('"'))


def _split(uri: str) -> tuple[str, str]:
    """Bucket and key; raises `InputError` for any other kind of URI."""
    match = _URI.fullmatch(uri)
    if match is None:
        action = "Correct it, or copy the file to a local disk."
        raise InputError(explain(uri, "a URI of another kind", "s3://bucket/key", action))
    return match[1], match[2]


def _requests(wanted: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The byte spans (from, to) to ask for, so that all the wanted ones are in them."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(wanted):
        if merged and start <= merged[-1][1] + GAP_BYTES:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((start, end))
    return [
        (part, min(part + PART_BYTES, end))
        for start, end in merged
        for part in range(start, end, PART_BYTES)
    ]


def _cut(parts: Sequence[tuple[int, bytes]], start: int, end: int) -> bytes:
    """The bytes from `start` to `end` out of parts (place, content), sorted by place."""
    pieces = []
    for place, content in parts:
        if place <= start < place + len(content):
            pieces.append(content[start - place : end - place])
            start += len(pieces[-1])
            if start >= end:
                break
    return b"".join(pieces)


class _Stream(io.RawIOBase):
    """An object as a file, of which small pieces are read ahead."""

    def __init__(self, file: S3File) -> None:
        self._file = file
        self._place = 0
        self._ahead = 0, file.opening

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._file.size}[whence]
        self._place = max(origin + offset, 0)
        return self._place

    def read(self, size: int | None = -1) -> bytes:
        start = self._place
        end = self._file.size if size is None or size < 0 else min(start + size, self._file.size)
        if end <= start:
            return b""
        self._place = end
        place, ahead = self._ahead
        if not place <= start <= end <= place + len(ahead):
            [content] = self._file.read([(start, max(end - start, OPENING_BYTES))])
            if len(content) > OPENING_BYTES:
                return content
            place, ahead = self._ahead = start, content
        return ahead[start - place : end - place]

    def readinto(self, buffer: Any) -> int:
        content = self.read(len(buffer))
        buffer[: len(content)] = content
        return len(content)


def _get(uri: str, span: str, **conditions: str) -> tuple[dict[str, Any], bytes]:
    """Ask for a byte range; returns the answer and its body."""
    bucket, key = _split(uri)
    with explained(uri):
        from botocore import exceptions

        broken_off = (
            exceptions.IncompleteReadError,
            exceptions.ReadTimeoutError,
            exceptions.ResponseStreamingError,
        )
        client = _client(_surroundings())
        for attempt in itertools.count(1):
            try:
                answer = client.get_object(Bucket=bucket, Key=key, Range=span, **conditions)
                return answer, answer["Body"].read()
            except broken_off as error:
                if attempt == ATTEMPTS:
                    raise
                logger.info("%s: %s, asking again", uri, type(error).__name__)


@functools.lru_cache(maxsize=1)
def _client(surroundings: str) -> Any:
    """A client of the object store; anonymous if there are no credentials or none are wanted."""
    import boto3
    from botocore import UNSIGNED
    from botocore.config import Config

    settings = S3Settings.from_environment()
    # a profile that is named here goes before keys in the environment, unlike AWS_PROFILE
    session = boto3.session.Session(profile_name=settings.profile)
    credentials = None if settings.anonymous else session.get_credentials()
    options: dict[str, Any] = {
        "retries": {"mode": "adaptive"},
        "max_pool_connections": CONNECTIONS,
    }
    if credentials is None:
        reason = "no credentials wanted" if settings.anonymous else "no credentials found"
        logger.info("%s for s3://: reading anonymously", reason)
        options["signature_version"] = UNSIGNED
    else:
        logger.info("credentials for s3:// by method %s", credentials.method)
    return session.client("s3", endpoint_url=settings.endpoint_url, config=Config(**options))


def _surroundings() -> str:
    """Changes with everything that credentials and endpoints can come from, and tells nothing."""
    names = ("AWS_", "SHINE_S3_")
    variables = sorted(item for item in os.environ.items() if item[0].startswith(names))
    files = []
    for name, default in (
        ("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"),
        ("AWS_CONFIG_FILE", "~/.aws/config"),
    ):
        path = Path(os.environ.get(name, default)).expanduser()
        files.append(path.stat().st_mtime_ns if path.exists() else 0)
    return hashlib.sha256(repr((variables, files)).encode()).hexdigest()
