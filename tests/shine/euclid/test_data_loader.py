"""Loading one quadrant: calibration and masks, every layout of files, every kind of bad input."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from shine.errors import InputError
from shine.euclid import fits_files
from shine.euclid.data_loader import load_quadrant
from shine.euclid.flags import BAD_PIXELS, VisFlag
from tests.shine.survey_files import NX, NY, Frame, quadrant_files, write_frames


def load(files, **update):
    return load_quadrant(files.model_copy(update=update), BAD_PIXELS)


def test_pixels_are_calibrated_and_converted(tmp_path):
    frame = Frame()
    quadrant = load(write_frames(tmp_path, frame))
    assert quadrant.name == "3-4.F"
    assert quadrant.exposure == "000123-02"
    for array in (quadrant.image_adu, quadrant.weight, quadrant.psf.stamps):
        assert array.dtype == np.float32
        assert array.dtype.isnative
        assert not array.flags.writeable
    np.testing.assert_array_equal(quadrant.image_adu, frame.sci - frame.bkg)
    np.testing.assert_allclose(quadrant.weight, frame.rms.astype(float) ** -2.0, rtol=1e-6)
    np.testing.assert_array_equal(quadrant.psf.stamps[3, 1], frame.psf[63:84, 21:42])
    assert quadrant.n_masked == {"flagged": 0, "bad_rms": 0, "non_finite": 0, "total": 0}
    assert quadrant.wcs.shape == (NY, NX)


@pytest.mark.parametrize("zero_point", ["24.56605", 24.56605, " 24.56605 "])
def test_flux_scale_is_this_quadrants_own(tmp_path, zero_point):
    frame = Frame()
    frame.header["MAGZEROP"] = zero_point
    quadrant = load(write_frames(tmp_path, frame))
    magnitude = -2.5 * np.log10(quadrant.adu_per_ujy) + 24.56605 + 2.5 * np.log10(560.52)
    assert magnitude == pytest.approx(23.9, abs=1e-12)  # 1 uJy


def test_masked_pixels_have_no_weight_and_a_finite_value(tmp_path):
    frame = Frame()
    frame.flg[0, 0] = VisFlag.COSMIC
    frame.flg[0, 1] = VisFlag.NO_DATA | VisFlag.OBJECTS
    frame.flg[0, 2] = VisFlag.OBJECTS | VisFlag.QUADEDGE  # no defects
    frame.rms[1, 0:4] = [0.0, -5.0, np.nan, np.inf]
    frame.rms[1, 4] = 1e-30  # its inverse square is not a number of single precision
    frame.sci[2, 0:3] = [np.nan, np.inf, -np.inf]
    frame.bkg[3, 0] = np.nan
    quadrant = load(write_frames(tmp_path, frame))
    masked = np.zeros((NY, NX), bool)
    masked[0, 0:2] = masked[1, 0:5] = masked[2, 0:3] = masked[3, 0] = True
    np.testing.assert_array_equal(quadrant.weight == 0.0, masked)
    np.testing.assert_array_equal(quadrant.image_adu[masked], 0.0)
    assert np.isfinite(quadrant.weight).all()
    assert np.isfinite(quadrant.image_adu).all()
    assert quadrant.n_masked == {"flagged": 2, "bad_rms": 5, "non_finite": 4, "total": 11}


def with_weight(folder, frame):
    """The manifest's entry of a frame that has a weight map as well."""
    path = folder / "WGT.fits"
    fits.HDUList([frame.primary(), frame.image("WGT")]).writeto(path, checksum=True)
    return write_frames(folder, frame).model_copy(update={"wgt_path": str(path)})


def test_pixels_without_weight_are_masked_and_its_value_counts_no_further(tmp_path):
    frame = Frame()
    frame.wgt[4, 0:4] = [0.0, -1.0, np.nan, np.inf]
    frame.rms[4, 0] = np.nan  # counts once
    quadrant = load(with_weight(tmp_path, frame))
    masked = np.zeros((NY, NX), bool)
    masked[4, 0:4] = True
    np.testing.assert_array_equal(quadrant.weight == 0.0, masked)
    np.testing.assert_allclose(quadrant.weight[~masked], frame.rms[~masked].astype(float) ** -2.0)
    counts = {"flagged": 0, "bad_rms": 1, "non_finite": 0, "no_weight": 4, "total": 4}
    assert quadrant.n_masked == counts


def test_a_weight_map_of_another_shape_is_named(tmp_path):
    frame = Frame()
    frame.wgt = frame.wgt[:-1]
    with pytest.raises(InputError, match=r"WGT.fits\[3-4.F\]: found shape \(63, 80\)"):
        load(with_weight(tmp_path, frame))


def test_no_background_frame_is_needed_only_if_it_is_measured(tmp_path):
    frame = Frame()
    files = write_frames(tmp_path, frame).model_copy(update={"bkg_path": None})
    with pytest.raises(InputError, match=r"quadrant 3-4.F of .*DET.fits: found no bkg_path"):
        load(files)
    quadrant = load_quadrant(files, BAD_PIXELS, "median")
    difference = frame.sci - quadrant.image_adu
    assert np.ptp(difference) < 1e-4
    assert difference.mean() == pytest.approx(np.median(frame.sci), abs=3.0)


def test_flags_of_any_integer_type_are_understood(tmp_path):
    frame = Frame()
    frame.flg = frame.flg.astype(np.uint8)
    frame.flg[5, 5] = VisFlag.COSMIC
    assert load(write_frames(tmp_path, frame)).n_masked["flagged"] == 1


