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
from shine.euclid.background import Background, measure_background
from shine.euclid.flags import has_any
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
    n_masked: dict[str, int]  # pixels by reason, see `_calibrate`; total: for any of them


def load_quadrant(
    files: QuadrantFiles, bad_flags: int, background: Background = "file"
) -> Quadrant:
    """Read one quadrant; pixels with any of the `bad_flags` bits are masked.

    Pixels whose RMS is not positive, whose weight (where the manifest has one) is 0, or whose
    science, background, RMS or weight is not finite, are masked too. HDUs are looked up by name:
    `{q}.SCI`, `{q}.RMS`, `{q}.FLG`, and `{q}` for background, weight and PSF, where q is
    `files.quadrant` or the only quadrant in the science file. The background is that of the file or
    measured from the pixels, as `background` says.
    InputError names the file, HDU and key of whatever is missing, damaged or contradictory.
    """
    name = files.quadrant or _only_quadrant(files.sci_path)
    science_name = f"{name}.SCI"
    header = fits_files.read_header(files.sci_path, science_name)
    where = f"{files.sci_path}[{science_name}]"
    _check_version(header, files.version, where)
    adu_per_ujy = _adu_per_ujy(header, where)
    exposure = _exposure(fits_files.read_header(files.sci_path, "PRIMARY"), header, where)

    layers = _read_pixels(files, name, background)
    image, weight, n_masked = _calibrate(layers, bad_flags)
    if background != "file":
        level_adu = measure_background(background, image, weight, layers["FLG"], where)
        np.subtract(image, level_adu, out=image, where=weight > 0.0)
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


def _read_pixels(files: QuadrantFiles, name: str, background: Background) -> dict[str, NDArray]:
    """The layers SCI, RMS, FLG and, as wanted and given, BKG and WGT: all of one shape."""
    wanted = {
        "SCI": (files.sci_path, f"{name}.SCI"),
        "RMS": (files.rms_path, f"{name}.RMS"),
        "FLG": (files.flg_path, f"{name}.FLG"),
    }
    if background == "file":
        if files.bkg_path is None:
            where = f"quadrant {name} of {files.sci_path}"
            action = "Add it to the manifest, or choose another inference.background."
            raise InputError(explain(where, "no bkg_path", "a background frame", action))
        wanted["BKG"] = files.bkg_path, name
    if files.wgt_path is not None:
        wanted["WGT"] = files.wgt_path, name
    layers: dict[str, NDArray] = {}
    for path in dict.fromkeys(path for path, _ in wanted.values()):  # each file is opened once
        here = {layer: hdu for layer, (other, hdu) in wanted.items() if other == path}
        images = fits_files.read_images(path, list(here.values()))
        layers |= dict(zip(here, images, strict=True))
    shape = layers["SCI"].shape
    for layer, (path, hdu) in wanted.items():
        if layers[layer].shape != shape:
            found = f"shape {layers[layer].shape}"
            expected = f"{shape}, the shape of {files.sci_path}[{name}.SCI]"
            action = "Check that the files belong to the same frame."
            raise InputError(explain(f"{path}[{hdu}]", found, expected, action))
    if layers["FLG"].dtype.kind not in "iu":
        action = "Check that flg_path names the flag map."
        where, found = f"{files.flg_path}[{name}.FLG]", f"values of type {layers['FLG'].dtype}"
        raise InputError(explain(where, found, "integer bits", action))
    return layers


def _calibrate(
    layers: dict[str, NDArray], bad_flags: int
) -> tuple[NDArray[np.float32], NDArray[np.float32], dict[str, int]]:
    """Background-subtracted image, inverse variance, and how many pixels are masked and why.

    Takes the layers but the flags out of `layers`: of full frames, only what is needed stays.
    """
    image = layers.pop("SCI").astype(np.float32)  # native byte order, and never the caller's array
    sigma = layers.pop("RMS").astype(np.float32)
    with np.errstate(all="ignore"):  # bad pixels can hold anything, and are masked below
        if "BKG" in layers:
            image -= layers.pop("BKG")
        weight = np.square(sigma)
        np.reciprocal(weight, out=weight)
    reasons = {
        "flagged": has_any(layers["FLG"], bad_flags),
        "bad_rms": ~((sigma > 0.0) & np.isfinite(sigma) & np.isfinite(weight)),
        "non_finite": ~np.isfinite(image),
    }
    if "WGT" in layers:
        response = layers.pop("WGT")
        reasons["no_weight"] = ~((response > 0.0) & np.isfinite(response))
    masked = np.logical_or.reduce(list(reasons.values()))
    image[masked] = 0.0
    weight[masked] = 0.0
    counts = {reason: int(pixels.sum()) for reason, pixels in reasons.items()}
    return image, weight, counts | {"total": int(masked.sum())}
