"""One quadrant out of files of the archive's true size, which are sparse on the disk."""

from pathlib import Path

import numpy as np
from astropy.io import fits

from shine.euclid.data_loader import load_quadrant
from shine.euclid.flags import BAD_PIXELS
from tests.shine.survey_files import Frame, quadrant_files

NY, NX = 2066, 2048
BLOCK = 2880
NAMES = [f"{r}-{c}.{q}" for r in range(1, 7) for c in range(1, 7) for q in "EFGH"]
WANTED = "3-4.F"


def true_frame() -> Frame:
    """The wanted quadrant; headers as long as the archive's, with their distortion and history."""
    frame = Frame(name=WANTED)
    for number in range(120):
        frame.header[f"CAL{number}"] = (number, "what the calibration notes")
    rng = np.random.default_rng(2)
    for layer in ("sci", "rms", "bkg"):
        setattr(frame, layer, rng.uniform(50.0, 60.0, (NY, NX)).astype(np.float32))
    frame.flg = np.zeros((NY, NX), np.int32)
    return frame


def write_sparse(path: Path, frame: Frame, kinds: tuple[str, ...]) -> Path:
    """All 144 quadrants, the wanted one with values; of the others the headers alone are stored."""
    templates = [frame.image(kind) for kind in kinds]
    with path.open("wb") as file:
        file.write(frame.primary().header.tostring().encode())
        for name in NAMES:
            for hdu in templates:
                header = hdu.header.copy()
                header["EXTNAME"] = header["EXTNAME"].replace(WANTED, name)
                file.write(header.tostring().encode())
                if name == WANTED:
                    file.write(hdu.data.astype(hdu.data.dtype.newbyteorder(">")).tobytes())
                else:
                    file.seek(hdu.data.nbytes, 1)
                file.seek(-file.tell() % BLOCK, 1)
        file.truncate()
    return path


def bytes_read() -> int:
    """By this process, from files, in all its life."""
    return int(Path("/proc/self/io").read_text().split()[1])


def test_one_quadrant_costs_little_of_a_frame_of_144(tmp_path):
    frame = true_frame()
    layers = {"DET": ("SCI", "RMS", "FLG"), "BKG": ("BKG",), "PSF": ("PSF",)}
    paths = {
        product: write_sparse(tmp_path / f"{product}.fits", frame, kinds)
        for product, kinds in layers.items()
    }
    assert paths["DET"].stat().st_size > 7.2e9
    n_bytes = sum(path.stat().st_size for path in paths.values())
    before = bytes_read()
    quadrant = load_quadrant(quadrant_files(paths, quadrant=WANTED), BAD_PIXELS)
    assert bytes_read() - before < 0.015 * n_bytes
    np.testing.assert_array_equal(quadrant.image_adu, frame.sci - frame.bkg)
    np.testing.assert_array_equal(quadrant.psf.stamps[3, 1], frame.psf[63:84, 21:42])


def test_the_sparse_file_is_what_astropy_reads(tmp_path):
    frame = true_frame()
    with fits.open(write_sparse(tmp_path / "BKG.fits", frame, ("BKG",))) as hdus:
        assert len(hdus) == 145
        np.testing.assert_array_equal(hdus[WANTED].data, frame.bkg)
