"""One detector quadrant's pixels, ready for inference, from the files that a manifest names.

The science image is background-subtracted and stays in the detector's own pixels and ADU; each
quadrant keeps its own WCS, PSF grid and zero point. Required inputs are required: nothing is
replaced by a default.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from shine.errors import InputError, explain
from shine.euclid import fits_files
from shine.euclid.psf import PsfGrid
from shine.euclid.wcs import QuadrantWCS
from shine.manifest import QuadrantFiles
from shine.provenance import digest

AB_ZERO_POINT_UJY = 23.9  # AB magnitude of 1 uJy
_SCIENCE_NAME = re.compile(r"(.+)\.SCI")


@dataclass(frozen=True)
class Quadrant:
    """One quadrant of one exposure; the arrays are read-only."""

    name: str  # "3-4.F"
    exposure: str  # "000123-02": OBS_ID and DITHOBS
    image_adu: NDArray[np.float32]  # (ny, nx) background-subtracted, 0 where the weight is 0
    weight: NDArray[np.float32]  # (ny, nx) 1 / RMS^2 in ADU^-2, exactly 0 where masked
    wcs: QuadrantWCS
    adu_per_ujy: float
    psf: PsfGrid
    digest: str  # SHA-256 of everything above
    n_masked: dict[str, int]  # pixels that are flagged, bad_rms, non_finite; total: any of them


def load_quadrant(files: QuadrantFiles, bad_flags: int) -> Quadrant:
    """Read one quadrant; pixels with any of the `bad_flags` bits are masked.

    Pixels whose RMS is not positive, or whose science, background or RMS value is not finite, are
    masked too. HDUs are looked up by name: `{q}.SCI`, `{q}.RMS`, `{q}.FLG`, and `{q}` for
    background and PSF, where q is `files.quadrant` or the only quadrant in the science file.
    InputError names the file, HDU and key of whatever is missing, damaged or contradictory.
    """
    name = files.quadrant or _only_quadrant(files.sci_path)
    science_name = f"{name}.SCI"
    header = fits_files.read_header(files.sci_path, science_name)
    where = f"{files.sci_path}[{science_name}]"
    _check_version(header, files.version, where)
    adu_per_ujy = _adu_per_ujy(header, where)
    exposure = _exposure(fits_files.read_header(files.sci_path, "PRIMARY"), header, where)

    science, rms, flags, background = _read_pixels(files, name)
    defects = flags.astype(np.int64) & int(bad_flags)
    image, weight, n_masked = _calibrate(science, rms, defects, background)
    wcs = QuadrantWCS.from_header(header, image.shape, where)
    [psf_image] = fits_files.read_images(files.psf_path, [name])
    psf = PsfGrid.from_image(psf_image, image.shape, f"{files.psf_path}[{name}]")
    for array in (image, weight, psf.stamps):
        array.setflags(write=False)
    parts = (name, exposure, wcs.key, repr(adu_per_ujy), image, weight, psf.stamps)
    return Quadrant(
        name=name,
        exposure=exposure,
        image_adu=image,
        weight=weight,
        wcs=wcs,
        adu_per_ujy=adu_per_ujy,
        psf=psf,
        digest=digest(parts),
        n_masked=n_masked,
    )


def _only_quadrant(path: str) -> str:
    names = fits_files.hdu_names(path)
    quadrants = [match[1] for match in map(_SCIENCE_NAME.fullmatch, names) if match]
    if len(quadrants) == 1:
        return quadrants[0]
    if quadrants:
        found = f"{len(quadrants)} quadrants ({fits_files.shorten(quadrants)})"
        action = "Say which one with the manifest's key `quadrant`."
    else:
        found = f"no science image among {fits_files.shorten(names)}"
        action = "Check sci_path in the manifest."
    raise InputError(explain(path, found, "one extension named like 3-4.F.SCI", action))


def _check_version(header: fits.Header, version: str | None, where: str) -> None:
    if version is None:
        return
    # of a tile-compressed image, DATASUM is of the compressed bytes, ZDATASUM of the image
    sums = [str(header[key]).strip() for key in ("DATASUM", "ZDATASUM") if key in header]
    if version not in sums:
        found = f"DATASUM {' or '.join(sums)}" if sums else "no DATASUM"
        action = "The frame changed since the manifest was written: write the manifests again."
        raise InputError(explain(where, found, f"{version}, as in the manifest", action))


def _adu_per_ujy(header: fits.Header, where: str) -> float:
    """Flux scale: m_AB = -2.5 log10(ADU) + MAGZEROP + 2.5 log10(EXPTIME)."""
    zero_point = _number(header, "MAGZEROP", where)
    exposure_s = _number(header, "EXPTIME", where)
    if exposure_s <= 0.0:
        action = "Repair the header; without it fluxes have no scale."
        raise InputError(explain(f"{where} EXPTIME", f"{exposure_s}", "a positive time", action))
    return 10.0 ** (0.4 * (zero_point - AB_ZERO_POINT_UJY)) * exposure_s


def _number(header: fits.Header, key: str, where: str) -> float:
    """A header value that may be a number or, as MAGZEROP in real files, a string of one."""
    value = _value(header, key)
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        found = "no such key" if value is None else repr(value)
        action = "Repair the header; without it fluxes have no scale."
        raise InputError(explain(f"{where} {key}", found, "a number", action))
    return number


def _value(header: fits.Header, key: str) -> object:
    try:
        value = header.get(key)
    except fits.VerifyError:  # the card cannot be parsed
        return "an unreadable card"
    return None if isinstance(value, fits.card.Undefined) else value


def _exposure(primary: fits.Header, header: fits.Header, where: str) -> str:
    """Name of the exposure; extracts of a frame may carry the keys in the science HDU."""
    parts = []
    for key, width in (("OBS_ID", 6), ("DITHOBS", 2)):
        value = _value(primary, key)
        value = _value(header, key) if value is None else value
        if value is None or not str(value).strip():
            action = "Repair the header; exposures are told apart by it."
            where_key = f"{where} or its primary HDU, {key}"
            raise InputError(explain(where_key, "no such key", "the exposure's number", action))
        parts.append(str(value).strip().zfill(width))
    return "-".join(parts)


def _read_pixels(files: QuadrantFiles, name: str) -> list[NDArray]:
    """Science, RMS, flags and background of one quadrant, all of one shape."""
    wanted = (
        (files.sci_path, f"{name}.SCI"),
        (files.rms_path, f"{name}.RMS"),
        (files.flg_path, f"{name}.FLG"),
        (files.bkg_path, name),
    )
    images: dict[tuple[str, str], NDArray] = {}
    for path in dict.fromkeys(path for path, _ in wanted):
        names = [hdu for other, hdu in wanted if other == path]
        for hdu, image in zip(names, fits_files.read_images(path, names), strict=True):
            images[path, hdu] = image
    shape = images[wanted[0]].shape
    for path, hdu in wanted[1:]:
        if images[path, hdu].shape != shape:
            found = f"shape {images[path, hdu].shape}"
            expected = f"{shape}, the shape of {wanted[0][0]}[{wanted[0][1]}]"
            action = "Check that the files belong to the same frame."
            raise InputError(explain(f"{path}[{hdu}]", found, expected, action))
    flag_path, flag_name = wanted[2]
    flags = images[flag_path, flag_name]
    if flags.dtype.kind not in "iu":
        action = "Check that flg_path names the flag map."
        where = f"{flag_path}[{flag_name}]"
        raise InputError(explain(where, f"values of type {flags.dtype}", "integer bits", action))
    return [images[key] for key in wanted]


def _calibrate(
    science: NDArray, rms: NDArray, defects: NDArray, background: NDArray
) -> tuple[NDArray[np.float32], NDArray[np.float32], dict[str, int]]:
    """Background-subtracted image, inverse variance, and how many pixels are masked and why."""
    flagged = defects != 0
    image = science.astype(np.float32)  # native byte order, and never the caller's array
    with np.errstate(all="ignore"):  # bad pixels can hold anything, and are masked below
        image -= background.astype(np.float32)
        sigma = rms.astype(np.float32)
        weight = 1.0 / (sigma * sigma)
    non_finite = ~np.isfinite(image)
    bad_rms = ~((sigma > 0.0) & np.isfinite(sigma) & np.isfinite(weight))
    masked = flagged | non_finite | bad_rms
    image[masked] = 0.0
    weight[masked] = 0.0
    counts = {"flagged": flagged, "bad_rms": bad_rms, "non_finite": non_finite, "total": masked}
    return image, weight, {reason: int(pixels.sum()) for reason, pixels in counts.items()}
