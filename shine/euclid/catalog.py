"""The sources of a sub-tile, from MER catalogues: what is fitted, what is modelled, what is masked.

Nothing that is on the sky is ignored: galaxies that fail the selection and stars are modelled
along with the selected galaxies, and saturated objects, which no model fits, are masked.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from shine.errors import InputError, Kind, SourceFlag, explain
from shine.euclid import catalog_files, segmentation
from shine.euclid.selection_config import SelectionConfig
from shine.euclid.sizes import SERSIC_COLUMNS, half_light_radius
from shine.euclid.sky_mask import SkyMask
from shine.manifest import Manifest
from shine.provenance import digest

logger = logging.getLogger(__name__)

Rows = dict[str, NDArray]

SEGMENT_ID = "SEGMENTATION_MAP_ID"
CONTAMINATED_BIT, BLENDED_BIT, SATURATED_BIT = 1, 2, 4  # DET_QUALITY_FLAG


class Dropped(NamedTuple):
    """A source that is not modelled, and why."""

    ra: float  # deg
    dec: float  # deg
    flags: SourceFlag


@dataclass(frozen=True)
class SourceTable:
    """The sources to model, in the manifest's order, and what became of the others."""

    object_id: NDArray[np.int64]  # (n,)
    ra: NDArray[np.float64]  # deg
    dec: NDArray[np.float64]  # deg
    flux_ujy: NDArray[np.float64]
    hlr_arcsec: NDArray[np.float64]  # half-light radius to start from; of no meaning for stars
    kind: NDArray[np.uint8]  # Kind
    is_core: NDArray[np.bool_]
    flags: NDArray[np.int32]  # SourceFlag
    mask: SkyMask  # pixels to leave out
    cuts: dict[str, int]  # sources removed from the selection by each cut, in order
    dropped: dict[int, Dropped]  # sources that are not modelled, by OBJECT_ID
    digest: str  # SHA-256 of the values used of catalogues and segmentation maps


def load_sources(manifest: Manifest, selection: SelectionConfig) -> SourceTable:
    """Read the manifest's sources from its catalogues and sort them by what becomes of them.

    A source that several catalogues hold is taken from the first. InputError names the file and
    column that is missing or damaged, or the ids that no catalogue has.
    """
    columns = _needed_columns(selection)
    if manifest.segmentation_maps:
        columns.append(SEGMENT_ID)
    rows = _read_catalogs(manifest, columns)
    object_id = rows.pop(catalog_files.OBJECT_ID)
    if manifest.morphology_catalogs:
        rows |= _read_morphology(manifest, object_id)
    core = np.isin(object_id, np.array(manifest.core_source_ids, np.int64))
    cuts = _cut(rows, selection)
    counts = _count(cuts, len(object_id))

    flags = np.zeros(len(object_id), np.int32)
    for flag, chosen in cuts.values():
        flags[chosen] |= flag
    quality = _bits(rows["DET_QUALITY_FLAG"])
    flags[(quality & CONTAMINATED_BIT) != 0] |= SourceFlag.CONTAMINATED
    flags[(quality & BLENDED_BIT) != 0] |= SourceFlag.BLENDED
    hlr_arcsec, size_flags = half_light_radius(rows, selection)
    flags |= size_flags

    kind = np.full(len(object_id), Kind.GALAXY, np.uint8)
    for name in ("det_quality", "low_snr", "too_small"):
        kind[cuts[name][1]] = Kind.NUISANCE
    kind[cuts["point_like"][1]] = Kind.STAR
    gone = cuts["bad_position"][1] | cuts["not_vis_detected"][1] | cuts["spurious"][1]
    masked = cuts["saturated"][1] & ~gone
    radius_arcsec = _saturated_radius(rows, masked, selection)
    if selection.excluded == "masked":
        others = (kind != Kind.GALAXY) & ~(gone | masked | cuts["bad_flux"][1])
        size = np.maximum(hlr_arcsec, selection.fallback_hlr_arcsec)
        radius_arcsec[others] = selection.excluded_mask_hlr * size[others]
        masked |= others
    flags[masked] |= SourceFlag.MASKED
    mask = _mask(manifest, rows, radius_arcsec)
    kept = ~(gone | masked | cuts["bad_flux"][1])
    logger.info(
        "%s: %d galaxies carry shear (%d in the core), %d more galaxies and %d stars are modelled, "
        "%d objects are masked, %d dropped",
        manifest.stem,
        (kept & (kind == Kind.GALAXY)).sum(),
        (kept & (kind == Kind.GALAXY) & core).sum(),
        (kept & (kind == Kind.NUISANCE)).sum(),
        (kept & (kind == Kind.STAR)).sum(),
        masked.sum(),
        (~kept & ~masked).sum(),
    )
    return SourceTable(
        object_id=object_id[kept],
        ra=rows["RIGHT_ASCENSION"][kept] % 360.0,
        dec=rows["DECLINATION"][kept],
        flux_ujy=rows["FLUX_DETECTION_TOTAL"][kept],
        hlr_arcsec=hlr_arcsec[kept],
        kind=kind[kept],
        is_core=core[kept],
        flags=flags[kept],
        mask=mask,
        cuts=counts,
        dropped={
            int(object_id[i]): Dropped(
                rows["RIGHT_ASCENSION"][i] % 360.0,
                rows["DECLINATION"][i],
                SourceFlag(int(flags[i])),
            )
            for i in np.flatnonzero(~kept)
        },
        digest=digest([object_id, *rows.values(), *([mask.pixels] if len(mask.pixels) else [])]),
    )