def test_the_callers_flags_decide(tmp_path):
    frame = Frame()
    frame.flg[5, 5] = VisFlag.OBJECTS
    files = write_frames(tmp_path, frame)
    assert load_quadrant(files, VisFlag.OBJECTS).weight[5, 5] == 0.0
    assert load_quadrant(files, 0).weight[5, 5] > 0.0


def test_default_flags_are_the_defects():
    defects = {0, 1, 2, 3, 4, 5, 7, 8, 9, 12, 15, 17, 21, 22}
    assert int(BAD_PIXELS) == sum(1 << bit for bit in defects)
    assert {flag.value.bit_length() - 1 for flag in VisFlag} == defects | {
        6,
        13,
        14,
        18,
        19,
        20,
        23,
        24,
    }


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("suffix", [".fits", ".fits.gz"])
def test_every_kind_of_compression_gives_the_same(tmp_path, compressed, suffix):
    frame = Frame(compressed=compressed)
    quadrant = load(write_frames(tmp_path, frame, suffix=suffix))
    np.testing.assert_array_equal(quadrant.image_adu, frame.sci - frame.bkg)
    (tmp_path / "plain").mkdir()
    plain = load(write_frames(tmp_path / "plain", Frame()))
    np.testing.assert_array_equal(quadrant.weight, plain.weight)
    assert quadrant.digest == plain.digest


def test_one_quadrant_among_many_in_any_order(tmp_path):
    frames = [Frame(name=name, seed=i) for i, name in enumerate(["1-1.E", "3-4.F", "3-4.G"])]
    files = write_frames(tmp_path, *frames, backwards=True)  # the archive guarantees no order
    quadrant = load(files, quadrant="3-4.F")
    np.testing.assert_array_equal(quadrant.image_adu, frames[1].sci - frames[1].bkg)
    (tmp_path / "alone").mkdir()
    assert load(write_frames(tmp_path / "alone", frames[1])).digest == quadrant.digest
    with pytest.raises(InputError, match=r"found 3 quadrants \(3-4.G, 3-4.F, 1-1.E\).*`quadrant`"):
        load(files)


def test_science_rms_and_flags_may_be_separate_files(tmp_path):
    frame = Frame()
    paths = {}
    for kind in ("SCI", "RMS", "FLG", "BKG", "PSF"):
        paths[f"{kind.lower()}_path"] = str(tmp_path / f"{kind}.fits")
        fits.HDUList([frame.primary(), frame.image(kind)]).writeto(tmp_path / f"{kind}.fits")
    files = quadrant_files({"DET": "", "BKG": "b", "PSF": "p"} | {"DET": "d"})
    quadrant = load(files, **paths)
    np.testing.assert_array_equal(quadrant.image_adu, frame.sci - frame.bkg)


def test_digest_notices_every_input(tmp_path):
    digests = set()
    for i, change in enumerate(["nothing", "sci", "rms", "flg", "bkg", "psf", "zero", "wcs"]):
        frame = Frame()
        if change in ("sci", "rms", "bkg", "psf"):
            getattr(frame, change)[7, 7] *= 1.001
        frame.flg[7, 7] = VisFlag.HOT if change == "flg" else 0
        frame.header["MAGZEROP"] = "24.6" if change == "zero" else "24.5"
        frame.header["PV1_4"] += 1e-9 if change == "wcs" else 0.0
        (tmp_path / str(i)).mkdir()
        digests.add(load(write_frames(tmp_path / str(i), frame)).digest)
    assert len(digests) == 8


@pytest.mark.parametrize("compressed", [False, True])
def test_version_is_the_science_images_datasum(tmp_path, compressed):
    files = write_frames(tmp_path, Frame(compressed=compressed))
    version = str(fits_files.read_header(files.sci_path, "3-4.F.SCI")["DATASUM"])
    assert load(files, version=version).name == "3-4.F"
    with pytest.raises(InputError, match=r"found DATASUM .*write the manifests again"):
        load(files, version="1")
    (tmp_path / "bare.fits").touch()
    fits.HDUList([Frame().primary(), *(Frame().image(k) for k in ("SCI", "RMS", "FLG"))]).writeto(
        tmp_path / "bare.fits", overwrite=True
    )
    with pytest.raises(InputError, match="found no DATASUM, expected 1"):
        load(files, sci_path=str(tmp_path / "bare.fits"), version="1")


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


def test_a_rewritten_file_is_read_anew(tmp_path):
    files = write_frames(tmp_path, Frame())
    before = load(files)
    for path in tmp_path.iterdir():
        path.unlink()
    after = load(write_frames(tmp_path, Frame(name="1-1.E", seed=9)))
    assert after.name == "1-1.E"
    assert after.digest != before.digest


def test_only_the_wanted_hdus_are_read(tmp_path, monkeypatch):
    frames = [Frame(name=f"{i}-1.E", seed=i) for i in range(1, 7)]
    files = write_frames(tmp_path, *frames)
    fits_files.list_hdus(files.sci_path)
    decoded = []
    decode = fits_files._decode
    monkeypatch.setattr(
        fits_files,
        "_decode",
        lambda content, **more: decoded.append(len(content)) or decode(content, **more),
    )
    load(files, quadrant="4-1.E")
    assert len(decoded) == 5
    assert sum(decoded) < Path(files.sci_path).stat().st_size
