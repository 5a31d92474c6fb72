"""Pixels of Euclid itself: cut-outs of MER mosaics (Q1), fitted with the PSF of their own file.

A mosaic is resampled: its noise is correlated between neighbours, and less per pixel than its RMS
layer says (bilinear interpolation), so that chi-square per pixel lies below one and errors are not
calibrated. What can be tested is that real galaxies leave nothing in the residuals.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from shine.errors import Status
from tests.science.euclid_cutouts import FOLDER, CutOut, chi_map, run, write

FILES = ("EUCLJ174517.55+655612.5.fits", "102018665_NEG570040238507752998.fits")
SETTINGS = "gal: {selection: {min_snr: 5.0}}\n"
LENSES = {FILES[0]: (49.5, 49.0), FILES[1]: (50.1, 49.3)}  # with arcs that no profile has
ISOLATED = [(93.8, 44.9), (17.3, 76.7), (96.1, 76.7)]  # small galaxies of the first file
NEAR_PX = 4

pytestmark = pytest.mark.skipif(
    not FOLDER.is_dir(), reason=f"no cut-outs of Euclid's mosaics in {FOLDER}"
)


class Fitted(NamedTuple):
    """A cut-out and what shine says of it."""

    name: str
    cutout: CutOut
    shear: dict
    sources: dict
    detections: list
    folder: Path


def fit(name, folder) -> Fitted:
    cutout = CutOut.read(FOLDER / name)
    detections = write(cutout, folder, SETTINGS)
    return Fitted(name, cutout, *run(folder), detections, folder)


@pytest.fixture(scope="module")
def crowded(tmp_path_factory):
    return fit(FILES[0], tmp_path_factory.mktemp("crowded"))


@pytest.fixture(scope="module")
def both(crowded, tmp_path_factory):
    return [crowded, fit(FILES[1], tmp_path_factory.mktemp("lone"))]


@pytest.fixture(scope="module")
def residuals(crowded):
    return chi_map(crowded.folder)


def nearest(detections, place):
    """Number of the detection at a place, which must be within two pixels."""
    apart = [np.hypot(found.x - place[0], found.y - place[1]) for found in detections]
    assert min(apart) < 2.0
    return int(np.argmin(apart))


def test_real_pixels_give_a_finite_answer(both):
    for _, cutout, shear, sources, detections, folder in both:
        assert shear["STATUS"] == Status.OK
        assert shear["N_QUADRANTS"] == 1
        assert shear["N_SOURCES"] >= 1
        assert np.isfinite([shear["G1"], shear["G2"], shear["G1_ERR"]]).all()
        assert (sources["N_EXPOSURES"] > 0).sum() == len(detections)
        assert np.isfinite(sources["FLUX"]).all()
        assert next((folder / "out").glob("*.png")).stat().st_size > 10_000
        assert shear["N_PIXELS"] <= cutout.good.sum()


def test_the_lenses_are_found_where_they_are(both):
    for name, _, _, sources, detections, _ in both:
        lens = nearest(detections, LENSES[name])
        assert 0.5 < sources["FLUX"][lens] / detections[lens].flux_ujy < 2.0
        assert np.hypot(sources["OFFSET_U"][lens], sources["OFFSET_V"][lens]) < 0.3


def test_small_isolated_galaxies_leave_nothing_behind(crowded, residuals):
    cutout, sources = crowded.cutout, crowded.sources
    before = (cutout.image - np.median(cutout.image)) / cutout.rms
    sky = np.median(before**2) / 0.4549  # that of a normal variable's square
    assert 0.4 < sky < 0.9  # the mosaic's noise is correlated
    rows, columns = np.indices(residuals.shape)
    for place in ISOLATED:
        galaxy = nearest(crowded.detections, place)
        near = np.hypot(columns - place[0], rows - place[1]) < NEAR_PX
        assert np.mean(before[near] ** 2) > 1.8 * sky  # there was a galaxy to fit
        assert np.mean(residuals[near] ** 2) < 1.4 * sky
        assert np.abs(residuals[near]).max() < 4.0
        assert sources["FLUX_ERR"][galaxy] < 0.3 * sources["FLUX"][galaxy]
        assert 0.5 < sources["FLUX"][galaxy] / crowded.detections[galaxy].flux_ujy < 2.0


def test_arcs_stay_in_the_residuals(crowded, residuals):
    """An exponential disc is no lensed arc, and says so."""
    rows, columns = np.indices(residuals.shape)
    radius = np.hypot(columns - LENSES[FILES[0]][0], rows - LENSES[FILES[0]][1])
    arc = residuals[(radius > 10) & (radius < 16) & (rows < 42)]
    assert np.mean(arc**2) > 5.0
