"""Copying the files that some tiles need from S3 into a folder, interrupted as often as you like.

The folder is then a survey like any other: `data.survey` can name it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from constellation.run_layout import Run
from shine.atomic import write_atomically
from shine.errors import ConfigurationError, InputError, explain
from shine.manifest import Manifest, read_manifest
from shine.s3 import CONNECTIONS, PART_BYTES, S3File
from shine.storage import is_remote

logger = logging.getLogger(__name__)

WINDOW_BYTES = CONNECTIONS * PART_BYTES  # read at a time, over all connections
RECORD = ".fetched.json"  # the version of each file in the folder, by name
CHECKSUMS = "SHA256SUMS"  # as the program sha256sum checks them


@dataclass(frozen=True)
class Fetched:
    """What there is in the folder now, and how much of it had to be copied."""

    n_files: int
    n_copied: int
    copied_bytes: int


def list_files(run: Run, tiles: Iterable[int]) -> list[str]:
    """URIs of all files that the manifests of some tiles name, sorted.

    Raises `InputError` naming a tile that is not planned or a manifest that is not there yet.
    """
    return sorted({uri for tile in tiles for uri in _files_of(run, tile)})


def fetch(uris: Iterable[str], survey: str, folder: Path) -> Fetched:
    """Copy objects under the prefix `survey` to the same names in `folder`.

    What is there in the right version stays; what was begun goes on where it stopped. Raises
    `InputError` if an object cannot be read, changes meanwhile, or the disk is too small.
    """
    prefix = f"{survey.rstrip('/')}/"
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        objects = list(pool.map(S3File.open, uris))
    copies = [_Copy(one, one.path.removeprefix(prefix), folder) for one in objects]
    record = _read_record(folder)
    missing = [copy for copy in copies if not copy.is_in(record)]
    wanted_bytes = sum(copy.source.size - copy.begun_bytes() for copy in missing)
    _require_space(folder, wanted_bytes)
    with tqdm(total=wanted_bytes, unit="B", unit_scale=True, desc="fetching") as progress:
        for copy in missing:
            progress.set_postfix_str(copy.target.name)
            checksum = copy.make(progress)
            record[copy.name] = {"version": list(copy.source.version), "sha256": checksum}
            _write_record(folder, record)
    return Fetched(len(copies), len(missing), wanted_bytes)


@dataclass(frozen=True)
class _Copy:
    """One object and its place in the folder."""

    source: S3File
    name: str
    folder: Path

    @property
    def target(self) -> Path:
        return self.folder / self.name

    @property
    def part(self) -> Path:
        """What is there of this version of the object so far."""
        return self.target.with_name(f".{self.target.name}.{self.source.etag}.part")

    def is_in(self, record: dict[str, dict]) -> bool:
        known = record.get(self.name, {}).get("version")
        return (
            known == list(self.source.version)
            and self.target.is_file()
            and self.target.stat().st_size == self.source.size
        )

    def begun_bytes(self) -> int:
        return self.part.stat().st_size if self.part.is_file() else 0

    def make(self, progress: tqdm) -> str:
        """Copy what is missing of the object; returns its SHA-256."""
        self.target.parent.mkdir(parents=True, exist_ok=True)
        for old in self.target.parent.glob(f".{self.target.name}.*.part"):
            if old != self.part:
                old.unlink()  # of a version that is gone
        with self.part.open("a+b") as stream:
            stream.seek(0)
            checksum = hashlib.file_digest(stream, "sha256")
            for start in range(stream.tell(), self.source.size, WINDOW_BYTES):
                [content] = self.source.read([(start, WINDOW_BYTES)])
                stream.write(content)
                checksum.update(content)
                progress.update(len(content))
        self.part.replace(self.target)
        return checksum.hexdigest()


def _files_of(run: Run, tile: int) -> Iterator[str]:
    survey = run.config.data.survey
    if not is_remote(survey):
        raise ConfigurationError(
            f"data.survey: found the folder {survey}, expected s3://bucket/prefix: "
            "what is on a disk need not be fetched"
        )
    if tile not in run.plan.by_tile:
        raise InputError(f"tile {tile}: no sub-tile of it is planned; check tiling")
    for subtile in run.plan.by_tile[tile]:
        path = run.manifest(subtile)
        if not Path(path).exists():
            action = "Run `snakemake partition` with the same configuration first."
            raise InputError(explain(path, "no such file", "the sub-tile's manifest", action))
        yield from _named_in(read_manifest(path), str(survey), path)


def _named_in(manifest: Manifest, survey: str, path: str) -> Iterator[str]:
    prefix = f"{survey.rstrip('/')}/"
    for uri in manifest.paths:
        # a key may hold anything: none leads out of the folder of the copies
        steps = uri.removeprefix(prefix).split("/")
        if not uri.startswith(prefix) or {"", ".", ".."} & set(steps):
            action = "Write the manifests again."
            raise InputError(explain(path, f"the file {uri}", f"files of {survey}", action))
        yield uri


def _require_space(folder: Path, n_bytes: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if n_bytes > free:
        action = "Fetch fewer tiles, or into a folder on a larger disk."
        raise InputError(
            explain(folder, f"{free / 1e9:.1f} GB free", f"{n_bytes / 1e9:.1f} GB", action)
        )


def _read_record(folder: Path) -> dict[str, dict]:
    try:
        return json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError:
        logger.warning("%s: damaged; all files are fetched again", folder / RECORD)
        return {}


def _write_record(folder: Path, record: dict[str, dict]) -> None:
    write_atomically(folder / RECORD, json.dumps(record, indent=1, sort_keys=True).encode())
    lines = [f"{entry['sha256']}  {name}\n" for name, entry in sorted(record.items())]
    write_atomically(folder / CHECKSUMS, "".join(lines).encode())
