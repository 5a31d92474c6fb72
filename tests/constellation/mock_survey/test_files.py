"""The written files have Euclid's names, extensions, keys, types and checksums."""

from __future__ import annotations

import re

import numpy as np
import pytest
from astropy.io import fits
from astropy.time import Time

from constellation.discovery import build_index
from constellation.mock_survey.config import load_mock_config
from constellation.mock_survey.layout import expected_files
from constellation.survey_files import list_exposure_files, match_exposures
from shine.euclid.catalog import load_sources
from shine.euclid.data_loader import load_quadrant
from shine.euclid.selection_config import SelectionConfig
from shine.manifest import QuadrantFiles
from tests.shine.survey_files import make_manifest

from .surveys import NEXT_TILE, TILE, Survey, aimed, settings, write

ROLLS = (0.0, 37.0)
NAMES = ("3-4.F", "3-4.G")
KINDS = ("frames", "backgrounds", "psfs")


@pytest.fixture(scope="module")
def survey(tmp_path_factory) -> Survey:
    exposures = [
        {**aimed("3-4.F", roll), "zero_point": zero_point, "exposure_time_s": time}
        for roll, zero_point, time in zip(ROLLS, (24.56605, 24.5), (560.52, 89.52), strict=True)
    ]
    config = settings(
        tiles=[TILE, NEXT_TILE],
        exposures=exposures,
        area={"width_arcmin": 1.2, "height_arcmin": 1.2},
        detector={"quadrants": NAMES, "gain": 3.4, "read_noise_e": 4.2, "saturation_adu": 6e4},
    )
    return write(config, tmp_path_factory.mktemp("survey"))


def test_the_expected_files_are_the_written_ones(survey):
    assert expected_files(survey.config, survey.root) == survey.files
    written = {path for path in survey.root.rglob("*") if path.is_file()}
    assert written == set(survey.files.all_paths())
    assert len(survey.files.all_paths()) == 3 * 2 + 2 + 1


def test_names_are_those_of_the_archive(survey):
    exposure = r"-002704-(\d\d)-1-0000000__\d{8}T\d{6}\.\d+Z\.fits"
    patterns = {
        "frames": r"VIS/2704/EUC_VIS_SWL-DET" + exposure,
        "backgrounds": r"VIS/2704/EUC_VIS_SWL-BKG" + exposure,
        "psfs": r"PSF/EUC_VIS_GRD-PSF" + exposure,
        "catalogues": r"MER/EUC_MER_FINAL-CAT_TILE(\d{9})-[0-9A-F]+_\d{8}T\d{6}\.\d+Z_00\.00\.fits",
    }
    numbers = {kind: ["00", "01"] for kind in KINDS}
    numbers["catalogues"] = ["102018665", "102018666"]
    for kind, pattern in patterns.items():
        names = [str(path.relative_to(survey.root)) for path in getattr(survey.files, kind)]
        assert [re.fullmatch(pattern, name)[1] for name in names] == numbers[kind]


def test_extensions_are_named_after_quadrants(survey):
    expected = {
        "frames": [f"{name}.{kind}" for name in NAMES for kind in ("SCI", "RMS", "FLG")],
        "backgrounds": list(NAMES),
        "psfs": list(NAMES),
    }
    for kind, names in expected.items():
        for path in getattr(survey.files, kind):
            with fits.open(path) as hdus:
                found = [hdu.name for hdu in hdus[1:]]
            assert found == names


def test_images_have_euclids_types_and_shapes(survey):
    for name in NAMES:
        for kind, letter in (("SCI", "f4"), ("RMS", "f4"), ("FLG", "i4")):
            image = survey.image(f"{name}.{kind}")
            assert (image.dtype.str[1:], image.shape) == (letter, (300, 280))
        background = survey.image(name, kind="backgrounds")
        assert (background.dtype.str[1:], background.shape) == ("f4", (300, 280))
        psf = survey.image(name, kind="psfs")
        assert (psf.dtype.str[1:], psf.shape) == ("f4", (189, 189))


