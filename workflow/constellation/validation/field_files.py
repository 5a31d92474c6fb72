"""The files of a full scene, as a survey has them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from constellation.mock_survey.catalogue import build_catalogue
from constellation.mock_survey.fits_files import write_table
from constellation.mock_survey.mer_table import tile_tables
from constellation.mock_survey.write import write_survey
from constellation.validation.drawing.field import FieldScene
from constellation.validation.drawing.scene import TILE
from shine.manifest import QuadrantFiles


def write_catalogue(field: FieldScene, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Write the catalogue of a field without shear; ids (n,), and which are core (n,)."""
    columns, _, _ = build_catalogue(field.reference, field.listable, field.frames)
    write_table(tile_tables(field.reference, columns)[TILE.tile_index], path)
    core = field.in_core(columns["RIGHT_ASCENSION"], columns["DECLINATION"])
    return columns["OBJECT_ID"], core


def write_field(
    field: FieldScene, member: tuple[tuple[float, float], bool], folder: Path
) -> list[QuadrantFiles]:
    """Write the survey of one member (shear, whether turned) of a block."""
    survey = field.survey(*member)
    files = write_survey(survey, folder, workers=1, sources=field.shining(survey))
    return [
        QuadrantFiles(
            sci_path=str(files.frames[frame.exposure]),
            rms_path=str(files.frames[frame.exposure]),
            flg_path=str(files.frames[frame.exposure]),
            bkg_path=str(files.backgrounds[frame.exposure]),
            psf_path=str(files.psfs[frame.exposure]),
            quadrant=frame.name,
        )
        for frame in field.frames
    ]
