"""The cache of what is read from S3: it saves requests, keeps its limit and never changes bytes."""

import logging
import os
import resource
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from shine import s3_cache
from shine.euclid import fits_files
from shine.euclid.data_loader import load_quadrant
from shine.euclid.flags import BAD_PIXELS
from shine.manifest import QuadrantFiles
from shine.s3 import OPENING_BYTES, S3File
from shine.s3_cache import SUFFIX, PartCache
from shine.s3_settings import VARIABLES
from tests.servers.proxy import Proxy, proxy_of
from tests.shine.survey_files import Frame, write_frames

ROOT = Path(__file__).parents[2]
OPENING = f"bytes=0-{OPENING_BYTES - 1}"
PARTS = 40_000, 90_000  # bytes of an object: from, length


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """The folder of the cache, which this process uses."""
    monkeypatch.setenv(VARIABLES["cache_folder"], str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def proxy(s3, monkeypatch, folder):
    """A proxy before the server; the environment leads to it, and to the cache."""
    with proxy_of(s3) as proxy:
        proxy.server.use(monkeypatch)
        monkeypatch.setenv(VARIABLES["cache_folder"], str(folder))
        yield proxy


def put(proxy: Proxy, seed: int = 1) -> bytes:
    """Store an object called `file`; returns its content."""
    content = np.random.default_rng(seed).bytes(200_000)
    proxy.server.client().put_object(Bucket=proxy.server.bucket, Key="file", Body=content)
    proxy.forget()
    return content


def read(proxy: Proxy) -> bytes:
    [content] = S3File.open(proxy.server.uri("file")).read([PARTS])
    return content


def part_of(content: bytes) -> bytes:
    start, length = PARTS
    return content[start : start + length]


def ranges(proxy: Proxy) -> Counter[str]:
    """How often each range was asked for, with what has been asked forgotten."""
    asked = Counter(request.rpartition(" ")[2] for request in proxy.requests)
    proxy.forget()
    return asked


def files_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_a_quadrant_that_was_read_costs_no_more_than_the_opening_of_its_files(proxy, tmp_path):
    (survey := tmp_path / "survey").mkdir()
    files = write_frames(survey, *[Frame(name=f"{i}-1.E", seed=i) for i in range(1, 5)])
    files = files.model_copy(update={"quadrant": "3-1.E"})
    proxy.server.upload(survey)
    paths = {n: getattr(files, n) for n in QuadrantFiles.model_fields if n.endswith("_path")}
    uris = {name: proxy.server.uri(Path(path).name) for name, path in paths.items() if path}
    remote = files.model_copy(update=uris)
    first = load_quadrant(remote, BAD_PIXELS)
    assert set(ranges(proxy)) > {OPENING}
    fits_files._list_hdus.cache_clear()  # as in another process
    again = load_quadrant(remote, BAD_PIXELS)
    assert set(ranges(proxy)) == {OPENING}
    assert again.digest == first.digest == load_quadrant(files, BAD_PIXELS).digest


def test_parts_are_asked_for_once_and_whole_objects_stay_the_same(proxy, folder):
    content = put(proxy)
    assert read(proxy) == read(proxy) == part_of(content)
    start, length = PARTS
    assert ranges(proxy) == {OPENING: 2, f"bytes={start}-{start + length - 1}": 1}
    [part] = files_in(folder)
    assert part.suffix == SUFFIX and part.read_bytes()[:length] == part_of(content)


def test_another_version_of_an_object_is_read_anew(proxy):
    content = put(proxy)
    assert read(proxy) == part_of(content)
    changed = put(proxy, seed=2)
    assert read(proxy) == part_of(changed) != part_of(content)
    assert sum(ranges(proxy).values()) == 2


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-10],
        lambda content: content + b"x",
        lambda content: b"",
        lambda content: bytes(len(content)),
        lambda content: content[:500] + bytes([content[500] ^ 1]) + content[501:],
    ],
    ids=["short", "long", "empty", "zeros", "one bit"],
)
def test_a_damaged_part_is_read_anew_and_mended(proxy, folder, damage):
    content = put(proxy)
    read(proxy)
    [part] = files_in(folder)
    sound = part.read_bytes()
    part.write_bytes(damage(sound))
    assert read(proxy) == part_of(content)
    assert part.read_bytes() == sound
    proxy.forget()
    read(proxy)
    assert set(ranges(proxy)) == {OPENING}


