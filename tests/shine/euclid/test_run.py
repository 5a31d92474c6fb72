"""From FITS files drawn by GalSim to result files, through the command line's own entry."""

import copy
import json
from pathlib import Path

import galsim
import jax
import numpy as np
import pytest
from astropy.io import fits
from pyarrow import parquet

import shine
from shine.errors import Status, SubtileFlag
from shine.manifest import read_manifest, write_manifest
from shine.results import read_shear
from tests.shine.euclid.subtile import (
    N_GALAXIES,
    N_ROWS,
    SHEAR,
    SIDE,
    SPACING,
    SubTile,
    draw_frame,
    galsim_wcs,
)
from tests.shine.survey_files import Frame, wcs_header


def off_centre(header: fits.Header) -> fits.Header:
    """The same detector with the field's galaxies in its frame, whatever its roll."""
    target = galsim_wcs(wcs_header(roll_deg=0.0)).toWorld(galsim.PositionD(SIDE / 2, SIDE / 2))
    here = galsim.FitsWCS(header=header).toImage(target)
    header["CRPIX1"] += SIDE / 2 - here.x
    header["CRPIX2"] += SIDE / 2 - here.y
    return header


@pytest.mark.parametrize(
    ("roll", "flip"), [(37.0, False), (128.0, False), (37.0, True)], ids=["37", "128", "mirrored"]
)
def test_a_rolled_distorted_quadrant_gives_the_sky_shear(tmp_path, sky, roll, flip):
    header = off_centre(wcs_header(roll_deg=roll, flip=flip))
    subtile = SubTile(tmp_path, sky, [draw_frame(sky, header)])
    shear = subtile.run()
    assert shear["STATUS"] == Status.OK
    np.testing.assert_allclose([shear["G1"], shear["G2"]], SHEAR, atol=3e-3)
    sources = subtile.sources()
    order = np.argsort(sources["OBJECT_ID"])
    found = np.column_stack([sources["E1"], sources["E2"]])[order]
    np.testing.assert_allclose(found, sky.e, atol=0.02)
    assert np.abs([sources["OFFSET_U"], sources["OFFSET_V"]]).max() < 0.005


def test_galaxies_across_the_edge_of_a_quadrant_are_fitted_to_the_pixels_that_are_there(
    tmp_path, sky
):
    header = wcs_header(roll_deg=0.0)
    header["CRPIX1"] -= SIDE / 2 - 1.5 * SPACING  # the first column of galaxies is on the edge
    shear = (subtile := SubTile(tmp_path, sky, [draw_frame(sky, header)])).run()
    assert shear["STATUS"] == Status.OK
    assert 0.9 < shear["CHI2"] / shear["N_PIXELS"] < 1.1
    sources = {key: np.array(column) for key, column in subtile.sources().items()}
    order = np.argsort(sources["OBJECT_ID"])
    on_edge = np.arange(N_GALAXIES) % N_ROWS == 0
    error = sources["FLUX_ERR"][order]
    assert error[on_edge].min() > error[~on_edge].max()
    for name, truth in (("FLUX", sky.flux_ujy), ("HALF_LIGHT_RADIUS", sky.hlr_arcsec)):
        pull = (sources[name][order] - truth) / sources[f"{name}_ERR"][order]
        assert np.abs(pull).max() < 4.5, name


def test_shear_and_fluxes_from_exposures_of_different_zero_point(tmp_path, sky):
    frames = [
        draw_frame(sky, wcs_header(roll_deg=0.0), "24.57", seed=1),
        draw_frame(sky, off_centre(wcs_header(roll_deg=90.0)), "23.87", seed=2),
    ]
    frames[1].obs_id = 124
    subtile = SubTile(tmp_path, sky, frames)
    shear = subtile.run()
    np.testing.assert_allclose([shear["G1"], shear["G2"]], SHEAR, atol=3e-3)
    assert shear["N_QUADRANTS"] == 2
    sources = subtile.sources()
    np.testing.assert_allclose(sources["FLUX"], 20.0, rtol=0.01)
    np.testing.assert_array_equal(sources["N_EXPOSURES"], 2)
    assert 0.9 < shear["CHI2"] / shear["N_PIXELS"] < 1.1


def test_same_inputs_give_the_same_bytes(subtile):
    first, second = (Path(subtile.folder / name) for name in ("a", "b"))
    subtile.run("a")
    subtile.run("b")
    for path in sorted(first.glob("*.p*")):
        assert path.read_bytes() == (second / path.name).read_bytes(), path.name
    record = json.loads(next(first.glob("*.run.json")).read_text())
    assert record["measurements"]["solve_s"] > 0
    assert record["measurements"]["compile_s"] > 0


