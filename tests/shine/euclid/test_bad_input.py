"""Bad input is named, has its exit status, and leaves no result behind."""

from pathlib import Path

import pytest
from astropy.io import fits


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