def _needed_columns(selection: SelectionConfig) -> list[str]:
    optional = {
        "VIS_DET": selection.require_vis_det,
        "SPURIOUS_FLAG": selection.reject_spurious_flag,
        "SPURIOUS_PROB": selection.max_spurious_prob is not None,
        "POINT_LIKE_PROB": selection.max_point_like_prob is not None,
        "MUMAX_MINUS_MAG": selection.min_mumax_minus_mag is not None,
        "FLUXERR_DETECTION_TOTAL": selection.min_snr is not None,
    }
    return [
        "RIGHT_ASCENSION",
        "DECLINATION",
        "FLUX_DETECTION_TOTAL",
        "DET_QUALITY_FLAG",
        "SEMIMAJOR_AXIS",
        "ELLIPTICITY",
        *(name for name, needed in optional.items() if needed),
    ]


def _read_catalogs(manifest: Manifest, columns: list[str]) -> Rows:
    """The manifest's sources, one row each, in the order of its `source_ids`."""
    wanted = np.array(manifest.source_ids, np.int64)
    rows, found, first = _joined(manifest.catalogs, columns, wanted)
    missing = wanted[~np.isin(wanted, found)]
    if len(missing):
        raise InputError(
            explain(
                ", ".join(manifest.catalogs),
                f"no row for {len(missing)} of {len(wanted)} source_ids, such as "
                f"{missing[:5].tolist()}",
                "every one of them",
                "Add the catalogue that has them, or write the manifest again.",
            )
        )
    order = first[np.searchsorted(found, wanted)]
    return {name: values[order] for name, values in rows.items()}


def _read_morphology(manifest: Manifest, object_id: NDArray[np.int64]) -> Rows:
    """Sersic radii and axis ratios of the sources; NaN where the catalogues have no fit."""
    rows, found, first = _joined(manifest.morphology_catalogs, SERSIC_COLUMNS, object_id)
    known = np.isin(object_id, found)
    fits = {name: np.full(len(object_id), np.nan) for name in SERSIC_COLUMNS}
    for name, values in fits.items():
        values[known] = rows[name][first[np.searchsorted(found, object_id[known])]]
    return fits


def _joined(
    paths: Sequence[str], columns: Sequence[str], wanted: NDArray[np.int64]
) -> tuple[Rows, NDArray[np.int64], NDArray[np.intp]]:
    """Rows of several catalogues; the ids in them, ascending, and the first row of each."""
    parts = [catalog_files.read_rows(path, columns, wanted) for path in paths]
    rows = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return rows, *np.unique(rows[catalog_files.OBJECT_ID], return_index=True)


