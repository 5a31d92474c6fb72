"""Names and places of a mock survey's files, known from its settings alone."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from .config import MockSurveyConfig

# Between the start of one exposure's read-out and the start of the next exposure.
OVERHEAD_S = 120.0
MJD_ZERO = datetime(1858, 11, 17)


@dataclass(frozen=True)
class SurveyFiles:
    """Files of a survey: one of each of the first three per exposure, one catalogue per tile."""

    frames: tuple[Path, ...]
    backgrounds: tuple[Path, ...]
    psfs: tuple[Path, ...]
    catalogues: tuple[Path, ...]
    truth: Path

    def all_paths(self) -> tuple[Path, ...]:
        """Every file of the survey."""
        return (*self.frames, *self.backgrounds, *self.psfs, *self.catalogues, self.truth)


def exposure_start_mjd(config: MockSurveyConfig, exposure: int) -> float:
    """Start of an exposure: those before it, one after the other, with their read-outs."""
    before = sum(item.exposure_time_s + OVERHEAD_S for item in config.exposures[:exposure])
    return config.mjd_obs + before / 86400


def expected_files(config: MockSurveyConfig, output_dir: str | Path) -> SurveyFiles:
    """The files that `write_survey` writes; looks at no file."""
    root = Path(output_dir)
    vis = root / "VIS" / str(config.observation)
    names = [
        f"{config.observation:06d}-{dither:02d}-1-0000000__{_timestamp(config, dither)}.fits"
        for dither in range(len(config.exposures))
    ]
    return SurveyFiles(
        frames=tuple(vis / f"EUC_VIS_SWL-DET-{name}" for name in names),
        backgrounds=tuple(vis / f"EUC_VIS_SWL-BKG-{name}" for name in names),
        psfs=tuple(root / "PSF" / f"EUC_VIS_GRD-PSF-{name}" for name in names),
        catalogues=tuple(
            root
            / "MER"
            / (
                f"EUC_MER_FINAL-CAT_TILE{tile.tile_index}-{_tag(tile.tile_index)}"
                f"_{_timestamp(config, 0)}_00.00.fits"
            )
            for tile in config.tiles
        ),
        truth=root / "truth.parquet",
    )


def _timestamp(config: MockSurveyConfig, exposure: int) -> str:
    start = MJD_ZERO + timedelta(days=exposure_start_mjd(config, exposure))
    return start.strftime("%Y%m%dT%H%M%S.%fZ")


def _tag(tile_index: int) -> str:
    return hashlib.sha256(str(tile_index).encode()).hexdigest()[:6].upper()