def test_a_quadrant_alone_or_among_others_gives_the_same_answer(tmp_path, sky):
    near = draw_frame(sky, wcs_header(roll_deg=0.0))
    far = Frame(header=wcs_header(centre=(58.5, -50.0)), obs_id=7)
    alone, among = tmp_path / "alone", tmp_path / "among"
    alone.mkdir()
    among.mkdir()
    one = SubTile(alone, sky, [near]).run()
    other = SubTile(among, sky, [far, near]).run()
    assert other["FLAGS"] & SubtileFlag.QUADRANTS_UNUSED
    for column in ("G1", "G2", "G1_ERR", "CHI2", "N_QUADRANTS"):
        assert one[column] == other[column]


def test_nan_under_masked_pixels_is_harmless(tmp_path, sky):
    frame = draw_frame(sky, wcs_header(roll_deg=0.0))
    bad = np.random.default_rng(3).uniform(size=frame.sci.shape) < 0.02
    frame.sci[bad], frame.rms[bad], frame.flg[bad] = np.nan, np.nan, 1
    # and a detection of nothing
    columns = {name: np.append(values, values[:1]) for name, values in sky.columns().items()}
    columns["OBJECT_ID"][-1] += N_GALAXIES
    columns["SPURIOUS_FLAG"][-1] = 1
    shear = SubTile(tmp_path, sky, [frame], columns=columns).run()
    assert shear["STATUS"] == Status.OK
    for path in (tmp_path / "out").glob("*.parquet"):
        left_out = json.loads(parquet.read_schema(path).metadata[b"left_out"])
        assert left_out["sources"]["spurious"] == sum(left_out["sources"].values()) == 1
        n_bad = int(bad.sum())
        counts = {"flagged": n_bad, "bad_rms": n_bad, "non_finite": n_bad, "total": n_bad}
        assert left_out["pixels"] == counts
    np.testing.assert_allclose([shear["G1"], shear["G2"]], SHEAR, atol=4e-3)


def test_neighbours_outside_the_core_are_modelled_but_not_reported(tmp_path, sky):
    ids = [int(i) for i in sky.columns()["OBJECT_ID"]]
    frame = draw_frame(sky, wcs_header(roll_deg=0.0))
    subtile = SubTile(tmp_path, sky, [frame], core=ids[:6])
    shear = subtile.run()
    assert shear["N_SOURCES"] == 6
    assert shear["N_MODELLED"] == N_GALAXIES
    assert sorted(subtile.sources()["OBJECT_ID"]) == sorted(ids[:6])
    assert 0.9 < shear["CHI2"] / shear["N_PIXELS"] < 1.1


def test_a_notebook_in_float64_gets_the_same_answer(subtile):
    usual = shine.infer(shine.load(subtile.manifest))
    with jax.enable_x64(True):
        exposures = shine.load(subtile.manifest)
        np.testing.assert_array_equal(shine.infer(exposures).shear, usual.shear)


def _with_companions(sky):
    """Each galaxy with a fainter one 0.9 arcsec to its west: frame, and catalogue of both."""
    companions = copy.copy(sky)
    companions.ra = sky.ra - 0.9 / 3600.0 / np.cos(np.radians(sky.dec))
    companions.e = np.zeros((N_GALAXIES, 2))
    companions.flux_ujy, companions.hlr_arcsec = np.full((2, N_GALAXIES), [[4.0], [0.15]])
    header = wcs_header(roll_deg=0.0)
    frame, more = draw_frame(sky, header, seed=1), draw_frame(companions, header, seed=2)
    frame.sci += more.sci - more.bkg
    frame.rms *= np.float32(np.sqrt(2.0))
    own, other = sky.columns(), companions.columns()
    other["OBJECT_ID"] = own["OBJECT_ID"] + N_GALAXIES
    other["DET_QUALITY_FLAG"] = np.full(N_GALAXIES, 1024)  # fails the selection
    return frame, {name: np.append(own[name], other[name]) for name in own}


def _outlined(subtile, columns) -> None:
    """Give the manifest a segmentation map, in which the companions are small discs."""
    header = wcs_header("TAN", roll_deg=5.0)
    labels = np.zeros((900, 900), np.int64)
    header["CRPIX1"], header["CRPIX2"] = 100.0, 450.0
    wcs = galsim_wcs(header)
    rows, places = np.indices(labels.shape), []
    for k in range(N_GALAXIES, 2 * N_GALAXIES):
        ra, dec = columns["RIGHT_ASCENSION"][k], columns["DECLINATION"][k]
        place = galsim.CelestialCoord(ra * galsim.degrees, dec * galsim.degrees)
        xy = wcs.toImage(place)
        places.append((xy.x, xy.y))
        near = np.hypot(rows[1] - xy.x, rows[0] - xy.y) < 4.5
        labels[near] = columns["SEGMENTATION_MAP_ID"][k]
    assert np.min(places) > 10 and np.max(places) < 890
    path = subtile.folder / "segments.fits"
    fits.PrimaryHDU(labels, header).writeto(path)
    manifest = read_manifest(subtile.manifest)
    content = manifest.model_copy(update={"segmentation_map": str(path)})
    write_manifest(content, subtile.manifest)