def _cut(rows: Rows, selection: SelectionConfig) -> dict[str, tuple[SourceFlag, NDArray[np.bool_]]]:
    """Which sources each cut concerns, in order. Comparisons with NaN, a masked value, are False:
    what is unknown does not make a source spurious or point-like, nor bright, large or detected."""
    none = np.zeros(len(rows["DECLINATION"]), bool)
    flux, dec = rows["FLUX_DETECTION_TOTAL"], rows["DECLINATION"]
    quality = rows["DET_QUALITY_FLAG"]

    not_detected, spurious, point_like, faint, small = (none.copy() for _ in range(5))
    if selection.require_vis_det:
        not_detected = ~(rows["VIS_DET"] == 1)
    if selection.reject_spurious_flag:
        spurious |= rows["SPURIOUS_FLAG"] == 1
    if selection.max_spurious_prob is not None:
        spurious |= rows["SPURIOUS_PROB"] > selection.max_spurious_prob
    if selection.max_point_like_prob is not None:
        point_like |= rows["POINT_LIKE_PROB"] > selection.max_point_like_prob
    if selection.min_mumax_minus_mag is not None:
        point_like |= rows["MUMAX_MINUS_MAG"] < selection.min_mumax_minus_mag
    if selection.min_snr is not None:
        error = rows["FLUXERR_DETECTION_TOTAL"]
        faint = ~((error > 0.0) & (flux >= selection.min_snr * error))
    if selection.min_semimajor_axis_px is not None:
        small = ~(rows["SEMIMAJOR_AXIS"] >= selection.min_semimajor_axis_px)
    excluded = ((_bits(quality) & selection.det_quality_mask) != 0) | ~np.isfinite(quality)
    return {
        "bad_position": (
            SourceFlag.BAD_POSITION,
            ~(np.isfinite(rows["RIGHT_ASCENSION"]) & (np.abs(dec) <= 90.0)),
        ),
        "not_vis_detected": (SourceFlag.NOT_VIS_DETECTED, not_detected),
        "spurious": (SourceFlag.SPURIOUS, spurious),
        "saturated": (SourceFlag.SATURATED, (_bits(quality) & SATURATED_BIT) != 0),
        "bad_flux": (SourceFlag.BAD_FLUX, ~(np.isfinite(flux) & (flux > 0.0))),
        "point_like": (SourceFlag.POINT_LIKE, point_like),
        "det_quality": (SourceFlag.QUALITY_EXCLUDED, excluded),
        "low_snr": (SourceFlag.LOW_SNR, faint),
        "too_small": (SourceFlag.TOO_SMALL, small),
    }


def _count(cuts: dict[str, tuple[SourceFlag, NDArray[np.bool_]]], n_sources: int) -> dict[str, int]:
    """How many sources each cut removes from what the cuts before it left."""
    left = np.ones(n_sources, bool)
    counts = {}
    for name, (flag, chosen) in cuts.items():
        counts[name] = int((left & chosen).sum())
        left &= ~chosen
        logger.info("cut %s: %d of %d sources (%s)", name, counts[name], n_sources, flag.meaning)
    return counts


def _saturated_radius(
    rows: Rows, saturated: NDArray[np.bool_], selection: SelectionConfig
) -> NDArray[np.float64]:
    """Radius in arcsec masked around each source, by the cube root of the flux; 0: nothing."""
    flux = np.nan_to_num(rows["FLUX_DETECTION_TOTAL"], nan=0.0, posinf=0.0, neginf=0.0)
    brightness = np.maximum(flux / selection.saturated_mask_flux_ujy, 1.0)
    return np.where(saturated, selection.saturated_mask_radius_arcsec * np.cbrt(brightness), 0.0)


def _mask(manifest: Manifest, rows: Rows, radius_arcsec: NDArray[np.float64]) -> SkyMask:
    """What is masked: discs of these radii and, given maps, segments.

    Segments stand in for the discs, but for saturated sources: their light reaches farther.
    """
    masked = np.flatnonzero(radius_arcsec > 0.0)
    ra, dec = rows["RIGHT_ASCENSION"][masked] % 360.0, rows["DECLINATION"][masked]
    discs = np.column_stack([ra, dec, radius_arcsec[masked]])
    if not (manifest.segmentation_maps and len(masked)):
        return SkyMask(discs)
    objects = segmentation.Objects(_bits(rows[SEGMENT_ID][masked]), ra, dec)
    outlined, pixels = segmentation.outline(manifest.segmentation_maps, objects)
    logger.info(
        "%s: %d of %d masked objects have segments of %d pixels in all",
        manifest.stem,
        outlined.sum(),
        len(masked),
        len(pixels),
    )
    saturated = (_bits(rows["DET_QUALITY_FLAG"][masked]) & SATURATED_BIT) != 0
    return SkyMask(discs[saturated | ~outlined], pixels)


def _bits(values: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.nan_to_num(values, nan=0.0).astype(np.int64)
