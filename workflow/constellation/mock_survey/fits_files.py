"""FITS files of a mock survey, written piece by piece and without the time of writing.

A quadrant's extensions are written as a small file of their own, and an exposure's file is its
primary header followed by the extensions of its quadrants: workers share nothing but a folder.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from astropy.io import fits

from .config import MockSurveyConfig
from .detector import Frame
from .focal_plane import QuadrantFrame
from .layout import exposure_start_mjd
from .scene import zero_point_text

# RMS and background are stored in steps of this size (ADU), far below the noise of about 4 ADU:
# Rice compression then shrinks them twentyfold and reads three times faster than gzip.
QUANTUM_ADU = 0.002
TILE_ROWS = 64
BLOCK_BYTES = 2880
# astropy would put the time of writing here.
CHECKSUM_COMMENT = "of the extension as written"


def frame_hdus(config: MockSurveyConfig, frame: QuadrantFrame, images: Frame) -> fits.HDUList:
    """SCI (plain), RMS and FLG (tile-compressed) of one quadrant."""
    header = _quadrant_header(config, frame)
    sci = fits.ImageHDU(images.sci, header, name=f"{frame.name}.SCI")
    rms = _quantised(images.rms, header, f"{frame.name}.RMS")
    flags = fits.Header([card for card in header.cards if card.keyword != "BUNIT"])
    flg = fits.CompImageHDU(
        images.flg,
        flags,
        name=f"{frame.name}.FLG",
        compression_type="RICE_1",
        tile_shape=_tile_shape(images.flg),
    )
    return fits.HDUList([fits.PrimaryHDU(), sci, rms, flg])


def background_hdus(frame: QuadrantFrame, images: Frame) -> fits.HDUList:
    """Background of one quadrant (tile-compressed)."""
    header = fits.Header([("BUNIT", "adu")])
    return fits.HDUList([fits.PrimaryHDU(), _quantised(images.bkg, header, frame.name)])


def psf_hdus(frame: QuadrantFrame, image: np.ndarray) -> fits.HDUList:
    """PSF stamps of one quadrant."""
    return fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(image, name=frame.name)])


def primary_header(config: MockSurveyConfig, exposure: int) -> fits.Header:
    """Primary header of an exposure's files."""
    settings = config.exposures[exposure]
    return fits.Header(
        [
            ("TELESCOP", "Euclid", "mock survey"),
            ("INSTRUME", "VIS"),
            ("OBS_ID", config.observation),
            ("DITHOBS", exposure, "dither of this observation"),
            ("PTGID", 10 * config.observation + exposure),
            ("MJD-OBS", exposure_start_mjd(config, exposure), "start of the exposure"),
            ("EXPTIME", settings.exposure_time_s, "[s]"),
            ("PA", settings.roll_deg, "[deg] position angle of the focal plane"),
        ]
    )


def write_part(hdus: fits.HDUList, path: Path) -> None:
    """Write a quadrant's extensions with DATASUM and CHECKSUM; same content, same bytes."""
    raw = path.with_suffix(".raw")
    hdus.writeto(raw)
    # Compressed extensions get their checksums as the tables that they are in the file.
    with fits.open(raw, disable_image_compression=True, memmap=False) as written:
        for hdu in written[1:]:
            hdu.add_checksum(when=CHECKSUM_COMMENT)
        _write_hdus(written, path)
    raw.unlink()


def join_parts(primary: fits.Header, parts: Iterable[Path], path: Path) -> None:
    """Write the primary header and then the extensions of all parts to a file."""
    head = fits.PrimaryHDU(header=primary)
    head.header.set("EXTEND", True, after="NAXIS")
    head.add_checksum(when=CHECKSUM_COMMENT)
    _write_hdus([head], path)
    with path.open("ab") as joined:
        for part in parts:
            with part.open("rb") as stream:
                stream.seek(BLOCK_BYTES)  # past the part's own empty primary header
                shutil.copyfileobj(stream, joined, 1 << 22)
            part.unlink()


def write_table(table: fits.BinTableHDU, path: Path) -> None:
    """Write a catalogue with checksums, without the time of writing."""
    table.add_checksum(when=CHECKSUM_COMMENT)
    _write_hdus([fits.PrimaryHDU(), table], path)


def _write_hdus(hdus: Sequence, path: Path) -> None:
    fits.HDUList(list(hdus)).writeto(path, checksum=False)


def _quantised(image: np.ndarray, header: fits.Header, name: str) -> fits.CompImageHDU:
    return fits.CompImageHDU(
        image,
        header,
        name=name,
        compression_type="RICE_1",
        tile_shape=_tile_shape(image),
        quantize_level=-QUANTUM_ADU,  # negative: an absolute step
        quantize_method=-1,  # no dither
    )


def _tile_shape(image: np.ndarray) -> tuple[int, int]:
    return min(TILE_ROWS, image.shape[0]), image.shape[1]


def _quadrant_header(config: MockSurveyConfig, frame: QuadrantFrame) -> fits.Header:
    settings, detector = config.exposures[frame.exposure], config.detector
    header = frame.header()
    row, column = frame.name[0], frame.name[2]
    header.extend(
        [
            ("BUNIT", "adu"),
            ("MAGZEROP", zero_point_text(settings), "AB magnitude of 1 ADU/s"),
            ("EXPTIME", settings.exposure_time_s, "[s]"),
            ("GAIN", detector.gain, "[e-/ADU]"),
            ("RDNOISE", detector.read_noise_e, "[e-]"),
            ("SATURATE", detector.saturation_adu, "[ADU]"),
            ("DETID", f"{row}-{column}", "CCD in the focal plane"),
            ("CCDID", f"{row}{column}-{frame.name[4]}", "quadrant"),
        ]
    )
    return header
