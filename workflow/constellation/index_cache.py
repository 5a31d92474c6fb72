"""What is known of a survey's quadrants already: the index's rows of each exposure, in a folder.

Each exposure has a file of its own, written at once: a run that was interrupted goes on where it
stopped, and after a change of the survey just the headers of what is new are read.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

from constellation.code_digests import code_of
from constellation.exposure_headers import rebased
from constellation.survey_files import Exposure, ExposureFiles, File
from shine.atomic import write_atomically
from shine.provenance import digest, package_versions
from shine.storage import Version

logger = logging.getLogger(__name__)

PACKAGES = ("astropy", "numpy")  # that rows depend on
_NAME = re.compile(r"\d{6}-\d{2}-\d\.rows")


@dataclass(frozen=True)
class KeptRows:
    """Rows of the quadrant index, kept in `folder`; `versions` are those of the survey's files.

    A file is a line, the seal, and a Parquet table. The seal is the digest of the table's bytes and
    of all that the rows depend on: it is right for what is whole and still true, and nothing else.
    """

    folder: Path
    versions: Mapping[File, Version]

    def find(self, files: ExposureFiles, index_folder: Path) -> pa.Table | None:
        """Return the rows of an exposure, for an index in such a folder; None if not known."""
        path = self._path(files.exposure)
        try:
            seal, _, content = path.read_bytes().partition(b"\n")
        except OSError:
            return None
        if seal != self._seal(files, index_folder, content):
            logger.info("%s: of other files or other code, or damaged: not used", path)
            return None
        return parquet.read_table(pa.BufferReader(content))

    def keep(self, files: ExposureFiles, index_folder: Path, rows: pa.Table) -> None:
        """Keep the rows of an exposure, atomically."""
        sink = pa.BufferOutputStream()
        parquet.write_table(rows, sink, compression="zstd")
        content = sink.getvalue().to_pybytes()
        seal = self._seal(files, index_folder, content)
        write_atomically(self._path(files.exposure), seal + b"\n" + content)

    def remove_others(self, exposures: Iterable[ExposureFiles]) -> None:
        """Remove what is kept of exposures that the survey does not have any more."""
        wanted = {self._path(files.exposure) for files in exposures}
        for path in self.folder.glob("*.rows"):
            if path not in wanted and _NAME.fullmatch(path.name):
                path.unlink()

    def _path(self, exposure: Exposure) -> Path:
        return self.folder / f"{exposure.obs_id:06d}-{exposure.dither:02d}-{exposure.kind}.rows"

    def _seal(self, files: ExposureFiles, index_folder: Path, content: bytes) -> bytes:
        installed = package_versions()
        basis = {
            "code": code_of("constellation.exposure_headers"),
            "packages": [installed[name] for name in PACKAGES],
            "files": [(rebased(path, index_folder), *self.versions[path]) for path in files.paths],
        }
        return digest([json.dumps(basis), content]).encode()