def test_excluded_neighbours_bias_the_shear_only_where_they_are_ignored(tmp_path, sky):
    frame, columns = _with_companions(sky)
    numbers = 102018665_000_000 + np.arange(1, 2 * N_GALAXIES + 1)
    numbered = columns | {"SEGMENTATION_MAP_ID": numbers}
    bias = {}
    for name, catalogue, selection in (
        ("modelled", columns, "{excluded: modelled}"),
        ("masked", columns, "{excluded: masked}"),
        ("outlined", numbered, "{excluded: masked, excluded_mask_hlr: 0.1}"),
        ("ignored", sky.columns(), "{}"),
    ):
        (tmp_path / name).mkdir()
        subtile = SubTile(tmp_path / name, sky, [frame], columns=catalogue)
        subtile.config.write_text(f"gal: {{selection: {selection}}}\n")
        if name == "outlined":
            _outlined(subtile, catalogue)
        shear = subtile.run()
        assert shear["N_SOURCES"] == N_GALAXIES
        bias[name] = np.hypot(shear["G1"] - SHEAR[0], shear["G2"] - SHEAR[1])
    assert bias["modelled"] < 5e-3
    assert max(bias["masked"], bias["outlined"]) < 0.5 * bias["ignored"]
    assert bias["ignored"] > 0.02


@pytest.mark.parametrize(
    "settings",
    ["method: vi, vi: {steps: 1000}", "method: nuts, nuts: {warmup: 50, draws: 50, chains: 2}"],
    ids=["vi", "nuts"],
)
def test_the_generic_methods_give_the_same_shear_within_its_error(subtile, settings):
    subtile.config.write_text(f"inference: {{{settings}, psf: {{model: native}}}}\n")
    subtile.run()
    path = next((subtile.folder / "out").glob("*[0-9].parquet"))
    [shear] = read_shear(path).to_pylist()
    pulls = [(shear[f"G{k}"] - SHEAR[k - 1]) / shear[f"G{k}_ERR"] for k in (1, 2)]
    assert np.abs(pulls).max() < 0.5  # shape noise cancels in ring pairs
    assert not list(path.parent.glob("*.npz"))


@pytest.mark.parametrize("model", ["optics", "native"])
def test_the_psf_at_each_source_is_told_on_the_sky(tmp_path, sky, model):
    header = off_centre(wcs_header(roll_deg=37.0, flip=True))
    psf = galsim.Airy(lam=725.0, diam=1.2, obscuration=0.33).shear(g1=0.05, g2=-0.03)
    psf = galsim.Convolve(psf, galsim.Gaussian(sigma=0.045))
    frames = [draw_frame(sky, header), draw_frame(sky, off_centre(wcs_header(roll_deg=128.0)))]
    expected = []
    for k, frame in enumerate(frames):
        frame.obs_id += k
        local = galsim_wcs(frame.header).local(image_pos=galsim.PositionD(SIDE / 2, SIDE / 2))
        stamp = psf.drawImage(nx=21, ny=21, wcs=local).array
        frame.psf = np.tile(stamp, (9, 9)).astype(np.float32)
        fine = psf.drawImage(nx=201, ny=201, scale=0.0125, method="no_pixel")
        pixel = galsim.Pixel(0.1).transform(*(10.0 * local.getMatrix()).ravel())
        fine = galsim.Convolve(psf, pixel).drawImage(image=fine, method="no_pixel")
        found = galsim.hsm.FindAdaptiveMom(fine)
        expected.append((found.observed_shape.g1, found.observed_shape.g2, found.moments_sigma))
    e1, e2, sigma = np.mean(expected, axis=0)
    subtile = SubTile(tmp_path, sky, frames)
    subtile.config.write_text(f"inference: {{psf: {{model: {model}}}}}\ngal: {{}}\n")
    shear, sources = subtile.run(), subtile.sources()
    expected = np.array([e1, e2, 0.0125 * sigma * np.sqrt(8.0 * np.log(2.0))])
    for n, name in enumerate(("PSF_E1", "PSF_E2", "PSF_FWHM")):
        tolerance = 0.005 if model == "native" else 0.003  # aliased: 2 % narrower
        np.testing.assert_allclose(sources[name], expected[n], atol=tolerance, err_msg=name)
        np.testing.assert_allclose(shear[name], np.mean(sources[name]), rtol=1e-5)
