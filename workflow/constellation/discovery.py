"""The quadrant index: where on the sky each detector quadrant lies, read from headers alone."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
from astropy.utils.exceptions import AstropyWarning
from tqdm import tqdm

from constellation.exposure_headers import ROW_SCHEMA, ExposureReader
from constellation.index_cache import KeptRows
from constellation.sky_order import encoded, in_sky_order
from constellation.survey_files import ExposureFiles
from shine.storage import is_remote

logger = logging.getLogger(__name__)

EXPOSURES_AT_A_TIME = 4  # from S3, where most of the time is spent waiting


def build_index(
    exposures: Iterable[ExposureFiles], folder: Path, kept: KeptRows | None = None
) -> pa.Table:
    """Read the headers of all exposures, but of those whose rows are kept; shows its progress.

    Relative paths are re-based to `folder`, the index's. The table has the columns of INDEX_SCHEMA,
    in the order of the sky, and is the same whatever was kept. Raises `InputError` naming the file
    and HDU of what is missing or damaged; what was read until then, or until an interruption, is
    kept.
    """
    ordered = sorted(exposures, key=lambda files: files.exposure)
    tables = {files: _known(files, folder, kept) for files in ordered}
    missing = [files for files in ordered if tables[files] is None]
    logger.info("%d of %d exposures are to be read", len(missing), len(ordered))
    tables.update(zip(missing, _read(missing, folder, kept), strict=True))
    if kept:
        kept.remove_others(ordered)
    rows = pa.concat_tables([encoded(ROW_SCHEMA.empty_table()), *tables.values()])
    return in_sky_order(rows.unify_dictionaries().combine_chunks())


def _known(files: ExposureFiles, folder: Path, kept: KeptRows | None) -> pa.Table | None:
    table = kept.find(files, folder) if kept else None
    return None if table is None else encoded(table)


def _read(
    exposures: Sequence[ExposureFiles], folder: Path, kept: KeptRows | None
) -> list[pa.Table]:
    """The rows of each exposure, in their order; kept as soon as they are read."""
    if not exposures:
        return []
    reader = ExposureReader(folder)

    def read(files: ExposureFiles) -> pa.Table:
        table = reader.read(files)
        if kept:
            kept.keep(files, folder, table)
        return encoded(table)

    remote = any(is_remote(files.frame) for files in exposures)
    pool = ThreadPoolExecutor(EXPOSURES_AT_A_TIME if remote else 1)
    try:
        # threads that ignore warnings for a time, each by itself, undo each other's settings
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AstropyWarning)
            tables = pool.map(read, exposures)
            return list(tqdm(tables, total=len(exposures), unit="exposure", desc="indexing"))
    finally:
        pool.shutdown(cancel_futures=True)
