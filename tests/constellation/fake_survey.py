"""A survey of empty frames with true names, headers and catalogues: enough for all bookkeeping."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from astropy.io import fits

QUADRANT_ARCMIN = 3.4
N_PIXELS = 16
STAMP = "20240101T000000.0Z"


def exposure_name(tag: str, dither: int, timestamp: str = STAMP) -> str:
    return f"EUC_VIS_{tag}-000001-{dither:02d}-1-0000000__{timestamp}.fits"


def catalogue_name(tile: int, timestamp: str = STAMP) -> str:
    return mer_name("CAT", tile, timestamp)


def mer_name(tag: str, tile: int, timestamp: str = STAMP) -> str:
    return f"EUC_MER_FINAL-{tag}_TILE{tile}-A1B2C3_{timestamp}_00.00.fits"


def science_header(ra: float, dec: float, roll_deg: float = 0.0) -> fits.Header:
    scale = QUADRANT_ARCMIN / 60.0 / N_PIXELS
    c, s = np.cos(np.deg2rad(roll_deg)) * scale, np.sin(np.deg2rad(roll_deg)) * scale
    header = fits.Header()
    header["CTYPE1"], header["CTYPE2"] = "RA---TPV", "DEC--TPV"
    header["CRVAL1"], header["CRVAL2"] = ra, dec
    header["CRPIX1"] = header["CRPIX2"] = (N_PIXELS + 1) / 2
    header["CD1_1"], header["CD1_2"], header["CD2_1"], header["CD2_2"] = -c, s, s, c
    for axis in (1, 2):
        header[f"PV{axis}_1"], header[f"PV{axis}_4"] = 1.0, 1e-4
    header["MAGZEROP"], header["EXPTIME"] = "24.56605", 560.5
    return header


def write_exposure(
    survey: Path, dither: int, centres: dict[str, tuple[float, float]], value: float = 0.0
) -> Path:
    """Write frame, background and PSF of one exposure; returns the frame."""
    primary = fits.Header({"OBS_ID": 1, "DITHOBS": dither, "MJD-OBS": 60000.0})
    frame, background, psf = ([fits.PrimaryHDU(header=primary)] for _ in range(3))
    empty = np.full((N_PIXELS, N_PIXELS), value, np.float32)
    for name, (ra, dec) in centres.items():
        header = science_header(ra, dec)
        frame.append(fits.ImageHDU(empty, header, name=f"{name}.SCI"))
        frame.append(fits.ImageHDU(empty + 1, name=f"{name}.RMS"))
        frame.append(fits.ImageHDU(empty.astype(np.int32), name=f"{name}.FLG"))
        background.append(fits.ImageHDU(empty, name=name))
        psf.append(fits.ImageHDU(np.ones((189, 189), np.float32), name=name))
    paths = (
        survey / "VIS" / "1" / exposure_name("SWL-DET", dither),
        survey / "VIS" / "1" / exposure_name("SWL-BKG", dither),
        survey / "PSF" / exposure_name("GRD-PSF", dither),
    )
    for hdus, path in zip((frame, background, psf), paths, strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        fits.HDUList(hdus).writeto(path, checksum=True, overwrite=True)
    return paths[0]


def write_weight(survey: Path, dither: int, names: Iterable[str], timestamp: str = STAMP) -> Path:
    """Write the weight map of an exposure's quadrants."""
    hdus = [fits.ImageHDU(np.ones((N_PIXELS, N_PIXELS), np.float32), name=name) for name in names]
    path = survey / "VIS" / "1" / exposure_name("SWL-WGT", dither, timestamp)
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(path, checksum=True, overwrite=True)
    return path


def write_catalogue(survey: Path, tile: int, columns: dict[str, np.ndarray]) -> Path:
    """Write a MER catalogue with the given columns."""
    path = survey / "MER" / catalogue_name(tile)
    path.parent.mkdir(parents=True, exist_ok=True)
    formats = {"i": "K", "f": "D"}
    table = fits.BinTableHDU.from_columns(
        [fits.Column(n, formats[v.dtype.kind], array=v) for n, v in columns.items()]
    )
    table.writeto(path, overwrite=True)
    return path


def positions(object_id: np.ndarray, ra: np.ndarray, dec: np.ndarray) -> dict[str, np.ndarray]:
    """The columns that the partition needs."""
    return {"OBJECT_ID": object_id, "RIGHT_ASCENSION": ra, "DECLINATION": dec}
