"""Frames that cannot be loaded: each is named, with what was found and expected."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from shine.errors import InputError
from shine.euclid import fits_files
from shine.euclid.data_loader import load_quadrant
from shine.euclid.flags import BAD_PIXELS
from tests.shine.survey_files import NX, NY, Frame, write_frames


def load(files, **update):
    return load_quadrant(files.model_copy(update=update), BAD_PIXELS)


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("MAGZEROP", None, "MAGZEROP: found no such key"),
        ("MAGZEROP", "bright", "MAGZEROP: found 'bright', expected a number"),
        ("MAGZEROP", "nan", "MAGZEROP: found 'nan'"),
        ("MAGZEROP", True, "MAGZEROP: found True"),
        ("EXPTIME", None, "EXPTIME: found no such key"),
        ("EXPTIME", 0.0, "EXPTIME: found 0.0, expected a positive time"),
        ("EXPTIME", -560.0, "EXPTIME: found -560.0"),
        ("CTYPE1", "RA---XYZ", "WCS"),
    ],
)
def test_bad_header_values_are_named(tmp_path, key, value, problem):
    frame = Frame()
    del frame.header[key]
    if value is not None:
        frame.header[key] = value
    files = write_frames(tmp_path, frame)
    with pytest.raises(InputError, match=problem) as caught:
        load(files)
    assert f"{files.sci_path}[3-4.F.SCI]" in str(caught.value)


def test_an_undefined_header_value_is_no_number(tmp_path):
    frame = Frame()
    frame.header["MAGZEROP"] = fits.card.UNDEFINED
    with pytest.raises(InputError, match="MAGZEROP: found no such key"):
        load(write_frames(tmp_path, frame))


def test_the_exposure_must_have_a_name(tmp_path):
    with pytest.raises(InputError, match="OBS_ID: found no such key"):
        load(write_frames(tmp_path, Frame(obs_id=None)))


@pytest.mark.parametrize("product", ["DET", "BKG", "PSF"])
def test_missing_files_are_named(tmp_path, product):
    files = write_frames(tmp_path, Frame())
    (tmp_path / f"{product}.fits").unlink()
    with pytest.raises(InputError, match=rf"{product}.fits: found No such file"):
        load(files)


@pytest.mark.parametrize("kind", ["SCI", "RMS", "FLG", "BKG", "PSF"])
def test_missing_extensions_are_named(tmp_path, kind):
    files = write_frames(tmp_path, Frame(name="3-4.F"))
    other = Frame(name="1-1.E")
    kept = [k for k in ("SCI", "RMS", "FLG") if k != kind]
    path = tmp_path / "lacking.fits"
    hdus = (
        [Frame().image(k) for k in kept] if kind in ("SCI", "RMS", "FLG") else [other.image(kind)]
    )
    fits.HDUList([other.primary(), *hdus]).writeto(path)
    name = "3-4.F" if kind in ("BKG", "PSF") else f"3-4.F.{kind}"
    with pytest.raises(InputError, match="no such extension among") as caught:
        load(files, **{f"{kind.lower()}_path": str(path)}, quadrant="3-4.F")
    assert f"{path}[{name}]" in str(caught.value)


def test_a_file_without_any_science_image(tmp_path):
    files = write_frames(tmp_path, Frame())
    with pytest.raises(InputError, match=r"found no science image among 3-4\.F,"):
        load(files, sci_path=files.bkg_path)


def test_repeated_extensions_are_ambiguous(tmp_path):
    files = write_frames(tmp_path, Frame())
    fits.append(files.bkg_path, Frame().bkg, fits.Header({"EXTNAME": "3-4.F"}))
    with pytest.raises(InputError, match=r"BKG.fits\[3-4.F\]: found 2 extensions"):
        load(files)


@pytest.mark.parametrize("kind", ["RMS", "FLG", "BKG"])
def test_shapes_must_agree(tmp_path, kind):
    frame = Frame()
    setattr(frame, kind.lower(), getattr(frame, kind.lower())[:, :-1])
    with pytest.raises(InputError, match=r"found shape \(64, 79\), expected \(64, 80\)") as caught:
        load(write_frames(tmp_path, frame))
    assert f"[{'3-4.F' if kind == 'BKG' else '3-4.F.' + kind}]" in str(caught.value)


def test_flags_must_be_integers_and_images_flat(tmp_path):
    frame = Frame()
    frame.flg = frame.flg.astype(np.float32)
    with pytest.raises(InputError, match=r"values of type .f4, expected integer bits"):
        load(write_frames(tmp_path, frame))
    (tmp_path / "cube").mkdir()
    frame = Frame()
    frame.rms = np.ones((2, NY, NX), np.float32)
    with pytest.raises(InputError, match=r"RMS\]: found data of shape \(2, 64, 80\)"):
        load(write_frames(tmp_path / "cube", frame))


@pytest.mark.parametrize("kept", [0.2, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("suffix", [".fits", ".fits.gz"])
@pytest.mark.parametrize("compressed", [False, True])
def test_truncated_files_are_named(tmp_path, kept, suffix, compressed):
    """Truncation is an error wherever it falls, even behind the last HDU that is needed."""
    files = write_frames(tmp_path, Frame(compressed=compressed), suffix=suffix)
    path = Path(files.bkg_path)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * (len(content) - 3000))])
    with pytest.raises(InputError, match=r"truncated file|damaged gzip file") as caught:
        load(files)
    assert str(path) in str(caught.value)


def test_missing_padding_alone_is_no_truncation(tmp_path):
    files = write_frames(tmp_path, Frame())
    path = Path(files.bkg_path)
    content = path.read_bytes()
    path.write_bytes(content.rstrip(b"\0"))
    assert len(path.read_bytes()) < len(content)
    assert load(files).n_masked["total"] == 0


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "an empty file"),
        (b"<html>not found</html>" * 200, "expected a FITS file"),
        (gzip.compress(b"text"), "expected a FITS file"),
        (b"SIMPLE  =                    T" + b" " * 6000, "ends in the header"),
    ],
    ids=["empty", "HTML", "gzipped text", "header cut short"],
)
def test_what_is_no_fits_file_is_named(tmp_path, content, problem):
    files = write_frames(tmp_path, Frame())
    Path(files.psf_path).write_bytes(content)
    with pytest.raises(InputError, match=problem) as caught:
        load(files)
    assert files.psf_path in str(caught.value)


@pytest.mark.parametrize("kind", ["GZIP_1", "GZIP_2", "RICE_1", "HCOMPRESS_1"])
def test_damaged_tiles_are_named(tmp_path, kind):
    frame = Frame()
    files = write_frames(tmp_path, frame)
    path = tmp_path / "damaged.fits"
    tiles = fits.CompImageHDU(frame.bkg, name="3-4.F", compression_type=kind)
    fits.HDUList([frame.primary(), tiles]).writeto(path, checksum=True)
    content = bytearray(path.read_bytes())
    hdu = fits_files.list_hdus(str(path))[1]
    end = hdu.start + hdu.length
    content[end - 1500 : end - 20] = b"\xff" * 1480  # the last tiles
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"damaged.fits\[3-4.F\]: found damaged data"):
        load(files, bkg_path=str(path))


def test_remote_and_unreadable_paths(tmp_path):
    files = write_frames(tmp_path, Frame())
    with pytest.raises(InputError, match=r"gs://bucket/DET.fits: found a URI of another kind"):
        load(files, sci_path="gs://bucket/DET.fits")
    with pytest.raises(InputError, match="Is a directory"):
        load(files, psf_path=str(tmp_path))
