"""The files of a survey, found by their Euclid names; the latest version of each wins.

A survey lies in a folder or under `s3://bucket/prefix`; its files are paths or URIs. The folders
are those of the public archive (s3://nasa-irsa-euclid-q1/q1), or VIS, PSF and MER.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from shine import s3
from shine.errors import InputError, explain
from shine.provenance import digest
from shine.storage import is_remote

File = Path | str  # on a local disk, or a URI

_EXPOSURE_NAME = re.compile(
    r"EUC_VIS_(?:SWL-DET|SWL-BKG|GRD-PSF)-(?P<obs>\d{6})-(?P<dither>\d{2})-(?P<kind>\d)-\d{7}"
    r"__(?P<timestamp>.+?)\.fits(?:\.gz)?"
)
# the archive has one PSF file for all exposures, and a copy of it in the folder of each observation
_COMMON_PSF_NAME = re.compile(
    r"EUC_VIS_GRD-PSF-000-000000-0000000__(?P<timestamp>.+?)\.fits(?:\.gz)?"
)
_CATALOGUE_NAME = re.compile(
    r"EUC_MER_FINAL-CAT_TILE(?P<tile>\d+)-(?P<hash>[^_]+)_(?P<timestamp>.+?)_\d+\.\d+\.fits(?:\.gz)?"
)


@dataclass(frozen=True)
class Product:
    """Files of one kind: where they lie in a survey, as patterns of `Path.glob`."""

    patterns: tuple[str, ...]
    expected: str  # for the error if there are none


EXPOSURES = Product(
    (
        "VIS/*/EUC_VIS_SWL-DET-*.fits*",
        "VIS/*/EUC_VIS_SWL-BKG-*.fits*",
        "VIS/*/EUC_VIS_GRD-PSF-*.fits*",
        "PSF/**/EUC_VIS_GRD-PSF-*.fits*",
    ),
    "VIS/{obs}/EUC_VIS_SWL-DET-*.fits",
)
CATALOGUES = Product(
    (
        "MER/**/EUC_MER_FINAL-CAT_TILE*.fits*",
        "catalogs/MER_FINAL_CATALOG/*/EUC_MER_FINAL-CAT_TILE*.fits*",
    ),
    "MER/EUC_MER_FINAL-CAT_*.fits",
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
    frame: File
    background: File
    psf: File


def as_file(text: str) -> File:
    """A path as a user writes it; `Path` would damage a URI."""
    return text if is_remote(text) else Path(text)


def parse_exposure_name(name: str) -> tuple[Exposure, str]:
    """Return the exposure and the timestamp in a file name; raises `InputError`."""
    match = _EXPOSURE_NAME.fullmatch(name)
    if match is None:
        expected = "EUC_VIS_SWL-DET-{obs}-{dither}-{kind}-0000000__{timestamp}.fits"
        raise InputError(explain(name, "an unknown name", expected, "Rename or remove the file."))
    return Exposure(*(int(match[key]) for key in ("obs", "dither", "kind"))), match["timestamp"]


def match_exposures(paths: Iterable[File], kinds: Iterable[int]) -> list[ExposureFiles]:
    """Pair frames, backgrounds and PSFs by exposure, sorted; of two versions the latest wins.

    `paths` are any files of a survey; frames of other kinds are left out. An exposure without a PSF
    of its own has the common one of its observation's folder. Raises `InputError` naming a frame
    without its background or PSF.
    """
    latest: dict[str, dict[Exposure, tuple[str, File]]] = {"DET": {}, "BKG": {}, "PSF": {}}
    common: dict[str, tuple[str, File]] = {}  # folder -> its PSF for all exposures
    for path in paths:
        name, folder = _name(path), _folder(path)
        if match := _COMMON_PSF_NAME.fullmatch(name):
            common[folder] = max(common.get(folder, ("", path)), (match["timestamp"], path))
            continue
        for tag, found in latest.items():
            if f"-{tag}-" in name:
                exposure, timestamp = parse_exposure_name(name)
                found[exposure] = max(found.get(exposure, ("", path)), (timestamp, path))
    wanted = sorted(exposure for exposure in latest["DET"] if exposure.kind in set(kinds))
    for exposure in wanted:
        folder = _folder(latest["DET"][exposure][1])
        if folder in common:
            latest["PSF"].setdefault(exposure, common[folder])
    return [
        ExposureFiles(
            exposure,
            latest["DET"][exposure][1],
            _companion(latest, "BKG", exposure),
            _companion(latest, "PSF", exposure),
        )
        for exposure in wanted
    ]


def match_catalogues(paths: Iterable[File]) -> dict[int, File]:
    """Return the latest MER catalogue of each tile among `paths`."""
    latest: dict[int, tuple[str, File]] = {}
    for path in paths:
        match = _CATALOGUE_NAME.fullmatch(_name(path))
        if match:
            tile = int(match["tile"])
            latest[tile] = max(latest.get(tile, ("", path)), (match["timestamp"], path))
    return {tile: path for tile, (_, path) in sorted(latest.items())}


def list_exposure_files(survey: File) -> list[File]:
    """Return frames, backgrounds and PSFs of a survey, sorted; `InputError` if none."""
    return _files(survey, EXPOSURES)


def list_catalogues(survey: File) -> list[File]:
    """Return the MER catalogues of a survey, sorted; raises `InputError` if none."""
    return _files(survey, CATALOGUES)


def list_objects(survey: str, product: Product) -> dict[str, s3.StoredObject]:
    """Return a product's objects by URI, sorted, for a survey in S3; `InputError` if none.

    One listing of each folder, whatever the number of objects.
    """
    base = survey.rstrip("/")
    wanted = re.compile("|".join(_as_regex(pattern) for pattern in product.patterns))
    folders = sorted({pattern.partition("/*")[0] for pattern in product.patterns})
    found = {
        entry.uri: entry
        for folder in folders
        for entry in s3.list_objects(f"{base}/{folder}/")
        if wanted.fullmatch(entry.uri.removeprefix(f"{base}/"))
    }
    if not found:
        raise InputError(explain(survey, "no such object", product.expected, "Check data.survey."))
    return dict(sorted(found.items()))


def digest_of(objects: Iterable[s3.StoredObject]) -> str:
    """A digest that changes when one of the objects does, by key, size or ETag."""
    return digest(f"{entry.uri} {entry.size} {entry.etag}" for entry in objects)


def pick_catalogues(
    catalogues: Mapping[int, File], tiles: Iterable[int], place: File
) -> list[File]:
    """Return the catalogues of some tiles; raises `InputError` naming a tile that has none.

    `place` is where the catalogues come from, for the error.
    """
    picked = []
    for tile in tiles:
        if tile not in catalogues:
            raise InputError(
                explain(
                    place,
                    f"no catalogue of tile {tile}",
                    f"EUC_MER_FINAL-CAT_TILE{tile}-*.fits",
                    "Fetch it: its sources lie in or next to the planned sub-tiles.",
                )
            )
        picked.append(catalogues[tile])
    return picked


def _companion(
    latest: dict[str, dict[Exposure, tuple[str, File]]], tag: str, exposure: Exposure
) -> File:
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


def _files(survey: File, product: Product) -> list[File]:
    if is_remote(survey):
        return list(list_objects(str(survey), product))
    found = sorted({path for pattern in product.patterns for path in Path(survey).glob(pattern)})
    if not found:
        state = "no such file in the folder" if Path(survey).is_dir() else "no such folder"
        raise InputError(explain(survey, state, product.expected, "Check data.survey."))
    return found


def _as_regex(pattern: str) -> str:
    """A pattern of `Path.glob` as a regular expression."""
    return re.escape(pattern).replace(r"\*\*/", "(?:.*/)?").replace(r"\*", "[^/]*")


def _name(path: File) -> str:
    return str(path).rpartition("/")[2]


def _folder(path: File) -> str:
    return str(path).rpartition("/")[0]
