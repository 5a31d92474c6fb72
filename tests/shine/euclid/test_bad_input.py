"""Bad input is named, has its exit status, and leaves no result behind; or it is flagged."""

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from shine.errors import SourceFlag, Status
from shine.euclid import cli, memory
from shine.manifest import read_manifest
from tests.shine.euclid.subtile import SHEAR, SubTile, draw_frame
from tests.shine.survey_files import wcs_header


def _truncate(subtile):
    path = Path(subtile.quadrants[0].sci_path)
    path.write_bytes(path.read_bytes()[:100_000])


def _drop_hdu(subtile):
    path = Path(subtile.quadrants[0].sci_path)
    with fits.open(path) as hdus:
        kept = fits.HDUList([hdu.copy() for hdu in hdus if hdu.name != "3-4.F.RMS"])
    kept.writeto(path, overwrite=True)


def _drop_key(subtile):
    path = Path(subtile.quadrants[0].sci_path)
    with fits.open(path, mode="update") as hdus:
        del hdus["3-4.F.SCI"].header["MAGZEROP"]


def _drop_column(subtile):
    with fits.open(subtile.catalog) as hdus:
        columns = [c for c in hdus[1].columns if c.name != "SEMIMAJOR_AXIS"]
        fits.BinTableHDU.from_columns(columns).writeto(subtile.catalog, overwrite=True)


def _typo(subtile):
    subtile.config.write_text("inference: {metod: map}\n")


def _stranger_in_core(subtile):
    text = subtile.manifest.read_text()
    subtile.manifest.write_text(text.replace("core_source_ids: [", "core_source_ids: [77, "))


@pytest.mark.parametrize(
    ("spoil", "status", "words"),
    [
        (lambda s: Path(s.quadrants[0].psf_path).unlink(), 3, ["PSF.fits"]),
        (_truncate, 3, ["DET.fits", "truncated"]),
        (_drop_hdu, 3, ["DET.fits", "3-4.F.RMS"]),
        (_drop_key, 3, ["DET.fits", "3-4.F.SCI", "MAGZEROP"]),
        (_drop_column, 3, ["catalogue.fits", "SEMIMAJOR_AXIS"]),
        (_typo, 2, ["shine.yaml", "inference.metod"]),
        (_stranger_in_core, 3, ["manifest.yaml", "core_source_ids", "77"]),
        (lambda s: s.manifest.unlink(), 3, ["manifest.yaml"]),
        (lambda s: s.config.unlink(), 2, ["shine.yaml"]),
    ],
    ids=[
        "missing file", "truncated FITS", "missing extension", "missing MAGZEROP",
        "missing column", "unknown key", "core id not a source", "no manifest", "no configuration",
    ],
)  # fmt: skip
def test_bad_input_is_named_and_leaves_no_result(subtile, capsys, spoil, status, words):
    spoil(subtile)
    found, message = subtile.exit_status(capsys)
    assert found == status, message
    for word in words:
        assert word in message
    assert not list(subtile.folder.glob("out/*"))


def test_a_psf_stamp_of_zeros_costs_only_the_galaxies_near_it(tmp_path, sky):
    frame = draw_frame(sky, wcs_header(roll_deg=0.0))
    frame.psf[4 * 21 : 5 * 21, 4 * 21 : 5 * 21] = 0.0
    subtile = SubTile(tmp_path, sky, [frame])
    shear, sources = subtile.run(), subtile.sources()
    assert shear["STATUS"] == Status.OK
    bad = (sources["FLAGS"] & SourceFlag.BAD_PSF) != 0
    assert 0 < bad.sum() < len(bad)
    # ring pairs are broken: the shear is the mean of the shapes that are left
    left = np.searchsorted(sky.columns()["OBJECT_ID"], sources["OBJECT_ID"][~bad])
    intrinsic, g = sky.e[left] @ [1.0, 1.0j], complex(*SHEAR)
    mean = np.mean((intrinsic + g) / (1.0 + np.conj(g) * intrinsic))
    np.testing.assert_allclose([shear["G1"], shear["G2"]], [mean.real, mean.imag], atol=0.01)
    # in the only quadrant that there is
    np.testing.assert_array_equal((sources["FLAGS"] & SourceFlag.NOT_OBSERVED) != 0, bad)
    assert np.isnan(sources["FLUX"][bad]).all()
    assert np.isfinite(sources["FLUX"][~bad]).all()


def test_sources_at_one_position_stay_finite(tmp_path, sky):
    columns = sky.columns()
    for name in ("RIGHT_ASCENSION", "DECLINATION"):
        columns[name] = columns[name].copy()
        columns[name][1] = columns[name][0]
    frame = draw_frame(sky, wcs_header(roll_deg=0.0))
    subtile = SubTile(tmp_path, sky, [frame], columns=columns)
    shear, sources = subtile.run(), subtile.sources()
    assert np.isfinite([shear["G1"], shear["G2"], shear["G1_ERR"], shear["G2_ERR"]]).all()
    at = np.isin(sources["OBJECT_ID"], columns["OBJECT_ID"][:2])
    assert len(set(sources["BLEND"][at])) == 1
    assert np.isfinite(sources["FLUX"][at]).all()


def test_a_sub_tile_that_cannot_fit_is_refused_before_it_takes_memory(subtile, capsys, monkeypatch):
    monkeypatch.setattr(memory, "_available_mb", lambda: 300.0)
    status, message = subtile.exit_status(capsys)
    assert status == 5
    assert "found 300 MB free" in message and "compute.mem_mb" in message
    assert not list(subtile.folder.glob("out/*"))


def test_the_memory_estimate_grows_with_stamps_and_their_sampling(subtile):
    manifest = read_manifest(subtile.manifest)
    few, many = (memory.estimate_mb(manifest, np.full(n, 64), 1) for n in (10, 10_000))
    assert few < many < memory.estimate_mb(manifest, np.full(10_000, 64), 2)


def test_of_several_manifests_one_that_fails_does_not_stop_the_others(subtile, capsys):
    arguments = ["--manifest", subtile.folder / "absent.yaml", subtile.manifest]
    arguments += ["--config", subtile.config, "--output", subtile.folder / "out"]
    assert cli.main([str(argument) for argument in arguments]) == 3
    told = capsys.readouterr()
    assert "absent.yaml" in told.err
    [result] = told.out.split()
    assert Path(result).exists()
