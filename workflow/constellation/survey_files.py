"""The files of a survey, found by their Euclid names; the latest version of each wins.

A survey lies in a folder or under `s3://bucket/prefix`; its files are paths or URIs. The folders
are those of the public archive (s3://nasa-irsa-euclid-q1/q1), or VIS, PSF and MER.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from shine import s3
from shine.errors import InputError, explain
from shine.provenance import digest
from shine.storage import Version, is_remote, version

File = Path | str  # on a local disk, or a URI

_EXPOSURE_NAME = re.compile(
    r"EUC_VIS_(?:SWL-DET|SWL-BKG|SWL-WGT|GRD-PSF)-(?P<obs>\d{6})-(?P<dither>\d{2})-(?P<kind>\d)-\d{7}"
    r"__(?P<timestamp>.+?)\.fits(?:\.gz)?"
)
# the archive has one PSF file for all exposures, and a copy of it in the folder of each observation
_COMMON_PSF_NAME = re.compile(
    r"EUC_VIS_GRD-PSF-000-000000-0000000__(?P<timestamp>.+?)\.fits(?:\.gz)?"
)
_TILE_NAME = re.compile(
    r"EUC_MER_FINAL-(?P<tag>[A-Z-]+)_TILE(?P<tile>\d+)-(?P<hash>[^_]+)_(?P<timestamp>.+?)"
    r"_\d+\.\d+\.fits(?:\.gz)?"
)


@dataclass(frozen=True)
class Product:
    """Files of one kind: where they lie in a survey, as patterns of `Path.glob`."""

    patterns: tuple[str, ...]
    expected: str  # for the error if there are none


@dataclass(frozen=True)
class TileProduct(Product):
    """MER files of one kind, of which each tile has one."""

    noun: str  # for errors
    tag: str  # in the files' names
    archive_folder: str  # of the public archive

    @classmethod
    def of(cls, noun: str, tag: str, archive_folder: str) -> TileProduct:
        """The product with such names, in the folder MER or in the public archive's."""
        stem = f"EUC_MER_FINAL-{tag}_TILE*.fits*"
        patterns = (f"MER/**/{stem}", f"{archive_folder}/*/{stem}")
        return cls(patterns, f"MER/EUC_MER_FINAL-{tag}_*.fits", noun, tag, archive_folder)


EXPOSURES = Product(
    (
        "VIS/*/EUC_VIS_SWL-DET-*.fits*",
        "VIS/*/EUC_VIS_SWL-BKG-*.fits*",
        "VIS/*/EUC_VIS_SWL-WGT-*.fits*",
        "VIS/*/EUC_VIS_GRD-PSF-*.fits*",
        "PSF/**/EUC_VIS_GRD-PSF-*.fits*",
    ),
    "VIS/{obs}/EUC_VIS_SWL-DET-*.fits",
)
CATALOGUES = TileProduct.of("catalogue", "CAT", "catalogs/MER_FINAL_CATALOG")
MORPHOLOGY = TileProduct.of("morphology catalogue", "MORPH-CAT", "catalogs/MER_FINAL_CATALOG")
SEGMENTATION = TileProduct.of("segmentation map", "SEGMAP", "MER_SEG")
MER_PRODUCTS = {  # by the option of `constellation manifests`
    "catalogues": CATALOGUES,
    "morphology": MORPHOLOGY,
    "segmentation": SEGMENTATION,
}


@dataclass(frozen=True, order=True)
class Exposure:
    """One dither of an observation; `kind` is 1 for nominal, 2 for short exposures."""

    obs_id: int
    dither: int
    kind: int


@dataclass(frozen=True)
class ExposureFiles:
    """The files of one exposure; not all have a weight map."""

    exposure: Exposure
    frame: File
    background: File
    psf: File
    weight: File | None = None

    @property
    def paths(self) -> tuple[File, ...]:
        """All of them."""
        return tuple(
            path
            for path in (self.frame, self.background, self.psf, self.weight)
            if path is not None
        )


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
    """Match the files of each exposure, sorted; of two versions the latest wins.

    `paths` are any files of a survey; frames of other kinds are left out. An exposure without a PSF
    of its own has the common one of its observation's folder. Raises `InputError` naming a frame
    without its background or PSF.
    """
    latest: dict[str, dict[Exposure, tuple[str, File]]]
    latest = {tag: {} for tag in ("DET", "BKG", "WGT", "PSF")}
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
            latest["WGT"].get(exposure, ("", None))[1],
        )
        for exposure in wanted
    ]


def match_tiles(paths: Iterable[File], product: TileProduct) -> dict[int, File]:
    """Return the latest file of a product for each tile among `paths`, which are any files."""
    latest: dict[int, tuple[str, File]] = {}
    for path in paths:
        match = _TILE_NAME.fullmatch(_name(path))
        if match and match["tag"] == product.tag:
            tile = int(match["tile"])
            latest[tile] = max(latest.get(tile, ("", path)), (match["timestamp"], path))
    return {tile: path for tile, (_, path) in sorted(latest.items())}


def match_catalogues(paths: Iterable[File]) -> dict[int, File]:
    """Return the latest MER catalogue of each tile among `paths`."""
    return match_tiles(paths, CATALOGUES)


def list_exposure_files(survey: File) -> list[File]:
    """Return frames, backgrounds, weights and PSFs of a survey, sorted; `InputError` if none."""
    return _files(survey, EXPOSURES)


def exposure_versions(survey: File) -> dict[File, Version]:
    """Return the same files, each with what tells it from a later one of the same name.

    No file is opened: a survey in S3 is listed, of one on disk the file system is asked.
    """
    if is_remote(survey):
        objects = list_objects(str(survey), EXPOSURES)
        return {uri: (entry.size, entry.etag) for uri, entry in objects.items()}
    return {path: version(str(path)) for path in list_exposure_files(survey)}


def list_catalogues(survey: File) -> list[File]:
    """Return the MER catalogues of a survey, sorted; raises `InputError` if none."""
    return list_tile_files(survey, [CATALOGUES])


def list_tile_files(survey: File, products: Sequence[TileProduct]) -> list[File]:
    """Return all files of some products, sorted; raises `InputError` if there is none at all."""
    return _files(survey, together(products))


def together(products: Sequence[TileProduct]) -> Product:
    """Several products as one, to be found in one listing."""
    patterns = tuple(pattern for product in products for pattern in product.patterns)
    return Product(patterns, products[0].expected)


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


def pick_tiles(
    found: Mapping[int, File], tiles: Iterable[int], product: TileProduct, place: File
) -> list[File]:
    """Return a product's files of some tiles; raises `InputError` naming a tile that has none.

    `place` is where the files come from, for the error.
    """
    picked = []
    for tile in tiles:
        if tile not in found:
            name = f"EUC_MER_FINAL-{product.tag}_TILE{tile}-*.fits"
            raise InputError(
                explain(
                    place,
                    f"no {product.noun} of tile {tile}",
                    f"{name} under MER or {product.archive_folder}",
                    "Fetch it: its sources lie in or next to the planned sub-tiles.",
                )
            )
        picked.append(found[tile])
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