@pytest.mark.parametrize("exposure", (0, 1))
def test_science_headers_hold_the_calibration(survey, exposure):
    expected = {
        "MAGZEROP": ("24.56605", "24.50000")[exposure],
        "EXPTIME": (560.52, 89.52)[exposure],
        "GAIN": 3.4,
        "RDNOISE": 4.2,
        "SATURATE": 6e4,
        "BUNIT": "adu",
        "DETID": "3-4",
        "CTYPE1": "RA---TPV",
        "CTYPE2": "DEC--TPV",
    }
    header = survey.header("3-4.G.SCI", exposure)
    assert {key: header[key] for key in expected} == expected
    assert isinstance(header["MAGZEROP"], str)
    assert header["CCDID"] != survey.header("3-4.F.SCI", exposure)["CCDID"]


def test_primary_headers_say_which_exposure_it_is(survey):
    starts = []
    for kind in KINDS:
        for exposure, roll in enumerate(ROLLS):
            header = survey.header(0, exposure, kind)
            found = [header[key] for key in ("OBS_ID", "DITHOBS", "PA", "INSTRUME")]
            assert found == [2704, exposure, roll, "VIS"]
            name = getattr(survey.files, kind)[exposure].name
            start = Time(header["MJD-OBS"], format="mjd").strftime("%Y%m%dT%H%M%S")
            assert f"__{start}" in name
            starts.append((header["PTGID"], header["MJD-OBS"]))
    assert len(set(starts)) == 2
    assert 86400 * (starts[1][1] - starts[0][1]) > 560.52, "exposures overlap in time"


@pytest.mark.parametrize("as_stored", (False, True))
def test_checksums_are_valid_and_files_standard(survey, as_stored):
    paths = [path for kind in (*KINDS, "catalogues") for path in getattr(survey.files, kind)]
    for path in paths:
        with fits.open(path, checksum=True, disable_image_compression=as_stored) as hdus:
            hdus.verify("exception")
            for hdu in hdus[1:]:
                assert hdu.data is not None
                if as_stored:
                    assert {"CHECKSUM", "DATASUM"} <= set(hdu.header)


def test_primary_headers_announce_extensions(survey):
    for kind in (*KINDS, "catalogues"):
        for path in getattr(survey.files, kind):
            with path.open("rb") as stream:
                header = stream.read(2880).decode("ascii")
            assert re.search(r"EXTEND  = +T ", header), path.name


def test_a_changed_pixel_breaks_the_checksum(survey, tmp_path):
    content = bytearray(survey.files.psfs[0].read_bytes())
    content[-5000] ^= 1
    spoilt = tmp_path / "psf.fits"
    spoilt.write_bytes(content)
    with (
        pytest.warns(UserWarning, match="failed"),
        fits.open(spoilt, checksum=True) as hdus,
    ):
        assert len(hdus) == 3


def test_the_workflow_reads_what_is_written(survey):
    exposures = match_exposures(list_exposure_files(survey.root), [1])
    index = build_index(exposures, survey.root)
    assert index.num_rows == 4
    frame = str(survey.files.frames[1])
    quadrant = load_quadrant(
        QuadrantFiles(
            sci_path=frame,
            rms_path=frame,
            flg_path=frame,
            bkg_path=str(survey.files.backgrounds[1]),
            psf_path=str(survey.files.psfs[1]),
            quadrant="3-4.G",
        ),
        bad_flags=1,
    )
    invalid = survey.image("3-4.G.FLG", 1) & 1 == 1
    assert 0 < invalid.sum() == quadrant.n_masked["total"]
    light = survey.light("3-4.G", 1)
    np.testing.assert_allclose(quadrant.image_adu[~invalid], light[~invalid], atol=2e-3)

    ids = [int(i) for tile in (0, 1) for i in survey.catalogue(tile)["OBJECT_ID"]]
    assert len(ids) > 5
    manifest = make_manifest(survey.files.catalogues, ids)
    sources = load_sources(manifest, SelectionConfig())
    assert len(sources.object_id) + len(sources.dropped) + len(sources.mask.discs) == len(ids)


@pytest.mark.parametrize("name", ("mock_demo.yaml", "mock_full_scale.yaml"))
def test_the_settings_of_the_repository_are_valid(name, pytestconfig):
    config = load_mock_config(pytestconfig.rootpath / "config" / name)
    assert [tile.tile_index for tile in config.tiles] == [102018665, 102018666]
