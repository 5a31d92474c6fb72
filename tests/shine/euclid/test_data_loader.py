"""Loading one quadrant: calibration and masks, every layout of files, and digests."""

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
