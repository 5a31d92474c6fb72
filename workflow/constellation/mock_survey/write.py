"""Write a mock survey: quadrants in parallel, then exposures, catalogues and the truth."""

from __future__ import annotations

import logging
import multiprocessing
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from .catalogue import build_catalogue
from .config import MockSurveyConfig
from .detector import observe
from .errors import MockSurveyError
from .fits_files import (
    background_hdus,
    frame_hdus,
    join_parts,
    primary_header,
    psf_hdus,
    write_part,
    write_table,
)
from .focal_plane import QuadrantFrame, overlapping_frames
from .layout import SurveyFiles, expected_files
from .mer_table import tile_tables
from .population import Sources, draw_population
from .psf import psf_image
from .scene import draw_scene, quadrant_wcs
from .sky import same_anywhere

LOGGER = logging.getLogger(__name__)
KINDS = ("det", "bkg", "psf")


def write_survey(
    config: MockSurveyConfig,
    output_dir: str | Path,
    workers: int = 2,
    sources: Sources | None = None,
) -> SurveyFiles:
    """Write the survey's files into `output_dir`, each complete or not at all.

    Files of an earlier run are replaced. The bytes depend on the settings alone (and on `sources`
    where they are given: those that the settings draw, with some of their columns changed), not on
    `workers` (processes). Raises `MockSurveyError` if an exposure would see nothing or if the
    folder holds other survey files, which readers would take for part of this survey.
    """
    root = Path(output_dir)
    frames = overlapping_frames(config)
    blind = set(range(len(config.exposures))) - {frame.exposure for frame in frames}
    if blind:
        raise MockSurveyError(
            f"{', '.join(f'exposures.{exposure}' for exposure in sorted(blind))}: no quadrant "
            "overlaps the area: look at the exposures' offsets and at detector.quadrants"
        )
    files = expected_files(config, root)
    _refuse_foreign_files(files, root)
    for path in files.all_paths():
        path.parent.mkdir(parents=True, exist_ok=True)
    if sources is None:
        sources = draw_population(config)
    LOGGER.info("%d sources, %d quadrants", len(sources), len(frames))
    with tempfile.TemporaryDirectory(prefix=".mock-survey-", dir=root) as scratch:
        _write_exposures(config, (frames, sources), files, (Path(scratch), workers))
        _write_catalogues(config, (frames, sources), files, Path(scratch))
    return files


def _write_exposures(
    config: MockSurveyConfig,
    sky: tuple[list[QuadrantFrame], Sources],
    files: SurveyFiles,
    where: tuple[Path, int],
) -> None:
    (frames, sources), (scratch, workers) = sky, where
    write = partial(_write_quadrant, config, sources, scratch)
    targets = dict(zip(KINDS, (files.frames, files.backgrounds, files.psfs), strict=True))
    done = tqdm(_run(write, frames, workers), total=len(frames), desc="quadrants", unit="quadrant")
    remaining = {e: sum(f.exposure == e for f in frames) for e in range(len(config.exposures))}
    for frame in done:
        remaining[frame.exposure] -= 1
        if remaining[frame.exposure] == 0:
            own = [other for other in frames if other.exposure == frame.exposure]
            _join(config, frame.exposure, own, targets, scratch)


def _join(
    config: MockSurveyConfig,
    exposure: int,
    frames: list[QuadrantFrame],
    targets: dict[str, tuple[Path, ...]],
    scratch: Path,
) -> None:
    for kind, paths in targets.items():
        joined = scratch / f"{exposure:02d}.{kind}"
        parts = [_part(scratch, frame, kind) for frame in frames]
        join_parts(primary_header(config, exposure), parts, joined)
        joined.replace(paths[exposure])


def _run(write, frames: list[QuadrantFrame], workers: int) -> Iterator[QuadrantFrame]:
    """Write all quadrants, yielding each in order when it is done."""
    if workers <= 1 or len(frames) == 1:
        yield from map(write, frames)
        return
    # A fresh interpreter per worker: forking a process that runs threads can deadlock.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(frames)), mp_context=context) as pool:
        try:
            yield from pool.map(write, frames)
        finally:
            pool.shutdown(cancel_futures=True)


def _write_quadrant(
    config: MockSurveyConfig, sources: Sources, scratch: Path, frame: QuadrantFrame
) -> QuadrantFrame:
    images = observe(config, frame, draw_scene(config, frame, sources))
    stamps = psf_image(config.psf, frame, quadrant_wcs(frame))
    pieces = (
        frame_hdus(config, frame, images),
        background_hdus(frame, images),
        psf_hdus(frame, stamps),
    )
    for kind, hdus in zip(KINDS, pieces, strict=True):
        write_part(hdus, _part(scratch, frame, kind))
    return frame


def _part(scratch: Path, frame: QuadrantFrame, kind: str) -> Path:
    return scratch / f"{frame.exposure:02d}_{frame.name}_{kind}.part"


def _write_catalogues(
    config: MockSurveyConfig,
    sky: tuple[list[QuadrantFrame], Sources],
    files: SurveyFiles,
    scratch: Path,
) -> None:
    frames, sources = sky
    columns, ids, listed = build_catalogue(config, sources, frames)
    LOGGER.info("%d catalogue entries", len(columns["OBJECT_ID"]))
    tables = tile_tables(config, columns)
    for tile, path in zip(config.tiles, files.catalogues, strict=True):
        unfinished = scratch / path.name
        write_table(tables[tile.tile_index], unfinished)
        unfinished.replace(path)
    unfinished = scratch / files.truth.name
    pq.write_table(_truth_table(sources, ids, listed), unfinished)
    unfinished.replace(files.truth)


def _truth_table(sources: Sources, ids: np.ndarray, listed: np.ndarray) -> pa.Table:
    columns = [
        ("OBJECT_ID", ids, "", "as in the MER catalogue where the source is listed there"),
        ("RA", sources.ra, "deg", "true right ascension"),
        ("DEC", sources.dec, "deg", "true declination"),
        ("IS_STAR", sources.is_star, "", "point source"),
        ("IS_DETECTED", listed, "", "listed in a MER catalogue"),
        ("FLUX_UJY", sources.flux_ujy, "uJy", "total flux"),
        ("HLR_ARCSEC", sources.hlr_arcsec, "arcsec", "half-light radius before shape and shear"),
        ("E1", sources.e1, "", "intrinsic ellipticity (a-b)/(a+b), u west, v north"),
        ("E2", sources.e2, "", "intrinsic ellipticity (a-b)/(a+b), u west, v north"),
        ("G1", sources.g1, "", "true reduced shear, u west, v north"),
        ("G2", sources.g2, "", "true reduced shear, u west, v north"),
    ]
    arrays = [
        pa.array(same_anywhere(values) if values.dtype.kind == "f" else values)
        for _, values, _, _ in columns
    ]
    schema = pa.schema(
        [
            pa.field(name, array.type, metadata={"unit": unit, "description": text})
            for (name, _, unit, text), array in zip(columns, arrays, strict=True)
        ]
    )
    return pa.Table.from_arrays(arrays, schema=schema)


def _refuse_foreign_files(files: SurveyFiles, root: Path) -> None:
    expected = set(files.all_paths())
    patterns = ("VIS/*/*.fits*", "PSF/**/*.fits*", "MER/**/*.fits*")
    foreign = sorted(p for pattern in patterns for p in root.glob(pattern) if p not in expected)
    if foreign:
        raise MockSurveyError(
            f"{root} holds {len(foreign)} survey files that these settings do not write, e.g. "
            f"{foreign[0]}: remove them or choose another output folder"
        )
