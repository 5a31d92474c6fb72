"""The files of one validation image, as a survey would have them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from constellation.mock_survey.detector import Frame
from constellation.mock_survey.fits_files import (
    background_hdus,
    frame_hdus,
    join_parts,
    primary_header,
    psf_hdus,
    write_part,
    write_table,
)
from constellation.mock_survey.mer_table import tile_tables
from constellation.validation.drawing.listed import catalogue
from constellation.validation.drawing.scene import TILE, GridScene
from shine.manifest import Manifest, QuadrantFiles, SkyBounds, write_manifest

BOUNDS_DEG = 0.25  # for people: sources are named one by one


def write_catalogue(scene: GridScene, path: Path) -> np.ndarray:
    """Write the catalogue; the galaxies' ids (n,) in order."""
    columns, ids = catalogue(scene)
    write_table(tile_tables(scene.survey, columns)[TILE.tile_index], path)
    return ids


def write_image(scene: GridScene, image: Frame, folder: Path) -> QuadrantFiles:
    """Write the frame, its background and its PSF grid."""
    frame = scene.frame
    contents = {
        "DET": frame_hdus(scene.survey, frame, image),
        "BKG": background_hdus(frame, image),
        "PSF": psf_hdus(frame, scene.psf_stamps()),
    }
    paths = {}
    for product, hdus in contents.items():
        part, path = folder / f"{product}.part", folder / f"{product}.fits"
        write_part(hdus, part)
        join_parts(primary_header(scene.survey, 0), [part], path)
        paths[product] = str(path)
    return QuadrantFiles(
        sci_path=paths["DET"],
        rms_path=paths["DET"],
        flg_path=paths["DET"],
        bkg_path=paths["BKG"],
        psf_path=paths["PSF"],
    )


def write_block_manifest(
    quadrants: list[QuadrantFiles], catalogue: tuple[Path, np.ndarray, np.ndarray], path: Path
) -> None:
    """Write the manifest of all sources of a catalogue (path, ids, which are core)."""
    where, ids, core = catalogue
    bounds = {
        "ra": (TILE.ra - BOUNDS_DEG, TILE.ra + BOUNDS_DEG),
        "dec": (TILE.dec - BOUNDS_DEG, TILE.dec + BOUNDS_DEG),
    }
    manifest = Manifest(
        tile_id=TILE.tile_index,
        sub_tile_row=0,
        sub_tile_col=0,
        sky_bounds=SkyBounds(
            core_ra=bounds["ra"],
            core_dec=bounds["dec"],
            extended_ra=bounds["ra"],
            extended_dec=bounds["dec"],
        ),
        quadrants=quadrants,
        source_catalog=str(where),
        source_ids=[int(i) for i in ids],
        core_source_ids=[int(i) for i in ids[core]],
    )
    write_manifest(manifest, path)