def test_a_folder_that_cannot_be_made_is_one_warning(proxy, folder, caplog):
    content = put(proxy)
    folder.write_text("a file")
    with caplog.at_level(logging.WARNING, "shine"):
        assert read(proxy) == read(proxy) == part_of(content)
    [record] = caplog.records
    assert f"{folder}: found Not a directory, expected a folder to write to" in record.message
    assert "data.s3.cache_folder" in record.message


def test_a_disk_without_room_is_one_warning_and_leaves_nothing_behind(proxy, folder, caplog):
    content = put(proxy)
    softly, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with caplog.at_level(logging.WARNING, "shine"):
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))  # no file may be larger
        try:
            assert read(proxy) == read(proxy) == part_of(content)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (softly, hard))
    assert len(caplog.records) == 1
    assert files_in(folder) == []


def test_a_folder_of_others_is_used_though_nothing_can_be_changed_in_it(tmp_path, monkeypatch):
    PartCache(tmp_path, 10_000).put(("a",), b"content")

    def refused(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "utime", refused)
    assert PartCache(tmp_path, 10_000).get(("a",), 7) == b"content"


def bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in files_in(folder))


def test_the_limit_holds_and_what_was_used_last_stays(tmp_path):
    cache = PartCache(tmp_path, 100_000)
    (tmp_path / "aa").mkdir()
    (foreign := tmp_path / "aa" / "notes.txt").write_text("of somebody else")
    os.utime(foreign, (0, 0))
    for number in range(300):
        cache.put((number,), number.to_bytes(2, "big") * 500)
        for path in files_in(tmp_path):  # older by a second each, whatever the clock's steps are
            status = path.stat()
            os.utime(path, ns=(0, status.st_mtime_ns - 10**9))
        assert cache.get((0,), 1000) == bytes(1000)
        assert bytes_in(tmp_path) - foreign.stat().st_size <= 100_000
    kept = [n for n in range(300) if cache.get((n,), 1000) == n.to_bytes(2, "big") * 500]
    assert kept[0] == 0 and kept[1:] == list(range(300 - len(kept[1:]), 300))
    assert len(kept) > 85
    assert foreign.exists()
    cache.put(("larger than all",), bytes(100_000))
    assert cache.get((299,), 1000) is not None


def test_the_folder_is_not_looked_through_at_every_part(tmp_path, monkeypatch):
    looks = []
    evicted = PartCache._evicted
    monkeypatch.setattr(PartCache, "_evicted", lambda *args: looks.append(1) or evicted(*args))
    cache = PartCache(tmp_path, 10_000_000)
    for number in range(1000):
        cache.put((number,), bytes(1000))
    assert len(looks) <= 1 + 1_004_000 // 200_000


WORKER = """
import sys
from pathlib import Path
import numpy as np
from shine.s3_cache import PartCache
cache, rng = PartCache(Path(sys.argv[1]), 200_000), np.random.default_rng(int(sys.argv[2]))
hits = 0
for number in rng.integers(0, 60, 1500).tolist():
    content = number.to_bytes(2, "big") * 5000
    found = cache.get((number,), 10_000)
    assert found in (None, content), number
    hits += found is not None
    if found is None:
        cache.put((number,), content)
assert cache._is_written  # no error so far
assert hits > 100, hits
"""


def test_processes_that_evict_each_others_parts_read_nothing_wrong(tmp_path):
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(tmp_path), str(seed)],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for seed in range(4)
    ]
    for worker in workers:
        _, said = worker.communicate()
        assert (worker.returncode, said) == (0, "")
    assert bytes_in(tmp_path) <= 200_000 + 3 * 10_004
    assert {path.suffix for path in files_in(tmp_path)} == {SUFFIX}


def test_without_a_folder_nothing_is_kept(proxy, folder, monkeypatch):
    monkeypatch.delenv(VARIABLES["cache_folder"])
    content = put(proxy)
    assert read(proxy) == read(proxy) == part_of(content)
    assert sum(ranges(proxy).values()) == 4
    assert not folder.exists()
    assert s3_cache.through_cache(("any",), 3, lambda: b"abc") == b"abc"
