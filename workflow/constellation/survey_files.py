"""The files of a survey folder, found by their Euclid names; the latest version of each wins."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from shine.errors import InputError, explain

_EXPOSURE_NAME = re.compile(
    r"EUC_VIS_(?:SWL-DET|SWL-BKG|GRD-PSF)-(?P<obs>\d{6})-(?P<dither>\d{2})-(?P<kind>\d)-\d{7}"
    r"__(?P<timestamp>.+?)\.fits(?:\.gz)?"
)
_CATALOGUE_NAME = re.compile(
    r"EUC_MER_FINAL-CAT_TILE(?P<tile>\d+)-(?P<hash>[^_]+)_(?P<timestamp>.+?)_\d+\.\d+\.fits(?:\.gz)?"
)


@dataclass(frozen=True, order=True)
class Exposure:
    """One dither of an observation; `kind` is 1 for nominal, 2 for short exposures."""

    obs_id: int
    dither: int
    kind: int


@dataclass(frozen=True)
class ExposureFiles:
    """The three files of one exposure."""

    exposure: Exposure
    frame: Path
    background: Path
    psf: Path


def parse_exposure_name(name: str) -> tuple[Exposure, str]:
    """Return the exposure and the timestamp in a file name; raises `InputError`."""
    match = _EXPOSURE_NAME.fullmatch(name)
    if match is None:
        expected = "EUC_VIS_SWL-DET-{obs}-{dither}-{kind}-0000000__{timestamp}.fits"
        raise InputError(explain(name, "an unknown name", expected, "Rename or remove the file."))
    return Exposure(*(int(match[key]) for key in ("obs", "dither", "kind"))), match["timestamp"]


def match_exposures(paths: Iterable[Path], kinds: Iterable[int]) -> list[ExposureFiles]:
    """Pair frames, backgrounds and PSFs by exposure, sorted; of two versions the latest wins.

    `paths` are any files of a survey; frames of other kinds are left out. Raises `InputError`
    naming a frame without its background or PSF.
    """
    latest: dict[str, dict[Exposure, tuple[str, Path]]] = {"DET": {}, "BKG": {}, "PSF": {}}
    for path in paths:
        for tag, found in latest.items():
            if f"-{tag}-" in path.name:
                exposure, timestamp = parse_exposure_name(path.name)
                found[exposure] = max(found.get(exposure, ("", path)), (timestamp, path))
    wanted = sorted(exposure for exposure in latest["DET"] if exposure.kind in set(kinds))
    return [
        ExposureFiles(
            exposure,
            latest["DET"][exposure][1],
            _companion(latest, "BKG", exposure),
            _companion(latest, "PSF", exposure),
        )
        for exposure in wanted
    ]


def match_catalogues(paths: Iterable[Path]) -> dict[int, Path]:
    """Return the latest MER catalogue of each tile among `paths`."""
    latest: dict[int, tuple[str, Path]] = {}
    for path in paths:
        match = _CATALOGUE_NAME.fullmatch(path.name)
        if match:
            tile = int(match["tile"])
            latest[tile] = max(latest.get(tile, ("", path)), (match["timestamp"], path))
    return {tile: path for tile, (_, path) in sorted(latest.items())}


def list_exposure_files(survey: Path) -> list[Path]:
    """Return frames, backgrounds and PSFs of a survey folder, sorted; `InputError` if none."""
    patterns = (
        "VIS/*/EUC_VIS_SWL-DET-*.fits*",
        "VIS/*/EUC_VIS_SWL-BKG-*.fits*",
        "PSF/**/EUC_VIS_GRD-PSF-*.fits*",
    )
    return _listed(survey, patterns, "VIS/{obs}/EUC_VIS_SWL-DET-*.fits")


def list_catalogues(survey: Path) -> list[Path]:
    """Return the MER catalogues of a survey folder, sorted; raises `InputError` if none."""
    return _listed(
        survey, ("MER/**/EUC_MER_FINAL-CAT_TILE*.fits*",), "MER/EUC_MER_FINAL-CAT_*.fits"
    )


def pick_catalogues(catalogues: dict[int, Path], tiles: Iterable[int], survey: Path) -> list[Path]:
    """Return the catalogues of some tiles; raises `InputError` naming a tile that has none."""
    picked = []
    for tile in tiles:
        if tile not in catalogues:
            raise InputError(
                explain(
                    f"{survey}/MER",
                    f"no catalogue of tile {tile}",
                    f"EUC_MER_FINAL-CAT_TILE{tile}-*.fits",
                    "Fetch it: its sources lie in or next to the planned sub-tiles.",
                )
            )
        picked.append(catalogues[tile])
    return picked


def _companion(
    latest: dict[str, dict[Exposure, tuple[str, Path]]], tag: str, exposure: Exposure
) -> Path:
    try:
        return latest[tag][exposure][1]
    except KeyError:
        frame = latest["DET"][exposure][1]
        raise InputError(
            explain(
                frame,
                f"no {tag} file of the same exposure",
                f"EUC_VIS_*-{tag}-{exposure.obs_id:06d}-{exposure.dither:02d}-{exposure.kind}-*.fits",
                "Fetch it.",
            )
        ) from None


def _listed(survey: Path, patterns: Iterable[str], expected: str) -> list[Path]:
    found = sorted({path for pattern in patterns for path in survey.glob(pattern)})
    if not found:
        state = "no such file in the folder" if survey.is_dir() else "no such folder"
        raise InputError(explain(survey, state, expected, "Check data.survey."))
    return found
